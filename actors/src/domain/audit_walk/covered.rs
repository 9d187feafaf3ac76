//! Whether the links of a chain were signed when the places of their rows say that they must have been.
//!
//! The last checkpoint of a round says that by then every chain was signed as far as the sealing was. So a row whose place is not
//! behind that was in its chain, and the chain had a checkpoint that covers it. Whoever owns the database can make links later that
//! say otherwise, and sign none.

use std::collections::BTreeMap;

use super::{
    Entry, Known,
    order::{ALLOWANCE_SECONDS, Clocks, place},
};
use crate::domain::audit_chain::Said;

/// The checkpoints of a chain, by the servers that number transactions.
#[derive(Clone, Debug, Default)]
pub(super) struct Covered {
    servers: BTreeMap<String, Signed>,
}

/// When the chain was signed up to a number or further.
#[derive(Clone, Debug, Default)]
struct Signed {
    /// The transactions of this server that did so first.
    here: Earliest,
    /// When that was first done by what does not tell a transaction of this server, in seconds since 1970.
    elsewhere: Earliest,
}

/// Numbers in their order, each with the least value of those from there on.
#[derive(Clone, Debug, Default)]
struct Earliest(Vec<(i64, i64)>);

impl Earliest {
    fn of(mut ends: Vec<(i64, i64)>) -> Self {
        ends.sort_unstable();
        let mut least = i64::MAX;
        for (_, value) in ends.iter_mut().rev() {
            least = least.min(*value);
            *value = least;
        }
        Self(ends)
    }

    fn covering(&self, number: i64) -> Option<i64> {
        let first = self.0.partition_point(|(end, _)| *end < number);
        self.0.get(first).map(|(_, value)| *value)
    }
}

impl Covered {
    pub(super) fn new(checkpoints: &[Known], clocks: &Clocks) -> Self {
        let signed = |server: &str| {
            let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
            for Known { head, at, stand, .. } in checkpoints {
                match stand.as_ref().filter(|stand| stand.server == server) {
                    Some(stand) => here.push((head.number, stand.next)),
                    None => elsewhere.extend(at.map(|at| (head.number, at))),
                }
            }
            Signed { here: Earliest::of(here), elsewhere: Earliest::of(elsewhere) }
        };
        Self { servers: clocks.servers().map(|server| (server.to_owned(), signed(server))).collect() }
    }

    /// What is wrong with a link whose transaction has a number of `server`, if it was signed too late or never.
    pub(super) fn judge(&self, entry: &Entry, said: &Said, server: Option<&str>, clocks: &Clocks) -> Option<String> {
        let server = server?;
        let round = clocks.round(server, place(entry, said)?)?;
        let signed = self.servers.get(server)?;
        let here = signed.here.covering(entry.number);
        let elsewhere = signed.elsewhere.covering(entry.number);
        let until = round.at + ALLOWANCE_SECONDS;
        if here.is_some_and(|next| next <= round.next) || elsewhere.is_some_and(|at| at <= until) {
            return None;
        }
        let row = entry.event_id;
        let since = match (here, elsewhere) {
            // What was signed last may not have arrived in the log.
            (None, None) if !clocks.is_over(until) => return None,
            (None, None) => "no checkpoint of its chain covers it since",
            _ => "the first checkpoint of its chain that covers it came later",
        };
        Some(format!(
            "row {row} was put into the chain later than it says: the checkpoints at {} covered everything up to its place, and \
             {since}",
            round.at
        ))
    }
}

#[cfg(test)]
mod tests;
