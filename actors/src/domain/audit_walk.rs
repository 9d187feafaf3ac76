//! A walk along a tenant's chain, link by link, which finds what does not fit and names it.

mod covered;
mod order;
mod takeover;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use self::order::Order;
pub use self::{
    order::{ALLOWANCE_SECONDS, Clocks},
    takeover::{Judge, Moved, Reader, Signature, Takeover, Vouched},
};
use super::audit_chain::{Head, Place, Said, Stand, Sum, content, linked};

/// Broken places among which rows are looked for that were moved. There are a few of them, or somebody made a mess.
const MOST_BROKEN: usize = 64;

/// A link as it is stored, with what its row says if there is one.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number.
    pub number: i64,
    /// The row that it seals.
    pub event_id: i64,
    /// How it was made.
    pub version: i16,
    /// The sum of the row.
    pub content: Sum,
    /// The sum of the chain up to it.
    pub hash: Sum,
    /// What the row says; `None` if it is not there.
    pub said: Option<Said>,
}

/// What somebody did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A row says something else than when it was sealed.
    RowChanged,
    /// A row is gone.
    RowRemoved,
    /// A row was put in behind the sealing.
    RowInserted,
    /// A row says that it is older than what was written before it.
    RowBackdated,
    /// A row was put in after a checkpoint that it says to be older than.
    RowSmuggled,
    /// Rows have changed their places.
    RowMoved,
    /// Links are gone.
    LinkRemoved,
    /// A link does not fit the one before it.
    LinkBroken,
    /// The chain is shorter than it was.
    Truncated,
    /// The chain has another sum than it had.
    Rewritten,
    /// The end of the chain is not written down, or not where the chain ends.
    HeadWrong,
    /// A checkpoint is not signed by the key that is known.
    CheckpointForged,
    /// It is not written down how far the sealing is: nothing is sealed any more.
    SealerMissing,
    /// The sealing is said to be less far than it was.
    SealerSetBack,
    /// The sealing is said to be further than anything that was written: nothing is sealed any more.
    SealerAhead,
    /// The trail was sealed on another server, and nobody has taken it over here.
    ServerChanged,
    /// The trail is said to have been sealed on another server, and a checkpoint says that it was this one.
    ServerForged,
    /// A row says that the chain goes on on another server, and nobody vouches for it.
    TakeoverUnsigned,
    /// A row says that the chain came to a server on which it was already.
    TakeoverFeigned,
}

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Whose chain.
    pub tenant: String,
    /// At which number of it.
    pub number: Option<i64>,
    /// Which row.
    pub row: Option<i64>,
    /// What somebody did.
    pub kind: Kind,
    /// The same for people.
    pub what: String,
}

/// What was found on a walk.
#[derive(Clone, Debug, Default)]
pub struct Walked {
    /// What does not fit.
    pub findings: Vec<Finding>,
    /// Where the chain goes on on another server.
    pub takeovers: Vec<Takeover>,
}

/// An end that the chain once had, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The end.
    pub head: Head,
    /// Such as `the checkpoint of …`.
    pub source: String,
    /// When a checkpoint says so, in seconds since 1970; `None` if none does.
    pub at: Option<i64>,
    /// How far the sealing was then, if that is told.
    pub stand: Option<Stand>,
}

/// A link that does not fit the one before it.
struct Broken {
    number: i64,
    event_id: i64,
    content: Sum,
    hash: Sum,
    previous: Sum,
}

/// See the module.
pub struct Walk {
    tenant: String,
    known: BTreeMap<i64, Vec<Known>>,
    last: Head,
    broken: Vec<Broken>,
    /// Rows that say something else: number and row, the sum of what they say, and the one they were sealed with.
    changed: Vec<(i64, i64, Sum, Sum)>,
    order: Order,
    judge: Judge,
    /// The number of the last takeover that was believed.
    moved_at: i64,
    walked: Walked,
}

impl Walk {
    /// A walk from the beginning of the chain that `judge` knows, which is known to have had these ends, and began on `server`.
    #[must_use]
    pub fn new(judge: Judge, known: impl IntoIterator<Item = Known>, server: Option<String>) -> Self {
        let mut ends: BTreeMap<i64, Vec<Known>> = BTreeMap::new();
        for known in known {
            ends.entry(known.head.number).or_default().push(known);
        }
        Self {
            tenant: judge.tenant().to_owned(),
            known: ends,
            last: Head::default(),
            broken: Vec::new(),
            changed: Vec::new(),
            order: Order::on(server),
            judge,
            moved_at: 0,
            walked: Walked::default(),
        }
    }

    /// The number of the last link.
    #[must_use]
    pub const fn number(&self) -> i64 {
        self.last.number
    }

    /// How far the rows of the chain are on `server`.
    #[must_use]
    pub fn reached(&self, server: &str) -> Option<Place> {
        self.order.reached(server)
    }

    /// Goes on to the next link there is; its number is higher than that of the last one.
    pub fn step(&mut self, entry: &Entry) {
        let (number, row) = (entry.number, entry.event_id);
        let follows = number == self.last.number + 1;
        if !follows {
            let (first, last) = (self.last.number + 1, number - 1);
            self.find(Kind::LinkRemoved, Some(first), None, format!("links {first} to {last} are gone"));
        }
        let sum = entry.said.as_ref().map(|said| content(entry.version, said));
        match sum {
            None => self.find(Kind::RowRemoved, Some(number), Some(row), format!("row {row} is gone")),
            Some(None) => {
                let what = format!("row {row} was sealed in version {}, which is not known here", entry.version);
                self.find(Kind::LinkBroken, Some(number), Some(row), what);
            }
            Some(Some(sum)) if sum != entry.content => self.changed.push((number, row, sum, entry.content)),
            Some(Some(_)) => {}
        }
        let fits = linked(&self.last.hash, &self.tenant, number, row, &entry.content) == entry.hash;
        // Behind a gap nobody knows what it should fit.
        if follows && !fits {
            let (content, hash, previous) = (entry.content, entry.hash, self.last.hash);
            self.broken.push(Broken { number, event_id: row, content, hash, previous });
        } else if sum == Some(Some(entry.content)) {
            self.follow(entry);
        }
        for known in self.known.remove(&number).unwrap_or_default() {
            if known.head.hash != entry.hash {
                let what = format!("the chain up to number {number} is not the one of {}", known.source);
                self.find(Kind::Rewritten, Some(number), Some(row), what);
            }
            if let Some(stand) = &known.stand {
                self.order.told(stand);
            }
        }
        self.last = Head { number, hash: entry.hash };
    }

    /// Looks whether a row that is as it was sealed comes after those before it.
    fn follow(&mut self, entry: &Entry) {
        let Some(said) = &entry.said else { return };
        if let Some(moved) = Moved::read(said) {
            self.go_on(entry, moved);
        } else if let Some((kind, what)) = self.order.next(entry, said, self.judge.clocks()) {
            self.find(kind, Some(entry.number), Some(entry.event_id), what);
        } else if let Some(what) = self.judge.smuggled(entry, said, self.order.server()) {
            self.find(Kind::RowSmuggled, Some(entry.number), Some(entry.event_id), what);
        }
    }

    /// Goes on on another server, if it is believed that the chain did.
    fn go_on(&mut self, entry: &Entry, moved: Moved) {
        let number = entry.number;
        let verdict = self.judge.judge(entry, &moved, &self.last.hash, self.moved_at);
        if let Some((kind, what)) = verdict.fault {
            self.find(kind, Some(number), Some(entry.event_id), what);
        } else {
            self.order.moved(&moved);
            self.moved_at = number;
        }
        let (tenant, Moved { from, to, rows, .. }) = (self.tenant.clone(), moved);
        let signature = verdict.signature;
        self.walked.takeovers.push(Takeover { tenant, number, from, to, rows, signature });
    }

    /// A row that should have been sealed and is not.
    pub fn unsealed(&mut self, row: i64) {
        self.find(Kind::RowInserted, None, Some(row), format!("row {row} was put in behind the sealing"));
    }

    /// What does not fit, after the last link. `end` is where the chain is said to end by now.
    #[must_use]
    pub fn end(mut self, end: Option<Head>) -> Walked {
        let last = self.last.number;
        for known in std::mem::take(&mut self.known).into_values().flatten() {
            let number = known.head.number;
            if number > last {
                let what =
                    format!("the chain ends at number {last}, and it had {number} at the time of {}", known.source);
                self.find(Kind::Truncated, Some(number), None, what);
            }
        }
        match end {
            None if last > 0 => {
                self.find(Kind::HeadWrong, None, None, "the end of the chain is not written down".into());
            }
            Some(end) if end.number < last => {
                let what = format!("the chain ends at number {last}, and {} is written down", end.number);
                self.find(Kind::HeadWrong, Some(last), None, what);
            }
            _ => {}
        }
        let moved = self.moved();
        self.judge_links(&moved);
        self.judge_rows(&moved);
        self.walked.findings.sort();
        self.walked
    }

    /// Links that fit somewhere else: their numbers, and those that they had.
    fn moved(&self) -> BTreeMap<i64, i64> {
        let broken = &self.broken[..self.broken.len().min(MOST_BROKEN)];
        let mut moved = BTreeMap::new();
        for one in broken {
            let was = broken.iter().find(|place| place.number != one.number && self.fits(one, place, broken));
            if let Some(was) = was {
                moved.insert(one.number, was.number);
            }
        }
        moved
    }

    /// Whether `one` is the link that was made for `place`.
    fn fits(&self, one: &Broken, place: &Broken, broken: &[Broken]) -> bool {
        let before = std::iter::once(&place.previous).chain(broken.iter().map(|other| &other.hash));
        let made = |previous: &Sum| linked(previous, &self.tenant, place.number, one.event_id, &one.content);
        before.into_iter().any(|previous| made(previous) == one.hash)
    }

    fn judge_links(&mut self, moved: &BTreeMap<i64, i64>) {
        let broken = std::mem::take(&mut self.broken);
        for one in &broken {
            let (number, row) = (one.number, one.event_id);
            if let Some(was) = moved.get(&number) {
                let what = format!("row {row} has number {number} and had {was}");
                self.find(Kind::RowMoved, Some(number), Some(row), what);
            } else if moved.is_empty() || !self.fits(one, one, &broken[..broken.len().min(MOST_BROKEN)]) {
                let changed = self.changed.iter().any(|(changed, ..)| *changed == number);
                let what = format!("number {number} does not fit number {}: one of the two was changed", number - 1);
                // That the row was changed says it better.
                if !changed {
                    self.find(Kind::LinkBroken, Some(number), Some(row), what);
                }
            }
        }
    }

    /// Rows that say what another one of them was sealed with have changed places with it.
    fn judge_rows(&mut self, moved: &BTreeMap<i64, i64>) {
        let changed = std::mem::take(&mut self.changed);
        let mut sealed: BTreeMap<Sum, BTreeSet<i64>> = BTreeMap::new();
        for (_, row, _, with) in &changed {
            sealed.entry(*with).or_default().insert(*row);
        }
        for (number, row, says, _) in &changed {
            if moved.contains_key(number) {
                continue;
            }
            let (kind, what) = match sealed.get(says).and_then(|rows| rows.first()) {
                Some(other) => (Kind::RowMoved, format!("row {row} says what row {other} said when it was sealed")),
                None => (Kind::RowChanged, format!("row {row} says something else than when it was sealed")),
            };
            self.find(kind, Some(*number), Some(*row), what);
        }
    }

    fn find(&mut self, kind: Kind, number: Option<i64>, row: Option<i64>, what: String) {
        self.walked.findings.push(Finding { tenant: self.tenant.clone(), number, row, kind, what });
    }
}

#[cfg(test)]
mod tests;
