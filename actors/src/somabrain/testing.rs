//! Asks of tests, without the actor around them.
#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::{cell::RefCell, rc::Rc, time::Duration};

use tokio::time::Instant;
use uuid::Uuid;

use super::{
    budget::RetryBudget, caller::Caller, client::BrainDeps, messages::Asker, metrics::BrainMetrics,
    settings::BrainSettings,
};
use crate::{breaker::Breaker, domain::ids::Tenant, loopback::Server};

/// The way to a server, without the actor around it.
pub(super) fn caller(server: &Server) -> Caller {
    let settings = BrainSettings { base_url: server.url.clone(), retry_base_ms: 1, ..BrainSettings::default() };
    let metrics = BrainMetrics::new(&prometheus::Registry::new()).unwrap();
    Caller {
        deps: BrainDeps::new(&settings, metrics).unwrap(),
        breaker: Rc::new(RefCell::new(Breaker::new(settings.breaker_rules()))),
        budget: Rc::new(RefCell::new(RetryBudget::new(Instant::now()))),
    }
}

/// Somebody of `acme` who waits `within`.
pub(super) fn asker(within: Duration) -> Asker {
    let tenant = Tenant::new("acme").unwrap();
    Asker { tenant, correlation_id: Uuid::max(), trace: None, deadline: Instant::now() + within }
}
