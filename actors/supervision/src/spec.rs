//! What a supervisor is told about itself and its children. OTP's words and meaning.

use std::time::Duration;

/// A supervised actor: [`actix::Actor`] and [`actix::Supervised`] with a name.
///
/// Keep the struct as dependencies plus state. `restarting` replaces the state by a fresh one and
/// keeps the dependencies; it must not keep a `SpawnHandle`, whose numbers start anew.
pub trait Child: actix::Actor<Context = actix::Context<Self>> + actix::Supervised {
    /// Kebab-case name used in logs, metrics and the tree. Instances share it: no ids.
    const NAME: &'static str;

    /// What the actor is doing, for the tree: one of a few fixed words. Sampled after each poll, so
    /// it must be cheap and must not panic.
    fn state_name(&self) -> &'static str {
        UNTOLD
    }
}

static RUNNING: [u8; 7] = *b"running";

/// The state name of an actor that does not tell its own. A static of its own, so that it can be
/// told by its address from the same word said by an actor.
pub(crate) static UNTOLD: &str = match std::str::from_utf8(&RUNNING) {
    Ok(running) => running,
    Err(_) => "",
};

/// Who is restarted when a child fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The failed child alone.
    OneForOne,
    /// Every child of the supervisor.
    OneForAll,
    /// The failed child and those started after it.
    RestForOne,
}

/// When a child is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Restart {
    /// After every end it was not told to make.
    Permanent,
    /// After a crash; once it stops itself it has ended for good.
    Transient,
    /// Never, not even when its siblings are restarted: it ends with them and is forgotten.
    Temporary,
}

/// How a supervisor behaves. Built in one expression:
///
/// ```
/// use std::time::Duration;
/// use somaagent_supervision::{Strategy, SupervisorSpec};
///
/// let spec = SupervisorSpec::new("storage", Strategy::RestForOne)
///     .intensity(3, Duration::from_secs(10))
///     .backoff(Duration::from_millis(20), Duration::from_secs(5), Duration::from_secs(60))
///     .arbiters(2)
///     .stop_within(Duration::from_secs(3));
/// # let _ = spec;
/// ```
#[derive(Debug, Clone)]
pub struct SupervisorSpec {
    pub(crate) name: &'static str,
    pub(crate) strategy: Strategy,
    pub(crate) max_restarts: u32,
    pub(crate) within: Duration,
    pub(crate) backoff: BackoffSpec,
    pub(crate) arbiters: usize,
    pub(crate) stop_within: Duration,
}

/// Bounds of the wait before a restart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackoffSpec {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
    pub(crate) reset_after: Duration,
}

impl SupervisorSpec {
    /// A supervisor with the defaults: 5 restarts within 30 s, backoff from 10 ms to 5 s reset after
    /// 30 s, no arbiters of its own, 5 s for a child to stop.
    #[must_use]
    pub fn new(name: &'static str, strategy: Strategy) -> Self {
        Self {
            name,
            strategy,
            max_restarts: 5,
            within: Duration::from_secs(30),
            backoff: BackoffSpec {
                min: Duration::from_millis(10),
                max: Duration::from_secs(5),
                reset_after: Duration::from_secs(30),
            },
            arbiters: 0,
            stop_within: Duration::from_secs(5),
        }
    }

    /// At most `max` restarts `within` a period, counted over all children; one more escalates.
    /// `max` 0 escalates at the first failure.
    #[must_use]
    pub fn intensity(mut self, max: u32, within: Duration) -> Self {
        self.max_restarts = max;
        self.within = within;
        self
    }

    /// The wait before a restart: `min` at first, doubled at each further failure of the same child
    /// up to `max`, and `min` again once the child ran quietly for `reset_after`.
    #[must_use]
    pub fn backoff(mut self, min: Duration, max: Duration, reset_after: Duration) -> Self {
        self.backoff = BackoffSpec { min, max: max.max(min), reset_after };
        self
    }

    /// Threads for the children, who are spread over them in turn. They are created with the first
    /// child, need a running [`actix_rt::System`], and are never stopped before the process ends.
    /// With 0 (the default) children run where the supervisor runs; tests in virtual time need that.
    #[must_use]
    pub fn arbiters(mut self, count: usize) -> Self {
        self.arbiters = count;
        self
    }

    /// How long one child may take to stop before it is dropped. A child that is a supervisor has
    /// no such limit of its own: its children have theirs.
    #[must_use]
    pub fn stop_within(mut self, limit: Duration) -> Self {
        self.stop_within = limit;
        self
    }
}
