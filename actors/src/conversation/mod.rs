//! One actor per live session: all of a session's state lives behind its mailbox.
//!
//! | file | does |
//! | --- | --- |
//! | `directory` | finds or starts the actor of a session; what the front door calls |
//! | `activation` | claims the session and reads where it stands |
//! | `steps` | changes of history, one at a time, `orders` those of the session as a whole; `doubt` finds out what became of one |
//! | `owning` | whose a session is, and what all others are answered |
//! | `tenure` | how long memory may be believed; `leases` renews that and lets go what is lost |
//! | `answering` | starts and ends attempts; `running` is one, `driver` its stream of recall, context and model,
//! | | `files` what the files of its messages say |
//! | `stopping` | ends turns because somebody said so |
//! | `live` | the frames of the unfinished answer; `frames`, `readers`, `backlog`, `subscription` carry them |
//! | `keeper` | finds turns without an owner, has leases renewed, lets idle conversations go |
//! | `queries`, `pages` | bounded reads that wake no actor |
//!
//! State: everything in `State`; the store has all of it that matters.
//! Asks: see [`messages`].
//! Supervision: child of `sessions`, Temporary: after a crash the next message, or the keeper's sweep, makes a new one,
//! which finds the open turns and tries them again.

mod activation;
mod answering;
mod backlog;
mod deps;
mod directory;
mod doubt;
mod driver;
mod files;
mod frames;
mod keeper;
mod leases;
mod live;
pub mod messages;
mod metrics;
mod orders;
mod owning;
mod pages;
pub mod queries;
mod readers;
mod running;
mod settings;
mod steps;
mod stopping;
mod subscription;
mod tenure;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Handler, Supervised, WrapFuture,
};
use serde_json::Value;
use somaagent_supervision::{Admitted, Child};
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use self::{
    activation::Activated,
    live::LiveAnswer,
    messages::{Control, LiveState, Look, Order, Passivate, Post, QueuedTurn, Watch},
    readers::{Audience, Readers},
    running::Running,
    steps::Step,
    stopping::Stop,
};
pub use self::{
    deps::{Activity, Deps, PlantedPanic},
    directory::Conversations,
    frames::{Frame, FrameBody, StreamMode},
    keeper::SessionKeeper,
    messages::{Accepted, ConversationError, MessageDraft, RefusedReference, SessionState, Stopped},
    metrics::ConversationMetrics,
    settings::{SessionSettings, TurnSettings},
    subscription::{Closing, Subscription},
};
use crate::domain::{event::EventType, ids::SessionKey, session::Session};

/// How long a conversation that could not be activated answers so, before the next ask tries again.
const REFUSING_FOR: Duration = Duration::from_millis(250);

/// See the module.
pub struct Conversation {
    deps: Arc<Deps>,
    activity: Arc<Activity>,
    state: State,
}

struct State {
    phase: Phase,
    session: Session,
    /// User events of open turns, by turn.
    messages: HashMap<i64, Arc<Value>>,
    /// Changes waiting for the one under way.
    steps: VecDeque<Step>,
    stepping: bool,
    /// Whether that is a message.
    posting: bool,
    running: Option<Box<Running>>,
    /// The turn whose attempt is already raised in the store, so that it may run.
    raised: Option<i64>,
    /// The message that would be so, of which it is not known whether it is stored.
    doubted: Option<Uuid>,
    /// Turns whose end is decided and not yet stored, with the event that ends them.
    ending: HashMap<i64, EventType>,
    /// Who waits for one of those ends to be stored.
    stops: Vec<Stop>,
    /// Whether the next attempt waits for the store.
    held: bool,
    /// Distinguishes attempts, so that a piece of a cancelled one is not taken for the next one's.
    runs: u64,
    readers: Readers,
    last: Box<LiveState>,
}

/// Whether the session may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Activating,
    Ready,
    /// It is not known what became of the last change.
    Doubting,
    Refusing(Refusing),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusing {
    Deleted,
    Elsewhere(Duration),
    Unavailable,
}

impl State {
    fn new(key: SessionKey) -> Self {
        Self {
            phase: Phase::Activating,
            session: Session::unused(key),
            messages: HashMap::new(),
            steps: VecDeque::new(),
            stepping: false,
            posting: false,
            running: None,
            raised: None,
            doubted: None,
            ending: HashMap::new(),
            stops: vec![],
            held: false,
            runs: 0,
            readers: Readers::default(),
            last: Box::default(),
        }
    }
}

impl Conversation {
    /// A conversation that will claim `key` when it starts.
    #[must_use]
    pub fn new(deps: Arc<Deps>, key: SessionKey, activity: Arc<Activity>) -> Self {
        deps.metrics.live.inc();
        Self { deps, activity, state: State::new(key) }
    }

    fn key(&self) -> &SessionKey {
        &self.state.session.key
    }

    fn activated(
        &mut self,
        found: Result<Activated, crate::store::StoreError>,
        sure_until: Instant,
        ctx: &mut Context<Self>,
    ) {
        match found {
            Ok(Activated::Ours(session, messages)) => {
                if session.fresh {
                    self.activity.tenure.unused();
                } else {
                    self.activity.tenure.owns(session.epoch, sure_until);
                }
                self.state.session = session;
                self.note_whose();
                self.state.messages = messages;
                self.state.phase = Phase::Ready;
                self.stop_interrupted(ctx);
                self.advance(ctx);
            }
            Ok(Activated::Deleted(whose)) => {
                self.learn_whose(whose);
                self.state.phase = Phase::Refusing(Refusing::Deleted);
                self.activity.idle((self.deps.clock)());
            }
            Ok(Activated::Elsewhere(until, whose)) => {
                self.learn_whose(whose);
                self.refuse(self.elsewhere(until), ctx);
            }
            Err(error) => {
                tracing::warn!(session = %self.key(), error = &error as &dyn std::error::Error, "a session could not be read");
                self.refuse(Refusing::Unavailable, ctx);
            }
        }
    }

    fn elsewhere(&self, until: OffsetDateTime) -> Refusing {
        Refusing::Elsewhere(Duration::try_from(until - (self.deps.clock)()).unwrap_or_default())
    }

    /// Answers everything with `why` for a moment, then ends: the next ask makes a new conversation, which looks again.
    fn refuse(&mut self, why: Refusing, ctx: &mut Context<Self>) {
        self.state.phase = Phase::Refusing(why);
        self.cancel_running(ctx);
        for step in std::mem::take(&mut self.state.steps) {
            self.decline(step, self.refusal(why));
        }
        self.refuse_stops(why);
        self.state.readers.close();
        ctx.run_later(REFUSING_FOR, |_, ctx| ctx.stop());
    }

    #[expect(clippy::unused_self, reason = "reads as a question to the conversation")]
    const fn refusal(&self, why: Refusing) -> ConversationError {
        match why {
            Refusing::Deleted => ConversationError::Deleted,
            Refusing::Elsewhere(retry_after) => ConversationError::Elsewhere { retry_after },
            Refusing::Unavailable => ConversationError::Unavailable { event_id: None },
        }
    }

    /// Why nothing is answered from memory now.
    fn refusing(&self) -> Option<ConversationError> {
        match self.state.phase {
            Phase::Refusing(why) => Some(self.refusal(why)),
            // Whoever asks looks whether the lease still runs, or looks for the new owner.
            _ if self.activity.tenure.is_over() => Some(self.refusal(Refusing::Elsewhere(Duration::ZERO))),
            _ => None,
        }
    }

    /// Why nothing is changed now.
    fn refusing_changes(&self) -> Option<ConversationError> {
        let doubting = || (self.state.phase == Phase::Doubting).then(|| self.refusal(Refusing::Unavailable));
        self.refusing().or_else(doubting)
    }

    /// Keeps the record of whether anybody needs this conversation.
    fn note_activity(&self) {
        let state = &self.state;
        self.activity.working(state.running.is_some() || state.stepping || !state.steps.is_empty());
        let doubting = state.phase == Phase::Doubting;
        if doubting || self.activity.is_working() || !state.session.open.is_empty() {
            self.activity.busy();
        } else if state.session.fresh {
            // Nothing of it is stored: it goes with its last reader.
            self.activity.idle(OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1));
        } else {
            self.activity.idle((self.deps.clock)());
        }
    }

    fn send(&mut self, audience: Audience, frame: &Arc<Frame>) {
        for correlation_id in self.state.readers.send(audience, frame) {
            self.deps.metrics.dropped.inc();
            tracing::info!(session = %self.key(), %correlation_id, "a reader that does not read was dropped");
        }
    }

    fn view(&self) -> LiveState {
        let state = &self.state;
        let running = state.running.as_ref();
        let waiting = state.session.open.iter().skip(usize::from(running.is_some()));
        LiveState {
            turn: running.map(|running| running.view(&self.deps)),
            queue: waiting.map(|turn| QueuedTurn { turn_seq: turn.turn_seq, event_id: turn.event_id }).collect(),
            subscribers: state.readers.count(),
            ..(*state.last).clone()
        }
    }
}

impl Actor for Conversation {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (deps, key, sure_until) = (Arc::clone(&self.deps), self.key().clone(), self.deps.sure_until());
        // Nothing is answered before the session is ours.
        async move { activation::activate(&deps, &key).await }
            .into_actor(self)
            .map(move |found, this, ctx| this.activated(found, sure_until, ctx))
            .wait(ctx);
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.deps.metrics.live.dec();
    }
}

impl Supervised for Conversation {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::new(self.key().clone());
    }
}

impl Child for Conversation {
    const NAME: &'static str = "conversation";

    fn state_name(&self) -> &'static str {
        match self.state.phase {
            Phase::Activating => "activating",
            Phase::Refusing(_) => "refusing",
            Phase::Doubting => "doubting",
            Phase::Ready if self.state.running.is_some() => "thinking",
            Phase::Ready => "idle",
        }
    }
}

impl Handler<Admitted<Post>> for Conversation {
    type Result = ();

    fn handle(&mut self, message: Admitted<Post>, ctx: &mut Context<Self>) {
        let (post, in_flight) = message.open();
        if let Some(refusal) = self.hidden_from(&post.caller).or_else(|| self.refusing_changes()) {
            post.reply.send(Err(refusal.about(Some(post.event_id))));
            return;
        }
        self.activity.busy();
        self.state.steps.push_back(Step::Post(Box::new(post), in_flight));
        self.advance(ctx);
    }
}

impl Handler<Admitted<Control>> for Conversation {
    type Result = ();

    fn handle(&mut self, message: Admitted<Control>, ctx: &mut Context<Self>) {
        let (Control { caller, order, deadline }, in_flight) = message.open();
        if let Some(refusal) = self.hidden_from(&caller) {
            Step::Order(Box::new(Control { caller, order, deadline }), in_flight).refuse(refusal);
            return;
        }
        match order {
            Order::Stop(reply) => match self.refusing() {
                Some(refusal) => reply.send(Err(refusal)),
                // It is next, before other messages.
                None if self.may_begin() => {
                    let control = Control { caller, order: Order::Stop(reply), deadline };
                    self.state.steps.push_front(Step::Order(Box::new(control), in_flight));
                }
                None => self.stop(&caller, reply, ctx),
            },
            order => {
                let step = Step::Order(Box::new(Control { caller, order, deadline }), in_flight);
                if let Some(refusal) = self.refusing_changes() {
                    step.refuse(refusal);
                    return;
                }
                self.activity.busy();
                self.state.steps.push_back(step);
            }
        }
        self.advance(ctx);
    }
}

impl Handler<Admitted<Watch>> for Conversation {
    type Result = ();

    fn handle(&mut self, message: Admitted<Watch>, _: &mut Context<Self>) {
        let (Watch { caller, look }, _in_flight) = message.open();
        match look {
            Look::Subscribe { after, mode, reply } => {
                let answer = match self.refusing() {
                    _ if self.hidden_from(&caller).is_some() => Ok(Subscription::silent(&self.deps)),
                    Some(refusal) => Err(refusal),
                    None => Ok(self.subscribe(&caller, after, mode)),
                };
                reply.send(answer);
            }
            Look::Inspect(reply) => reply.send(self.view()),
            Look::Show(event) => {
                if self.hidden_from(&caller).is_none() {
                    self.send(Audience::All, &Arc::new(Frame::new(None, FrameBody::Event(event))));
                }
            }
        }
    }
}

impl Handler<Admitted<Passivate>> for Conversation {
    type Result = ();

    fn handle(&mut self, _: Admitted<Passivate>, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
