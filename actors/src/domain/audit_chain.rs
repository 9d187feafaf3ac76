//! The chain over a tenant's audit trail: each link has a number and a sum that covers the row and everything before it, so
//! that no row can be changed, taken out, put in or moved without the sums telling.
//!
//! What is summed is written so that it can be read in one way only: the length goes before each text, and what is absent
//! differs from what is empty. How it is written has a [`VERSION`], which every link keeps.

use sha2::{Digest, Sha256};

/// How links are made now.
pub const VERSION: i16 = 1;

/// Where the ends of the chains are told, signed.
pub const CHECKPOINTS: &str = "audit.checkpoints";

/// What is summed first, so that no sum made for something else is one of these.
const ROW: &[u8] = b"somaagent audit row";
const LINK: &[u8] = b"somaagent audit link";

/// A SHA-256.
pub type Sum = [u8; 32];

/// What a row says, field by field in a fixed order; the store reads it so.
pub type Said = Vec<Option<String>>;

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
    if version != VERSION {
        return None;
    }
    let mut sum = begun(ROW);
    for field in said {
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
    let mut sum = begun(LINK);
    sum.update(previous);
    counted(&mut sum, tenant.as_bytes());
    sum.update(number.to_be_bytes());
    sum.update(event_id.to_be_bytes());
    sum.update(content);
    sum.finalize().into()
}

fn begun(of: &[u8]) -> Sha256 {
    let mut sum = Sha256::new();
    counted(&mut sum, of);
    sum.update(VERSION.to_be_bytes());
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
        let sum = content(VERSION, &said(&[Some("tea"), None])).unwrap_or_default();
        assert_eq!(crate::domain::hex::hex(&sum), "0f881c96c61a7f584e69fc27fdb125b89f385f1aeb33f67e57885ca13f8763c8");
        let link = Head::default().seal("t", 1, sum);
        assert_eq!(
            crate::domain::hex::hex(&link.hash),
            "5281de138ae7996826655610d41cecbf4eb25596bf58541b63ec28f82fb7ce47"
        );
    }
}
