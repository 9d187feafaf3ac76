//! The description of the API and the running system agree: schemathesis makes requests from `/openapi.json`, good and bad
//! ones, and holds the answers against it. No 5xx, no status, header or body that is not described, nothing taken that is
//! described as wrong and nothing refused that is described as right, nothing without a proof of identity.
//!
//! | file | holds |
//! | --- | --- |
//! | `stage` | the system on a real PostgreSQL, with something in it for every operation |
//! | `summary` | what schemathesis says of a run |
//! | `schemathesis.toml` | which checks are made, and what is left out |
//! | `hooks.py` | refusals that no description could foretell |
//! | `requirements.txt` | schemathesis and all that it needs, each with its version and sum |
//!
//! `SA01_TEST_SCHEMATHESIS` is the program, `SA01_TEST_EXAMPLES` how many requests the fuzzing makes of an operation (8), and
//! `SA01_TEST_SEED` the seed they are made from (1).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::large_futures,
    clippy::too_many_lines,
    reason = "a test fails by panicking, keeps real time and tells its story in one piece"
)]

mod stage;
mod summary;

use stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_answers_an_admin_as_described() {
    let stage = Stage::start().await;
    let summary = stage.run("ada", "admin", 8).await;
    summary.all_is_well(&stage.operations().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_answers_a_member_as_described() {
    let stage = Stage::start().await;
    let summary = stage.run("ann", "chat", 3).await;
    summary.all_is_well(&stage.operations().await);
}
