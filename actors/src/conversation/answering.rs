//! The running turn: from the start of an attempt to the decision how it ends.

use std::{collections::HashSet, sync::Arc, time::Duration};

use actix::{AsyncContext, Context, SpawnHandle, StreamHandler};
use futures_util::StreamExt;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Conversation, LiveAnswer, Phase,
    deps::Deps,
    driver::{self, Failure, Progress, Task},
    frames::{Frame, StreamMode},
    live::Both,
    messages::{ContextView, RecallView, TimingView, TurnView},
    readers::Audience,
    steps::Step,
};
use crate::{
    domain::{
        analysis::{self, Analysis},
        cadence,
        cursor::LivePosition,
        event::{Draft, EventType, Ingress, Metadata},
        ids::SessionKey,
        session::Ending,
        tokens,
        turn::{self, OpenTurn, Resume},
    },
    llm::{Piece, Usage},
};

/// Wait before an attempt that failed for lack of the store is followed by the next.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// Longest text of an error in an event, in characters.
const MAX_ERROR_CHARS: usize = 400;

/// An attempt under way.
pub struct Running {
    /// The head when the attempt began: positions before it belong to earlier turns.
    pub(super) first_head: i64,
    pub(super) turn: OpenTurn,
    key: SessionKey,
    persona_id: Option<String>,
    run: u64,
    ingress: Ingress,
    analysis: Analysis,
    live: LiveAnswer,
    reasoning: String,
    stream_index: u32,
    state: &'static str,
    began: Instant,
    began_at: OffsetDateTime,
    first_delta: Option<Duration>,
    recall: Option<RecallView>,
    context: Option<ContextView>,
    usage: Option<Usage>,
    shown_at: Option<Instant>,
    ticking: bool,
    task: Option<SpawnHandle>,
}

/// How an attempt ends its turn.
enum End {
    Final,
    Stopped,
    Failed(Failure),
}

/// One item of the attempt's stream, with the run it belongs to.
pub struct Happened(u64, Progress);

impl Running {
    fn new(conversation: &Conversation, turn: OpenTurn, message: &Value) -> Self {
        let session = &conversation.state.session;
        let metadata = message["metadata"].as_object().cloned().unwrap_or_default();
        Self {
            first_head: session.head,
            key: session.key.clone(),
            persona_id: session.persona_id.clone(),
            run: conversation.state.runs,
            ingress: Ingress { metadata },
            analysis: analysis::analyse(message["message"].as_str().unwrap_or_default()),
            live: LiveAnswer::new(turn.attempt),
            reasoning: String::new(),
            stream_index: 0,
            state: "waiting",
            began: Instant::now(),
            began_at: (conversation.deps.clock)(),
            first_delta: None,
            recall: None,
            context: None,
            usage: None,
            shown_at: None,
            ticking: false,
            task: None,
            turn,
        }
    }

    fn event(&self, type_name: &str, message: &str, metadata: Metadata) -> Value {
        let (key, persona_id) = (&self.key, self.persona_id.as_deref());
        let draft = Draft { event_id: Uuid::new_v4(), key, persona_id, message, attachments: &[], metadata };
        draft.object("assistant", type_name)
    }

    fn started(&mut self, head: i64) -> Both {
        let mut metadata = self.ingress.answered("gateway", "started", None, self.turn.attempt);
        metadata.insert("turn".into(), self.turn.turn_seq.into());
        let event = self.event("assistant.started", "", metadata);
        self.live.started(head, event)
    }

    fn thinking(&mut self, head: i64) -> Both {
        let mut metadata = self.ingress.answered("worker", "thinking", Some(&self.analysis), self.turn.attempt);
        metadata.insert("turn".into(), self.turn.turn_seq.into());
        self.describe_recall(&mut metadata);
        let event = self.event("assistant.thinking", &self.reasoning, metadata);
        self.live.thinking(head, event)
    }

    /// The parts of a whole-text frame that do not change with the text.
    fn whole_event(&self) -> Value {
        let mut metadata = self.ingress.answered("slm", "streaming", Some(&self.analysis), self.turn.attempt);
        metadata.insert("turn".into(), self.turn.turn_seq.into());
        metadata.insert("stream_index".into(), self.stream_index.into());
        self.event("assistant.stream", "", metadata)
    }

    /// A piece carries only what a reader of pieces needs: there are many of them.
    fn piece_event(&self) -> Value {
        json!({
            "event_id": Uuid::new_v4(),
            "session_id": self.key.session_id,
            "persona_id": self.persona_id,
            "role": "assistant",
            "metadata": {
                "source": "slm",
                "status": "streaming",
                "turn": self.turn.turn_seq,
                "attempt": self.turn.attempt,
                "stream_index": self.stream_index,
            },
            "version": crate::domain::event::VERSION,
            "type": "assistant.stream",
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
            return self.live.missed_pieces(seen, head, self.piece_event());
        }
        // Others will be shown the rest at the next tick; alone, nothing was shown for want of readers.
        if alone && self.live.has_unshown_text() {
            self.show(head);
        }
        self.live.missed_full(seen)
    }

    fn show(&mut self, head: i64) -> Arc<Frame> {
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

    fn timing(&self) -> TimingView {
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

    fn ending(&self, end: &End, deps: &Deps) -> Ending {
        let (event_type, source, status) = match end {
            End::Final => (EventType::Final, "slm", "completed"),
            End::Stopped => (EventType::Stopped, "slm", "stopped"),
            End::Failed(_) => (EventType::Error, "worker", "error"),
        };
        let mut metadata = self.ingress.answered(source, status, Some(&self.analysis), self.turn.attempt);
        self.describe_recall(&mut metadata);
        metadata.insert("model".into(), deps.model_name.as_ref().into());
        metadata.insert("timing".into(), json!(self.timing()));
        if let Some(context) = &self.context {
            metadata.insert("context".into(), json!(context));
        }
        let usage = self.usage().map(|usage| json!(usage));
        if let Some(usage) = &usage {
            metadata.insert("usage".into(), usage.clone());
        }
        let (message, error_code) = match end {
            End::Final | End::Stopped => (self.live.text().to_owned(), None),
            End::Failed(failure) => {
                let code = failure.code();
                metadata.insert("error_code".into(), code.into());
                metadata.insert(
                    "error".into(),
                    failure.to_string().chars().take(MAX_ERROR_CHARS).collect::<String>().into(),
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
            usage,
            error_code,
        }
    }
}

impl Failure {
    /// The stable code of the terminal event.
    fn code(&self) -> &'static str {
        match self {
            Self::Model(error) => error.code(),
            Self::Context(error) => error.code(),
            Self::Store(_) => ABANDONED,
        }
    }
}

/// The code of a turn that was given up.
const ABANDONED: &str = "turn-abandoned";

/// Whether sending the message again may help.
fn is_retriable(code: &str) -> bool {
    let permanent = HashSet::from(["model-refused", "model-context-too-long", "model-answer-too-long"]);
    !permanent.contains(code)
}

/// What a person reads instead of an answer.
fn friendly(code: &str) -> &'static str {
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
    ending.metadata.remove("partial");
    ending.metadata.insert("status".into(), "error".into());
    ending.metadata.insert("error_code".into(), code.into());
    ending.metadata.insert("error".into(), "the text could not be stored".into());
}

impl Conversation {
    /// Starts the first turn in line, or puts the step in front that must come before.
    pub(super) fn start_next(&mut self, ctx: &mut Context<Self>) {
        let state = &self.state;
        if state.held || state.running.is_some() || state.phase != Phase::Ready || self.deps.is_draining() {
            return;
        }
        let Some(turn) = state.session.open.front().cloned() else { return };
        if state.ending.contains(&turn.turn_seq) {
            return;
        }
        let message = state.messages.get(&turn.turn_seq).cloned();
        let Some(message) = message else { return self.give_up(&turn) };
        if state.raised == Some(turn.turn_seq) {
            return self.run(turn, message, ctx);
        }
        match turn::resume(&turn, self.deps.turns.resume_limits(), (self.deps.clock)()) {
            Resume::Again(attempt) => self.state.steps.push_front(Step::Attempt { turn, attempt }),
            Resume::Abandon => self.give_up(&turn),
        }
    }

    fn run(&mut self, turn: OpenTurn, message: Arc<Value>, ctx: &mut Context<Self>) {
        self.state.raised = None;
        self.state.runs += 1;
        let (run, head) = (self.state.runs, self.state.session.head);
        let mut running = Running::new(self, turn, &message);
        let task = Task {
            key: running.key.clone(),
            turn_seq: running.turn.turn_seq,
            message,
            correlation_id: running.turn.event_id,
        };
        let progress = driver::attempt(self.deps.clone(), task).map(move |progress| Happened(run, progress));
        running.task = Some(ctx.add_stream(Box::pin(progress)));
        let both = running.started(head);
        self.state.running = Some(running);
        self.send_both(&both);
    }

    fn send_both(&mut self, both: &Both) {
        self.send(Audience::WholeTexts, &both.full);
        self.send(Audience::Pieces, &both.pieces);
    }

    /// Ends the running turn as stopped, and tells which one it was.
    pub(super) fn stop_running(&mut self, ctx: &mut Context<Self>) -> Option<i64> {
        let running = self.state.running.as_ref()?;
        let turn_seq = running.turn.turn_seq;
        self.finish(&End::Stopped, ctx);
        Some(turn_seq)
    }

    /// Ends turns that do not run, as stopped.
    pub(super) fn stop_waiting(&mut self, turns: Vec<OpenTurn>) {
        for turn in turns {
            self.end_unstarted(&turn, EventType::Stopped, "stopped", None);
        }
    }

    fn give_up(&mut self, turn: &OpenTurn) {
        self.end_unstarted(turn, EventType::Error, "error", Some(ABANDONED));
    }

    fn end_unstarted(&mut self, turn: &OpenTurn, event_type: EventType, status: &str, code: Option<&'static str>) {
        let metadata =
            self.state.messages.get(&turn.turn_seq).and_then(|message| message["metadata"].as_object().cloned());
        let ingress = Ingress { metadata: metadata.unwrap_or_default() };
        let mut metadata = ingress.answered("worker", status, None, turn.attempt);
        if let Some(code) = code {
            metadata.insert("error_code".into(), code.into());
            metadata.insert("error".into(), format!("given up after {} attempts", turn.attempt).into());
            metadata.insert("retriable".into(), true.into());
        }
        let ending = Ending {
            turn_seq: turn.turn_seq,
            user_event_id: turn.event_id,
            attempt: turn.attempt,
            event_id: Uuid::new_v4(),
            event_type,
            message: code.map(friendly).unwrap_or_default().to_owned(),
            metadata,
            usage: None,
            error_code: code,
        };
        self.state.ending.push(turn.turn_seq);
        self.state.steps.push_front(Step::End(Box::new(ending), 0));
    }

    /// Decides how the running turn ends. The provider's connection is closed here; the terminal event follows.
    fn finish(&mut self, end: &End, ctx: &mut Context<Self>) {
        let Some(running) = self.state.running.as_mut() else { return };
        let Some(task) = running.task.take() else { return };
        ctx.cancel_future(task);
        running.state = "closing";
        let ending = running.ending(end, &self.deps);
        let metrics = &self.deps.metrics;
        metrics.turn_seconds.observe(running.began.elapsed().as_secs_f64());
        let last = &mut self.state.last;
        last.last_timing = Some(running.timing());
        last.last_usage.clone_from(&ending.usage);
        self.state.ending.push(ending.turn_seq);
        self.state.steps.push_front(Step::End(Box::new(ending), 0));
        self.advance(ctx);
    }

    /// Drops the running turn without an end: somebody else, or a later attempt, will end it.
    pub(super) fn cancel_running(&mut self, ctx: &mut Context<Self>) {
        if let Some(task) = self.state.running.take().and_then(|running| running.task) {
            ctx.cancel_future(task);
        }
    }

    fn progressed(&mut self, progress: Progress, ctx: &mut Context<Self>) {
        let head = self.state.session.head;
        let Some(running) = self.state.running.as_mut() else { return };
        match progress {
            Progress::Running => running.state = "recalling",
            Progress::Recalled(recall) => {
                self.state.last.last_recall = Some(recall.clone());
                running.recall = Some(recall);
            }
            Progress::Asked(context) => {
                running.state = "thinking";
                self.state.last.last_context = Some(context.clone());
                running.context = Some(context);
                let both = running.thinking(head);
                self.send_both(&both);
            }
            Progress::Piece(Piece::Thinking(text)) => {
                running.reasoning.push_str(&text);
                let both = running.thinking(head);
                self.send_both(&both);
            }
            Progress::Piece(Piece::Text(text)) => self.said(text, ctx),
            Progress::Piece(Piece::Usage(usage)) => running.usage = Some(usage),
            Progress::Piece(Piece::Finished(_)) => self.finish(&End::Final, ctx),
            Progress::Failed(Failure::Store(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "an attempt could not read its history");
                self.cancel_running(ctx);
                ctx.run_later(STORE_RETRY, Self::advance);
            }
            Progress::Failed(failure) => {
                tracing::warn!(code = failure.code(), error = &failure as &dyn std::error::Error, "an answer failed");
                self.finish(&End::Failed(failure), ctx);
            }
        }
    }

    fn said(&mut self, text: String, ctx: &mut Context<Self>) {
        let planted = self.deps.planted.as_ref().is_some_and(|planted| planted.is_due());
        assert!(!planted, "a fault planted by a test");
        let head = self.state.session.head;
        let Some(running) = self.state.running.as_mut() else { return };
        running.state = "streaming";
        running.stream_index += 1;
        if running.first_delta.is_none() {
            let first = running.began.elapsed();
            running.first_delta = Some(first);
            self.deps.metrics.first_delta_seconds.observe(first.as_secs_f64());
        }
        let piece = running.live.push(head, running.piece_event(), text);
        self.send(Audience::Pieces, &piece);
        self.show_when_due(ctx);
    }

    /// Sends the text so far to those who read whole texts, now or when the interval since the last time is over.
    fn show_when_due(&mut self, ctx: &mut Context<Self>) {
        let head = self.state.session.head;
        let nobody = !self.state.readers.has(Audience::WholeTexts);
        let Some(running) = self.state.running.as_mut() else { return };
        if nobody || running.ticking || running.task.is_none() || !running.live.has_unshown_text() {
            return;
        }
        let interval = cadence::interval(running.live.text().len());
        let wait = running.shown_at.map_or(Duration::ZERO, |at| interval.saturating_sub(at.elapsed()));
        if wait.is_zero() {
            let frame = running.show(head);
            self.send(Audience::WholeTexts, &frame);
            return;
        }
        running.ticking = true;
        let run = running.run;
        ctx.run_later(wait, move |this, ctx| {
            if let Some(running) = this.state.running.as_mut().filter(|running| running.run == run) {
                running.ticking = false;
                this.show_when_due(ctx);
            }
        });
    }
}

impl StreamHandler<Happened> for Conversation {
    fn handle(&mut self, Happened(run, progress): Happened, ctx: &mut Context<Self>) {
        // A piece of an attempt that was cancelled a moment ago counts no more.
        if self.state.running.as_ref().is_some_and(|running| running.run == run && running.task.is_some()) {
            self.progressed(progress, ctx);
        }
    }

    fn finished(&mut self, _: &mut Context<Self>) {
        // The end of an attempt is a piece of its own; the default here would end the conversation.
    }
}
