//! One attempt at an answer as its conversation knows it: what was said so far, and what its events say.

use std::{sync::Arc, time::Duration};

use actix::SpawnHandle;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Conversation, LiveAnswer,
    deps::Deps,
    driver::Failure,
    frames::{Frame, StreamMode},
    live::{Both, Said},
    messages::{ContextView, RecallView, TimingView, TurnView},
};
use crate::{
    domain::{
        analysis::{self, Analysis},
        cadence,
        caller::Caller,
        cursor::LivePosition,
        event::{Draft, EventType, Ingress, Metadata},
        ids::SessionKey,
        session::Ending,
        tokens,
        turn::OpenTurn,
    },
    llm::{FinishReason, Usage},
};

/// Longest text of an error in an event, in characters.
const MAX_ERROR_CHARS: usize = 400;

/// An attempt under way.
pub struct Running {
    /// The head when the attempt began: positions before it belong to earlier turns.
    pub(super) first_head: i64,
    pub(super) turn: OpenTurn,
    pub(super) key: SessionKey,
    pub(super) persona_id: Option<String>,
    pub(super) run: u64,
    pub(super) ingress: Ingress,
    pub(super) analysis: Analysis,
    pub(super) live: LiveAnswer,
    /// When the reasoning was last shown to readers of whole texts, and how much of it.
    pub(super) thought: Option<(Instant, usize)>,
    /// The same for readers of pieces.
    pub(super) thought_piece: Option<(Instant, usize)>,
    pub(super) stream_index: u32,
    pub(super) state: &'static str,
    pub(super) began: Instant,
    pub(super) began_at: OffsetDateTime,
    pub(super) first_delta: Option<Duration>,
    pub(super) recall: Option<RecallView>,
    pub(super) context: Option<ContextView>,
    pub(super) usage: Option<Usage>,
    /// How the model ended the answer.
    pub(super) finish_reason: Option<FinishReason>,
    pub(super) shown_at: Option<Instant>,
    pub(super) ticking: bool,
    pub(super) task: Option<SpawnHandle>,
}

/// Whether reasoning of `length` bytes is to be sent of which `sent` tells when and how much was.
fn is_due(sent: Option<(Instant, usize)>, length: usize, now: bool) -> bool {
    match sent {
        Some((_, sent)) if sent == length => false,
        Some((at, _)) => now || at.elapsed() >= cadence::interval(length),
        None => length > 0,
    }
}

/// How an attempt ends its turn.
pub(super) enum End {
    Final,
    Stopped(Caller),
    Failed(Failure),
}

impl Running {
    pub(super) fn new(conversation: &Conversation, turn: OpenTurn, message: &Value) -> Self {
        let session = &conversation.state.session;
        Self {
            first_head: session.head,
            key: session.key.clone(),
            persona_id: session.persona_id.clone(),
            run: conversation.state.runs,
            ingress: Ingress::of(message),
            analysis: analysis::analyse(message["message"].as_str().unwrap_or_default()),
            live: LiveAnswer::new(turn.attempt),
            thought: None,
            thought_piece: None,
            stream_index: 0,
            state: "waiting",
            began: Instant::now(),
            began_at: (conversation.deps.clock)(),
            first_delta: None,
            recall: None,
            context: None,
            usage: None,
            finish_reason: None,
            shown_at: None,
            ticking: false,
            task: None,
            turn,
        }
    }

    /// The request that the turn goes back to.
    pub(super) fn correlation_id(&self) -> Uuid {
        self.ingress.correlation_id().unwrap_or(self.turn.event_id)
    }

    fn event(&self, type_name: &str, message: &str, metadata: Metadata) -> Value {
        let (key, persona_id) = (&self.key, self.persona_id.as_deref());
        let draft =
            Draft { event_id: Uuid::new_v4(), key, persona_id, message, attachments: &[], metadata, trace: None };
        draft.object("assistant", type_name)
    }

    pub(super) fn started(&mut self, head: i64) -> Both {
        let mut metadata = self.ingress.answered("gateway", "started", None, self.turn.attempt);
        metadata.insert("turn".into(), self.turn.turn_seq.into());
        let event = self.event("assistant.started", "", metadata);
        self.live.started(head, event)
    }

    fn thinking_event(&self) -> Value {
        let mut metadata = self.ingress.answered("worker", "thinking", Some(&self.analysis), self.turn.attempt);
        metadata.insert("turn".into(), self.turn.turn_seq.into());
        self.describe_recall(&mut metadata);
        self.event("assistant.thinking", "", metadata)
    }

    pub(super) fn thinking(&mut self, head: i64) -> Both {
        let event = self.thinking_event();
        self.live.thinking(head, event)
    }

    /// The reasoning for readers of pieces, at the same bounded rate as whole texts; at once when text follows, so that both
    /// keep their order.
    pub(super) fn thought_piece(&mut self, head: i64, text_follows: bool) -> Option<Arc<Frame>> {
        let length = self.live.reasoning().len();
        if !is_due(self.thought_piece, length, text_follows) {
            return None;
        }
        self.thought_piece = Some((Instant::now(), length));
        let event = self.piece_event(Said::Reasoning);
        Some(self.live.push_thought(head, event))
    }

    /// The reasoning so far for readers of whole texts, at their bounded rate; at once when it is the last of it.
    pub(super) fn thought(&mut self, head: i64, last: bool) -> Option<Arc<Frame>> {
        let length = self.live.reasoning().len();
        if !is_due(self.thought, length, last) {
            return None;
        }
        self.thought = Some((Instant::now(), length));
        let event = self.thinking_event();
        Some(self.live.show_thought(head, event))
    }

    /// The parts of a whole-text frame that do not change with the text.
    fn whole_event(&self) -> Value {
        let mut metadata = self.ingress.answered("slm", "streaming", Some(&self.analysis), self.turn.attempt);
        metadata.insert("turn".into(), self.turn.turn_seq.into());
        metadata.insert("stream_index".into(), self.stream_index.into());
        self.event("assistant.stream", "", metadata)
    }

    /// A piece carries only what a reader of pieces needs: there are many of them.
    pub(super) fn piece_event(&self, of: Said) -> Value {
        let (source, status, type_name, index) = match of {
            Said::Text => ("slm", "streaming", "assistant.stream", Some(self.stream_index)),
            Said::Reasoning => ("worker", "thinking", "assistant.thinking", None),
        };
        let (turn, attempt) = (self.turn.turn_seq, self.turn.attempt);
        let mut metadata = json!({"source": source, "status": status, "turn": turn, "attempt": attempt});
        if let Some(index) = index {
            metadata["stream_index"] = index.into();
        }
        json!({
            "event_id": Uuid::new_v4(),
            "session_id": self.key.session_id,
            "persona_id": self.persona_id,
            "role": "assistant",
            "metadata": metadata,
            "version": crate::domain::event::VERSION,
            "type": type_name,
        })
    }

    /// What a reader lacks who has seen `seen` of this turn; `alone` if nobody else reads whole texts.
    pub(super) fn missed(
        &mut self,
        seen: Option<LivePosition>,
        mode: StreamMode,
        head: i64,
        alone: bool,
    ) -> Vec<Arc<Frame>> {
        if mode == StreamMode::Delta {
            return self.live.missed_pieces(seen, head, |of| self.piece_event(of));
        }
        // Others will be shown the rest at the next tick; alone, nothing was shown for want of readers.
        if alone && self.live.has_unshown_text() {
            self.show(head);
        }
        self.live.missed_full(seen, head)
    }

    pub(super) fn show(&mut self, head: i64) -> Arc<Frame> {
        self.shown_at = Some(Instant::now());
        let event = self.whole_event();
        self.live.show(head, event)
    }

    fn describe_recall(&self, metadata: &mut Metadata) {
        if let Some(recall) = &self.recall {
            metadata.insert("recall".into(), json!({"state": recall.state, "count": recall.items.len()}));
        }
    }

    /// Tokens of the answer: the endpoint's count, or an estimate of what was asked and said.
    fn usage(&self) -> Option<Usage> {
        let asked = self.context.as_ref()?.tokens;
        let said = || if self.live.text().is_empty() { 0 } else { tokens::of_text(self.live.text()) as u64 };
        let estimate = || Usage { input_tokens: asked, output_tokens: said(), estimated: true };
        Some(self.usage.unwrap_or_else(estimate))
    }

    pub(super) fn timing(&self) -> TimingView {
        TimingView { first_delta_ms: self.first_delta.map(millis), total_ms: millis(self.began.elapsed()) }
    }

    pub(super) fn view(&self, deps: &Deps) -> TurnView {
        TurnView {
            turn_seq: self.turn.turn_seq,
            attempt: self.turn.attempt,
            state: self.state,
            started_at: self.began_at,
            text_bytes: self.live.text().len(),
            first_delta_ms: self.first_delta.map(millis),
            model: deps.model_name.to_string(),
        }
    }

    pub(super) fn ending(&self, end: &End, deps: &Deps) -> Ending {
        let (event_type, source, status) = match end {
            End::Final => (EventType::Final, "slm", "completed"),
            End::Stopped(_) => (EventType::Stopped, "slm", "stopped"),
            End::Failed(_) => (EventType::Error, "worker", "error"),
        };
        let mut metadata = self.ingress.answered(source, status, Some(&self.analysis), self.turn.attempt);
        self.describe_recall(&mut metadata);
        metadata.insert("model".into(), deps.model_name.as_ref().into());
        metadata.insert("timing".into(), json!(self.timing()));
        if let Some(context) = &self.context {
            metadata.insert("context".into(), json!(context));
        }
        if let Some(reason) = self.finish_reason.filter(|reason| *reason != FinishReason::Stop) {
            metadata.insert("finish_reason".into(), json!(reason));
        }
        let usage = self.usage().map(|usage| json!(usage));
        if let Some(usage) = &usage {
            metadata.insert("usage".into(), usage.clone());
        }
        let (message, error_code) = match end {
            End::Final | End::Stopped(_) => (self.live.text().to_owned(), None),
            End::Failed(failure) => {
                let code = failure.code();
                metadata.insert("error_code".into(), code.into());
                metadata.insert(
                    "error".into(),
                    failure.to_string().chars().filter(|c| *c != '\0').take(MAX_ERROR_CHARS).collect::<String>().into(),
                );
                metadata.insert("retriable".into(), is_retriable(code).into());
                if !self.live.text().is_empty() {
                    metadata.insert("partial".into(), self.live.text().into());
                }
                (friendly(code).to_owned(), Some(code))
            }
        };
        Ending {
            turn_seq: self.turn.turn_seq,
            user_event_id: self.turn.event_id,
            attempt: self.turn.attempt,
            event_id: Uuid::new_v4(),
            event_type,
            message,
            metadata,
            trace: self.ingress.trace.clone(),
            usage,
            error_code,
            by: if let End::Stopped(caller) = end { Some(caller.clone()) } else { None },
        }
    }
}

impl Failure {
    /// The stable code of the terminal event.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Model(error) => error.code(),
            Self::Context(error) => error.code(),
            Self::Store(_) => ABANDONED,
        }
    }
}

/// The code of a turn that was given up.
pub(super) const ABANDONED: &str = "turn-abandoned";

/// Whether sending the message again may help.
fn is_retriable(code: &str) -> bool {
    !["model-refused", "model-context-too-long", "model-answer-too-long"].contains(&code)
}

/// What a person reads instead of an answer.
pub(super) fn friendly(code: &str) -> &'static str {
    match code {
        "model-unreachable" => "The model could not be reached.",
        "model-rate-limited" => "The model is busy. Please try again in a moment.",
        "model-refused" => "The model refused the request. Its key or settings may be wrong.",
        "model-timeout" => "The model did not answer in time.",
        "model-context-too-long" => "The message is too long for the model.",
        "model-answer-too-long" => "The answer grew too long and was cut off.",
        ABANDONED => "The answer could not be completed after several attempts.",
        _ => "The model broke off in the middle of its answer.",
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Turns an ending whose text the store rejects into one that says so.
pub(super) fn spoil(ending: &mut Ending) {
    let code = "model-broken-stream";
    ending.event_type = EventType::Error;
    ending.event_id = Uuid::new_v4();
    friendly(code).clone_into(&mut ending.message);
    ending.error_code = Some(code);
    for told in ["partial", "finish_reason"] {
        ending.metadata.remove(told);
    }
    ending.metadata.insert("status".into(), "error".into());
    ending.metadata.insert("error_code".into(), code.into());
    ending.metadata.insert("retriable".into(), is_retriable(code).into());
    ending.metadata.insert("error".into(), "the text could not be stored".into());
}
