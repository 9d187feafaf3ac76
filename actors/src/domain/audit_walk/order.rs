//! Whether the rows of a chain come one after the other, as they were written: by the numbers of their transactions and by their
//! times.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Entry, Kind};
use crate::domain::audit_chain::{ACTION, DETAILS, Place, Said, Stand, TAKEOVER, TS, XACT};

/// The first version of sums that cover the number of the transaction.
const COVERED: i16 = 2;
/// By how many seconds a row may be older than what came before it: the clocks of machines differ, and what is written down waits
/// for the database.
pub const ALLOWANCE_SECONDS: i64 = 600;
/// Seconds from 1970 to 2000, where the times of the database begin.
const EPOCH_2000: i64 = 946_684_800;

/// What checkpoints tell of the time: transactions from a number on began after a time. By server.
#[derive(Clone, Debug, Default)]
pub struct Clocks(BTreeMap<String, Clock>);

#[derive(Clone, Debug, Default)]
struct Clock {
    /// The time of each number, in seconds since 1970.
    begun: BTreeMap<i64, i64>,
    reached: Option<Place>,
}

impl Clocks {
    /// Learns what was known at `at`, in seconds since 1970.
    pub fn learn(&mut self, stand: &Stand, at: i64) {
        let clock = self.0.entry(stand.server.clone()).or_default();
        clock.begun.insert(stand.next, at);
        clock.reached = clock.reached.max(Some((stand.xact, stand.id)));
    }

    /// How far the sealing was on `server`, at least.
    #[must_use]
    pub fn reached(&self, server: &str) -> Option<Place> {
        self.0.get(server)?.reached
    }

    /// A time after which the transaction began, if one is known.
    fn begun_after(&self, server: &str, xact: i64) -> Option<i64> {
        self.0.get(server)?.begun.range(..=xact).next_back().map(|(_, at)| *at)
    }
}

/// That a chain goes on on another server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Where it was before, if that was known.
    pub from: Option<String>,
    /// Where it went on.
    pub to: Option<String>,
    /// Rows that were not sealed before.
    pub rows: i64,
}

impl Moved {
    /// What the row says, if that is what it says.
    pub fn read(said: &Said) -> Option<Self> {
        if said.get(ACTION)?.as_deref() != Some(TAKEOVER) {
            return None;
        }
        let details: Value = serde_json::from_str(said.get(DETAILS)?.as_deref()?).unwrap_or_default();
        let server = |name: &str| details[name].as_str().map(str::to_owned);
        Some(Self { from: server("from"), to: server("to"), rows: details["rows"].as_i64().unwrap_or_default() })
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
        let ts = microseconds(said.get(TS)?.as_deref()?)?;
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

/// The time that the database writes like this.
fn microseconds(digits: &str) -> Option<i64> {
    u64::from_str_radix(digits, 16).ok().map(u64::cast_signed)
}

#[cfg(test)]
mod tests;
