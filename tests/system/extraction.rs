//! The hidden command that reads one file of a stranger.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// What the command answers to `input`, with settings and secrets around it that would stop any other start.
async fn answered(input: &[u8]) -> (Option<i32>, Vec<u8>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_somaagent"))
        .args(["extract", "--memory-mib", "256", "--cpu-seconds", "60"])
        .env_clear()
        .env("SA01_CONFIG", "/nowhere/at/all")
        .env("MIMALLOC_ARENA_RESERVE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may have ended before it has read everything.
    drop(stdin.write_all(input).await);
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (output.status.code(), output.stdout)
}

fn framed(job: &str, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(job.len()).unwrap().to_le_bytes();
    [&length, job.as_bytes(), content].concat()
}

#[tokio::test]
async fn a_file_on_the_input_is_text_on_the_output() {
    let job = r#"{"Text":{"kind":"Html","max_chars":4,"max_pages":1}}"#;
    let (code, answer) = answered(&framed(job, b"<script>no</script><p>text and more")).await;
    let head = r#"{"Text":{"missing_chars":9,"pages":null,"charset":"UTF-8"}}"#;
    assert_eq!((code, answer), (Some(0), framed(head, b"text")));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_refused_on_the_output() {
    let (code, answer) =
        answered(&framed(r#"{"Picture":{"purpose":"Thumbnail","max_pixels":100}}"#, b"no image")).await;
    let head = r#"{"Refused":{"Unsupported":"an image that is no PNG, JPEG, GIF or WebP"}}"#;
    assert_eq!((code, answer), (Some(0), framed(head, b"")));
}

#[tokio::test]
async fn without_a_job_nothing_is_answered() {
    for input in [&b""[..], b"\xff\xff\xff\xff", b"\x02\0\0\0{}", b"\x09\0\0\0{}"] {
        assert_eq!(answered(input).await, (Some(1), Vec::new()), "{input:?}");
    }
}

#[tokio::test]
async fn nobody_is_offered_the_command() {
    let help = crate::stack::binary().argument("--help").run().await.unwrap();
    assert!(help.output.contains("doctor") && !help.output.contains("extract"), "{}", help.output);
}
