//! Whether the service works.

use std::{collections::BTreeMap, time::Duration};

use actix_web::web::{Data, Json};
use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::{
    door::{Component, Condition, Door, Finding, Scope, Weight},
    problem::{Code, Problem},
    settings::DoorSettings,
};

/// Most stuck actors that one reply names.
const MAX_NAMED: usize = 10;

/// The health of the whole and of its parts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthReply {
    /// The whole.
    status: Condition,
    /// The parts by name.
    components: BTreeMap<&'static str, Finding>,
}

/// The health of everything, the memory service included. The status is always 200; read the body.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health",
    responses((status = 200, description = "The health", body = HealthReply)),
    extensions(("x-action" = json!("public")), ("x-problems" = json!([]))),
)]
pub(crate) async fn get_healthz(door: Data<Door>, settings: Data<DoorSettings>) -> Json<HealthReply> {
    Json(examine(&door, &settings, Scope::Healthz).await)
}

/// The health of the stores and logs. The status is always 200; read the body.
#[utoipa::path(
    get,
    path = "/v1/health",
    tag = "health",
    responses((status = 200, description = "The health", body = HealthReply)),
    extensions(("x-action" = json!("public")), ("x-problems" = json!([]))),
)]
pub(crate) async fn get_v1_health(door: Data<Door>, settings: Data<DoorSettings>) -> Json<HealthReply> {
    Json(examine(&door, &settings, Scope::Health).await)
}

/// As `/v1/health`.
#[utoipa::path(
    get,
    path = "/health",
    tag = "health",
    responses((status = 200, description = "The health", body = HealthReply)),
    extensions(("x-action" = json!("public")), ("x-problems" = json!([]))),
)]
pub(crate) async fn get_health(door: Data<Door>, settings: Data<DoorSettings>) -> Json<HealthReply> {
    Json(examine(&door, &settings, Scope::Health).await)
}

/// A process that takes work.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReadyReply {
    /// `ready`.
    status: &'static str,
}

/// Whether new work may be sent here: not while shutting down, not without a database, and not while an actor is stuck, which
/// the member `actors` of the problem then names.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses((status = 200, description = "Ready", body = ReadyReply)),
    extensions(("x-action" = json!("public")), ("x-problems" = json!(["draining", "unavailable"]))),
)]
pub(crate) async fn get_readyz(door: Data<Door>, settings: Data<DoorSettings>) -> Result<Json<ReadyReply>, Problem> {
    door.accepting()?;
    let stuck = stuck(&door, &settings);
    if !stuck.is_empty() {
        let cause = format!("stuck: {}", stuck.join(", "));
        return Err(Problem::new(Code::Unavailable).with("actors", stuck).caused_by(cause));
    }
    match timeout(settings.health_timeout(), door.reads.ping()).await {
        Ok(Ok(())) => Ok(Json(ReadyReply { status: "ready" })),
        Ok(Err(error)) => Err(Problem::new(Code::Unavailable).caused_by(error)),
        Err(_) => Err(Problem::new(Code::Unavailable).caused_by("the database did not answer in time")),
    }
}

/// The paths of actors whose oldest message is too old: a handler that never ends is no crash, so nobody restarts it.
fn stuck(door: &Door, settings: &DoorSettings) -> Vec<String> {
    let stalled = door.tree.stalled(Duration::from_millis(settings.stalled_ms));
    stalled.into_iter().map(|actor| actor.path).take(MAX_NAMED).collect()
}

async fn examine(door: &Door, settings: &DoorSettings, scope: Scope) -> HealthReply {
    let shown: Vec<&Component> =
        door.components.iter().filter(|part| part.scope == scope || part.scope == Scope::Both).collect();
    let checks = shown.iter().map(|part| async {
        let found = timeout(settings.health_timeout(), (part.check)()).await;
        found.unwrap_or_else(|_| Finding::not_ok(Condition::Down, "no answer in time"))
    });
    let findings = join_all(checks).await;
    let status = overall(shown.iter().map(|part| part.weight).zip(findings.iter().map(|finding| finding.status)));
    HealthReply { status, components: shown.iter().map(|part| part.name).zip(findings).collect() }
}

fn overall(parts: impl Iterator<Item = (Weight, Condition)>) -> Condition {
    let felt = parts.map(|(weight, condition)| match weight {
        Weight::Vital => condition,
        Weight::Helpful => condition.min(Condition::Degraded),
        Weight::Shown => Condition::Ok,
    });
    felt.max().unwrap_or(Condition::Ok)
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use prometheus::Registry;
    use somaagent_supervision::{Admitted, AskError, Child, Restart, Strategy, SupervisorSpec};

    use super::*;
    use crate::testing::dark;

    #[test]
    fn the_whole_is_as_well_as_its_parts_allow() {
        use Condition::{Degraded, Down, Ok};
        for (parts, whole) in [
            (vec![], Ok),
            (vec![(Weight::Vital, Ok), (Weight::Helpful, Ok)], Ok),
            (vec![(Weight::Vital, Ok), (Weight::Helpful, Down)], Degraded),
            (vec![(Weight::Vital, Degraded), (Weight::Shown, Down)], Degraded),
            (vec![(Weight::Vital, Down), (Weight::Helpful, Down)], Down),
            (vec![(Weight::Shown, Down)], Ok),
        ] {
            assert_eq!(overall(parts.clone().into_iter()), whole, "{parts:?}");
        }
    }

    struct Hold;

    impl actix::Message for Hold {
        type Result = ();
    }

    /// Ends no message that it is given.
    struct Holder;

    impl actix::Actor for Holder {
        type Context = actix::Context<Self>;
    }

    impl actix::Supervised for Holder {}

    impl Child for Holder {
        const NAME: &'static str = "holder";
    }

    impl actix::Handler<Admitted<Hold>> for Holder {
        type Result = actix::ResponseFuture<()>;

        fn handle(&mut self, message: Admitted<Hold>, _: &mut actix::Context<Self>) -> Self::Result {
            let (_, in_flight) = message.open();
            Box::pin(async move {
                let _held = in_flight;
                std::future::pending::<()>().await;
            })
        }
    }

    #[actix_web::test]
    async fn a_stuck_actor_makes_the_process_not_ready_and_is_named() {
        let door = dark(&Registry::new());
        let root = door.tree.root(SupervisorSpec::new("work", Strategy::OneForOne));
        let seat = root.seat::<Holder>(Restart::Permanent);
        let hold = seat.port::<Hold>("hold", 1);
        assert!(seat.start(|| Holder).await.is_ok());
        let settings = DoorSettings { stalled_ms: 1, ..DoorSettings::default() };
        assert!(stuck(&door, &settings).is_empty());
        let held = hold.ask(Hold, Duration::from_millis(20)).await;
        assert_eq!(held.err(), Some(AskError::Timeout));
        assert!(stuck(&door, &DoorSettings::default()).is_empty(), "not yet");
        let refused = get_readyz(Data::new(door), Data::new(settings)).await.err();
        let reply = refused.map_or_else(|| unreachable!("it is ready"), |problem| problem.response(None));
        assert_eq!(reply.status().as_u16(), 503);
        assert!(reply.headers().contains_key("retry-after"));
        let body = to_bytes(reply.into_body()).await.unwrap_or_default();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        assert_eq!((&body["code"], &body["actors"]), (&"unavailable".into(), &serde_json::json!(["work/holder/1"])));
    }
}
