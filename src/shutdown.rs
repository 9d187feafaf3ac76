//! The end of the process, in order: accept nothing more, let turns finish, close the streams, stop the server, let what is
//! on its way arrive, stop the tree, and close the database last.
//!
//! Whoever starts something says here how it is stopped. Within a stage what was started last is stopped first. A part
//! that takes too long is left behind: the process ends with it.
//!
//! The time to drain is for all of it but the database, which has three seconds after that: whoever kills processes that
//! do not end can rely on the sum.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, timeout};

/// How long the database may take to close. What it has not written by then it repairs at the next start.
const DATABASE_WITHIN: Duration = Duration::from_secs(3);

/// Of the time to drain, what is kept for the stages after [`Stage::Drain`]; a quarter, if there is little.
const KEPT: Duration = Duration::from_millis(500);

/// Longest time of a part, however much is left.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Shortest time of a part, even when others have used up everything: most need far less.
const LEAST: Duration = Duration::from_millis(50);

/// The stages, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// New connections and requests are refused.
    Accepting,
    /// Turns under way end, or are handed off.
    Drain,
    /// Readers of event streams are told to come back.
    Streams,
    /// The listeners and their workers end.
    Server,
    /// Records and memories that are on their way arrive.
    Queues,
    /// The actors end, in reverse order of their start.
    Tree,
    /// The database is closed.
    Database,
}

type Stop = Box<dyn FnOnce(Duration) -> Pin<Box<dyn Future<Output = ()>>>>;

/// What is to be stopped.
#[derive(Default)]
pub struct Shutdown {
    parts: Vec<(Stage, &'static str, Stop)>,
}

impl Shutdown {
    /// Has `stop` called in `stage` with the time it may take.
    pub fn at<F>(&mut self, stage: Stage, name: &'static str, stop: impl FnOnce(Duration) -> F + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        self.parts.push((stage, name, Box::new(move |within| Box::pin(stop(within)))));
    }

    /// Stops everything: what comes before the database within `drain`.
    pub async fn run(mut self, drain: Duration) {
        self.parts.reverse();
        // Stable: what was registered last stays first within its stage.
        self.parts.sort_by_key(|(stage, ..)| *stage);
        let started = Instant::now();
        for (stage, name, stop) in self.parts {
            let left = drain.saturating_sub(started.elapsed());
            let (told, waited) = times(stage, drain, left);
            tracing::debug!(?stage, part = name, "stopping");
            if timeout(waited, stop(told)).await.is_err() {
                tracing::warn!(?stage, part = name, "did not stop in time");
            }
        }
    }
}

/// What a part is told that it may take, and how long it is waited for, with `left` of the time to drain. The first is
/// shorter: its own limit should end a part, with its own message.
fn times(stage: Stage, drain: Duration, left: Duration) -> (Duration, Duration) {
    match stage {
        Stage::Drain => (left.saturating_sub(KEPT.min(drain / 4)), left),
        Stage::Database => (DATABASE_WITHIN.saturating_sub(LEAST), DATABASE_WITHIN),
        Stage::Accepting | Stage::Streams | Stage::Server | Stage::Queues | Stage::Tree => {
            let waited = left.clamp(LEAST, STOP_WITHIN);
            (waited / 2, waited)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn parts_stop_stage_by_stage_and_in_reverse_within_one() {
        let stopped = Rc::new(RefCell::new(Vec::new()));
        let mut shutdown = Shutdown::default();
        for (stage, name) in [
            (Stage::Database, "database"),
            (Stage::Tree, "tree"),
            (Stage::Server, "metrics"),
            (Stage::Server, "api"),
            (Stage::Drain, "sessions"),
            (Stage::Accepting, "door"),
        ] {
            let stopped = Rc::clone(&stopped);
            shutdown.at(stage, name, move |within| async move { stopped.borrow_mut().push((name, within)) });
        }
        shutdown.run(Duration::from_secs(9)).await;
        let names: Vec<_> = stopped.borrow().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["door", "sessions", "api", "metrics", "tree", "database"]);
        assert_eq!(stopped.borrow()[1].1 + KEPT, Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn parts_that_hang_hold_up_the_others_only_for_their_time() {
        for hanging in [Stage::Drain, Stage::Streams, Stage::Server, Stage::Tree] {
            let stopped = Rc::new(RefCell::new(false));
            let mut shutdown = Shutdown::default();
            let seen = Rc::clone(&stopped);
            shutdown.at(hanging, "hanging", |_| std::future::pending());
            shutdown.at(Stage::Database, "database", move |_| async move { *seen.borrow_mut() = true });
            let started = Instant::now();
            shutdown.run(Duration::from_secs(2)).await;
            assert!(*stopped.borrow());
            assert_eq!(started.elapsed(), Duration::from_secs(2), "{hanging:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_takes_the_time_to_drain_and_that_of_the_database_whatever_hangs() {
        for drain in [0, 200, 20_000].map(Duration::from_millis) {
            let mut shutdown = Shutdown::default();
            for stage in [Stage::Drain, Stage::Streams, Stage::Server, Stage::Tree, Stage::Database] {
                shutdown.at(stage, "hanging", |_| std::future::pending());
            }
            let started = Instant::now();
            shutdown.run(drain).await;
            assert!(started.elapsed() <= drain + 3 * LEAST + DATABASE_WITHIN, "{:?}", started.elapsed());
        }
    }
}
