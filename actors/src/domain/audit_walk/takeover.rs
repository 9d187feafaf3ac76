//! Places where a chain goes on on another server, and what vouches for them.
//!
//! From such a place on the order of the rows begins anew, so whoever owns the database would like to write one too. Where
//! there is a key, a takeover is believed if it is signed for its place, or if it is older than the key; and only if no
//! checkpoint says that the chain was on that server already.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Entry, Kind, Known,
    covered::Covered,
    order::{Clocks, seconds},
};
use crate::domain::{
    audit_chain::{ACTION, DETAILS, Head, Said, Sum, TAKEOVER},
    hex::hex,
};

/// A place where a chain goes on on another server, or is said to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Takeover {
    /// Whose chain.
    pub tenant: String,
    /// At which number of it.
    pub number: i64,
    /// Where it was before, if that was known.
    pub from: Option<String>,
    /// Where it went on.
    pub to: Option<String>,
    /// Rows that came along and were not sealed.
    pub rows: i64,
    /// Who vouches for it.
    pub signature: Signature,
}

/// Who vouches for a takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signature {
    /// The key, for this place.
    Good,
    /// Nobody, and there was no key yet: the first checkpoint of the chain came later, and is of the time when signing began.
    OlderThanKey,
    /// Nobody.
    Missing,
    /// Somebody else, or the key for another place.
    Wrong,
    /// Nobody looked, for want of a key.
    Unread,
}

/// What is signed of a takeover. The sum binds it to its place: it covers everything before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    /// Whose chain.
    pub tenant: String,
    /// The number of the takeover in the chain …
    pub number: i64,
    /// … and the sum of the link before it, in hexadecimal digits.
    pub previous: String,
    /// Where the chain was before, if that was known.
    pub from: Option<String>,
    /// Where it goes on.
    pub to: String,
    /// Rows that came along and were not sealed.
    pub rows: i64,
    /// When, in seconds since 1970.
    pub iat: i64,
}

impl Vouched {
    /// For a takeover from one server to another behind the end of a chain.
    #[must_use]
    pub fn behind(end: &Head, tenant: &str, (from, to): (Option<&str>, &str), rows: i64, iat: i64) -> Self {
        let (tenant, from, to) = (tenant.to_owned(), from.map(str::to_owned), to.to_owned());
        Self { tenant, number: end.number + 1, previous: hex(&end.hash), from, to, rows, iat }
    }
}

/// That a chain goes on on another server, as its row says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Where it was before, if that was known.
    pub from: Option<String>,
    /// Where it went on.
    pub to: Option<String>,
    /// Rows that were not sealed before.
    pub rows: i64,
    /// What vouches for it.
    pub signature: Option<String>,
}

impl Moved {
    /// What the row says, if that is what it says.
    #[must_use]
    pub fn read(said: &Said) -> Option<Self> {
        if said.get(ACTION)?.as_deref() != Some(TAKEOVER) {
            return None;
        }
        let details: Value = serde_json::from_str(said.get(DETAILS)?.as_deref()?).unwrap_or_default();
        let text = |name: &str| details[name].as_str().map(str::to_owned);
        let rows = details["rows"].as_i64().unwrap_or_default();
        Some(Self { from: text("from"), to: text("to"), rows, signature: text("signature") })
    }
}

/// Reads what was signed, if a key that is known signed it.
pub type Reader = Arc<dyn Fn(&str) -> Option<Vouched> + Send + Sync>;

/// By what a chain is judged besides its sums: the takeovers, and when its links were signed.
#[derive(Clone)]
pub struct Judge {
    tenant: String,
    /// Where there is a key.
    reader: Option<Reader>,
    /// The number of the chain's first checkpoint, and when it was signed.
    first: Option<(i64, Option<i64>)>,
    /// On which server checkpoints of the chain were signed, in their order.
    signed_on: Vec<(i64, String)>,
    covered: Covered,
    clocks: Arc<Clocks>,
}

/// What comes of a takeover.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Who vouches for it.
    pub signature: Signature,
    /// Why it is not believed all the same, if it is not.
    pub fault: Option<(Kind, String)>,
}

impl Judge {
    /// Judges takeovers of `tenant`'s chain, of which these checkpoints are known.
    #[must_use]
    pub fn new(tenant: &str, checkpoints: &[Known], reader: Option<Reader>, clocks: Arc<Clocks>) -> Self {
        let first = checkpoints.iter().map(|known| (known.head.number, known.at)).min();
        let stands = checkpoints.iter().filter_map(|known| Some((known.head.number, known.stand.as_ref()?)));
        let mut signed_on: Vec<_> = stands.map(|(number, stand)| (number, stand.server.clone())).collect();
        signed_on.sort_by_key(|(number, _)| *number);
        let covered = Covered::new(checkpoints, &clocks);
        Self { tenant: tenant.to_owned(), reader, first, signed_on, covered, clocks }
    }

    /// What is wrong with a link whose transaction has a number of `server`, if it was not signed when it must have been.
    pub(super) fn smuggled(&self, entry: &Entry, said: &Said, server: Option<&str>) -> Option<String> {
        self.covered.judge(entry, said, server, &self.clocks)
    }

    /// Whose chain it is.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// What is known of the time.
    #[must_use]
    pub fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    /// On which server the first checkpoint of the chain was signed that tells it.
    #[must_use]
    pub fn first_server(&self) -> Option<&str> {
        self.signed_on.first().map(|(_, server)| server.as_str())
    }

    /// What a link behind the one of the sum `previous` says, if it is a takeover that is believed where none was believed before.
    #[must_use]
    pub fn believed(&self, entry: &Entry, previous: &Sum) -> Option<Moved> {
        let moved = Moved::read(entry.said.as_ref()?)?;
        self.judge(entry, &moved, previous, 0).fault.is_none().then_some(moved)
    }

    /// Judges the takeover that a link is, behind the one of the sum `previous`. `since` is the number of the last takeover that was
    /// believed.
    #[must_use]
    pub fn judge(&self, entry: &Entry, moved: &Moved, previous: &Sum, since: i64) -> Verdict {
        let signature = self.signature(entry, moved, previous);
        let (row, to) = (entry.event_id, moved.to.as_deref().unwrap_or("unknown"));
        let why = match signature {
            Signature::Missing => "nobody vouches for it",
            Signature::Wrong => "what vouches for it was not signed by the key for this place",
            Signature::Good | Signature::OlderThanKey | Signature::Unread => {
                let fault = self.was_there(entry.number, since, to).then(|| {
                    let what = format!(
                        "row {row} says that the chain came to the server {to:?}, and the checkpoint before it was signed on that \
                         one: it was made to look as if it came from elsewhere"
                    );
                    (Kind::TakeoverFeigned, what)
                });
                return Verdict { signature, fault };
            }
        };
        let what = format!("row {row} says that the chain goes on on the server {to:?}, and {why}");
        Verdict { signature, fault: Some((Kind::TakeoverUnsigned, what)) }
    }

    fn signature(&self, entry: &Entry, moved: &Moved, previous: &Sum) -> Signature {
        let Some(read) = &self.reader else { return Signature::Unread };
        let Some(jws) = &moved.signature else {
            return if self.is_older_than_key(entry.number) { Signature::OlderThanKey } else { Signature::Missing };
        };
        let expected = || {
            let iat = seconds(entry.said.as_ref()?)?;
            let end = Head { number: entry.number - 1, hash: *previous };
            Some(Vouched::behind(&end, &self.tenant, (moved.from.as_deref(), moved.to.as_deref()?), moved.rows, iat))
        };
        let vouched = read(jws);
        if vouched.is_some() && vouched == expected() { Signature::Good } else { Signature::Wrong }
    }

    /// Whether the chain had that number before anything was signed. Chains that were there when signing began were signed at once;
    /// into one that is younger than the key nobody wrote without it.
    fn is_older_than_key(&self, number: i64) -> bool {
        self.first.is_some_and(|(first, at)| number <= first && at.is_some_and(|at| self.clocks.is_first(at)))
    }

    /// Whether the last checkpoint between two numbers was signed on a server.
    fn was_there(&self, number: i64, since: i64, server: &str) -> bool {
        let before = self.signed_on.iter().rev().find(|(signed, _)| *signed < number);
        before.is_some_and(|(signed, on)| *signed > since && on == server)
    }
}

#[cfg(test)]
mod tests;
