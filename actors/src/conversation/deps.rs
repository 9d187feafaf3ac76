//! What a conversation needs of the world. Cheap to clone; survives the conversation.

use std::{
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use somaagent_supervision::Port;
use time::OffsetDateTime;
use tokio::{sync::Semaphore, time::Instant};

use super::{
    metrics::ConversationMetrics,
    settings::{SessionSettings, TurnSettings},
    subscription::Closing,
    tenure::{Tenure, sure_until},
};
use crate::{
    contents::Contents,
    domain::{caller::Caller, memory::MemorySpace, session::Stamp, whose::Whose},
    journal::messages::Commit,
    llm::ModelClient,
    policy::Policy,
    somabrain::messages::Recall,
    store::Store,
};

/// Shared by all conversations of a process.
#[derive(Clone)]
pub struct Deps {
    /// Where history is read.
    pub store: Store,
    /// Where history is written.
    pub journal: Port<Commit>,
    /// Who remembers.
    pub recall: Port<Recall>,
    /// Says whether what is remembered may be recalled.
    pub policy: Policy,
    /// What is in files.
    pub contents: Contents,
    /// Who answers.
    pub model: ModelClient,
    /// The model's name as events carry it.
    pub model_name: Arc<str>,
    /// Tokens a context may have.
    pub context_budget: usize,
    /// Behaviour of sessions.
    pub sessions: Arc<SessionSettings>,
    /// Behaviour of turns.
    pub turns: Arc<TurnSettings>,
    /// Counters.
    pub metrics: ConversationMetrics,
    /// This node's name, the same after a restart on the same data.
    pub node: Arc<str>,
    /// One permit a running turn.
    pub slots: Arc<Semaphore>,
    /// Where memories go.
    pub space: Arc<MemorySpace>,
    /// Whether the sessions of a tenant are everybody's in it.
    pub tenant_sessions: bool,
    /// Set when no turn shall start any more.
    pub draining: Arc<AtomicBool>,
    /// Ends the streams that no conversation feeds.
    pub closing: Closing,
    /// What time it is.
    pub clock: fn() -> OffsetDateTime,
    /// A planted fault, for tests of crashes; always `None` in release builds.
    pub planted: Option<Arc<PlantedPanic>>,
}

impl Deps {
    /// Who writes now.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        let at = (self.clock)();
        Stamp { at, node: self.node.to_string(), lease_until: at + self.sessions.lease() }
    }

    /// Until when a lease that is asked for now is sure.
    #[must_use]
    pub fn sure_until(&self) -> Instant {
        sure_until(self.sessions.lease())
    }

    /// Whether the process is going down.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// How long the Journal may take: longer than a statement may on a server that can be interrupted. Where it takes longer, the
/// step is looked up like one whose answer was lost.
pub const JOURNAL_WITHIN: Duration = Duration::from_secs(6);

/// Panics at the n-th piece of an answer that this process streams, and at some after it.
#[derive(Debug)]
pub struct PlantedPanic {
    seen: AtomicUsize,
    at: Range<usize>,
}

impl PlantedPanic {
    /// A panic at the `nth` piece, from 1, and at each piece after it until there were `count`.
    #[must_use]
    pub const fn at_piece(nth: usize, count: usize) -> Self {
        Self { seen: AtomicUsize::new(0), at: nth..nth.saturating_add(count) }
    }

    /// Counts a piece; true at those that were chosen.
    pub fn is_due(&self) -> bool {
        self.at.contains(&(self.seen.fetch_add(1, Ordering::AcqRel) + 1))
    }
}

/// What others may know of a conversation without asking it.
#[derive(Debug, Default)]
pub struct Activity {
    /// Readers of its stream.
    pub readers: Arc<AtomicUsize>,
    /// Milliseconds since the Unix epoch at which it became idle; 0 while it is busy.
    idle_since_ms: AtomicU64,
    /// Whether a change or a running turn is under way. Turns that wait may be left to the next owner.
    working: AtomicBool,
    /// What it owns, and for how long.
    pub tenure: Tenure,
    /// Whose its session is, once that is known: it stays so.
    whose: OnceLock<Whose>,
}

impl Activity {
    /// Notes whose the session is. True if it was nobody's before, as far as was known.
    pub fn is_now(&self, whose: &Whose) -> bool {
        whose.is_begun() && self.whose.set(whose.clone()).is_ok()
    }

    /// Whether the session is known to be none that exists for `caller`.
    #[must_use]
    pub fn is_hidden_from(&self, caller: &Caller) -> bool {
        self.whose.get().is_some_and(|whose| whose.is_hidden_from(caller))
    }

    /// Notes that the conversation is busy.
    pub fn busy(&self) {
        self.idle_since_ms.store(0, Ordering::Release);
    }

    /// Notes that the conversation has had nothing to do since `now`, unless it had nothing to do before.
    pub fn idle(&self, now: OffsetDateTime) {
        let _ = self.idle_since_ms.compare_exchange(0, millis(now), Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether nobody has needed the conversation for `at_least`.
    #[must_use]
    pub fn is_idle_for(&self, at_least: Duration, now: OffsetDateTime) -> bool {
        let since = self.idle_since_ms.load(Ordering::Acquire);
        let waited = u128::from(millis(now).saturating_sub(since));
        since != 0 && self.readers.load(Ordering::Acquire) == 0 && waited >= at_least.as_millis()
    }

    /// Whether the conversation is working on something.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.idle_since_ms.load(Ordering::Acquire) == 0
    }

    /// Whether a change or a running turn is under way.
    #[must_use]
    pub fn is_working(&self) -> bool {
        self.working.load(Ordering::Acquire)
    }

    /// Notes whether a change or a running turn is under way.
    pub fn working(&self, yes: bool) {
        self.working.store(yes, Ordering::Release);
    }
}

fn millis(at: OffsetDateTime) -> u64 {
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_or_a_turn_keeps_a_conversation_awake() {
        let activity = Activity::default();
        let at = |seconds| OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let limit = Duration::from_secs(10);
        assert!(!activity.is_idle_for(limit, at(100)), "busy from the start");
        activity.idle(at(100));
        activity.idle(at(105));
        assert!(!activity.is_idle_for(limit, at(109)));
        assert!(activity.is_idle_for(limit, at(110)));
        activity.readers.fetch_add(1, Ordering::AcqRel);
        assert!(!activity.is_idle_for(limit, at(110)));
        activity.readers.fetch_sub(1, Ordering::AcqRel);
        activity.busy();
        assert!(!activity.is_idle_for(limit, at(999)));
    }

    #[test]
    fn a_planted_panic_is_due_as_often_as_it_was_said() {
        let planted = PlantedPanic::at_piece(2, 2);
        let due: Vec<bool> = (0..5).map(|_| planted.is_due()).collect();
        assert_eq!(due, [false, true, true, false, false]);
    }
}
