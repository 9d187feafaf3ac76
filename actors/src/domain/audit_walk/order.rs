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
    /// When the last one was.
    last: Option<i64>,
    /// Of how many it is known that there were none before, by the transactions that signed them.
    earliest: BTreeMap<(String, i64), i64>,
    /// Whether these are all there are of one transaction, so that none is missing at the beginning.
    is_whole: bool,
}

#[derive(Clone, Debug, Default)]
struct Clock {
    /// The time of each number, in seconds since 1970.
    begun: BTreeMap<i64, i64>,
    reached: Option<Place>,
    /// How far the sealing was by the first two transactions that are known to have signed any.
    since: BTreeMap<i64, Place>,
    /// Ends of rounds, by how far the sealing was.
    rounds: BTreeMap<Place, Round>,
}

/// The end of a round: by then every chain was signed as far as the sealing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Round {
    /// The transaction that signed the last part of it.
    pub next: i64,
    /// When, in seconds since 1970.
    pub at: i64,
}

impl Clocks {
    /// Learns that a checkpoint was signed at `at`, in seconds since 1970, and what was known of the sealing then.
    pub fn learn(&mut self, stand: Option<&Stand>, at: i64) {
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = self.last.max(Some(at));
        let Some(stand) = stand else { return };
        let clock = self.servers.entry(stand.server.clone()).or_default();
        let place = (stand.xact, stand.id);
        clock.begun.insert(stand.next, at);
        clock.reached = clock.reached.max(Some(place));
        clock.since.insert(stand.next, place);
        if clock.since.len() > 2 {
            clock.since.pop_last();
        }
        let Some(signing) = stand.signing else { return };
        if signing.is_first {
            let count = self.earliest.entry((stand.server.clone(), stand.next)).or_default();
            *count += 1;
            self.is_whole |= *count == signing.chains;
        }
        if signing.is_whole {
            let round = Round { next: stand.next, at };
            clock.rounds.entry(place).and_modify(|known| *known = round.min(*known)).or_insert(round);
        }
    }

    /// The servers on which any of them were signed.
    pub(super) fn servers(&self) -> impl Iterator<Item = &str> {
        self.servers.keys().map(String::as_str)
    }

    /// The end of the first round that covers what was sealed at `place`, if it is known that no checkpoint is missing that may
    /// have covered it before: those of old may be gone from the log.
    pub(super) fn round(&self, server: &str, place: Place) -> Option<Round> {
        let clock = self.servers.get(server)?;
        // What was signed together may be gone in part, so it is the second one that tells that nothing behind it is.
        let since = clock.since.values().nth(1);
        let is_known = self.is_whole || since.is_some_and(|since| *since < place);
        is_known.then(|| clock.rounds.range(place..).next().map(|(_, round)| *round))?
    }

    /// Whether anything was signed after a time, in seconds since 1970.
    pub(super) fn is_over(&self, at: i64) -> bool {
        self.last.is_some_and(|last| last > at)
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

    /// Where the transactions of the next rows have their numbers, if that is known.
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
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

/// Where the row of a link was sealed. What has sums that do not cover that was sealed before everything else.
pub(super) fn place(entry: &Entry, said: &Said) -> Option<Place> {
    if entry.version < COVERED {
        return Some((i64::MIN, entry.event_id));
    }
    Some((said.get(XACT)?.as_deref()?.parse().ok()?, entry.event_id))
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
