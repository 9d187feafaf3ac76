//! The running turn: from the start of an attempt to the decision how it ends.

use std::{sync::Arc, time::Duration};

use actix::{AsyncContext, Context, StreamHandler};
use futures_util::StreamExt;
use serde_json::Value;
use uuid::Uuid;

use super::{
    Conversation, Phase,
    driver::{self, Failure, Progress, Task},
    frames::Frame,
    live::{Both, Said},
    readers::Audience,
    running::{ABANDONED, End, Running, friendly},
    steps::Step,
};
use crate::{
    domain::{
        cadence,
        event::{EventType, Ingress},
        session::Ending,
        turn::{self, OpenTurn, Resume},
    },
    llm::Piece,
};

/// Wait before an attempt that failed for lack of the store is followed by the next.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// One item of the attempt's stream, with the run it belongs to.
pub struct Happened(u64, Progress);

impl Conversation {
    /// Starts the first turn in line, or puts the step in front that must come before.
    pub(super) fn start_next(&mut self, ctx: &mut Context<Self>) {
        let state = &self.state;
        if state.held || state.running.is_some() || state.phase != Phase::Ready || self.deps.is_draining() {
            return;
        }
        let Some(turn) = state.session.open.front().cloned() else { return };
        if state.ending.contains_key(&turn.turn_seq) {
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
            subject: self.state.session.whose.subject().map(str::to_owned),
            persona_id: running.persona_id.clone(),
            turn_seq: running.turn.turn_seq,
            correlation_id: running.correlation_id(),
            trace: running.ingress.trace.clone(),
            message,
        };
        let progress = driver::attempt(Arc::clone(&self.deps), task).map(move |progress| Happened(run, progress));
        running.task = Some(ctx.add_stream(Box::pin(progress)));
        let both = running.started(head);
        self.state.running = Some(Box::new(running));
        self.send_both(&both);
    }

    fn send_both(&mut self, both: &Both) {
        self.send(Audience::WholeTexts, &both.whole);
        self.send(Audience::Pieces, &both.piece);
    }

    fn send_thought(&mut self, whole: Option<Arc<Frame>>, piece: Option<Arc<Frame>>) {
        for (audience, frame) in [(Audience::WholeTexts, whole), (Audience::Pieces, piece)] {
            if let Some(frame) = frame {
                self.send(audience, &frame);
            }
        }
    }

    fn give_up(&mut self, turn: &OpenTurn) {
        let ingress = self.ingress(turn);
        let mut metadata = ingress.answered("worker", "error", None, turn.attempt);
        metadata.insert("error_code".into(), ABANDONED.into());
        metadata.insert("error".into(), format!("given up after {} attempts", turn.attempt).into());
        metadata.insert("retriable".into(), true.into());
        let ending = Ending {
            turn_seq: turn.turn_seq,
            user_event_id: turn.event_id,
            attempt: turn.attempt,
            event_id: Uuid::new_v4(),
            event_type: EventType::Error,
            message: friendly(ABANDONED).to_owned(),
            metadata,
            trace: ingress.trace,
            usage: None,
            error_code: Some(ABANDONED),
            by: None,
        };
        self.decide_end(ending);
    }

    pub(super) fn ingress(&self, turn: &OpenTurn) -> Ingress {
        let message = self.state.messages.get(&turn.turn_seq);
        message.map(|message| Ingress::of(message)).unwrap_or_default()
    }

    pub(super) fn decide_end(&mut self, ending: Ending) {
        self.state.ending.insert(ending.turn_seq, ending.event_type);
        self.state.steps.push_front(Step::End(Box::new(ending), 0));
    }

    /// Decides how the running turn ends. The provider's connection is closed here; the terminal event follows.
    pub(super) fn finish(&mut self, end: &End, ctx: &mut Context<Self>) {
        let Some(running) = self.state.running.as_mut() else { return };
        let Some(task) = running.task.take() else { return };
        ctx.cancel_future(task);
        running.state = "closing";
        let head = self.state.session.head;
        let thought = (running.thought(head, true), running.thought_piece(head, true));
        let ending = running.ending(end, &self.deps);
        let metrics = &self.deps.metrics;
        metrics.turn_seconds.observe(running.began.elapsed().as_secs_f64());
        let last = &mut self.state.last;
        last.last_timing = Some(running.timing());
        last.last_usage.clone_from(&ending.usage);
        self.decide_end(ending);
        self.send_thought(thought.0, thought.1);
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
            Progress::Reading => running.state = "reading",
            Progress::Waiting => running.state = "waiting",
            Progress::Asked(context) => {
                running.state = "thinking";
                self.state.last.last_context = Some(context.clone());
                running.context = Some(context);
                let both = running.thinking(head);
                self.send_both(&both);
            }
            Progress::Piece(Piece::Thinking(text)) => {
                running.live.think(&text);
                let (whole, piece) = (running.thought(head, false), running.thought_piece(head, false));
                self.send_thought(whole, piece);
            }
            Progress::Piece(Piece::Text(text)) => self.said(text, ctx),
            Progress::Piece(Piece::Usage(usage)) => running.usage = Some(usage),
            Progress::Piece(Piece::Finished(reason)) => {
                running.finish_reason = Some(reason);
                self.finish(&End::Final, ctx);
            }
            Progress::Failed(Failure::Store(error)) => {
                let (turn, correlation_id) = (running.turn.turn_seq, running.correlation_id());
                let error = &error as &dyn std::error::Error;
                tracing::warn!(session = %self.key(), turn, %correlation_id, error, "an attempt could not read its history");
                self.cancel_running(ctx);
                ctx.run_later(STORE_RETRY, Self::advance);
            }
            Progress::Failed(failure) => {
                let (turn, correlation_id, code) = (running.turn.turn_seq, running.correlation_id(), failure.code());
                let error = &failure as &dyn std::error::Error;
                tracing::warn!(session = %self.key(), turn, %correlation_id, code, error, "an answer failed");
                self.finish(&End::Failed(failure), ctx);
            }
        }
    }

    fn said(&mut self, text: String, ctx: &mut Context<Self>) {
        let planted = self.deps.planted.as_ref().is_some_and(|planted| planted.is_due());
        assert!(!planted, "a fault planted by a test");
        let head = self.state.session.head;
        let anybody = self.state.readers.has(Audience::Pieces);
        let Some(running) = self.state.running.as_mut() else { return };
        running.state = "streaming";
        // Text that begins ends the reasoning, as a rule.
        let begins = running.first_delta.is_none();
        let thought = (running.thought(head, begins), running.thought_piece(head, true));
        running.stream_index += 1;
        if running.first_delta.is_none() {
            let first = running.began.elapsed();
            running.first_delta = Some(first);
            self.deps.metrics.first_delta_seconds.observe(first.as_secs_f64());
        }
        // Pieces are many: what only their readers see is made only for them.
        let event = if anybody { running.piece_event(Said::Text) } else { Value::Null };
        let piece = running.live.push(head, event, text);
        self.send_thought(thought.0, thought.1);
        if anybody {
            self.send(Audience::Pieces, &piece);
        }
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

    fn finished(&mut self, ctx: &mut Context<Self>) {
        // The end of an attempt is a piece of its own, and was handled. A stream that ends without one is a fault of ours:
        // the turn is tried again, as after a crash.
        if self.state.running.as_ref().is_some_and(|running| running.task.is_some()) {
            tracing::error!(session = %self.key(), "an attempt ended without an end");
            self.cancel_running(ctx);
            ctx.run_later(STORE_RETRY, Self::advance);
        }
    }
}
