//! Whether the service works.

use std::time::Duration;

use actix_web::web::{Data, Json};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::{
    door::{Door, Scope},
    health::{HealthReply, examine},
    problem::{Code, Problem},
    settings::DoorSettings,
};

/// Most stuck actors that one reply names.
const MAX_NAMED: usize = 10;

/// The health of everything, the memory service included. The status is always 200; read the body.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health",
    responses((status = 200, description = "The health", body = HealthReply)),
    extensions(("x-action" = json!("public")), ("x-problems" = json!([]))),
)]
pub(crate) async fn get_healthz(door: Data<Door>, settings: Data<DoorSettings>) -> Json<HealthReply> {
    Json(examine(&door.components, settings.health_timeout(), Scope::Healthz).await)
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
    Json(examine(&door.components, settings.health_timeout(), Scope::Health).await)
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
    Json(examine(&door.components, settings.health_timeout(), Scope::Health).await)
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

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use prometheus::Registry;
    use somaagent_supervision::{Admitted, AskError, Child, Restart, Strategy, SupervisorSpec};

    use super::*;
    use crate::testing::dark;

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
