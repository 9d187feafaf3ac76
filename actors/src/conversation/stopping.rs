//! Ends turns because somebody said so. The provider's connection is closed at once. Whoever asked for a stop is told when the end
//! is stored, so that no later attempt can answer what was stopped; a message that interrupts says so itself, in the history.

use actix::Context;
use somaagent_supervision::Reply;
use uuid::Uuid;

use super::{
    Conversation, Phase, Refusing,
    messages::{ConversationError, Stopped},
    running::End,
};
use crate::domain::{
    caller::Caller,
    event::{self, EventType},
    session::Ending,
    turn::OpenTurn,
};

/// Somebody who waits for the end of a turn to be stored.
pub struct Stop {
    turn_seq: i64,
    answer: Stopped,
    reply: Reply<Result<Stopped, ConversationError>>,
}

impl Stop {
    /// Nothing is being answered any more.
    pub fn done(self) {
        self.reply.send(Ok(self.answer));
    }
}

impl Conversation {
    /// Whether a stop has to wait: there is nothing to stop, but a message is on its way into the store.
    pub(super) fn may_begin(&self) -> bool {
        self.state.posting && self.state.session.open.is_empty()
    }

    /// Ends the first open turn as stopped, and answers `reply` when that is stored. A turn that ends already is waited for.
    pub(super) fn stop(
        &mut self,
        caller: &Caller,
        reply: Reply<Result<Stopped, ConversationError>>,
        ctx: &mut Context<Self>,
    ) {
        // Whoever has gone waits no more: what is left is as many as there are requests.
        self.state.stops.retain(|stop| !stop.reply.is_abandoned());
        let first = self.state.session.open.front().map(|turn| turn.turn_seq);
        let turn_seq = self.stop_first(caller, ctx).or(first);
        let ends_as = turn_seq.and_then(|turn_seq| self.state.ending.get(&turn_seq).copied());
        match turn_seq.zip(ends_as) {
            Some((turn_seq, ends_as)) => {
                let answer = Stopped { turn: (ends_as == EventType::Stopped).then_some(turn_seq) };
                self.state.stops.push(Stop { turn_seq, answer, reply });
            }
            // The step in doubt may have been a message, and then it will be answered.
            None if self.state.phase == Phase::Doubting => reply.send(Err(self.refusal(Refusing::Unavailable))),
            // Somebody may wait for a session that nobody has begun: as without them, there is none.
            None if !self.state.session.whose.exists_for(caller) => reply.send(Err(ConversationError::NotFound)),
            None => reply.send(Ok(Stopped { turn: None })),
        }
    }

    /// Tells those who wait for the end of a turn that it is stored.
    pub(super) fn answer_stops(&mut self, turn_seq: i64) {
        for stop in self.state.stops.extract_if(.., |stop| stop.turn_seq == turn_seq) {
            stop.done();
        }
    }

    /// Tells everybody who waits for an end that it is not stored here.
    pub(super) fn refuse_stops(&mut self, why: Refusing) {
        for stop in std::mem::take(&mut self.state.stops) {
            stop.reply.send(Err(self.refusal(why)));
        }
    }

    /// Ends the first open turn as stopped, running or about to run, and tells which one it was.
    fn stop_first(&mut self, caller: &Caller, ctx: &mut Context<Self>) -> Option<i64> {
        if self.state.running.is_some() {
            return self.stop_running(caller, ctx);
        }
        let first =
            self.state.session.open.front().filter(|turn| !self.state.ending.contains_key(&turn.turn_seq)).cloned()?;
        self.stop_unstarted(&first, caller);
        self.advance(ctx);
        Some(first.turn_seq)
    }

    /// Ends the running turn as stopped, and tells which one it was. One that is ending already is left alone.
    pub(super) fn stop_running(&mut self, caller: &Caller, ctx: &mut Context<Self>) -> Option<i64> {
        let running = self.state.running.as_ref().filter(|running| running.task.is_some())?;
        let turn_seq = running.turn.turn_seq;
        self.finish(&End::Stopped(caller.clone()), ctx);
        Some(turn_seq)
    }

    /// Ends the turns before the message `seq`, which interrupts them.
    pub(super) fn stop_before(&mut self, seq: i64, caller: &Caller, ctx: &mut Context<Self>) {
        let state = &self.state;
        let running = state.running.as_ref().map(|running| running.turn.turn_seq);
        let waits = |turn: &&OpenTurn| {
            turn.turn_seq < seq && Some(turn.turn_seq) != running && !state.ending.contains_key(&turn.turn_seq)
        };
        // Endings go to the front of the line one by one, so the last one put there is taken first.
        let waiting: Vec<_> = state.session.open.iter().filter(waits).rev().cloned().collect();
        for turn in waiting {
            self.stop_unstarted(&turn, caller);
        }
        if running.is_some_and(|running| running < seq) {
            self.stop_running(caller, ctx);
        }
    }

    /// Ends what a stored message interrupts whose conversation ended, or did not know that it is stored, before it could.
    pub(super) fn stop_interrupted(&mut self, ctx: &mut Context<Self>) {
        let message =
            |turn: &OpenTurn| self.state.messages.get(&turn.turn_seq).filter(|message| event::interrupts(message));
        let last = self.state.session.open.iter().rev().find_map(|turn| Some((turn.turn_seq, message(turn)?)));
        let Some((seq, message)) = last else { return };
        // Who sent it stands in its own line of the audit trail, under the same correlation id.
        let correlation_id = event::correlation_id(message).unwrap_or_default();
        let tenant = self.key().tenant.clone();
        let caller = Caller::new(tenant, correlation_id);
        self.stop_before(seq, &caller, ctx);
    }

    /// The end belongs to an attempt that streamed nothing: readers may hold text of the last one that began.
    fn stop_unstarted(&mut self, turn: &OpenTurn, caller: &Caller) {
        let has_begun = turn.attempt > 0 && self.state.raised != Some(turn.turn_seq);
        let attempt = turn.attempt + i32::from(has_begun);
        let ingress = self.ingress(turn);
        let metadata = ingress.answered("worker", "stopped", None, attempt);
        let ending = Ending {
            turn_seq: turn.turn_seq,
            user_event_id: turn.event_id,
            attempt,
            event_id: Uuid::new_v4(),
            event_type: EventType::Stopped,
            message: String::new(),
            metadata,
            trace: ingress.trace,
            usage: None,
            error_code: None,
            by: Some(caller.clone()),
        };
        self.decide_end(ending);
    }
}
