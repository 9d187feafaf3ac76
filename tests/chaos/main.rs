//! Nothing acknowledged is ever lost, whatever dies or stalls on the way: the roles as processes on a real PostgreSQL and a
//! real broker, a scriptable SomaBrain and a scriptable model, proxies between them, and random schedules of faults while
//! people post and read. When all is well again a checker that knows the system from outside only decides four promises:
//!
//! - P1: every acknowledged message is in the history, once.
//! - P2: each acknowledged memory ends as exactly one row of the replica or one dead letter, and the memory service has it,
//!   with one effect a key. A memory that was written anew or taken back ends as it was acknowledged last.
//! - P3: the numbers of a session have no gap, and the log has its events in their order.
//! - P4: the stored answer is what the attempt that ended the turn streamed.
//!
//! | file | holds |
//! | --- | --- |
//! | `schedule` | what goes wrong and when, from a seed |
//! | `stage` | servers, doubles, proxies and processes of a run |
//! | `play` | a schedule played on a stage |
//! | `load` | those who post |
//! | `notes` | those who bring memories, write them anew and take them back |
//! | `readers` | those who read along |
//! | `gather` | waits for the queues to be empty and collects the evidence |
//! | `evidence` | what a run left behind |
//! | `checker` | the promises, decided from the evidence alone |
//! | `runs` | many runs, some side by side; what failed is made shorter |
//!
//! `SA01_TEST_SCHEDULES` is how many schedules are played (40), `SA01_TEST_SEED` the seed of the first; with a seed and no
//! count there is one. `SA01_TEST_PREFIX` plays only the beginning of each. `SA01_TEST_LANES` is how many run side by side.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::large_futures,
    clippy::too_many_lines,
    reason = "a test fails by panicking, keeps real time and tells its story in one piece"
)]

mod checker;
mod evidence;
mod gather;
mod load;
mod notes;
mod play;
mod readers;
mod runs;
mod schedule;
mod stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_dies_or_stalls_the_four_promises_are_kept() {
    runs::all().await;
}
