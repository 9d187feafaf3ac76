//! How far a memory has come, for whoever wrote it.

use std::{pin::pin, time::Duration};

use futures_util::future::{Either, select};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep_until};

use super::{item::listed_time, queries::Memories};
use crate::{
    domain::{
        caller::Caller,
        hex::hex,
        receipt::{Receipt, Times},
        wal::MEMORY_WAL,
    },
    store::{StoreError, receipt},
};

/// First and longest pause between two looks at a memory that somebody waits for.
const LOOKS: [Duration; 2] = [Duration::from_millis(25), Duration::from_secs(1)];

/// A receipt, its members named as on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryReceipt {
    /// The memory's id.
    pub event_id: String,
    /// How far it has come: `queued`, `remembered`, `logged`, `replicated` or `dead`.
    pub state: &'static str,
    /// When it reached which state, as far as that is known; RFC 3339 in UTC.
    pub at: ReceiptTimes,
    /// The topic of its record, if the log has it.
    pub topic: Option<&'static str>,
    /// The partition of its record.
    pub partition: Option<i32>,
    /// The record's number there.
    pub offset: Option<i64>,
    /// SHA-256 of the record's bytes in hexadecimal digits, once the replica has it.
    pub sha256: Option<String>,
    #[serde(skip)]
    is_final: bool,
}

/// When a memory reached which state, as far as that is known; RFC 3339 in UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReceiptTimes {
    /// It was put into its queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued: Option<String>,
    /// The memory service had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remembered: Option<String>,
    /// Its record was in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logged: Option<String>,
    /// The replica had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicated: Option<String>,
    /// It was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead: Option<String>,
}

impl From<Times> for ReceiptTimes {
    fn from(at: Times) -> Self {
        let text = |at: Option<OffsetDateTime>| at.map(listed_time);
        Self {
            queued: text(at.queued),
            remembered: text(at.remembered),
            logged: text(at.logged),
            replicated: text(at.replicated),
            dead: text(at.dead),
        }
    }
}

impl MemoryReceipt {
    fn new(event_id: String, receipt: &Receipt) -> Self {
        Self {
            event_id,
            state: receipt.state.as_str(),
            at: receipt.at.into(),
            topic: receipt.place.map(|_| MEMORY_WAL),
            partition: receipt.place.map(|place| place.partition),
            offset: receipt.place.map(|place| place.offset),
            sha256: receipt.sha256.as_deref().map(hex),
            is_final: receipt.state.is_final(),
        }
    }
}

impl Memories {
    /// How far the memory `event_id` has come; `None` if there is none, or no longer, or not for `caller`, because the session
    /// it belongs to does not exist for it. Waits up to `wait` for the replica to have it, but not after it was given up, nor
    /// after `stop` is done. Holds no connection while it waits.
    ///
    /// # Errors
    /// The store's.
    pub async fn receipt(
        &self,
        caller: &Caller,
        event_id: &str,
        wait: Duration,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<MemoryReceipt>, StoreError> {
        let until = Instant::now() + wait;
        let [mut pause, longest] = LOOKS;
        let mut stop = pin!(stop);
        loop {
            let receipt = self.receipt_now(caller, event_id.to_owned()).await?;
            let now = Instant::now();
            if now >= until || receipt.as_ref().is_none_or(|receipt| receipt.is_final) {
                return Ok(receipt);
            }
            if let Either::Left(_) = select(stop.as_mut(), pin!(sleep_until(until.min(now + pause)))).await {
                return Ok(receipt);
            }
            pause = longest.min(pause * 2);
        }
    }

    async fn receipt_now(&self, caller: &Caller, event_id: String) -> Result<Option<MemoryReceipt>, StoreError> {
        let (caller, id, source) = (caller.clone(), event_id.clone(), self.source);
        let work = self.store.read_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move { receipt::traces(rows, caller.tenant.as_str(), &id, source, caller.only()).await })
        });
        Ok(work.await?.receipt().map(|receipt| MemoryReceipt::new(event_id, &receipt)))
    }
}

#[cfg(test)]
mod tests;
