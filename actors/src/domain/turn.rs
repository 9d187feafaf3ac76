//! The life of a turn: when a message may start one, when a broken one is tried again, how it ends.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

/// The state of a turn in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnState {
    /// Accepted, waiting for an earlier turn of its session.
    Queued,
    /// Being answered.
    Running,
    /// Ended with `assistant.final`.
    Final,
    /// Ended with `assistant.stopped`.
    Stopped,
    /// Ended with `assistant.error`.
    Error,
}

impl TurnState {
    /// The state as the store spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Final => "final",
            Self::Stopped => "stopped",
            Self::Error => "error",
        }
    }
}

/// A turn without its terminal event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTurn {
    /// The `seq` of its user event, which is also its name in the session.
    pub turn_seq: i64,
    /// The id of its user event.
    pub event_id: Uuid,
    /// How many attempts have begun; 0 while it has only waited.
    pub attempt: i32,
    /// When its first attempt began; while it has only waited, when its message was accepted.
    pub started_at: OffsetDateTime,
}

/// What a session does with a message that arrives while it is answering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBusy {
    /// The message waits for its turn.
    #[default]
    Enqueue,
    /// The message is refused.
    Reject,
    /// What is under way or waiting is stopped, then the message is answered.
    Interrupt,
}

/// How an accepted message goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Its turn starts at once.
    Start,
    /// Its turn waits in line.
    Wait,
    /// Open turns are stopped first.
    Interrupt,
}

/// Why a message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The session answers another message and was told to refuse.
    Busy,
    /// As many messages wait as may.
    QueueFull,
}

/// Decides about a message while `open` turns (the running one included) are not finished and at most `max_waiting` may
/// wait.
///
/// # Errors
/// [`Refusal`] when the message must not be stored.
pub const fn admit(open: usize, policy: OnBusy, max_waiting: usize) -> Result<Admission, Refusal> {
    match policy {
        _ if open == 0 => Ok(Admission::Start),
        OnBusy::Reject => Err(Refusal::Busy),
        OnBusy::Interrupt => Ok(Admission::Interrupt),
        OnBusy::Enqueue if open > max_waiting => Err(Refusal::QueueFull),
        OnBusy::Enqueue => Ok(Admission::Wait),
    }
}

/// How often and how long a turn is tried again after its owner died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumeLimits {
    /// Attempts in all.
    pub max_attempts: i32,
    /// Time since the first attempt began.
    pub within: Duration,
}

/// What becomes of an open turn that nobody is working on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Another attempt, with this number.
    Again(i32),
    /// It ends with `assistant.error` `turn-abandoned`.
    Abandon,
}

/// Decides about an orphaned turn at the time `now`. A turn that only waited has used no attempt and is not late.
#[must_use]
pub fn resume(turn: &OpenTurn, limits: ResumeLimits, now: OffsetDateTime) -> Resume {
    let late = turn.attempt > 0 && now - turn.started_at > limits.within;
    if late || turn.attempt >= limits.max_attempts {
        return Resume::Abandon;
    }
    Resume::Again(turn.attempt + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_decides_only_while_the_session_is_busy() {
        for policy in [OnBusy::Enqueue, OnBusy::Reject, OnBusy::Interrupt] {
            assert_eq!(admit(0, policy, 16), Ok(Admission::Start));
        }
        assert_eq!(admit(1, OnBusy::Enqueue, 16), Ok(Admission::Wait));
        assert_eq!(admit(16, OnBusy::Enqueue, 16), Ok(Admission::Wait));
        assert_eq!(admit(17, OnBusy::Enqueue, 16), Err(Refusal::QueueFull));
        assert_eq!(admit(1, OnBusy::Reject, 16), Err(Refusal::Busy));
        assert_eq!(admit(17, OnBusy::Interrupt, 16), Ok(Admission::Interrupt));
    }

    #[test]
    fn an_orphaned_turn_is_tried_a_few_times_and_not_for_ever() {
        let limits = ResumeLimits { max_attempts: 3, within: Duration::from_mins(10) };
        let start = OffsetDateTime::UNIX_EPOCH;
        let turn = |attempt| OpenTurn { turn_seq: 1, event_id: Uuid::nil(), attempt, started_at: start };
        let soon = start + Duration::from_secs(1);
        let late = start + Duration::from_mins(11);
        assert_eq!(resume(&turn(0), limits, soon), Resume::Again(1));
        assert_eq!(resume(&turn(2), limits, soon), Resume::Again(3));
        assert_eq!(resume(&turn(3), limits, soon), Resume::Abandon);
        assert_eq!(resume(&turn(1), limits, late), Resume::Abandon);
        assert_eq!(resume(&turn(0), limits, late), Resume::Again(1));
    }
}
