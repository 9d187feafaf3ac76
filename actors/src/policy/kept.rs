//! Answers that hold for a moment.

use std::{hash::Hash, time::Duration};

use quick_cache::sync::Cache;
use tokio::time::Instant;

/// Most answers that are kept; what was used least makes room.
const MOST: usize = 10_000;

/// Answers by what was asked, each until it is too old.
#[derive(Debug)]
pub(super) struct Kept<K, V> {
    answers: Cache<K, (Instant, V)>,
    ttl: Duration,
}

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    /// Keeps answers for `ttl`; none if that is no time.
    pub(super) fn new(ttl: Duration) -> Self {
        Self { answers: Cache::new(MOST), ttl }
    }

    /// The answer, if there is one that still holds.
    pub(super) fn get(&self, asked: &K) -> Option<V> {
        let (at, answer) = self.answers.get(asked)?;
        (at.elapsed() < self.ttl).then_some(answer)
    }

    /// Keeps an answer to what was asked `at`: its age counts from there, since the answer may have been on its way for long.
    pub(super) fn put(&self, asked: K, at: Instant, answer: V) {
        if !self.ttl.is_zero() {
            self.answers.insert(asked, (at, answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_until_it_is_too_old() {
        let kept = Kept::new(Duration::from_secs(2));
        kept.put("asked", Instant::now(), 7);
        tokio::time::advance(Duration::from_millis(1_999)).await;
        assert_eq!((kept.get(&"asked"), kept.get(&"other")), (Some(7), None));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(kept.get(&"asked"), None);
        let none = Kept::new(Duration::ZERO);
        none.put("asked", Instant::now(), 7);
        assert_eq!(none.get(&"asked"), None);
    }

    #[test]
    fn no_more_answers_are_kept_than_may_be() {
        let kept = Kept::new(Duration::from_mins(1));
        let now = Instant::now();
        for asked in 0..3 * MOST {
            kept.put(asked, now, ());
        }
        assert!(kept.answers.len() <= MOST, "{}", kept.answers.len());
        assert!(kept.get(&(3 * MOST - 1)).is_some());
    }
}
