#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use futures_util::stream;

use super::*;
use crate::extraction::TextKind;

const JOB: Job = Job::Text { kind: TextKind::Plain, max_chars: 1_000, max_pages: 1 };

/// A process of the shell that does as `script` says, in place of ours.
fn shell(script: &str) -> Program {
    Program { path: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] }
}

fn pieces(pieces: Vec<io::Result<Bytes>>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::iter(pieces)
}

async fn run(script: &str, content: impl Stream<Item = io::Result<Bytes>>) -> Result<Done, ExtractError> {
    let settings = ExtractionSettings { max_bytes: 100, ..ExtractionSettings::default() };
    Box::pin(shell(script).run(&JOB, content, &settings)).await
}

#[tokio::test]
async fn whatever_a_process_does_instead_of_answering_is_an_error() {
    for (script, code) in [
        ("cat > /dev/null", "garbled"),
        ("cat > /dev/null; echo rubbish", "garbled"),
        ("yes", "garbled"),
        ("exec <&-; exit 3", "crashed"),
        ("kill -SEGV $$", "crashed"),
        ("kill -TERM $$", "start"),
        ("kill -XCPU $$", "out-of-time"),
        ("echo memory allocation of 7 bytes failed >&2; kill -ABRT $$", "out-of-memory"),
        ("yes >&2; kill -ABRT $$", "crashed"),
    ] {
        let error = run(script, pieces(vec![Ok(Bytes::from_static(b"content"))])).await.unwrap_err();
        assert_eq!(error.code(), code, "{script}: {error}");
    }
}

#[tokio::test]
async fn a_process_that_does_not_end_is_ended() {
    let settings = ExtractionSettings { timeout_ms: 1, ..ExtractionSettings::default() };
    let error = Box::pin(shell("sleep 1000").run(&JOB, stream::pending(), &settings)).await.unwrap_err();
    assert_eq!(error.code(), "timed-out");
}

#[tokio::test]
async fn content_that_fails_or_is_too_long_ends_the_process() {
    let gone = || Err(io::Error::other("gone"));
    let error = run("sleep 1000", pieces(vec![Ok(Bytes::from_static(b"x")), gone()])).await.unwrap_err();
    assert_eq!(error.code(), "content");
    let error = run("sleep 1000", pieces(vec![Ok(Bytes::from(vec![0; 101]))])).await.unwrap_err();
    assert_eq!(error.code(), "too-large");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error() {
    let program = Program { path: "/nowhere/at/all".into(), arguments: Vec::new() };
    let settings = ExtractionSettings::default();
    let run = program.run(&JOB, pieces(Vec::new()), &settings);
    assert_eq!(Box::pin(run).await.unwrap_err().code(), "start");
}

#[tokio::test]
async fn a_process_inherits_nothing_of_the_environment() {
    let program = Program { path: "/usr/bin/env".into(), arguments: Vec::new() };
    let output = program.start().unwrap().wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "MIMALLOC_ARENA_RESERVE=0\n");
}
