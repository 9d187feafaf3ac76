//! How much memory each further file takes. What many take beyond a few is looked at, so that it does not count what is there once.

use futures_util::future::join_all;
use somaagent_test_services::clamd::Clamd;

use super::ways::{CHUNK, Sending, Way, arrived};
use super::{memory_kib, noise};
use crate::stack::{Setup, Stack};

/// As many files are under way at first; more than the database has connections and clamd has scanners.
const FEW: usize = 12;
/// What a file may take.
const EACH_KIB: usize = 2 << 10;

/// A system that takes all that this machine sends, however slowly it gets on.
fn patient() -> Setup {
    Setup::default()
        .set("GATEWAY_MAX_BODIES_EACH", 0)
        .set("SA01_DATABASE__ACQUIRE_TIMEOUT_MS", 120_000)
        .set("SA01_DATABASE__STATEMENT_TIMEOUT_MS", 120_000)
}

/// The same with a clamd that looks through everything.
fn scanning() -> Setup {
    let (host, port) = Clamd::shared().unwrap().place();
    let setup = patient().set("CLAMAV_ENABLED", true).set("CLAMAV_HOST", host).set("CLAMAV_PORT", port);
    setup.set("SA01_ANTIVIRUS__CONNECT_TIMEOUT_MS", 15_000).set("SA01_ANTIVIRUS__OPEN_TIMEOUT_MS", 120_000)
}

/// A file twice as large as what each may take, and a part of a row.
fn file() -> Vec<u8> {
    noise(16 * CHUNK + CHUNK / 2, 5)
}

/// What each of `count` takes by which there are more, if there is so much at first and so much then.
fn each(count: usize, (first, then): (u64, u64)) -> usize {
    usize::try_from(then.saturating_sub(first)).unwrap() / count
}

/// What each takes of whose bytes no more come.
async fn held(stack: &Stack, way: Way) -> usize {
    let (pool, file) = (stack.database.pool().await.unwrap(), file());
    let begin = async || {
        // A little more of each is to come.
        let mut sending = way.begin(stack, file.len() + 1).await;
        sending.send(&file).await;
        sending
    };
    // What the few leave is there for those who come next.
    join_all((0..FEW).map(|_| way.send(stack, &file))).await;
    let (mut all, mut seen): (Vec<Sending>, _) = (Vec::new(), Vec::new());
    for count in [FEW, 3 * FEW] {
        all.extend(join_all((all.len()..count).map(|_| begin())).await);
        arrived(&pool, count * (file.len() / CHUNK) * CHUNK).await;
        seen.push(memory_kib(stack.app.id(), "VmRSS"));
    }
    each(2 * FEW, (seen[0], seen[1]))
}

/// What each takes at most from its beginning to its end.
async fn most(stack: &Stack, way: Way) -> usize {
    let (file, mut seen) = (file(), Vec::new());
    // The second time the few find what the first ones left.
    for count in [FEW, FEW, 4 * FEW] {
        join_all((0..count).map(|_| way.send(stack, &file))).await;
        seen.push(memory_kib(stack.app.id(), "VmHWM"));
    }
    let sql = "SELECT count(*) FROM attachments WHERE status = 'clean'";
    let clean: i64 = sqlx::query_scalar(sql).fetch_one(&stack.database.pool().await.unwrap()).await.unwrap();
    assert_eq!(usize::try_from(clean).unwrap(), 6 * FEW, "whoever looks through them did so");
    each(3 * FEW, (seen[1], seen[2]))
}

/// Sees what each takes.
async fn see(setup: fn() -> Setup, way: Way) {
    let held = held(&setup().start().await, way).await;
    let most = most(&setup().start().await, way).await;
    eprintln!("{way:?}: {held} KiB each while no bytes come, {most} KiB each at most");
    assert!(held <= EACH_KIB, "{way:?}: {held} KiB each while no bytes come");
    assert!(most <= EACH_KIB, "{way:?}: {most} KiB each at most");
}

#[tokio::test]
async fn memory_does_not_grow_with_the_files() {
    see(patient, Way::Form).await;
}

#[tokio::test]
async fn memory_does_not_grow_with_the_uploads() {
    see(patient, Way::Tus).await;
}

#[tokio::test]
async fn memory_does_not_grow_with_files_that_are_looked_through() {
    see(scanning, Way::Form).await;
}

#[tokio::test]
async fn memory_does_not_grow_with_uploads_that_are_looked_through() {
    see(scanning, Way::Tus).await;
}
