//! Whether the service works.

use std::collections::BTreeMap;

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

/// Whether new work may be sent here: not while shutting down and not without a database.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses((status = 200, description = "Ready", body = ReadyReply)),
    extensions(("x-action" = json!("public")), ("x-problems" = json!(["draining", "unavailable"]))),
)]
pub(crate) async fn get_readyz(door: Data<Door>, settings: Data<DoorSettings>) -> Result<Json<ReadyReply>, Problem> {
    door.accepting()?;
    match timeout(settings.health_timeout(), door.reads.ping()).await {
        Ok(Ok(())) => Ok(Json(ReadyReply { status: "ready" })),
        Ok(Err(error)) => Err(Problem::new(Code::Unavailable).caused_by(error)),
        Err(_) => Err(Problem::new(Code::Unavailable).caused_by("the database did not answer in time")),
    }
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
    use super::*;

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
}
