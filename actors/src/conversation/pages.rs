//! Long reads in small steps. An event may be as long as an answer may be, so what one statement gives is few of them; and where
//! the database has one connection, the Journal goes between two steps.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::queries::Reads;
use crate::{
    domain::{
        caller::Caller,
        event::{StoredEvent, size_bytes},
        ids::{SessionKey, Tenant},
    },
    store::{Store, StoreError, session_events, wall::TenantTx},
};

/// Most events that one statement gives.
pub(super) const STEP: i64 = 32;
/// Bytes of payloads after which a page ends, however few events it has.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// A part of a history.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The events, ascending.
    pub events: Vec<StoredEvent>,
    /// Whether there are more of those that were asked for.
    pub more: bool,
}

/// A page that is being read: of at most `limit` events, of fewer if they are long, and of one at least.
struct Filling {
    page: Page,
    limit: i64,
    bytes: usize,
    ended: bool,
}

impl Filling {
    fn new(limit: i64) -> Self {
        Self { page: Page::default(), limit, bytes: 0, ended: false }
    }

    fn room(&self) -> i64 {
        let events = i64::try_from(self.page.events.len()).unwrap_or(i64::MAX);
        if self.bytes < PAGE_BYTES { (self.limit - events).max(0) } else { 0 }
    }

    /// How many events the next step asks for: one more than there is room for tells whether there are more.
    fn wants(&self) -> Option<i64> {
        (!self.ended && !self.page.more).then(|| STEP.min(self.room() + 1))
    }

    /// Takes what a step found that asked for `wanted`.
    fn take(&mut self, found: Vec<StoredEvent>, wanted: i64) {
        self.ended = i64::try_from(found.len()).unwrap_or(i64::MAX) < wanted;
        for event in found {
            if self.room() == 0 {
                self.page.more = true;
                return;
            }
            self.bytes += size_bytes(&event.payload);
            self.page.events.push(event);
        }
    }
}

/// Reads events of one step, of what `of` names.
async fn step<T: Send + Sync + 'static>(
    store: &Store,
    tenant: &Tenant,
    of: &Arc<T>,
    read: impl for<'r> FnOnce(&'r mut TenantTx<'_>, &'r T) -> BoxFuture<'r, Result<Vec<StoredEvent>, sqlx::Error>>
    + Send
    + 'static,
) -> Result<Vec<StoredEvent>, StoreError> {
    let of = Arc::clone(of);
    store.read_for(tenant.clone(), move |rows| Box::pin(async move { read(rows, &of).await })).await
}

/// A session as somebody asks for it.
struct Asked {
    caller: Caller,
    key: SessionKey,
}

/// Which events come next: upwards from after a number, or downwards from before one.
#[derive(Clone, Copy)]
enum Next {
    After(i64),
    Before(i64),
}

impl Next {
    fn read<'r>(
        self,
        rows: &'r mut TenantTx<'_>,
        Asked { caller, key }: &'r Asked,
        wanted: i64,
    ) -> BoxFuture<'r, Result<Vec<StoredEvent>, sqlx::Error>> {
        let only = caller.only();
        match self {
            Self::After(seq) => Box::pin(session_events::between(rows, key, only, seq, i64::MAX, wanted)),
            Self::Before(seq) => Box::pin(session_events::before(rows, key, only, seq, wanted)),
        }
    }

    /// What comes next once `event` was read.
    const fn past(self, event: &StoredEvent) -> Self {
        match self {
            Self::After(_) => Self::After(event.seq),
            Self::Before(_) => Self::Before(event.seq),
        }
    }
}

impl Reads {
    /// Reads events with a number above `after`, a page of at most `limit`. Of a session that does not exist for `caller` there
    /// are none.
    ///
    /// # Errors
    /// The store's.
    pub async fn events(&self, caller: &Caller, session_id: Uuid, after: i64, limit: i64) -> Result<Page, StoreError> {
        self.page(caller, session_id, Next::After(after), limit).await
    }

    /// Reads the newest events with a number below `before`, a page of at most `limit`. Of a session that does not exist for
    /// `caller` there are none.
    ///
    /// # Errors
    /// The store's.
    pub async fn recent_events(
        &self,
        caller: &Caller,
        session_id: Uuid,
        before: i64,
        limit: i64,
    ) -> Result<Page, StoreError> {
        let mut page = self.page(caller, session_id, Next::Before(before), limit).await?;
        page.events.reverse();
        Ok(page)
    }

    async fn page(&self, caller: &Caller, session_id: Uuid, mut next: Next, limit: i64) -> Result<Page, StoreError> {
        let asked = Arc::new(Asked { caller: caller.clone(), key: caller.session(session_id) });
        let mut filling = Filling::new(limit);
        while let Some(wanted) = filling.wants() {
            let found =
                step(&self.store, &caller.tenant, &asked, move |rows, asked| next.read(rows, asked, wanted)).await?;
            next = found.last().map_or(next, |event| next.past(event));
            filling.take(found, wanted);
        }
        Ok(filling.page)
    }
}

/// What was said in earlier turns.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// Messages and answers, newest first.
    pub(super) events: Vec<StoredEvent>,
    /// How many more there are within the limit: they were not read.
    pub(super) unread: i64,
}

/// Reads what was said in the turns before `turn_seq`: at most `limit` messages and answers, and no more once their texts have
/// `max_bytes`.
///
/// # Errors
/// The store's.
pub(super) async fn said_before(
    store: &Store,
    key: &SessionKey,
    turn_seq: i64,
    limit: i64,
    max_bytes: usize,
) -> Result<Said, StoreError> {
    let (mut said, mut bytes, mut before, key) = (Said::default(), 0, turn_seq, Arc::new(key.clone()));
    loop {
        let room = limit - i64::try_from(said.events.len()).unwrap_or(limit);
        if room <= 0 {
            return Ok(said);
        }
        if bytes >= max_bytes {
            let count = store.read_for(key.tenant.clone(), move |rows| {
                Box::pin(async move { session_events::count_said_before(rows, &key, before, room).await })
            });
            said.unread = count.await?;
            return Ok(said);
        }
        let wanted = STEP.min(room);
        let mut found = step(store, &key.tenant, &key, move |rows, key| {
            Box::pin(session_events::said_before(rows, key, before, wanted))
        })
        .await?;
        let ended = i64::try_from(found.len()).unwrap_or(wanted) < wanted;
        // The step may have ended between an answer and its message: the next one begins with that turn.
        let cut = !ended && wanted < room && found.last().is_some_and(|event| event.type_name() != "user");
        if let Some(last) = found.last() {
            before = last.turn_seq.unwrap_or(last.seq) + i64::from(cut);
        }
        if cut {
            found.pop();
        }
        let text = |event: &StoredEvent| event.payload["message"].as_str().map_or(0, str::len);
        bytes += found.iter().map(text).sum::<usize>();
        said.events.extend(found);
        if ended {
            return Ok(said);
        }
    }
}

#[cfg(test)]
mod tests;
