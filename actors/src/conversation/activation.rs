//! How a conversation learns what the store knows of its session, and takes it over.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;
use time::OffsetDateTime;

use super::deps::Deps;
use crate::{
    domain::{ids::SessionKey, session::Session},
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
    /// Another node owns it until then.
    Elsewhere(OffsetDateTime),
    /// It was deleted.
    Deleted,
}

/// Claims the session and reads where it stands.
///
/// # Errors
/// The store's.
pub async fn activate(deps: &Deps, key: &SessionKey) -> Result<Activated, StoreError> {
    let (key, node, stamp) = (key.clone(), deps.node.clone(), deps.stamp());
    deps.store
        .run(move |connection| {
            Box::pin(async move {
                let owned = match session_envelopes::claim(connection, &key, &node, stamp.at, stamp.lease_until).await?
                {
                    Claim::Taken(owned) => owned,
                    Claim::Absent => return Ok(Activated::Ours(Session::unused(key), HashMap::new())),
                    Claim::Elsewhere(until) => return Ok(Activated::Elsewhere(until)),
                    Claim::Deleted => return Ok(Activated::Deleted),
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
            })
        })
        .await
}
