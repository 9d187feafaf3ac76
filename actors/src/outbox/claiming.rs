//! Claims of waiting memories: those of any sessions, or those of one for the sake of one memory.

use uuid::Uuid;

use super::{
    memory_sync::MemorySyncDeps,
    through::{Cause, Outcome},
};
use crate::{
    domain::ids::{SessionKey, Tenant},
    store::{
        StoreError,
        memory_write_outbox::{self, ClaimedMemory, Place},
        outbox::ClaimTerms,
    },
};

/// Memories of a session in one call.
const ROWS_A_SESSION: u32 = 50;

/// What a claim took.
pub struct Claimed {
    /// Its name.
    pub claim: Uuid,
    /// The memories of each session, in order.
    pub sessions: Vec<Vec<ClaimedMemory>>,
    /// Where the next one begins.
    pub place: Place,
}

/// Claims up to `rows` memories.
///
/// # Errors
/// The store's.
pub async fn claim(deps: &MemorySyncDeps, from: Place, rows: u32) -> Result<Claimed, StoreError> {
    let terms = terms(deps, rows);
    let work = deps
        .store
        .run(move |connection| Box::pin(async move { memory_write_outbox::claim(connection, &from, terms).await }));
    let (claimed, place) = work.await?;
    Ok(Claimed { claim: terms.claim, sessions: by_session(&claimed), place })
}

/// What came of looking for one memory.
pub struct Sought {
    /// What was claimed to be written now.
    pub claimed: Claimed,
    /// What is known of the memory if it was not claimed, unless somebody is writing it.
    pub outcome: Option<Outcome>,
}

/// Claims what waits of one session, for the sake of one memory.
///
/// # Errors
/// The store's.
pub async fn seek(deps: &MemorySyncDeps, key: SessionKey, memory_id: String) -> Result<Sought, StoreError> {
    let terms = ClaimTerms { keys: 1, ..terms(deps, ROWS_A_SESSION) };
    let work = deps.store.run(move |connection| {
        Box::pin(async move {
            // If nothing of this session waits, this takes the next one: no harm.
            let from = Place::just_before(&key);
            let (claimed, place) = memory_write_outbox::claim(connection, &from, terms).await?;
            if claimed.iter().any(|row| memory_of(row).is_some_and(|(_, id)| id == memory_id)) {
                return Ok((claimed, place, None));
            }
            let state =
                memory_write_outbox::newest_state(connection, key.tenant.as_str(), &memory_id, terms.claim, terms.now)
                    .await?;
            let outcome = match state.as_deref() {
                Some("sent") => Some(Outcome::Remembered),
                Some("sending") => None,
                Some("failed") => Some(Outcome::Queued(Cause::Refused)),
                // One that is not there was taken back meanwhile: nobody has remembered it.
                Some(_) | None => Some(Outcome::Queued(Cause::Waiting)),
            };
            Ok((claimed, place, outcome))
        })
    });
    let (claimed, place, outcome) = work.await?;
    Ok(Sought { claimed: Claimed { claim: terms.claim, sessions: by_session(&claimed), place }, outcome })
}

fn terms(deps: &MemorySyncDeps, rows: u32) -> ClaimTerms {
    let terms = ClaimTerms::begin((deps.clock)(), deps.settings.lease(), rows);
    ClaimTerms { rows_a_key: ROWS_A_SESSION.into(), ..terms }
}

fn by_session(claimed: &[ClaimedMemory]) -> Vec<Vec<ClaimedMemory>> {
    claimed
        .chunk_by(|one, next| (&one.tenant, one.session_id) == (&next.tenant, next.session_id))
        .map(<[ClaimedMemory]>::to_vec)
        .collect()
}

/// Whose memory a row is, and its id.
pub(super) fn memory_of(row: &ClaimedMemory) -> Option<(Tenant, String)> {
    Tenant::new(&row.tenant).zip(row.payload["id"].as_str().map(ToOwned::to_owned))
}
