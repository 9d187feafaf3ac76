//! Ends turns because somebody said so. The provider's connection is closed at once; whoever asked is told when the end is stored,
//! so that no later attempt can answer what was stopped.

use actix::Context;
use somaagent_supervision::Reply;
use uuid::Uuid;

use super::{
    Conversation, Refusing,
    messages::{ConversationError, Stopped},
    running::End,
};
use crate::domain::{caller::Caller, event::EventType, session::Ending, turn::OpenTurn};

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
    /// Ends the first open turn as stopped, and answers `reply` when that is stored. A turn that ends already is waited for.
    pub(super) fn stop(
        &mut self,
        caller: &Caller,
        reply: Reply<Result<Stopped, ConversationError>>,
        ctx: &mut Context<Self>,
    ) {
        let first = self.state.session.open.front().map(|turn| turn.turn_seq);
        let turn = self.stop_first(caller, ctx);
        let ends = turn.or_else(|| first.filter(|turn_seq| self.state.ending.contains(turn_seq)));
        let joined = self.state.stops.iter().find(|stop| Some(stop.turn_seq) == ends);
        let answer = Stopped { turn: turn.or_else(|| joined.and_then(|stop| stop.answer.turn)) };
        match ends {
            Some(turn_seq) => self.state.stops.push(Stop { turn_seq, answer, reply }),
            None => reply.send(Ok(answer)),
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
            self.state.session.open.front().filter(|turn| !self.state.ending.contains(&turn.turn_seq)).cloned()?;
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

    /// Ends turns that do not run, as stopped.
    pub(super) fn stop_waiting(&mut self, turns: Vec<OpenTurn>, caller: &Caller) {
        for turn in turns {
            self.stop_unstarted(&turn, caller);
        }
    }

    /// The end belongs to an attempt that streamed nothing: readers may hold text of the last one that began.
    fn stop_unstarted(&mut self, turn: &OpenTurn, caller: &Caller) {
        let has_begun = turn.attempt > 0 && self.state.raised != Some(turn.turn_seq);
        let attempt = turn.attempt + i32::from(has_begun);
        let metadata = self.ingress(turn).answered("worker", "stopped", None, attempt);
        let ending = Ending {
            turn_seq: turn.turn_seq,
            user_event_id: turn.event_id,
            attempt,
            event_id: Uuid::new_v4(),
            event_type: EventType::Stopped,
            message: String::new(),
            metadata,
            usage: None,
            error_code: None,
            by: Some(caller.clone()),
        };
        self.decide_end(ending);
    }
}
