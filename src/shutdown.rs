//! The end of the process, in order: accept nothing more, let turns finish, close the streams, stop the server, stop the
//! tree, and close the database last.
//!
//! Whoever starts something says here how it is stopped. Within a stage what was started last is stopped first. A part
//! that takes too long is left behind: the process ends with it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// How long a part may take in every stage but [`Stage::Drain`], whose time is a setting.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// How much longer a part is waited for than the time it was told: its own limit should end it, with its own message.
const GRACE: Duration = Duration::from_millis(500);

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

    /// Stops everything. `drain` is the time for [`Stage::Drain`].
    pub async fn run(mut self, drain: Duration) {
        self.parts.reverse();
        // Stable: what was registered last stays first within its stage.
        self.parts.sort_by_key(|(stage, ..)| *stage);
        for (stage, name, stop) in self.parts {
            let within = if stage == Stage::Drain { drain } else { STOP_WITHIN };
            tracing::debug!(?stage, part = name, "stopping");
            if tokio::time::timeout(within + GRACE, stop(within)).await.is_err() {
                tracing::warn!(?stage, part = name, "did not stop in time");
            }
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
        assert_eq!(stopped.borrow()[1].1, Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_hangs_holds_up_the_others_only_for_its_time() {
        let stopped = Rc::new(RefCell::new(false));
        let mut shutdown = Shutdown::default();
        let seen = Rc::clone(&stopped);
        shutdown.at(Stage::Drain, "hanging", |_| std::future::pending());
        shutdown.at(Stage::Database, "database", move |_| async move { *seen.borrow_mut() = true });
        let started = tokio::time::Instant::now();
        shutdown.run(Duration::from_secs(2)).await;
        assert!(*stopped.borrow());
        assert_eq!(started.elapsed(), Duration::from_secs(2) + GRACE);
    }
}
