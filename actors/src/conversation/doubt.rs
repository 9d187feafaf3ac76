//! Commits a step and does not rest before it is known what became of it.

use somaagent_supervision::AskError;
use uuid::Uuid;

use super::deps::{Deps, JOURNAL_WITHIN};
use crate::{
    domain::{
        append::{Append, Outcome, RefusedReason},
        ids::SessionKey,
    },
    journal::messages::Commit,
    store::{
        session_envelopes::{self, Claim},
        session_events,
    },
};

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
/// impossible from then on, so what is read back after it is the truth.
pub async fn settle(deps: &Deps, append: Append) -> Settled {
    let key = append.key.clone();
    let (epoch, head, fresh) = (append.epoch, append.new_head(), append.create.is_some());
    let probe = append.events.first().map(|event| event.event_id);
    let answer = deps.journal.call(|reply| Commit { append, reply }, JOURNAL_WITHIN).await;
    match answer {
        Ok(Outcome::Committed) => Settled::Committed { epoch, head },
        Ok(Outcome::Refused(RefusedReason::Stale)) => Settled::Lost,
        Ok(Outcome::Refused(RefusedReason::BadData)) => Settled::BadData,
        Ok(Outcome::Refused(RefusedReason::Unavailable)) | Err(AskError::Busy | AskError::Draining) => Settled::NotNow,
        Ok(Outcome::Unknown) | Err(AskError::Timeout | AskError::Down) => find_out(deps, &key, probe, fresh).await,
    }
}

/// Takes a new fence and tells whether the event `event_id` is stored under it.
pub async fn is_stored(deps: &Deps, key: &SessionKey, event_id: Uuid) -> Settled {
    find_out(deps, key, Some(event_id), false).await
}

async fn find_out(deps: &Deps, key: &SessionKey, probe: Option<Uuid>, fresh: bool) -> Settled {
    let (key, node, stamp) = (key.clone(), deps.node.clone(), deps.stamp());
    let found = deps
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
        .await;
    match found {
        Ok((Claim::Taken(owned), true)) => Settled::Committed { epoch: owned.epoch, head: owned.head },
        Ok((Claim::Taken(owned), false)) => Settled::Void { epoch: owned.epoch, head: owned.head },
        // The other owner's epoch rules out a late commit as well as ours would.
        Ok((_, true)) => Settled::HandedOver,
        Ok((_, false)) if probe.is_some() => Settled::Lost,
        // Nothing tells whether a step without an event was committed before the session changed hands.
        Ok((_, false)) => Settled::Unresolved,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the outcome of a step could not be found out");
            Settled::Unresolved
        }
    }
}
