//! A candidate beside the policy that decides: it is asked the same, changes nothing, and what it would decide otherwise is kept.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use parking_lot::Mutex;
use regorus::Value;
use time::OffsetDateTime;

use super::{
    decision::{Decision, POLICY_ERROR},
    metrics::PolicyMetrics,
    rego::Rego,
};
use crate::domain::{caller::Reach, ids::Tenant};

/// Most differences that are kept, of all tenants; the one that was seen longest ago makes room.
const MOST: usize = 1_024;

/// What a policy decided, without its words.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// Whether it may be done.
    pub allow: bool,
    /// The rule that decided.
    pub rule: Arc<str>,
    /// Whose sessions are meant.
    pub reach: Reach,
}

/// Something that the candidate would decide otherwise. Nothing of it says who asked.
#[derive(Debug, Clone)]
pub struct Difference {
    /// What was to be done.
    pub action: String,
    /// To what: the path of an operation as the description of the API has it, or what an actor named.
    pub resource: String,
    /// What was decided.
    pub live: Outcome,
    /// What the candidate would have; nothing if it failed.
    pub candidate: Option<Outcome>,
    /// SHA-256 of what both were asked last.
    pub input_digest: String,
    /// How often this was seen.
    pub count: u64,
    /// When it was last seen.
    pub last_seen: OffsetDateTime,
}

/// What makes two differences the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    tenant: Tenant,
    action: String,
    resource: String,
    live: Outcome,
    candidate: Option<Outcome>,
}

#[derive(Debug)]
struct Seen {
    input_digest: String,
    count: u64,
    last: OffsetDateTime,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shadow {
    candidate: Rego,
    seen: Mutex<HashMap<Key, Seen>>,
}

/// A decision that was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) action: &'a str,
    pub(super) resource: &'a str,
    pub(super) decision: &'a Decision,
}

impl Shadow {
    pub(super) fn new(candidate: Rego) -> Self {
        Self { candidate, seen: Mutex::default() }
    }

    /// Asks the candidate what was decided already. Where nothing was decided there is nothing to compare.
    pub(super) fn compare(&self, made: Made<'_>, input: Value, metrics: &PolicyMetrics, now: OffsetDateTime) {
        if &*made.decision.rule == POLICY_ERROR {
            return;
        }
        // A machine that broke is dropped with the unwinding, and nothing else is touched meanwhile.
        let asked = AssertUnwindSafe(|| self.candidate.decide(input, &made.decision.input_digest));
        let candidate = catch_unwind(asked).ok().and_then(Result::ok).map(|decision| Outcome::of(&decision));
        let live = Outcome::of(made.decision);
        let result = match &candidate {
            None => "failed",
            Some(candidate) if *candidate == live => "same",
            Some(_) => "different",
        };
        metrics.compared(result);
        if result != "same" {
            self.note(made, live, candidate, now);
        }
    }

    fn note(&self, made: Made<'_>, live: Outcome, candidate: Option<Outcome>, now: OffsetDateTime) {
        let key = Key {
            tenant: made.tenant.clone(),
            action: made.action.to_owned(),
            resource: made.resource.to_owned(),
            live,
            candidate,
        };
        let input_digest = made.decision.input_digest.clone();
        let mut seen = self.seen.lock();
        if let Some(known) = seen.get_mut(&key) {
            *known = Seen { input_digest, count: known.count.saturating_add(1), last: now };
            return;
        }
        if seen.len() >= MOST
            && let Some(oldest) = seen.iter().min_by_key(|(_, seen)| seen.last).map(|(key, _)| key.clone())
        {
            seen.remove(&oldest);
        }
        seen.insert(key, Seen { input_digest, count: 1, last: now });
    }

    /// What was seen of a tenant, the latest first.
    pub(super) fn differences(&self, tenant: &Tenant) -> Vec<Difference> {
        let seen = self.seen.lock();
        let of_tenant = seen.iter().filter(|(key, _)| key.tenant == *tenant);
        let mut found: Vec<Difference> = of_tenant.map(|(key, seen)| difference(key, seen)).collect();
        drop(seen);
        found.sort_by(|one, other| (other.last_seen, &one.action).cmp(&(one.last_seen, &other.action)));
        found
    }
}

fn difference(key: &Key, seen: &Seen) -> Difference {
    Difference {
        action: key.action.clone(),
        resource: key.resource.clone(),
        live: key.live.clone(),
        candidate: key.candidate.clone(),
        input_digest: seen.input_digest.clone(),
        count: seen.count,
        last_seen: seen.last,
    }
}

impl Outcome {
    fn of(decision: &Decision) -> Self {
        Self { allow: decision.allow, rule: Arc::clone(&decision.rule), reach: decision.reach }
    }
}

#[cfg(test)]
mod tests;
