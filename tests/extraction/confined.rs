//! What the system says of the processes that read.

use std::fs;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt, stream};
use somaagent_actors::extraction::{ExtractionSettings, TextKind};
use somaagent_test_services::wait::eventually;
use tokio::sync::Barrier;

use crate::{content, extractor, patient};

/// Our children, as folders of `/proc`, with the third field of their `stat`.
fn children() -> Vec<(String, String)> {
    let me = std::process::id().to_string();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.path().to_str().map(str::to_owned));
    let child = |process: String| {
        let stat = fs::read_to_string(format!("{process}/stat")).ok()?;
        let (state, rest) = stat.rsplit_once(") ")?.1.split_once(' ')?;
        (rest.split(' ').next()? == me).then(|| (process, state.to_owned()))
    };
    processes.filter_map(child).collect()
}

/// The child that was started with this bound of memory.
fn child_with(memory_mib: u64) -> Option<String> {
    let bound = format!("--memory-mib\0{memory_mib}\0");
    let is =
        |process: &String| fs::read_to_string(format!("{process}/cmdline")).is_ok_and(|line| line.contains(&bound));
    children().into_iter().map(|(process, _)| process).find(is)
}

fn line<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line[name.len().min(line.len())..].split_whitespace().collect()
}

#[tokio::test]
async fn a_process_that_reads_can_open_start_and_keep_nothing() {
    let extractor = extractor(ExtractionSettings { memory_mib: 311, cpu_seconds: 7, ..patient() });
    let mut reading = pin!(extractor.text(TextKind::Plain, stream::pending::<io::Result<Bytes>>()));
    let process = eventually("a confined process", async || {
        assert!(reading.as_mut().now_or_never().is_none());
        let process = child_with(311)?;
        let status = fs::read_to_string(format!("{process}/status")).ok()?;
        (line(&status, "Seccomp:") == ["2"]).then_some(process)
    })
    .await;
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    assert_eq!((line(&status, "NoNewPrivs:"), line(&status, "Threads:")), (vec!["1"], vec!["1"]));
    let limits = fs::read_to_string(format!("{process}/limits")).unwrap();
    for (name, soft) in [
        ("Max open files", "0"),
        ("Max file size", "0"),
        ("Max core file size", "0"),
        ("Max processes", "0"),
        ("Max cpu time", "7"),
    ] {
        assert_eq!(line(&limits, name)[0], soft, "{name}");
    }
    // The program itself counts: it is large, but not as large as what an allocator sets aside.
    let space: u64 = line(&limits, "Max address space")[0].parse().unwrap();
    assert!((311 << 20..1 << 30).contains(&space), "{space}");
    // Of a process that may not be looked at, the environment is the superuser's to read.
    if let Ok(environment) = fs::read_to_string(format!("{process}/environ")) {
        assert_eq!(environment, "MIMALLOC_ARENA_RESERVE=0\0");
    }
}

#[tokio::test]
async fn a_process_ends_with_whoever_asked() {
    let extractor = extractor(ExtractionSettings { memory_mib: 312, ..patient() });
    let mut reading = Box::pin(extractor.text(TextKind::Plain, stream::pending()));
    eventually("a process", async || {
        assert!(reading.as_mut().now_or_never().is_none());
        child_with(312)
    })
    .await;
    drop(reading);
    eventually("its end", async || child_with(312).is_none().then_some(())).await;
    assert_eq!(extractor.text(TextKind::Plain, content("next")).await.unwrap().text, "next");
    // A dead process that nobody asks about has no name any more.
    eventually("no dead process", async || children().iter().all(|(_, state)| state != "Z").then_some(())).await;
}

#[tokio::test]
async fn many_share_the_places_there_are() {
    // One tenant has all but one of them.
    let extractor = extractor(ExtractionSettings { places: 3, ..patient() });
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // Each waits for another that is read at the same time.
    let pair = Arc::new(Barrier::new(2));
    let readings = (0..20).map(|number| {
        let (extractor, now, most, pair) = (extractor.clone(), now.clone(), most.clone(), pair.clone());
        async move {
            let counted = now.clone();
            let content = stream::once(async move {
                most.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                pair.wait().await;
                Ok(Bytes::from(number.to_string()))
            });
            let content = content.chain(stream::once(async move {
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(Bytes::new())
            }));
            extractor.text(TextKind::Plain, content).await.unwrap().text
        }
    });
    let texts = join_all(readings).await;
    assert_eq!(texts, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(most.load(Ordering::SeqCst), 2);
}
