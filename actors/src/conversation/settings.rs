//! How conversations behave; the sections `sessions` and `turns` of the configuration.

use std::time::Duration;

use serde::Deserialize;

use crate::domain::turn::ResumeLimits;

/// Section `sessions`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionSettings {
    /// The name under which this process owns sessions, the same after a restart; empty: its host and address.
    pub node: String,
    /// How long a conversation without turn and reader stays in memory, milliseconds.
    pub idle_ms: u64,
    /// How long a node owns a session after it last said so, milliseconds, at least 3 000.
    pub lease_ms: u64,
    /// Messages of one session that may be waiting to be stored.
    pub posts_capacity: usize,
    /// Accepted messages of one session that may be waiting for their turn.
    pub queue_max: usize,
    /// Longest wait for an answer of a conversation, milliseconds.
    pub ask_timeout_ms: u64,
    /// Frames a reader may be behind before it is dropped.
    pub reader_buffer: usize,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            node: String::new(),
            idle_ms: 300_000,
            lease_ms: 30_000,
            posts_capacity: 64,
            queue_max: 16,
            ask_timeout_ms: 12_000,
            reader_buffer: 256,
        }
    }
}

impl SessionSettings {
    /// How long to wait for a conversation.
    #[must_use]
    pub const fn ask_timeout(&self) -> Duration {
        Duration::from_millis(self.ask_timeout_ms)
    }

    /// How long ownership lasts.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }
}

/// Section `turns`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TurnSettings {
    /// Attempts at a turn whose owner died, in all.
    pub max_attempts: i32,
    /// How long after its first attempt began a turn may be tried again, milliseconds.
    pub resume_within_ms: u64,
    /// Turns running at a time in this process.
    pub max_running: usize,
    /// Time between looks for turns without an owner, milliseconds.
    pub sweep_ms: u64,
    /// Turns without an owner taken up at a time.
    pub sweep_batch: i64,
    /// Longest wait for the memory service, milliseconds; 0 asks it nothing.
    pub recall_deadline_ms: u64,
    /// Memories asked for.
    pub recall_top_k: u32,
    /// Earlier messages read for the context, before the token budget cuts.
    pub history_messages: i64,
    /// Longest time that all files of a context may take to be read, milliseconds; what is not read by then is left out.
    pub files_deadline_ms: u64,
    /// What the model is told first.
    pub system_prompt: String,
}

impl Default for TurnSettings {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            resume_within_ms: 600_000,
            max_running: 256,
            sweep_ms: 10_000,
            sweep_batch: 64,
            recall_deadline_ms: 800,
            recall_top_k: 8,
            history_messages: 200,
            files_deadline_ms: 60_000,
            system_prompt: String::new(),
        }
    }
}

impl TurnSettings {
    /// The rule for turns whose owner died.
    #[must_use]
    pub const fn resume_limits(&self) -> ResumeLimits {
        ResumeLimits { max_attempts: self.max_attempts, within: Duration::from_millis(self.resume_within_ms) }
    }
}
