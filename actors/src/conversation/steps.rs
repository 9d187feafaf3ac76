//! Changes of a session's history, one at a time: the next begins when it is known what became of the last.

use std::{sync::Arc, time::Duration};

use actix::{ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, WrapFuture};
use somaagent_supervision::InFlight;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Conversation, Phase, Refusing,
    deps::Deps,
    doubt::{self, Settled},
    frames::{Frame, FrameBody},
    messages::{Accepted, Control, ConversationError, MessageDraft, Order, Post},
    pages::STEP,
    readers::Audience,
    running,
};
use crate::{
    domain::{
        append::Append,
        caller::Caller,
        cursor::Cursor,
        event::StoredEvent,
        ids::SessionKey,
        session::{Ending, NotAccepted},
        turn::{Admission, OpenTurn},
    },
    store::{
        StoreError,
        session_events::{self, KeyUse},
    },
};

/// Wait before a step that must happen is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A change that waits for its turn.
pub enum Step {
    /// A message to accept.
    Post(Box<Post>, InFlight),
    /// An attempt to count before it begins.
    Attempt {
        /// Of which turn.
        turn: OpenTurn,
        /// Its number.
        attempt: i32,
    },
    /// A turn to end, and how often the store rejected its content.
    End(Box<Ending>, u32),
    /// Something ordered.
    Order(Box<Control>, InFlight),
}

impl Step {
    /// Who waits for this step.
    pub fn caller(&self) -> Option<&Caller> {
        match self {
            Self::Post(post, _) => Some(&post.caller),
            Self::Order(control, _) => Some(&control.caller),
            Self::Attempt { .. } | Self::End(..) => None,
        }
    }

    /// Answers whoever waits for this step.
    pub fn refuse(self, why: ConversationError) {
        match self {
            Self::Post(post, _) => post.reply.send(Err(why.about(Some(post.event_id)))),
            Self::Order(control, _) => match control.order {
                Order::Pause(_, reply) | Order::Rename(_, reply) => reply.send(Err(why)),
                Order::Reset(reply) | Order::Delete(reply) => reply.send(Err(why)),
                Order::Stop(reply) => reply.send(Err(why)),
            },
            Self::Attempt { .. } | Self::End(..) => {}
        }
    }
}

/// What a message needs to be looked up before it can be judged.
#[derive(Default)]
struct Found {
    /// The number of the event, if it is stored already.
    stored: Option<i64>,
    key_use: Option<KeyUse>,
    missing: Vec<StoredEvent>,
}

impl Conversation {
    /// Takes the next step, unless one is under way.
    pub(super) fn advance(&mut self, ctx: &mut Context<Self>) {
        if self.state.stepping || self.state.phase != Phase::Ready {
            return self.note_activity();
        }
        self.start_next(ctx);
        if let Some(step) = self.state.steps.pop_front() {
            self.state.stepping = true;
            self.state.posting = matches!(step, Step::Post(..));
            match step {
                Step::Post(post, in_flight) => self.judge(*post, in_flight, ctx),
                Step::Attempt { turn, attempt } => self.raise(&turn, attempt, ctx),
                Step::End(ending, rejected) => self.end(ending, rejected, ctx),
                Step::Order(control, in_flight) => self.obey(*control, in_flight, ctx),
            }
        }
        self.note_activity();
    }

    /// A step is over.
    pub(super) fn step_done(&mut self, ctx: &mut Context<Self>) {
        (self.state.stepping, self.state.posting) = (false, false);
        self.advance(ctx);
    }

    /// Commits `append`, finds out until `until` what became of it, and goes on with that.
    pub(super) fn commit(
        &mut self,
        append: Append,
        until: Instant,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Append, Settled, &mut Context<Self>) + 'static,
    ) {
        let (deps, sent) = (Arc::clone(&self.deps), append.clone());
        let sure_until = self.deps.sure_until();
        async move { doubt::settle(&deps, sent, until).await }
            .into_actor(self)
            .map(move |settled, this, ctx| {
                this.learn(&append, settled, sure_until);
                then(this, append, settled, ctx);
                match settled {
                    Settled::Lost | Settled::HandedOver => this.refuse(Refusing::Elsewhere(Duration::ZERO), ctx),
                    Settled::Unresolved => this.doubt(ctx),
                    _ => {}
                }
                this.step_done(ctx);
            })
            .spawn(ctx);
    }

    fn learn(&mut self, append: &Append, settled: Settled, sure_until: Instant) {
        let session = &mut self.state.session;
        match settled {
            Settled::Committed { epoch, head } => {
                session.committed(append);
                (session.epoch, session.head) = (epoch, head);
                self.note_whose();
            }
            Settled::Void { epoch, head } => (session.epoch, session.head, session.fresh) = (epoch, head, false),
            _ => return,
        }
        self.activity.tenure.owns(self.state.session.epoch, sure_until);
    }

    fn judge(&mut self, post: Post, in_flight: InFlight, ctx: &mut Context<Self>) {
        let session = &self.state.session;
        // Known only now: the message before it may have begun the session.
        if !session.whose.takes_from(&post.caller) {
            post.reply.send(Err(ConversationError::NotFound));
            return self.step_done(ctx);
        }
        let behind = post.draft.expected_head.is_some_and(|expected| expected < session.head);
        if session.fresh || (post.draft.idempotency.is_none() && !behind && !post.again) {
            return self.accept(post, in_flight, Ok(Found::default()), ctx);
        }
        let (deps, key, draft) = (Arc::clone(&self.deps), session.key.clone(), post.draft.clone());
        let again = post.again.then_some(post.event_id);
        async move { look_up(&deps, key, &draft, behind, again).await }
            .into_actor(self)
            .map(move |found, this, ctx| this.accept(post, in_flight, found, ctx))
            .spawn(ctx);
    }

    fn accept(&mut self, post: Post, in_flight: InFlight, found: Result<Found, StoreError>, ctx: &mut Context<Self>) {
        let session = &self.state.session;
        let session_id = session.key.session_id;
        let admission = match self.admission(&post, found) {
            Ok(Judged::New(admission)) => admission,
            Ok(Judged::Known(event_id, seq)) => {
                post.reply.send(Ok(Accepted { session_id, event_id, seq }));
                return self.step_done(ctx);
            }
            Err(error) => {
                post.reply.send(Err(error.about(Some(post.event_id))));
                return self.step_done(ctx);
            }
        };
        let append = session.message(&post.draft, post.event_id, &post.caller, &self.deps.space, &self.deps.stamp());
        self.commit(append, post.deadline, ctx, move |this, append, settled, ctx| {
            let (event_id, seq) = (post.event_id, append.new_head());
            let answer = match settled {
                Settled::Committed { .. } => {
                    this.accepted(admission, &append, &post.caller, ctx);
                    Ok(Accepted { session_id, event_id, seq })
                }
                // The new owner answers it.
                Settled::HandedOver => Ok(Accepted { session_id, event_id, seq }),
                Settled::Lost => Err(ConversationError::Elsewhere { retry_after: Duration::ZERO }),
                Settled::Unresolved => {
                    this.state.doubted = (admission == Admission::Start).then_some(event_id);
                    Err(ConversationError::Unknown { event_id: Some(event_id) })
                }
                Settled::Void { .. } | Settled::NotNow | Settled::BadData => {
                    Err(ConversationError::Unavailable { event_id: Some(event_id) })
                }
            };
            post.reply.send(answer);
            drop(in_flight);
        });
    }

    fn admission(&self, post: &Post, found: Result<Found, StoreError>) -> Result<Judged, ConversationError> {
        let draft = &post.draft;
        let found = found.map_err(|error| {
            let (error, correlation_id) = (&error as &dyn std::error::Error, post.caller.correlation_id);
            tracing::warn!(session = %self.key(), %correlation_id, error, "a message could not be looked up");
            ConversationError::Unavailable { event_id: None }
        })?;
        if let Some(seq) = found.stored {
            return Ok(Judged::Known(post.event_id, seq));
        }
        if let (Some(known), Some(idempotency)) = (found.key_use, &draft.idempotency) {
            let same = known.body_hash == idempotency.body_hash;
            return if same { Ok(Judged::Known(known.event_id, known.seq)) } else { Err(ConversationError::KeyReused) };
        }
        if let Some(refused) = draft.refused {
            return Err(ConversationError::AttachmentRefused(refused));
        }
        let head = self.state.session.head;
        let admission = self.state.session.admits(draft, self.deps.sessions.queue_max);
        admission.map(Judged::New).map_err(|refusal| match refusal {
            NotAccepted::Paused => ConversationError::Paused,
            NotAccepted::HeadMoved => ConversationError::HeadMoved { head, missing: found.missing },
            NotAccepted::HeadAhead => ConversationError::HeadAhead { head },
            NotAccepted::Busy => ConversationError::SessionBusy,
            NotAccepted::QueueFull => ConversationError::QueueFull,
        })
    }

    fn accepted(&mut self, admission: Admission, append: &Append, caller: &Caller, ctx: &mut Context<Self>) {
        let seq = append.new_head();
        if let Some(event) = append.events.first() {
            self.state.messages.insert(seq, Arc::new(event.payload.clone()));
        }
        self.announce(append);
        match admission {
            Admission::Wait => {}
            Admission::Start => self.state.raised = Some(seq),
            Admission::Interrupt => self.stop_before(seq, caller, ctx),
        }
    }

    /// Sends what was just committed to all readers.
    fn announce(&mut self, append: &Append) {
        for (seq, event) in (append.head + 1..).zip(&append.events) {
            let frame = Arc::new(Frame::new(Some(Cursor::after(seq)), FrameBody::Event(event.payload.clone())));
            self.send(Audience::All, &frame);
        }
    }

    fn raise(&mut self, turn: &OpenTurn, attempt: i32, ctx: &mut Context<Self>) {
        let turn_seq = turn.turn_seq;
        let append = self.state.session.attempt(turn, attempt, &self.deps.stamp());
        self.commit(append, Instant::now(), ctx, move |this, _, settled, ctx| match settled {
            Settled::Committed { .. } => this.state.raised = Some(turn_seq),
            // Void is tried again by the next step, and so is a doubt once it is over: the turn is still first in line. Lost
            // ends the conversation.
            Settled::Void { .. } | Settled::Unresolved | Settled::Lost | Settled::HandedOver => {}
            Settled::NotNow | Settled::BadData => {
                this.state.held = true;
                ctx.run_later(RETRY, |this, ctx| {
                    this.state.held = false;
                    this.advance(ctx);
                });
            }
        });
    }

    /// Stores the end of a turn. It must happen, so it is tried for as long as it takes.
    fn end(&mut self, mut ending: Box<Ending>, rejected: u32, ctx: &mut Context<Self>) {
        let (turn_seq, session) = (ending.turn_seq, &self.state.session);
        // It may have waited for the store while its session was erased or its last try was in doubt: then there may be
        // nothing to end.
        if !(self.state.ending.contains_key(&turn_seq) && session.open.iter().any(|turn| turn.turn_seq == turn_seq)) {
            self.answer_stops(turn_seq);
            return self.step_done(ctx);
        }
        let append = self.state.session.ending(&ending, &self.deps.space, &self.deps.stamp());
        self.commit(append, Instant::now(), ctx, move |this, append, settled, ctx| match settled {
            Settled::Committed { .. } => {
                this.announce(&append);
                this.ended(&ending);
            }
            Settled::Void { .. } | Settled::Unresolved => this.state.steps.push_front(Step::End(ending, rejected)),
            Settled::NotNow => Self::end_later(ending, rejected, ctx),
            Settled::BadData => {
                let correlation_id = ending.metadata.get("correlation_id").and_then(serde_json::Value::as_str);
                let session = this.key();
                tracing::error!(%session, turn_seq, correlation_id, rejected, "the end of a turn was rejected by the store");
                // Once may be an accident on the way. Twice means that the text cannot be stored: the turn says so.
                if rejected == 1 {
                    running::spoil(&mut ending);
                    this.state.ending.insert(turn_seq, ending.event_type);
                }
                Self::end_later(ending, rejected + 1, ctx);
            }
            Settled::HandedOver => this.answer_stops(turn_seq),
            Settled::Lost => {}
        });
    }

    fn end_later(ending: Box<Ending>, rejected: u32, ctx: &mut Context<Self>) {
        ctx.run_later(RETRY, move |this, ctx| {
            this.state.steps.push_front(Step::End(ending, rejected));
            this.advance(ctx);
        });
    }

    fn ended(&mut self, ending: &Ending) {
        self.state.messages.remove(&ending.turn_seq);
        self.state.ending.remove(&ending.turn_seq);
        if self.state.running.as_ref().is_some_and(|running| running.turn.turn_seq == ending.turn_seq) {
            self.state.running = None;
        }
        self.answer_stops(ending.turn_seq);
        self.count_end(ending.event_type.as_str());
    }

    pub(super) fn count_end(&self, event_type: &str) {
        self.deps.metrics.turns.with_label_values(&[event_type]).inc();
    }
}

/// A message that may be accepted, or was before.
enum Judged {
    New(Admission),
    Known(Uuid, i64),
}

async fn look_up(
    deps: &Deps,
    key: SessionKey,
    draft: &MessageDraft,
    behind: bool,
    again: Option<Uuid>,
) -> Result<Found, StoreError> {
    let idempotency_key = draft.idempotency.as_ref().map(|idempotency| idempotency.key.clone());
    let after = draft.expected_head.filter(|_| behind);
    deps.store
        .run(move |connection| {
            Box::pin(async move {
                let stored = match again {
                    Some(event_id) => session_events::by_id(connection, &key, event_id).await?.map(|event| event.seq),
                    None => None,
                };
                let key_use = match idempotency_key {
                    Some(used) => session_events::by_idempotency_key(connection, &key, &used).await?,
                    None => None,
                };
                let missing = match after {
                    Some(after) => session_events::between(connection, &key, None, after, i64::MAX, STEP).await?,
                    None => vec![],
                };
                Ok(Found { stored, key_use, missing })
            })
        })
        .await
}
