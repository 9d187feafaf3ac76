//! How much callers may ask for: of one route, of one identity, of one address, and of all at a time.
//!
//! | limit | counts | when |
//! | --- | --- | --- |
//! | requests under way | all of them, but probes, streams that have begun and requests whose body has not come | first of all, before tokens are verified |
//! | `auth-failures` | what failed to prove who it is from, by its address | before a token is verified, and when a wrong internal one was |
//! | `default` | requests, by identity, or by address where nobody has to prove theirs | when it is known who asks |
//! | `admin` | what only those may do who look after the system, by route | when it is known that they may |
//! | open streams | those of an identity, and all | before a stream begins |
//! | bodies | those of an identity, or of an address, that have not come yet, and all such | when a handler waits for one |
//!
//! What is known of callers has a fixed size (`cells`), but for those who have streams open or bodies under way.
//! The limits are this process's own.

mod bodies;
mod bucket;
mod cells;
mod metrics;
mod overload;
mod slots;
mod turnstile;

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use prometheus::Registry;
use somaagent_actors::domain::identity::Identity;
use tokio::sync::Semaphore;

pub(crate) use bodies::unhurried;
use bucket::{Each, Shared, Standing};
use metrics::LimitMetrics;
pub(crate) use overload::shed;
pub(crate) use slots::Slot;
use slots::{Full, Slots};
pub(crate) use turnstile::{Turnstile, tell};

use crate::{
    middleware::authorise::Actions,
    problem::{Code, Problem},
    settings::LimitSettings,
};

/// Everything that limits callers, shared by all workers.
pub(crate) struct Limits {
    /// Makes hashes of callers that nobody outside can foresee.
    secret: RandomState,
    callers: Option<Each>,
    failures: Option<Each>,
    /// By route template.
    admin: HashMap<&'static str, Shared>,
    places: Arc<Semaphore>,
    streams: Arc<Slots>,
    bodies: Arc<Slots>,
    metrics: LimitMetrics,
}

/// Whose requests are counted together.
#[derive(Hash)]
enum Whose<'a> {
    Identity { tenant: &'a str, subject: &'a str, issuer: Option<&'a str> },
    Network(Option<IpAddr>),
}

impl<'a> Whose<'a> {
    fn of(identity: Option<&'a Identity>, address: Option<IpAddr>) -> Self {
        match identity {
            Some(Identity { tenant, subject, issuer, .. }) => {
                Self::Identity { tenant: tenant.as_str(), subject, issuer: issuer.as_deref() }
            }
            None => Self::Network(address.map(network)),
        }
    }
}

/// Of an address of version 6 the network: whoever has one address of it has all of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(whole) => {
            let [a, b, c, d, ..] = whole.segments();
            [a, b, c, d, 0, 0, 0, 0].into()
        }
    }
}

/// Whether an action is for those only who look after the system.
pub(crate) fn is_admin(action: &str) -> bool {
    ["admin.", "memory.", "settings."].iter().any(|kind| action.starts_with(kind)) && action != "memory.receipt"
}

impl Limits {
    /// The limits of `settings` for the operations of `actions`. Where `guarded`, some callers must prove who they are.
    pub(crate) fn new(
        settings: &LimitSettings,
        guarded: bool,
        actions: &Actions,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let has_admin = |methods: &Vec<_>| methods.iter().any(|(_, action): &(_, String)| is_admin(action));
        let admin = actions
            .iter()
            .filter(|(_, methods)| has_admin(methods))
            .filter_map(|(path, _)| Some((*path, Shared::new("admin", settings.admin_rps, settings.admin_burst)?)));
        let callers = settings.enabled.then(|| Each::new("default", settings.rps, settings.burst)).flatten();
        let failures = guarded.then(|| Each::new("auth-failures", settings.failure_rps, settings.failure_burst));
        let metrics = LimitMetrics::register(registry)?;
        let LimitSettings { max_streams, max_streams_each, max_bodies, max_bodies_each, .. } = *settings;
        Ok(Self {
            secret: RandomState::new(),
            callers,
            failures: failures.flatten(),
            admin: admin.collect(),
            places: Arc::new(Semaphore::new(settings.max_in_flight.min(Semaphore::MAX_PERMITS))),
            streams: Slots::new(max_streams, max_streams_each, metrics.streams.clone()),
            bodies: Slots::new(max_bodies, max_bodies_each, metrics.bodies.clone()),
            metrics,
        })
    }

    fn hash(&self, whose: &Whose<'_>) -> u64 {
        self.secret.hash_one(whose)
    }

    /// Opens a stream of somebody. Without authentication nobody is counted: all are programs of this machine.
    ///
    /// # Errors
    /// They have as many as one may have, or all together have.
    pub(crate) fn open_stream(&self, identity: Option<&Identity>) -> Result<Slot, Problem> {
        let whose = identity.map(|who| self.hash(&Whose::of(Some(who), None)));
        self.streams.take(whose).map_err(|full| {
            let (code, reason) = match full {
                Full::Caller => (Code::TooManyStreams, "caller"),
                Full::All => (Code::Overloaded, "all"),
            };
            self.metrics.streams_refused.with_label_values(&[reason]).inc();
            code.into()
        })
    }
}

/// A refusal for now.
fn too_many(code: Code, standing: &Standing) -> Problem {
    Problem::new(code).retry_after(Duration::from_secs(standing.reset_seconds))
}

#[cfg(test)]
mod tests;
