//! How a conversation learns what the store knows of its session, and takes it over.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::deps::Deps;
use crate::{
    domain::{
        event::StoredEvent,
        ids::SessionKey,
        session::{Session, Stamp},
        whose::Whose,
    },
    store::{
        StoreError,
        session_envelopes::{self, Claim},
        session_events, turns,
    },
};

/// What activation found.
pub enum Activated {
    /// The session is ours, or nobody's yet. With it the user events of its open turns, by turn.
    Ours(Session, HashMap<i64, Arc<Value>>),
    /// Another node owns it until then. With whose it is.
    Elsewhere(OffsetDateTime, Whose),
    /// It was deleted. With whose it was.
    Deleted(Whose),
}

/// Claims the session and reads where it stands.
///
/// # Errors
/// The store's.
pub async fn activate(deps: &Deps, key: &SessionKey) -> Result<Activated, StoreError> {
    let (key, node, stamp) = (key.clone(), deps.node.clone(), deps.stamp());
    deps.store.run(move |connection| Box::pin(async move { take(connection, key, &node, &stamp).await })).await
}

/// Claims a session again whose owner does not know what became of its last step, and reads up to `limit` events after
/// `head`, the last it knows of. What was on its way is either among them or can have no effect any more.
///
/// # Errors
/// The store's.
pub async fn activate_again(
    deps: &Deps,
    known: &Session,
    limit: i64,
) -> Result<(Activated, Vec<StoredEvent>), StoreError> {
    let (key, fresh, head, node, stamp) = (known.key.clone(), known.fresh, known.head, deps.node.clone(), deps.stamp());
    deps.store
        .run(move |connection| {
            Box::pin(async move {
                if fresh {
                    // A session without a row has no fence yet: this makes one, after waiting for the lost step to end.
                    session_envelopes::fence_unused(connection, &key, &node, stamp.at).await?;
                }
                let found = take(connection, key.clone(), &node, &stamp).await?;
                let missed = match &found {
                    Activated::Ours(session, _) => {
                        session_events::between(connection, &key, None, head, session.head, limit).await?
                    }
                    Activated::Elsewhere(..) | Activated::Deleted(_) => vec![],
                };
                Ok((found, missed))
            })
        })
        .await
}

async fn take(
    connection: &mut PgConnection,
    key: SessionKey,
    node: &str,
    stamp: &Stamp,
) -> Result<Activated, sqlx::Error> {
    let owned = match session_envelopes::claim(connection, &key, node, stamp.at, stamp.lease_until).await? {
        Claim::Taken(owned) => owned,
        Claim::Absent => return Ok(Activated::Ours(Session::unused(key), HashMap::new())),
        Claim::Elsewhere(until, whose) => return Ok(Activated::Elsewhere(until, whose)),
        Claim::Deleted(whose) => return Ok(Activated::Deleted(whose)),
    };
    let open = turns::open(connection, &key).await?;
    let last_turn = turns::last(connection, &key).await?;
    let mut messages = HashMap::new();
    for turn in &open {
        if let Some(event) = session_events::by_id(connection, &key, turn.event_id).await? {
            messages.insert(turn.turn_seq, Arc::new(event.payload));
        }
    }
    let session = Session {
        key,
        whose: owned.whose,
        fresh: false,
        epoch: owned.epoch,
        head: owned.head,
        erased: owned.erased,
        title: owned.title,
        persona_id: owned.persona_id,
        paused: owned.paused,
        last_turn,
        open: open.into(),
    };
    Ok(Activated::Ours(session, messages))
}
