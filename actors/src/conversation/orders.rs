//! What is ordered about a session as a whole: its name, its pause, the end of its history.

use std::{sync::Arc, time::Duration};

use actix::{ActorFutureExt, Context, ContextFutureSpawner, WrapFuture};
use serde_json::{Value, json};
use somaagent_supervision::{InFlight, Reply};
use uuid::Uuid;

use super::{
    Conversation, Phase, Refusing,
    doubt::Settled,
    frames::{Frame, FrameBody},
    messages::{Control, ConversationError, LiveState, Order},
    readers::Audience,
    steps::Step,
};
use crate::{
    domain::{append::EnvelopeChange, caller::Caller, cursor::Cursor, event::VERSION, session::audit, whose::Whose},
    store::{
        StoreError,
        erase::{Leave, erase},
    },
};

impl Conversation {
    /// Does what was ordered.
    pub(super) fn obey(
        &mut self,
        Control { caller, order, deadline }: Control,
        in_flight: InFlight,
        ctx: &mut Context<Self>,
    ) {
        let session = &self.state.session;
        if session.fresh || !session.whose.exists_for(&caller) {
            Step::Order(Box::new(Control { caller, order, deadline }), in_flight).refuse(ConversationError::NotFound);
            return self.step_done(ctx);
        }
        let (change, action, reply) = match order {
            Order::Pause(paused, reply) => {
                let action = if paused { "session.pause" } else { "session.resume" };
                (EnvelopeChange { paused: Some(paused), ..EnvelopeChange::default() }, action, reply)
            }
            Order::Rename(title, reply) => {
                (EnvelopeChange { title: Some(title), ..EnvelopeChange::default() }, "session.rename", reply)
            }
            Order::Reset(reply) => return self.erase(Leave::Envelope, &caller, reply, in_flight, ctx),
            Order::Delete(reply) => return self.erase(Leave::Tombstone, &caller, reply, in_flight, ctx),
            Order::Stop(reply) => {
                self.stop(&caller, reply, ctx);
                return self.step_done(ctx);
            }
        };
        let append = self.state.session.change(change, &caller, action, &self.deps.stamp());
        self.commit(append, deadline, ctx, move |this, append, settled, _| {
            let answer = match settled {
                Settled::Committed { .. } => Ok(()),
                // Whether a change without an event was stored cannot be read back: it is made again, under the new fence.
                Settled::Void { .. } => {
                    let order = match (append.envelope.paused, append.envelope.title) {
                        (Some(paused), _) => Order::Pause(paused, reply),
                        (None, title) => Order::Rename(title.unwrap_or_default(), reply),
                    };
                    this.state.steps.push_front(Step::Order(Box::new(Control { caller, order, deadline }), in_flight));
                    return;
                }
                Settled::Lost | Settled::HandedOver => {
                    Err(ConversationError::Elsewhere { retry_after: Duration::ZERO })
                }
                Settled::Unresolved => Err(ConversationError::Unknown { event_id: None }),
                Settled::NotNow | Settled::BadData => Err(ConversationError::Unavailable { event_id: None }),
            };
            reply.send(answer);
            drop(in_flight);
        });
    }

    fn erase(
        &mut self,
        leave: Leave,
        caller: &Caller,
        reply: Reply<Result<u64, ConversationError>>,
        in_flight: InFlight,
        ctx: &mut Context<Self>,
    ) {
        // What is running now has no history to end in.
        self.cancel_running(ctx);
        let (store, key, at) = (self.deps.store.clone(), self.key().clone(), (self.deps.clock)());
        let fence = (self.state.session.epoch, self.state.session.head);
        let action = if leave == Leave::Tombstone { "session.delete" } else { "session.reset" };
        let line = audit(caller, action, "session", key.session_id.to_string(), json!({"upto": fence.1}));
        async move {
            store
                .change_for(key.tenant.clone(), move |rows| {
                    Box::pin(async move { erase(rows, &key, fence, leave, at, &line).await })
                })
                .await
        }
        .into_actor(self)
        .map(move |erased, this, ctx| {
            let answer = match erased {
                Ok(Some(events)) => {
                    this.erased(leave);
                    Ok(events)
                }
                Ok(None) => {
                    this.refuse(Refusing::Elsewhere(Duration::ZERO), ctx);
                    Err(ConversationError::Elsewhere { retry_after: Duration::ZERO })
                }
                Err(StoreError::Interrupted(_) | StoreError::TimedOut) => {
                    this.doubt(ctx);
                    Err(ConversationError::Unknown { event_id: None })
                }
                // Nothing was done. The turn that was cancelled is tried again.
                Err(_) => Err(ConversationError::Unavailable { event_id: None }),
            };
            reply.send(answer);
            drop(in_flight);
            this.step_done(ctx);
        })
        .spawn(ctx);
    }

    /// Tells the readers that the history is gone, and forgets it.
    pub(super) fn erased(&mut self, leave: Leave) {
        let state = &mut self.state;
        state.session.erased = state.session.head;
        state.session.open.clear();
        state.session.last_turn = state.session.head + 1;
        state.messages.clear();
        state.ending.clear();
        for stop in std::mem::take(&mut state.stops) {
            stop.done();
        }
        state.raised = None;
        state.steps.retain(|step| !matches!(step, Step::End(..) | Step::Attempt { .. }));
        *state.last = LiveState::default();
        if leave == Leave::Envelope {
            let frame = self.reset_frame();
            return self.send(Audience::All, &frame);
        }
        // Nobody begins it any more.
        self.learn_whose(Whose::Begun(self.state.session.whose.subject().map(str::to_owned)));
        let frame = Arc::new(Frame::new(None, FrameBody::Event(self.news("session.deleted"))));
        self.send(Audience::All, &frame);
        let state = &mut self.state;
        state.phase = Phase::Refusing(Refusing::Deleted);
        state.readers.close();
        for step in std::mem::take(&mut state.steps) {
            self.decline(step, ConversationError::Deleted);
        }
    }

    /// Tells a reader that what it has seen was erased. Its id is a position after that.
    pub(super) fn reset_frame(&self) -> Arc<Frame> {
        let id = Cursor::reset(self.state.session.erased);
        Arc::new(Frame::new(Some(id), FrameBody::Event(self.news("session.reset"))))
    }

    /// Something that readers are told and that is no event of the history.
    fn news(&self, type_name: &str) -> Value {
        json!({
            "event_id": Uuid::new_v4(),
            "session_id": self.key().session_id,
            "role": "system",
            "message": "",
            "metadata": {},
            "version": VERSION,
            "type": type_name,
        })
    }
}
