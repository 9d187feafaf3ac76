//! Commits a step and does not rest before it is known what became of it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use actix::{ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, WrapFuture};
use serde_json::Value;
use somaagent_supervision::AskError;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Conversation, Phase,
    activation::{self, Activated},
    deps::{Deps, JOURNAL_WITHIN},
    frames::Frame,
    messages::{ConversationError, LiveState},
    pages::STEP,
    readers::Audience,
    steps::Step,
};
use crate::{
    domain::{
        append::{Append, Outcome, RefusedReason},
        event::StoredEvent,
        ids::SessionKey,
        session::Session,
        turn::OpenTurn,
    },
    journal::messages::Commit,
    store::{
        StoreError,
        erase::Leave,
        session_envelopes::{self, Claim},
        session_events,
    },
};

/// Wait before the store is asked again what became of a step that somebody waits for.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The same when nobody waits any more.
const LOOK_BACK: Duration = Duration::from_secs(1);

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is durable; go on under this fence and with this head.
    Committed {
        /// The fence.
        epoch: i64,
        /// The number of the last event.
        head: i64,
    },
    /// It had no effect and never will; go on under this fence and with this head.
    Void {
        /// The fence.
        epoch: i64,
        /// The number of the last event.
        head: i64,
    },
    /// It had no effect: the database could not do it now.
    NotNow,
    /// It had no effect: the database rejects its content.
    BadData,
    /// It had no effect and never will: the session is somebody else's now, or gone.
    Lost,
    /// It is durable, and the session is somebody else's now.
    HandedOver,
    /// It could not be found out in time.
    Unresolved,
}

/// Sends `append` to the Journal. When the answer is lost, a new fence is taken first: a late commit of the lost step is
/// impossible from then on, so what is read back after it is the truth. That is tried until `until`, and at least once.
pub async fn settle(deps: &Deps, append: Append, until: Instant) -> Settled {
    let key = append.key.clone();
    let (epoch, head, fresh, begins) = (append.epoch, append.new_head(), append.fresh, append.begun.is_some());
    let probe = append.events.first().map(|event| event.event_id);
    let answer = deps.journal.call(|reply| Commit { append, reply }, JOURNAL_WITHIN).await;
    match answer {
        Ok(Outcome::Committed) => Settled::Committed { epoch, head },
        Ok(Outcome::Refused(RefusedReason::Stale)) => Settled::Lost,
        Ok(Outcome::Refused(RefusedReason::BadData)) => Settled::BadData,
        Ok(Outcome::Refused(RefusedReason::Unavailable)) | Err(AskError::Busy | AskError::Draining) => Settled::NotNow,
        Ok(Outcome::Unknown) | Err(AskError::Timeout | AskError::Down) => {
            match find_out(deps, &key, probe, fresh, until).await {
                // Somebody else has begun the session: whose it is and what it holds is for another conversation to read.
                Settled::Void { head: 1.., .. } if begins => Settled::Lost,
                settled => settled,
            }
        }
    }
}

async fn find_out(deps: &Deps, key: &SessionKey, probe: Option<Uuid>, fresh: bool, until: Instant) -> Settled {
    loop {
        let error = match look(deps, key, probe, fresh).await {
            Ok(settled) => return settled,
            Err(error) => error,
        };
        if Instant::now() + LOOK_AGAIN >= until {
            let error = &error as &dyn std::error::Error;
            tracing::error!(session = %key, error, "the outcome of a step could not be found out");
            return Settled::Unresolved;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Takes a new fence and tells whether the event `probe` is stored under it.
pub(super) async fn look(
    deps: &Deps,
    key: &SessionKey,
    probe: Option<Uuid>,
    fresh: bool,
) -> Result<Settled, StoreError> {
    let (key, node, stamp) = (key.clone(), deps.node.clone(), deps.stamp());
    let (claim, stored) = deps
        .store
        .run(move |connection| {
            Box::pin(async move {
                if fresh {
                    // A session without a row has no fence yet: this makes one, after waiting for the lost step to end.
                    session_envelopes::fence_unused(connection, &key, &node, stamp.at).await?;
                }
                let claim = session_envelopes::claim(connection, &key, &node, stamp.at, stamp.lease_until).await?;
                let stored = match probe {
                    Some(event_id) => session_events::by_id(connection, &key, event_id).await?.is_some(),
                    None => false,
                };
                Ok((claim, stored))
            })
        })
        .await?;
    Ok(match (claim, stored) {
        (Claim::Taken(owned), true) => Settled::Committed { epoch: owned.epoch, head: owned.head },
        (Claim::Taken(owned), false) => Settled::Void { epoch: owned.epoch, head: owned.head },
        // The other owner's epoch rules out a late commit as well as ours would.
        (_, true) => Settled::HandedOver,
        (_, false) if probe.is_some() => Settled::Lost,
        // Nothing tells whether a step without an event was committed before the session changed hands.
        (_, false) => Settled::Unresolved,
    })
}

impl Conversation {
    /// It is not known what became of the last step. Nothing more is stored before the store has told; what runs goes on
    /// and readers stay. What waits was never tried and is refused, except ends of turns, which must happen.
    pub(super) fn doubt(&mut self, ctx: &mut Context<Self>) {
        self.state.phase = Phase::Doubting;
        for step in std::mem::take(&mut self.state.steps) {
            match step {
                Step::End(..) => self.state.steps.push_back(step),
                step => self.decline(step, ConversationError::Unavailable { event_id: None }),
            }
        }
        self.look_back(ctx);
    }

    fn look_back(&mut self, ctx: &mut Context<Self>) {
        let (deps, known, sure_until) = (Arc::clone(&self.deps), self.state.session.clone(), self.deps.sure_until());
        async move { activation::activate_again(&deps, &known, STEP).await }
            .into_actor(self)
            .map(move |found, this, ctx| match found {
                Ok((Activated::Ours(session, messages), missed)) => {
                    this.activity.tenure.owns(session.epoch, sure_until);
                    this.caught_up(session, messages, &missed, ctx);
                }
                Ok((Activated::Elsewhere(until, whose), _)) => {
                    this.learn_whose(whose);
                    this.refuse(this.elsewhere(until), ctx);
                }
                Ok((Activated::Deleted(whose), _)) => {
                    this.learn_whose(whose);
                    this.cancel_running(ctx);
                    this.erased(Leave::Tombstone);
                    this.note_activity();
                }
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "a doubt lasts");
                    ctx.run_later(LOOK_BACK, Self::look_back);
                }
            })
            .spawn(ctx);
    }

    /// Takes over what the store says, and tells the readers what they missed.
    fn caught_up(
        &mut self,
        session: Session,
        messages: HashMap<i64, Arc<Value>>,
        missed: &[StoredEvent],
        ctx: &mut Context<Self>,
    ) {
        let before = std::mem::replace(&mut self.state.session, session);
        self.note_whose();
        let state = &mut self.state;
        let doubted = state.doubted.take();
        state.messages = messages;
        state.phase = Phase::Ready;
        let open = &state.session.open;
        // The message in doubt was stored with its first attempt; whoever had the session meanwhile has raised that.
        let begins = |turn: &&OpenTurn| Some(turn.event_id) == doubted && turn.attempt == 1;
        state.raised = open.front().filter(begins).map(|turn| turn.turn_seq);
        state.ending.retain(|turn_seq, _| open.iter().any(|turn| turn.turn_seq == *turn_seq));
        let running = state.running.as_ref().map(|running| (running.turn.turn_seq, running.turn.attempt));
        if running != open.front().map(|turn| (turn.turn_seq, turn.attempt)) {
            self.cancel_running(ctx);
        }
        let (erased, head) = (self.state.session.erased, self.state.session.head);
        if erased > before.erased {
            *self.state.last = LiveState::default();
            let frame = self.reset_frame();
            self.send(Audience::All, &frame);
        }
        for event in missed {
            self.send(Audience::All, &Arc::new(Frame::stored(event)));
            if event.payload["metadata"]["completed"] == true {
                self.count_end(event.type_name());
            }
        }
        let last = missed.last().map_or(before.head.max(erased), |event| event.seq);
        if last < head {
            // More than is caught up with here: readers come back and get it from the history.
            self.state.readers.close();
        }
        self.stop_interrupted(ctx);
        self.advance(ctx);
    }
}
