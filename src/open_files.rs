//! How many connections the limit of open files has room for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files for what is no connection of a client: the database, the log, the memory service. Turns that run take some of them
/// too, one a turn and two with the responder inside the process, and are not counted.
const KEPT: u64 = 256;

/// Raises the limit as far as the system lets this process, and answers how many connections of clients it leaves room for.
/// `None` where nothing limits them.
#[must_use]
pub fn room() -> Option<usize> {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let files = match raised {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays as it is");
            limit.current
        }
    };
    files.map(room_of)
}

/// Of a small limit half is kept.
fn room_of(files: u64) -> usize {
    usize::try_from(files - KEPT.min(files / 2)).unwrap_or(usize::MAX)
}

/// How many connections each of `workers` may have where each `wanted` so many, and there is `room` for all of them together.
#[must_use]
pub fn connections_a_worker(wanted: usize, workers: usize, room: Option<usize>) -> usize {
    let most = room.map_or(wanted, |room| (room / workers.max(1)).max(1));
    if most < wanted {
        tracing::warn!(wanted, most, "the limit of open files (ulimit -n) leaves room for fewer connections a worker");
    }
    most.min(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_kept_for_what_is_no_client() {
        for (files, room) in [(1_048_576, 1_048_320), (1024, 768), (256, 128), (1, 1)] {
            assert_eq!(room_of(files), room, "{files}");
        }
        for (wanted, workers, room, most) in
            [(25_000, 2, None, 25_000), (25_000, 2, Some(768), 384), (100, 2, Some(768), 100), (100, 4, Some(2), 1)]
        {
            assert_eq!(connections_a_worker(wanted, workers, room), most);
        }
    }

    #[test]
    fn the_limit_is_as_high_as_the_system_lets_it_be() {
        let found = room();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(found, limit.maximum.map(room_of));
    }
}
