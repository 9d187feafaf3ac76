//! The start: its deadlines.

use std::time::{Duration, Instant};

use somaagent_test_services::model::Gate;
use somaagent_test_services::postgres::{Database, Postgres};
use somaagent_test_services::process::{Binary, Ended};
use somaagent_test_services::proxy::{Direction, Proxy};

use crate::stack::binary;

/// The exit code of a start that failed.
const FAILED: i32 = 1;
/// What a step of the start gets in these tests.
const STEP: Duration = Duration::from_millis(1500);
/// Longer than the step, its shutdown and a busy machine take, and shorter than every other deadline of the start.
const SOON: Duration = Duration::from_secs(50);

/// A proxy before a new database, and a binary that knows only the proxy.
async fn behind_a_proxy() -> (Database, Proxy, Binary) {
    let postgres = Postgres::shared().unwrap();
    let database = postgres.fresh_database().await.unwrap();
    let proxy = Proxy::postgres(postgres.address().unwrap()).await.unwrap();
    let binary = binary().set("SA01_DB_DSN", &database.dsn_through(proxy.port()));
    (database, proxy, binary)
}

/// Starts a process that must give up by itself, soon after its step's deadline.
async fn given_up(binary: &Binary) -> Ended {
    let begun = Instant::now();
    let ended = binary.run().await.unwrap();
    let took = begun.elapsed();
    assert!(STEP <= took && took < SOON, "given up after {took:?}: {}", ended.output);
    assert_eq!(ended.code, Some(FAILED), "{}", ended.output);
    assert!(!ended.output.contains("panicked"), "{}", ended.output);
    ended
}

/// The step `database` keeps its own deadline, so that it can say what it met: the error is its own, not the step's.
#[tokio::test]
async fn a_database_that_accepts_and_never_answers_ends_the_start_in_time_at_its_step() {
    let (_database, proxy, binary) = behind_a_proxy().await;
    proxy.stall(Direction::Up);
    let ended = given_up(&binary.set("SA01_BOOT__STEP_MS", &STEP.as_millis().to_string())).await;
    assert!(proxy.opened() > 0, "nothing was asked of the database");
    assert!(ended.output.contains("the start failed at the step `database`"), "{}", ended.output);
    assert!(ended.output.contains("did not answer within"), "the cause is not told: {}", ended.output);
}

/// A step that knows nothing of deadlines is cut off by the start itself, and named.
#[tokio::test]
async fn a_step_that_outlasts_its_deadline_ends_the_start_by_name() {
    let (_database, proxy, binary) = behind_a_proxy().await;
    // Reached, and silent from the first migration on.
    let never = Gate::closed();
    let mut silent = proxy.hold_after_commit("_sqlx_migrations", &never);
    let ended = given_up(&binary.set("SA01_BOOT__MIGRATIONS_MS", &STEP.as_millis().to_string())).await;
    silent.wait().await;
    let told = format!("the step `migrations` of the start took longer than {} ms", STEP.as_millis());
    assert!(ended.output.contains(&told), "{}", ended.output);
}
