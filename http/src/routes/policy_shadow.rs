//! What a candidate of the policy would decide otherwise, for people who are about to change the policy.

use actix_web::web::{Data, Json};
use serde::Serialize;
use somaagent_actors::{
    domain::caller::Reach,
    policy::shadow::{Difference, Outcome},
};
use utoipa::ToSchema;

use crate::{
    door::Door,
    extract::{By, Query},
    problem::Problem,
    wire::timestamp,
};

/// How a candidate compares with the policy that decides.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShadowReply {
    /// Whether there is a candidate.
    enabled: bool,
    /// What it would have decided otherwise, the latest first.
    differences: Vec<DifferenceReply>,
}

/// Something that the candidate would decide otherwise.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DifferenceReply {
    /// What was to be done, as `x-action` has it.
    action: String,
    /// To what: the path of an operation, or what an actor named.
    resource: String,
    /// What was decided.
    live: OutcomeReply,
    /// What the candidate would have decided; null if it failed.
    candidate: Option<OutcomeReply>,
    /// SHA-256 of what both were asked last, in hexadecimal digits.
    input_digest: String,
    /// How often it was seen since the process started.
    count: u64,
    /// When it was last seen, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    last_seen: String,
}

/// What a policy decided.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OutcomeReply {
    /// Whether it may be done.
    allow: bool,
    /// The rule that decided.
    rule: String,
    /// `own` or `tenant`: whose sessions are meant.
    reach: &'static str,
}

impl From<Outcome> for OutcomeReply {
    fn from(outcome: Outcome) -> Self {
        let reach = match outcome.reach {
            Reach::Own => "own",
            Reach::Tenant => "tenant",
        };
        Self { allow: outcome.allow, rule: outcome.rule.to_string(), reach }
    }
}

impl From<Difference> for DifferenceReply {
    fn from(found: Difference) -> Self {
        Self {
            action: found.action,
            resource: found.resource,
            live: found.live.into(),
            candidate: found.candidate.map(OutcomeReply::from),
            input_digest: found.input_digest,
            count: found.count,
            last_seen: timestamp(found.last_seen),
        }
    }
}

/// Lists what the candidate of the policy would have decided otherwise for the caller's tenant, in this process.
#[utoipa::path(
    get,
    path = "/v1/admin/policy/shadow",
    tag = "admin",
    params(("limit" = Option<i64>, Query, minimum = 1, maximum = 1000, description = "Most differences (100)")),
    responses((status = 200, description = "The differences", body = ShadowReply)),
    extensions(("x-action" = json!("admin.policy.read")), ("x-problems" = json!(["invalid-query"]))),
)]
pub(crate) async fn get_shadow(door: Data<Door>, by: By, query: Query) -> Result<Json<ShadowReply>, Problem> {
    let limit = usize::try_from(query.limit(1000, 100)?).unwrap_or(usize::MAX);
    let found = door.policy.differences(&by.caller().tenant);
    let enabled = found.is_some();
    let differences = found.unwrap_or_default().into_iter().take(limit).map(DifferenceReply::from).collect();
    Ok(Json(ShadowReply { enabled, differences }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use actix_web::http::Method;
    use prometheus::Registry;
    use serde_json::json;
    use somaagent_actors::policy::{Policy, PolicyMetrics, PolicySettings};
    use time::OffsetDateTime;

    use super::*;
    use crate::{
        settings::DoorSettings,
        testing::{TestDoor, request},
    };

    const PATH: &str = "/v1/admin/policy/shadow";

    /// The shipped policy beside a candidate that has nothing against pages and looks at the rest, but lists no sessions.
    fn policy() -> (tempfile::TempDir, Policy) {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"package soma.policy

import rego.v1

decision := {"allow": true, "rule": "auth-off", "reason": "w", "reach": "tenant"} if input.action != "conversation.list"

decision := {"allow": false, "rule": "closed", "reason": "w", "reach": "own"} if input.action == "conversation.list"
"#;
        std::fs::write(dir.path().join("candidate.rego"), text).unwrap();
        let settings = PolicySettings { shadow_dir: Some(dir.path().to_owned()), ..PolicySettings::default() };
        let metrics = PolicyMetrics::register(&Registry::new()).unwrap();
        let policy = Policy::from_settings(&settings).unwrap().reporting(metrics, || OffsetDateTime::UNIX_EPOCH);
        (dir, policy)
    }

    #[actix_web::test]
    async fn differences_are_listed_for_the_tenant_of_whoever_asks() {
        let (_dir, policy) = policy();
        let door = TestDoor::with(|door| Door { policy, ..door }).await;
        for _ in 0..3 {
            let listed = door.send(request(Method::GET, "/v1/sessions?limit=7&state=canary")).await;
            assert_eq!(listed.status.as_u16(), 503, "the candidate refuses nobody: {}", listed.text);
        }
        let answer = door.send(request(Method::GET, PATH)).await;
        let found = &answer.json()["differences"];
        let expected = json!([{
            "action": "conversation.list",
            "resource": "/v1/sessions",
            "live": {"allow": true, "rule": "auth-off", "reach": "tenant"},
            "candidate": {"allow": false, "rule": "closed", "reach": "own"},
            "input_digest": found[0]["input_digest"],
            "count": 3,
            "last_seen": "1970-01-01T00:00:00.000000Z",
        }]);
        assert_eq!((found, &answer.json()["enabled"]), (&expected, &json!(true)));
        assert_eq!(found[0]["input_digest"].as_str().map(str::len), Some(64));
        assert!(!answer.text.contains("canary"));
        let other = door.send(request(Method::GET, PATH).insert_header(("X-Tenant-Id", "umbrella"))).await;
        assert_eq!(other.json(), json!({"enabled": true, "differences": []}));
    }

    #[actix_web::test]
    async fn without_a_candidate_there_is_nothing_to_list() {
        let door = TestDoor::new(&DoorSettings::default()).await;
        let answer = door.send(request(Method::GET, PATH)).await;
        assert_eq!(answer.json(), json!({"enabled": false, "differences": []}));
        assert_eq!(door.send(request(Method::GET, &format!("{PATH}?limit=0"))).await.status.as_u16(), 422);
    }
}
