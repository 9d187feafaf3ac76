//! The chain over a tenant's audit trail: each link has a number and a sum that covers the row and everything before it, so
//! that no row can be changed, taken out, put in or moved without the sums telling.
//!
//! What is summed is written so that it can be read in one way only: the length goes before each text, and what is absent
//! differs from what is empty. How it is written has a [`VERSION`], which every link keeps.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How the sums of rows are made now.
pub const VERSION: i16 = 2;

/// How those of links are made.
const LINKED: i16 = 1;

/// Where the ends of the chains are told, signed.
pub const CHECKPOINTS: &str = "audit.checkpoints";

/// What is summed first, so that no sum made for something else is one of these.
const ROW: &[u8] = b"somaagent audit row";
const LINK: &[u8] = b"somaagent audit link";

/// A SHA-256.
pub type Sum = [u8; 32];

/// What a row says, field by field in a fixed order; the store reads it so. A version that sums more has its fields behind those
/// of the ones before.
pub type Said = Vec<Option<String>>;

/// Where in [`Said`] the time is, in hexadecimal digits: microseconds since 2000.
pub const TS: usize = 0;
/// Where what was done is.
pub const ACTION: usize = 8;
/// Where names and sizes are.
pub const DETAILS: usize = 12;
/// Where the number of the transaction is, from version 2 on.
pub const XACT: usize = 16;

/// The action of the row by which a chain tells that it goes on on another server. Its details name both.
pub const TAKEOVER: &str = "audit.takeover";

/// How far the sealing is: up to this row of this transaction.
pub type Place = (i64, i64);

/// What is known of the sealing when a checkpoint is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stand {
    /// The server that numbers the transactions.
    pub server: String,
    /// The transaction of the last row that was sealed of any tenant …
    pub xact: i64,
    /// … and that row.
    pub id: i64,
    /// A transaction that had just begun: those with higher numbers began later.
    pub next: i64,
    /// How far the signing was, unless the checkpoint is older than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<Signing>,
}

/// What is known of all chains when a checkpoint is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signing {
    /// Whether nothing was signed before.
    pub is_first: bool,
    /// Whether by now every chain is signed as far as the sealing is.
    pub is_whole: bool,
    /// How many chains were signed together.
    pub chains: i64,
}

/// The end of a chain; the default is that of an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// How many links it has.
    pub number: i64,
    /// The sum of the last one.
    pub hash: Sum,
}

/// A link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number, from 1 without gaps.
    pub number: i64,
    /// The row that it seals.
    pub event_id: i64,
    /// The sum of that row alone …
    pub content: Sum,
    /// … and of the chain up to it.
    pub hash: Sum,
}

impl Head {
    /// Makes the next link of `tenant`'s chain, which then ends there.
    pub fn seal(&mut self, tenant: &str, event_id: i64, content: Sum) -> Link {
        let number = self.number + 1;
        let hash = linked(&self.hash, tenant, number, event_id, &content);
        *self = Self { number, hash };
        Link { number, event_id, content, hash }
    }
}

/// The sum of a row, made as in `version`; `None` for a version that is not known here.
#[must_use]
pub fn content(version: i16, said: &[Option<String>]) -> Option<Sum> {
    let fields = match version {
        1 => XACT,
        VERSION => XACT + 1,
        _ => return None,
    };
    let mut sum = begun(ROW, version);
    for field in said.iter().take(fields) {
        match field {
            None => sum.update([0]),
            Some(text) => {
                sum.update([1]);
                counted(&mut sum, text.as_bytes());
            }
        }
    }
    Some(sum.finalize().into())
}

/// The sum of a link behind `previous`.
#[must_use]
pub fn linked(previous: &Sum, tenant: &str, number: i64, event_id: i64, content: &Sum) -> Sum {
    let mut sum = begun(LINK, LINKED);
    sum.update(previous);
    counted(&mut sum, tenant.as_bytes());
    sum.update(number.to_be_bytes());
    sum.update(event_id.to_be_bytes());
    sum.update(content);
    sum.finalize().into()
}

fn begun(of: &[u8], version: i16) -> Sha256 {
    let mut sum = Sha256::new();
    counted(&mut sum, of);
    sum.update(version.to_be_bytes());
    sum
}

fn counted(sum: &mut Sha256, bytes: &[u8]) {
    sum.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
    sum.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(fields: &[Option<&str>]) -> Said {
        fields.iter().map(|field| field.map(str::to_owned)).collect()
    }

    #[test]
    fn rows_that_differ_in_any_way_have_different_sums() {
        let rows = [
            said(&[Some("ab"), Some("c")]),
            said(&[Some("a"), Some("bc")]),
            said(&[Some("abc"), Some("")]),
            said(&[Some("abc"), None]),
            said(&[None, Some("abc")]),
            said(&[Some("abc")]),
            said(&[Some("abc"), None, None]),
            said(&[]),
        ];
        let sums: std::collections::BTreeSet<_> = rows.iter().map(|row| content(VERSION, row)).collect();
        assert_eq!(sums.len(), rows.len());
        assert_eq!(content(VERSION + 1, &rows[0]), None);
    }

    #[test]
    fn the_transaction_of_a_row_is_summed_since_the_second_version() {
        let mut row = said(&[Some("x"); XACT]);
        let sums = |row: &Said| [1, 2].map(|version| content(version, row));
        row.push(Some("7".to_owned()));
        let before = sums(&row);
        row[XACT] = Some("8".to_owned());
        let after = sums(&row);
        assert_eq!(before[0], after[0]);
        assert_ne!(before[1], after[1]);
        assert_ne!(after[0], after[1]);
    }

    #[test]
    fn a_link_covers_its_place_and_everything_before_it() {
        let sum = [7; 32];
        let mut head = Head::default();
        let first = head.seal("t", 5, sum);
        let second = head.seal("t", 6, sum);
        assert_eq!((first.number, second.number, head.hash), (1, 2, second.hash));
        for other in [
            linked(&[1; 32], "t", 2, 6, &sum),
            linked(&first.hash, "u", 2, 6, &sum),
            linked(&first.hash, "t", 3, 6, &sum),
            linked(&first.hash, "t", 2, 7, &sum),
            linked(&first.hash, "t", 2, 6, &[8; 32]),
        ] {
            assert_ne!(other, second.hash);
        }
        assert_eq!(linked(&first.hash, "t", 2, 6, &sum), second.hash);
    }

    #[test]
    fn sums_stay_as_they_are() {
        let sum = content(1, &said(&[Some("tea"), None])).unwrap_or_default();
        assert_eq!(crate::domain::hex::hex(&sum), "0f881c96c61a7f584e69fc27fdb125b89f385f1aeb33f67e57885ca13f8763c8");
        let link = Head::default().seal("t", 1, sum);
        assert_eq!(
            crate::domain::hex::hex(&link.hash),
            "5281de138ae7996826655610d41cecbf4eb25596bf58541b63ec28f82fb7ce47"
        );
    }
}
