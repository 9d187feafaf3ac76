//! The start: its deadlines, and where its data goes.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use somaagent_test_services::client::{Client, Post};
use somaagent_test_services::model::Gate;
use somaagent_test_services::postgres::{Database, Postgres};
use somaagent_test_services::process::{Binary, Ended};
use somaagent_test_services::proxy::{Direction, Proxy};

use crate::stack::{binary, ended_turns, new_session};

/// The exit code of a start that failed.
const FAILED: i32 = 1;
/// The exit code of a configuration that cannot work here.
const CONFIG: i32 = 78;
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

/// A binary to which nobody says where its data goes.
fn homely() -> Binary {
    binary().without("SA01_DATA_DIR")
}

/// The folder that a check of the configuration names.
async fn folder_of(binary: &Binary) -> PathBuf {
    let checked = binary.clone().argument("--check-config").run().await.unwrap();
    assert_eq!(checked.code, Some(0), "{}", checked.output);
    let folder = checked.output.lines().find_map(|line| line.strip_prefix("# data folder: "));
    PathBuf::from(folder.unwrap_or_else(|| panic!("no folder is named: {}", checked.output)))
}

/// Starts, stores a message, ends, and finds it again with `SA01_DATA_DIR` set to `folder`.
async fn keeps_its_data_in(binary: &Binary, folder: &Path) {
    assert!(!folder.exists(), "{} was there before", folder.display());
    let session = new_session();
    for dir in [None, Some(folder)] {
        let binary =
            dir.map_or_else(|| binary.clone(), |dir| binary.clone().set("SA01_DATA_DIR", &dir.to_string_lossy()));
        let mut app = binary.start().await.unwrap();
        let client = Client::new(app.url()).unwrap();
        if dir.is_none() {
            client.message(&Post::new("here").to(&session)).await.unwrap();
        }
        assert_eq!(ended_turns(&client, &session, 1).await[0].said(), "here");
        assert_eq!(app.terminate().await.unwrap(), Some(0));
    }
}

#[tokio::test]
async fn without_a_setting_data_is_kept_below_the_home_folder() {
    let binary = homely();
    let folder = binary.home().join(".local/share/somaagent");
    assert_eq!(folder_of(&binary).await, folder);
    keeps_its_data_in(&binary, &folder).await;
}

#[tokio::test]
async fn the_platforms_folder_for_data_decides_over_the_home_folder() {
    let elsewhere = tempfile::tempdir().unwrap();
    let binary = homely().set("XDG_DATA_HOME", &elsewhere.path().to_string_lossy());
    let folder = elsewhere.path().join("somaagent");
    assert_eq!(folder_of(&binary).await, folder);
    keeps_its_data_in(&binary, &folder).await;
    assert!(!binary.home().join(".local").exists(), "the home folder was used too");
    // A relative path is no folder for data, by the platform's own rule.
    let relative = homely().set("XDG_DATA_HOME", "somewhere");
    assert_eq!(folder_of(&relative).await, relative.home().join(".local/share/somaagent"));
}

#[tokio::test]
async fn without_the_variable_of_the_home_folder_the_accounts_is_taken() {
    let folder = folder_of(&homely().without("HOME")).await;
    assert!(folder.is_absolute() && folder.ends_with(".local/share/somaagent"), "{}", folder.display());
}

#[tokio::test]
async fn without_any_home_folder_the_start_is_refused_and_says_what_to_set() {
    // A user whom the system does not know; only root can become one.
    let stranger = 3_999_999_999;
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tried: only root can start a process for a user without an account");
        return;
    }
    // Where the binary lies, a stranger may not enter.
    let open = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
    let copy = open.path().join("somaagent");
    std::fs::copy(env!("CARGO_BIN_EXE_somaagent"), &copy).unwrap();
    let binary = Binary::new(&copy).unwrap().without("SA01_DATA_DIR").without("HOME").user(stranger);
    for binary in [binary.clone(), binary.clone().argument("--check-config")] {
        let ended = binary.run().await.unwrap();
        assert_eq!(ended.code, Some(CONFIG), "{}", ended.output);
        assert!(ended.output.contains("SA01_DATA_DIR") && ended.output.contains("home folder"), "{}", ended.output);
    }
    // Who keeps nothing here needs no folder.
    let outside = binary.set("SA01_DB_DSN", "postgres://127.0.0.1/d").argument("--check-config");
    let checked = outside.run().await.unwrap();
    assert_eq!(checked.code, Some(0), "{}", checked.output);
    assert!(!checked.output.contains("# data folder"), "{}", checked.output);
}
