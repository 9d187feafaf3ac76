//! How many connections the limit of open files has room for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are open whatever is set: listeners, logs, the runtimes, the clients of the log and of the embedded parts.
const ALWAYS: usize = 128;

/// What is open beside the connections of clients.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Turns that may run at a time; with the responder inside the process both ends of their connection are open here.
    pub turns: usize,
    /// Connections to the database.
    pub database: usize,
    /// Calls of the memory service that may be under way.
    pub memory: usize,
    /// Connections to the scanner of uploads.
    pub scanners: usize,
    /// Processes that read files, each behind three pipes.
    pub extractions: usize,
}

impl Needs {
    const fn files(self) -> usize {
        ALWAYS + 2 * (self.turns + self.memory) + self.database + self.scanners + 3 * self.extractions
    }
}

/// Raises the limit as far as the system lets this process, and answers how many connections of clients it leaves room for
/// beside `needs`. `None` where nothing limits them.
#[must_use]
pub fn room(needs: Needs) -> Option<usize> {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    getrlimit(Resource::Nofile).current.map(|files| room_of(files, needs))
}

/// How many connections of clients so many files leave room for beside `needs`. Of a small limit half is kept.
#[must_use]
pub fn room_of(files: u64, needs: Needs) -> usize {
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    files - needs.files().min(files / 2)
}

/// How many connections each of `workers` may have where each `wanted` so many, and there is `room` for all of them together.
#[must_use]
pub fn connections_a_worker(wanted: usize, workers: usize, room: Option<usize>) -> usize {
    let most = room.map_or(wanted, |room| (room / workers.max(1)).max(1));
    if most < wanted {
        tracing::info!(wanted, most, "the limit of open files (ulimit -n) leaves room for fewer connections a worker");
    }
    most.min(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_kept_for_all_turns_that_may_run_and_what_they_call() {
        let needs = Needs { turns: 256, database: 20, memory: 32, scanners: 0, extractions: 0 };
        for (files, room) in [(1_048_576, 1_047_852), (4096, 3372), (1024, 512), (1, 1)] {
            assert_eq!(room_of(files, needs), room, "{files}");
        }
        assert_eq!(room_of(4096, Needs { extractions: 2, ..needs }), 3366, "three pipes each");
        for (wanted, workers, room, most) in
            [(25_000, 2, None, 25_000), (25_000, 2, Some(768), 384), (100, 2, Some(768), 100), (100, 4, Some(2), 1)]
        {
            assert_eq!(connections_a_worker(wanted, workers, room), most);
        }
    }

    #[test]
    fn the_room_is_that_of_the_limit_which_is_never_lowered() {
        let before = getrlimit(Resource::Nofile);
        let needs = Needs { turns: 1, database: 1, memory: 1, scanners: 1, extractions: 1 };
        let found = room(needs);
        let after = getrlimit(Resource::Nofile);
        assert!(after.current.unwrap_or(u64::MAX) >= before.current.unwrap_or(u64::MAX));
        assert_eq!(found, after.current.map(|files| room_of(files, needs)));
        // Some systems have a lower bound of their own.
        #[cfg(target_os = "linux")]
        assert_eq!(after.current, after.maximum);
    }
}
