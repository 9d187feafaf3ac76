//! The health of a process: what its parts say, and what that makes of the whole.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::door::{Component, Condition, Finding, Scope, Weight};

/// The health of the whole and of its parts.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthReply {
    /// The whole.
    status: Condition,
    /// The parts by name.
    components: BTreeMap<&'static str, Finding>,
}

/// Asks the parts of a scope. One that does not answer `within` this time is down.
pub async fn examine(components: &[Component], within: Duration, scope: Scope) -> HealthReply {
    let shown: Vec<&Component> =
        components.iter().filter(|part| [scope, Scope::Both].contains(&part.scope) && (part.is_there)()).collect();
    let checks = shown.iter().map(|part| async {
        let found = timeout(within, (part.check)()).await;
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

    #[actix_web::test]
    async fn a_part_that_is_switched_off_is_not_shown() {
        for is_there in [true, false] {
            let down = || std::future::ready(Finding::not_ok(Condition::Down, "away"));
            let part = Component::new("part", Weight::Vital, Scope::Both, down).while_true(move || is_there);
            let reply = examine(&[part], Duration::from_mins(1), Scope::Health).await;
            assert_eq!((reply.components.len(), reply.status == Condition::Down), (usize::from(is_there), is_there));
        }
    }

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
