//! That what several want at once is made once.

use quick_cache::sync::Cache;
use uuid::Uuid;

use crate::extraction::{Purpose, TextKind};

/// What is made of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wanted {
    /// Their text.
    Text(TextKind),
    /// A picture of them.
    Picture(Purpose),
}

/// Bytes, and what is made of them.
type Key = (Uuid, Wanted);

/// What is being made now. Nothing is kept here: whoever comes next looks where it is kept.
#[derive(Debug)]
pub(super) struct Making(Cache<Key, ()>);

impl Default for Making {
    fn default() -> Self {
        Self(Cache::new(1))
    }
}

impl Making {
    /// Waits until nobody else makes this. Others wait until what comes back is dropped, also by a caller that gives up half-way.
    pub(super) async fn alone(&self, blob: Uuid, wanted: Wanted) -> Option<impl Send> {
        // Nothing is ever put in, so it is a guard.
        self.0.get_value_or_guard_async(&(blob, wanted)).await.err()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;

    const TEXT: Wanted = Wanted::Text(TextKind::Pdf);

    #[tokio::test]
    async fn what_one_makes_others_wait_for_until_it_is_done_or_given_up() {
        let (making, blob) = (Making::default(), Uuid::new_v4());
        let first = making.alone(blob, TEXT).await;
        assert!(first.is_some());
        let mut second = pin!(making.alone(blob, TEXT));
        assert!(second.as_mut().now_or_never().is_none());
        for (blob, wanted) in [(Uuid::new_v4(), TEXT), (blob, Wanted::Picture(Purpose::Thumbnail))] {
            assert!(making.alone(blob, wanted).now_or_never().flatten().is_some(), "others are made meanwhile");
        }
        drop(first);
        assert!(second.await.is_some());
    }
}
