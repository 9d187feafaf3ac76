//! Whether the rows of a chain come one after the other, as they were written: by the numbers of their transactions and by their
//! times.

use std::collections::BTreeMap;

use super::{Entry, Kind, takeover::Moved};
use crate::domain::audit_chain::{Place, Said, Stand, TS, XACT};

/// The first version of sums that cover the number of the transaction.
const COVERED: i16 = 2;
/// By how many seconds a row may be older than what came before it: the clocks of machines differ, and what is written down waits
/// for the database.
pub const ALLOWANCE_SECONDS: i64 = 600;
/// Seconds from 1970 to 2000, where the times of the database begin.
const EPOCH_2000: i64 = 946_684_800;

/// What checkpoints of all chains tell of the time.
#[derive(Clone, Debug, Default)]
pub struct Clocks {
    /// Transactions from a number on began after a time. By server.
    servers: BTreeMap<String, Clock>,
    /// When the first one was signed, in seconds since 1970.
    first: Option<i64>,
}

#[derive(Clone, Debug, Default)]
struct Clock {
    /// The time of each number, in seconds since 1970.
    begun: BTreeMap<i64, i64>,
    reached: Option<Place>,
}

impl Clocks {
    /// Learns that a checkpoint was signed at `at`, in seconds since 1970, and what was known of the sealing then.
    pub fn learn(&mut self, stand: Option<&Stand>, at: i64) {
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        let Some(stand) = stand else { return };
        let clock = self.servers.entry(stand.server.clone()).or_default();
        clock.begun.insert(stand.next, at);
        clock.reached = clock.reached.max(Some((stand.xact, stand.id)));
    }

    /// How far the sealing was on `server`, at least.
    #[must_use]
    pub fn reached(&self, server: &str) -> Option<Place> {
        self.servers.get(server)?.reached
    }

    /// Whether what was signed at `at` is of the time when signing began.
    #[must_use]
    pub fn is_first(&self, at: i64) -> bool {
        self.first.is_some_and(|first| at <= first + ALLOWANCE_SECONDS)
    }

    /// On which server the newest of them was signed.
    #[must_use]
    pub fn newest(&self) -> Option<&str> {
        let newest = |clock: &Clock| clock.begun.values().max().copied();
        self.servers.iter().max_by_key(|(_, clock)| newest(clock)).map(|(server, _)| server.as_str())
    }

    /// A time after which the transaction began, if one is known.
    fn begun_after(&self, server: &str, xact: i64) -> Option<i64> {
        self.servers.get(server)?.begun.range(..=xact).next_back().map(|(_, at)| *at)
    }
}

/// How far the rows were by now.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Where the transactions of the rows have their numbers.
    server: Option<String>,
    last: Option<Place>,
    /// How far the sealing of all chains was when this one had no more rows than by now.
    told: Option<Place>,
    /// The latest time, in microseconds since 2000, and the row that has it.
    newest: Option<(i64, i64)>,
}

impl Order {
    /// Rows whose transactions have the numbers of `server`.
    pub const fn on(server: Option<String>) -> Self {
        Self { server, last: None, told: None, newest: None }
    }

    /// The last row that was where it belongs, if it had the numbers of `server`.
    pub fn reached(&self, server: &str) -> Option<Place> {
        self.last.filter(|_| self.server.as_deref() == Some(server))
    }

    /// From here on transactions have the numbers of another server.
    pub fn moved(&mut self, moved: &Moved) {
        *self = Self::on(moved.to.clone());
    }

    /// The rows up to here were all that there were when the sealing was so far.
    pub fn told(&mut self, stand: &Stand) {
        if self.server.as_ref() == Some(&stand.server) {
            self.told = self.told.max(Some((stand.xact, stand.id)));
        }
    }

    /// What is wrong with the place of the next row, which says what it said when it was sealed.
    pub fn next(&mut self, entry: &Entry, said: &Said, clocks: &Clocks) -> Option<(Kind, String)> {
        if entry.version < COVERED {
            return None;
        }
        let row = entry.event_id;
        let xact: i64 = said.get(XACT)?.as_deref()?.parse().ok()?;
        if let Some(last) = self.last.filter(|last| (xact, row) <= *last) {
            let what =
                format!("row {row} was put in behind the sealing: row {} was sealed before it and is later", last.1);
            return Some((Kind::RowInserted, what));
        }
        if self.told.is_some_and(|told| (xact, row) <= told) {
            let what = format!(
                "row {row} was put in behind the sealing: a checkpoint was signed before it that should tell of it"
            );
            return Some((Kind::RowInserted, what));
        }
        self.last = Some((xact, row));
        let ts = microseconds(said)?;
        let seconds = ts.div_euclid(1_000_000);
        if let Some((newest, before)) =
            self.newest.filter(|(newest, _)| seconds + ALLOWANCE_SECONDS < newest.div_euclid(1_000_000))
        {
            let by = newest.div_euclid(1_000_000) - seconds;
            let what =
                format!("row {row} says that it is {by} seconds older than row {before}, which was written before it");
            return Some((Kind::RowBackdated, what));
        }
        self.newest = self.newest.max(Some((ts, row)));
        let begun = clocks.begun_after(self.server.as_deref()?, xact)?;
        let by = begun - (seconds + EPOCH_2000);
        (by > ALLOWANCE_SECONDS).then(|| {
            let what = format!(
                "row {row} says that it is {by} seconds older than the checkpoint at {begun}, after which it was written"
            );
            (Kind::RowBackdated, what)
        })
    }
}

/// When a row says that it was written, in seconds since 1970.
pub(super) fn seconds(said: &Said) -> Option<i64> {
    Some(microseconds(said)?.div_euclid(1_000_000) + EPOCH_2000)
}

/// The same in microseconds since 2000, which the database writes as digits.
fn microseconds(said: &Said) -> Option<i64> {
    u64::from_str_radix(said.get(TS)?.as_deref()?, 16).ok().map(u64::cast_signed)
}

#[cfg(test)]
mod tests;
