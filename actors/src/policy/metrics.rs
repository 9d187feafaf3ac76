//! What decisions tell Prometheus. The names are those that dashboards already use.

use prometheus::{Error, Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use super::{
    acting::Leave,
    decision::{Decision, POLICY_ERROR},
};

/// Upper bounds in seconds: from a neighbour's answer to the longest wait.
const BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 3.0];

/// Every answer of an OpenFGA counts here; dashboards tell it from those that did not.
const ENFORCED: &str = "true";

/// Metrics of decisions. Clones count into the same place.
#[derive(Debug, Clone)]
pub struct PolicyMetrics {
    opa: IntCounterVec,
    opa_seconds: Histogram,
    openfga: IntCounterVec,
    openfga_seconds: Histogram,
    shadow: IntCounterVec,
    actors: IntCounterVec,
}

impl PolicyMetrics {
    /// Registers the metrics; once per registry.
    ///
    /// # Errors
    /// A name is taken already.
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        let opa = IntCounterVec::new(
            Opts::new("gateway_auth_opa_decisions_total", "Decisions of an OPA on the network, kept ones included"),
            &["outcome"],
        )?;
        let openfga = IntCounterVec::new(
            Opts::new("gateway_auth_fga_decisions_total", "Answers about members of tenants, kept ones included"),
            &["enforced", "outcome"],
        )?;
        // Of a count that begins above 0 no increase is seen.
        for outcome in ["allow", "deny", "error"] {
            opa.with_label_values(&[outcome]);
            openfga.with_label_values(&[ENFORCED, outcome]);
        }
        let shadow = IntCounterVec::new(
            Opts::new("policy_shadow_decisions_total", "Decisions that a candidate was asked too, by how it compares"),
            &["result"],
        )?;
        let actors = IntCounterVec::new(
            Opts::new("policy_actor_decisions_total", "Whether actors may do what they are about to, by action"),
            &["action", "result"],
        )?;
        for action in ["attachments.show", "memory.recall", "memory.write"] {
            for leave in [Leave::Granted, Leave::Denied, Leave::Unknown] {
                actors.with_label_values(&[action, leave.as_str()]);
            }
        }
        for result in ["same", "different", "failed"] {
            shadow.with_label_values(&[result]);
        }
        let seconds = HistogramVec::new(
            HistogramOpts::new("auth_duration_seconds", "Questions to judges outside of the process, by which one")
                .buckets(BUCKETS.to_vec()),
            &["source"],
        )?;
        registry.register(Box::new(opa.clone()))?;
        registry.register(Box::new(openfga.clone()))?;
        registry.register(Box::new(shadow.clone()))?;
        registry.register(Box::new(actors.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        let [opa_seconds, openfga_seconds] = ["opa", "openfga"].map(|source| seconds.with_label_values(&[source]));
        Ok(Self { opa, opa_seconds, openfga, openfga_seconds, shadow, actors })
    }

    /// Where the time of questions to an OPA is told.
    pub(super) const fn opa_seconds(&self) -> &Histogram {
        &self.opa_seconds
    }

    /// Where the time of questions to an OpenFGA is told.
    pub(super) const fn openfga_seconds(&self) -> &Histogram {
        &self.openfga_seconds
    }

    /// Counts whether somebody belongs to a tenant, or that nobody could say.
    pub(super) fn asked_openfga(&self, is_member: Option<bool>) {
        let outcome = match is_member {
            Some(true) => "allow",
            Some(false) => "deny",
            None => "error",
        };
        self.openfga.with_label_values(&[ENFORCED, outcome]).inc();
    }

    /// Counts whether an actor may do something.
    pub(super) fn acted(&self, action: &str, leave: Leave) {
        self.actors.with_label_values(&[action, leave.as_str()]).inc();
    }

    /// Counts what a candidate makes of a decision.
    pub(super) fn compared(&self, result: &str) {
        self.shadow.with_label_values(&[result]).inc();
    }

    /// Counts what an OPA decided, or that it did not.
    pub(super) fn decided_by_opa(&self, decision: &Decision) {
        let outcome = match decision {
            Decision { allow: true, .. } => "allow",
            Decision { rule, .. } if &**rule == POLICY_ERROR => "error",
            Decision { .. } => "deny",
        };
        self.opa.with_label_values(&[outcome]).inc();
    }
}
