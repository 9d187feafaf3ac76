//! What is in the files that people have sent: their text, and pictures of them.
//!
//! It is made in a process of its own (see [`extraction`](crate::extraction)) when it is first wanted, kept beside the bytes, and read
//! from there ever after. Who may see a file is decided before this is asked.
//!
//! | file | holds |
//! | --- | --- |
//! | [`bytes`] | a file as a stream |
//! | `making` | that what several want at once is made once |
//! | `texts`, `pictures` | what is kept, what is made, and what is no use trying |
//!
//! Called as it is, by any family.

pub mod bytes;
mod making;
mod pictures;
mod texts;

pub use pictures::is_image;

use std::sync::Arc;

use time::{Duration, OffsetDateTime};

use self::making::Making;
use crate::{
    extraction::{ExtractError, Extractor},
    store::{Store, StoreError},
};

/// For so long nobody tries again what could not be read: the next version may be able to. What may pass sooner is not kept at all.
const BELIEVED: Duration = Duration::hours(1);

/// Gives what is in files. A cheap handle; clones share what they are making.
#[derive(Clone, Debug)]
pub struct Contents {
    store: Store,
    extractor: Extractor,
    making: Arc<Making>,
    clock: fn() -> OffsetDateTime,
}

/// Nothing can be given of a file.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// It cannot be read, or there is nothing of the kind in it. The text says why, without a word of the file.
    #[error("{0}")]
    Unreadable(String),
    /// Its bytes are not there any more.
    #[error("the file is gone")]
    Gone,
    /// It may well be read at another time.
    #[error("the file could not be read now")]
    NotNow(#[source] ExtractError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Contents {
    /// Reads files of `store` by `extractor`.
    #[must_use]
    pub fn new(store: Store, extractor: Extractor, clock: fn() -> OffsetDateTime) -> Self {
        Self { store, extractor, making: Arc::default(), clock }
    }

    /// What was found out after this is believed.
    fn believed(&self) -> OffsetDateTime {
        (self.clock)() - BELIEVED
    }
}

#[cfg(test)]
mod tests;
