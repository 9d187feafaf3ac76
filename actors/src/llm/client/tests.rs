//! The client against real sockets: every fault an endpoint can show, and what the caller gets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a failed expectation ends the test, its scripted peer is a free task, and time against sockets is real"
)]

use std::pin::pin;
use std::time::Instant;

use futures_util::StreamExt as _;
use prometheus::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::*;
use crate::domain::context::Role;
use crate::llm::{FinishReason, Usage};

const KEY: &str = "sk-very-hidden";
const DONE: &str = "data: [DONE]\n\n";
const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
const CHUNKED_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// How long anything may take before its test fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the endpoint does after it has read a request.
#[derive(Clone)]
enum Act {
    Send(Vec<u8>),
    Wait(u64),
    /// Read the next request of the same connection.
    NextRequest,
    /// Send this again and again until the client closes.
    Forever(String),
    /// Keep the connection open until the client closes it.
    Hang,
}

fn send(text: impl Into<String>) -> Act {
    Act::Send(text.into().into_bytes())
}

/// An endpoint that follows one script per connection and tells what it was sent and when its peer left.
struct Endpoint {
    base_url: String,
    requests: mpsc::UnboundedReceiver<String>,
    left: mpsc::UnboundedReceiver<Instant>,
}

impl Endpoint {
    async fn start(scripts: Vec<Vec<Act>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let (request_in, requests) = mpsc::unbounded_channel();
        let (left_in, left) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for script in scripts {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(follow(socket, script, request_in.clone(), left_in.clone()));
            }
        });
        Self { base_url, requests, left }
    }

    fn settings(&self) -> ModelSettings {
        ModelSettings {
            base_url: self.base_url.clone(),
            api_key: Some(KEY.into()),
            model: "m".into(),
            // Generous, because a loaded machine must not turn into a fault; tests of silence shorten them.
            connect_timeout_ms: 30_000,
            first_byte_timeout_ms: 30_000,
            idle_timeout_ms: 30_000,
            total_deadline_ms: 60_000,
            retry_first_wait_ms: 20,
            retry_max_wait_ms: 40,
            max_retry_after_ms: 2_000,
            ..ModelSettings::default()
        }
    }

    /// Settings under which silence is noticed soon.
    fn impatient(&self) -> ModelSettings {
        ModelSettings { first_byte_timeout_ms: 1_000, idle_timeout_ms: 1_000, ..self.settings() }
    }

    async fn ask(&self) -> Outcome {
        ask(self.settings()).await
    }

    /// How many requests came so far.
    fn count(&mut self) -> usize {
        std::iter::from_fn(|| self.requests.try_recv().ok()).count()
    }
}

async fn follow(
    mut socket: TcpStream,
    script: Vec<Act>,
    requests: mpsc::UnboundedSender<String>,
    left: mpsc::UnboundedSender<Instant>,
) {
    socket.set_nodelay(true).unwrap();
    let _ = requests.send(read_request(&mut socket).await);
    for act in script {
        match act {
            Act::Send(bytes) => {
                let _ = socket.write_all(&bytes).await;
            }
            Act::Wait(ms) => sleep(Duration::from_millis(ms)).await,
            Act::NextRequest => {
                let _ = requests.send(read_request(&mut socket).await);
            }
            Act::Forever(text) => while socket.write_all(text.as_bytes()).await.is_ok() {},
            Act::Hang => while socket.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {},
        }
    }
    let _ = left.send(Instant::now());
}

async fn read_request(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut portion = [0; 4096];
        let read = socket.read(&mut portion).await.unwrap();
        bytes.extend_from_slice(&portion[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0_usize) {
                return text;
            }
        }
        assert!(read > 0, "the request ended early");
    }
}

/// What came out of a stream.
#[derive(Debug)]
struct Outcome {
    pieces: Vec<Piece>,
    error: Option<ModelError>,
}

impl Outcome {
    fn text(&self) -> String {
        let texts = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// The error's code, or how the answer ended.
    fn end(&self) -> &'static str {
        match (&self.error, self.pieces.last()) {
            (Some(error), _) => error.code(),
            (None, Some(Piece::Finished(FinishReason::Stop))) => "stop",
            (None, Some(Piece::Finished(FinishReason::Length))) => "length",
            other => panic!("no end: {other:?}"),
        }
    }
}

fn question() -> ChatRequest {
    ChatRequest::new(vec![ChatMessage::new(Role::User, "hello")])
}

async fn ask(settings: ModelSettings) -> Outcome {
    collect(&ModelClient::new(settings).unwrap()).await
}

async fn collect(client: &ModelClient) -> Outcome {
    let mut stream = pin!(client.stream(question()));
    let mut outcome = Outcome { pieces: Vec::new(), error: None };
    while let Some(item) = timeout(PATIENCE, stream.next()).await.expect("the stream hangs") {
        assert!(outcome.error.is_none(), "an error is the last item");
        match item {
            Ok(piece) => outcome.pieces.push(piece),
            Err(error) => outcome.error = Some(error),
        }
    }
    outcome
}

fn text(content: &str) -> String {
    let chunk = json!({"choices": [{"index": 0, "delta": {"content": content}}]});
    format!("data: {chunk}\n\n")
}

fn finish() -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
}

fn usage() -> String {
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}});
    format!("data: {usage}\n\n")
}

fn good_answer() -> Vec<Act> {
    vec![send(format!("{STREAM_HEAD}{}{}{}{}{DONE}", text("Good "), text("day"), finish(), usage()))]
}

fn status(line: &str, headers: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    vec![send(format!("HTTP/1.1 {line}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"))]
}

#[tokio::test]
async fn an_answer_arrives_whole_with_usage_and_the_request_is_as_the_protocol_says() {
    let mut endpoint = Endpoint::start(vec![good_answer()]).await;
    let outcome = endpoint.ask().await;
    let expected = [
        Piece::Text("Good ".into()),
        Piece::Text("day".into()),
        Piece::Usage(Usage { input_tokens: 9, output_tokens: 2, estimated: false }),
        Piece::Finished(FinishReason::Stop),
    ];
    assert_eq!(outcome.pieces, expected);
    assert_eq!(outcome.error, None);

    let request = endpoint.requests.recv().await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("authorization: Bearer {KEY}")), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    let expected = json!({
        "model": "m", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "hello"}],
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn extra_members_and_the_callers_choices_reach_the_endpoint() {
    let mut endpoint = Endpoint::start(vec![good_answer()]).await;
    let extra = json!({"top_p": 0.5, "stream": false, "messages": []});
    let settings = ModelSettings {
        extra: extra.as_object().unwrap().clone(),
        include_usage: false,
        temperature: Some(0.25),
        ..endpoint.settings()
    };
    let request = ChatRequest { model: Some("other".into()), temperature: Some(0.75), ..question() };
    let client = ModelClient::new(settings).unwrap();
    assert_eq!(pin!(client.stream(request)).count().await, 4);
    let request = endpoint.requests.recv().await.unwrap();
    let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    let expected = json!({
        "model": "other", "stream": true, "temperature": 0.75, "top_p": 0.5,
        "messages": [{"role": "user", "content": "hello"}],
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_refused_connection_is_unreachable_after_its_retries() {
    let endpoint = Endpoint::start(vec![]).await;
    sleep(Duration::from_millis(20)).await; // the listener is dropped by now
    let outcome = endpoint.ask().await;
    assert_eq!(outcome.end(), "model-unreachable");
    assert!(outcome.error.unwrap().to_string().contains("refused"));
}

#[tokio::test]
async fn a_refusal_is_final_and_never_repeats_the_key() {
    for line in ["401 Unauthorized", "403 Forbidden", "400 Bad Request", "302 Found"] {
        let body = json!({"error": {"message": format!("wrong key {KEY}")}}).to_string();
        let script = status(line, "location: http://127.0.0.1:1/\r\n", &body);
        let mut endpoint = Endpoint::start(vec![script; 3]).await;
        let outcome = endpoint.ask().await;
        assert_eq!(outcome.end(), "model-refused", "{line}");
        assert_eq!(endpoint.count(), 1, "{line}");
        let error = outcome.error.unwrap();
        assert!(error.to_string().contains("wrong key [redacted]"), "{error}");
        assert!(!format!("{error:?}").contains(KEY));
    }
}

#[tokio::test]
async fn the_key_is_in_no_debug_text() {
    let endpoint = Endpoint::start(vec![]).await;
    let client = ModelClient::new(endpoint.settings()).unwrap();
    assert!(!format!("{client:?}").contains(KEY));
    let broken = ModelSettings { api_key: Some("sk-\nhidden".into()), ..endpoint.settings() };
    let error = ModelClient::new(broken).unwrap_err();
    assert!(!format!("{error:?} {error}").contains("hidden"));
}

#[tokio::test]
async fn a_conversation_over_the_window_has_its_own_code() {
    let body = r#"{"error":{"code":"context_length_exceeded","message":"too long"}}"#;
    let endpoint = Endpoint::start(vec![status("400 Bad Request", "", body)]).await;
    assert_eq!(endpoint.ask().await.end(), "model-context-too-long");
}

#[tokio::test]
async fn retry_after_is_waited_for_in_both_forms() {
    let date = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sun, 06 Nov 1994 08:49:38 GMT\r\n";
    for headers in ["retry-after: 1\r\n", date] {
        let limited = status("429 Too Many Requests", headers, "{}");
        let mut endpoint = Endpoint::start(vec![limited, good_answer()]).await;
        let started = Instant::now();
        assert_eq!(endpoint.ask().await.text(), "Good day");
        assert!(started.elapsed() >= Duration::from_secs(1), "{headers}");
        assert_eq!(endpoint.count(), 2);
    }
}

#[tokio::test]
async fn a_retry_after_above_the_cap_or_the_deadline_fails_at_once() {
    for (seconds, cap_ms, deadline_ms) in [(3_600, 2_000, 60_000), (60, 120_000, 50_000)] {
        let limited = status("429 Too Many Requests", &format!("retry-after: {seconds}\r\n"), "{}");
        let mut endpoint = Endpoint::start(vec![limited; 3]).await;
        let started = Instant::now();
        let settings =
            ModelSettings { max_retry_after_ms: cap_ms, total_deadline_ms: deadline_ms, ..endpoint.settings() };
        assert_eq!(ask(settings).await.end(), "model-rate-limited");
        assert!(started.elapsed() < Duration::from_secs(40));
        assert_eq!(endpoint.count(), 1);
    }
}

#[tokio::test]
async fn a_server_error_is_retried_and_then_unreachable() {
    let broken = status("500 Internal Server Error", "", "oops");
    let mut endpoint = Endpoint::start(vec![broken.clone(), good_answer()]).await;
    assert_eq!(endpoint.ask().await.text(), "Good day");
    assert_eq!(endpoint.count(), 2);

    let mut endpoint = Endpoint::start(vec![broken; 5]).await;
    assert_eq!(endpoint.ask().await.end(), "model-unreachable");
    assert_eq!(endpoint.count(), 3);
}

#[tokio::test]
async fn silence_is_a_timeout_wherever_it_falls() {
    let scripts = [
        ("before the head", vec![Act::Hang], ""),
        ("before the body", vec![send(STREAM_HEAD), Act::Hang], ""),
        ("inside", vec![send(STREAM_HEAD), send(text("Good")), Act::Hang], "Good"),
    ];
    for (place, script, said) in scripts {
        let mut endpoint = Endpoint::start(vec![script; 3]).await;
        let started = Instant::now();
        let outcome = ask(endpoint.impatient()).await;
        assert_eq!(outcome.end(), "model-timeout", "{place}");
        assert_eq!(outcome.text(), said, "{place}");
        assert!(started.elapsed() < Duration::from_secs(20), "{place}");
        assert_eq!(endpoint.count(), 1, "{place}: timeouts are not retried");
        endpoint.left.recv().await.unwrap();
    }
}

#[tokio::test]
async fn comments_keep_a_stream_alive_only_until_the_total_deadline() {
    let mut script = vec![send(STREAM_HEAD)];
    script.extend([send(": thinking\n\n"), Act::Wait(100)].into_iter().cycle().take(80));
    let endpoint = Endpoint::start(vec![script.clone()]).await;
    let settings = ModelSettings { idle_timeout_ms: 1_500, total_deadline_ms: 2_000, ..endpoint.settings() };
    let started = Instant::now();
    assert_eq!(ask(settings).await.end(), "model-timeout");
    let elapsed = started.elapsed();
    assert!(elapsed > Duration::from_millis(1_900) && elapsed < Duration::from_secs(40), "{elapsed:?}");
}

#[tokio::test]
async fn a_cut_before_the_first_piece_is_retried() {
    let no_head = vec![];
    let no_piece = vec![send(STREAM_HEAD), send(": hello\n\n")];
    let mut endpoint = Endpoint::start(vec![no_head, no_piece, good_answer()]).await;
    assert_eq!(endpoint.ask().await.text(), "Good day");
    assert_eq!(endpoint.count(), 3);
}

#[tokio::test]
async fn a_cut_after_the_first_piece_is_final_and_nothing_is_spliced() {
    let think = "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n";
    for first in [text("Bad"), think.to_owned()] {
        let cut = vec![send(format!("{CHUNKED_HEAD}{:x}\r\n{first}\r\n", first.len())), Act::Wait(30)];
        let mut endpoint = Endpoint::start(vec![cut, good_answer()]).await;
        let outcome = endpoint.ask().await;
        assert_eq!(outcome.end(), "model-broken-stream");
        assert_eq!(outcome.pieces.len(), 1, "{outcome:?}");
        assert_eq!(endpoint.count(), 1);
    }
}

#[tokio::test]
async fn bad_json_ends_the_answer_after_what_was_good() {
    let script = vec![send(format!("{STREAM_HEAD}{}data: {{\"choices\":\n\n", text("Good")))];
    let mut endpoint = Endpoint::start(vec![script, good_answer()]).await;
    let outcome = endpoint.ask().await;
    assert_eq!((outcome.end(), outcome.text().as_str()), ("model-broken-stream", "Good"));
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn an_error_inside_the_stream_has_the_code_of_what_it_says() {
    let error = r#"data: {"error":{"code":429,"message":"slow down"}}"#;
    let script = vec![send(format!("{STREAM_HEAD}{}{error}\n\n", text("Good")))];
    let endpoint = Endpoint::start(vec![script]).await;
    assert_eq!(endpoint.ask().await.end(), "model-rate-limited");
}

#[tokio::test]
async fn a_missing_done_is_fine_after_a_finish_reason_and_broken_without() {
    let whole = vec![send(format!("{STREAM_HEAD}{}{}", text("Good"), finish()))];
    let open = vec![send(format!("{STREAM_HEAD}{}{}", text("Good"), finish())), Act::Hang];
    let first = format!("{}{}", text("Good"), finish());
    let torn = vec![send(format!("{CHUNKED_HEAD}{:x}\r\n{first}\r\n", first.len()))];
    for script in [whole, open, torn] {
        let endpoint = Endpoint::start(vec![script]).await;
        let outcome = ask(endpoint.impatient()).await;
        assert_eq!((outcome.end(), outcome.text().as_str()), ("stop", "Good"));
    }
    let endpoint = Endpoint::start(vec![vec![send(format!("{STREAM_HEAD}{}", text("Good")))]]).await;
    assert_eq!(endpoint.ask().await.end(), "model-broken-stream");
}

#[tokio::test]
async fn nul_never_reaches_the_caller() {
    let script = vec![send(format!("{STREAM_HEAD}{}{}{DONE}", text("a\0b"), finish()))];
    let endpoint = Endpoint::start(vec![script]).await;
    assert_eq!(endpoint.ask().await.text(), "a\u{FFFD}b");
}

#[tokio::test]
async fn an_endless_answer_ends_at_its_limit_and_closes_the_socket() {
    let script = vec![send(STREAM_HEAD), Act::Forever(text("and on "))];
    let mut endpoint = Endpoint::start(vec![script]).await;
    let settings = ModelSettings { max_answer_bytes: 10_000, ..endpoint.settings() };
    let outcome = ask(settings).await;
    assert_eq!(outcome.end(), "model-answer-too-long");
    assert_eq!(outcome.text().len(), 10_000);
    timeout(PATIENCE, endpoint.left.recv()).await.unwrap();
}

#[tokio::test]
async fn an_event_without_end_breaks_the_stream() {
    let script = vec![send(STREAM_HEAD), Act::Forever("x".repeat(65_536))];
    let endpoint = Endpoint::start(vec![script; 3]).await;
    assert_eq!(endpoint.ask().await.end(), "model-broken-stream");
}

#[tokio::test]
async fn characters_split_at_every_byte_arrive_whole() {
    let body = format!("{}{}{DONE}", text("grüß 👩‍🚀 日本"), finish());
    // Escapes would hide the split, so the text must be there in UTF-8.
    assert!(body.contains('👩'));
    let mut script = vec![send(CHUNKED_HEAD)];
    for byte in body.bytes() {
        script.push(Act::Send([b"1\r\n".as_slice(), &[byte], b"\r\n"].concat()));
        script.push(Act::Wait(1));
    }
    script.push(send("0\r\n\r\n"));
    let endpoint = Endpoint::start(vec![script]).await;
    assert_eq!(endpoint.ask().await.text(), "grüß 👩‍🚀 日本");
}

#[tokio::test]
async fn crlf_and_comments_change_nothing() {
    let body = format!(": hi\n\n{}: ping\n\nevent: x\n{}{DONE}", text("Good"), finish());
    let script = vec![send(format!("{STREAM_HEAD}{}", body.replace('\n', "\r\n")))];
    let endpoint = Endpoint::start(vec![script]).await;
    let outcome = endpoint.ask().await;
    assert_eq!((outcome.end(), outcome.text().as_str()), ("stop", "Good"));
}

#[tokio::test]
async fn an_endpoint_that_does_not_stream_is_read_too() {
    let body = json!({"choices": [{"message": {"role": "assistant", "content": "Good"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1}});
    let script = status("200 OK", "content-type: application/json\r\n", &body.to_string());
    let endpoint = Endpoint::start(vec![script]).await;
    let outcome = endpoint.ask().await;
    assert_eq!((outcome.end(), outcome.text().as_str()), ("stop", "Good"));
}

#[tokio::test]
async fn dropping_the_stream_closes_the_socket_at_once() {
    let waiting = vec![Act::Hang];
    let talking = vec![send(STREAM_HEAD), send(text("Good")), Act::Hang];
    for (script, pieces) in [(waiting, 0), (talking, 1)] {
        let mut endpoint = Endpoint::start(vec![script]).await;
        let client = ModelClient::new(endpoint.settings()).unwrap();
        let mut stream = Box::pin(client.stream(question()));
        for _ in 0..pieces {
            stream.next().await.unwrap().unwrap();
        }
        // Let it wait for more, as it does when a person presses stop.
        assert!(timeout(Duration::from_millis(50), stream.next()).await.is_err());
        let dropped = Instant::now();
        drop(stream);
        let left = timeout(PATIENCE, endpoint.left.recv()).await.unwrap().unwrap();
        // The stream itself would have given up its server later only.
        assert!(left - dropped < Duration::from_secs(20), "{:?}", left - dropped);
    }
}

#[tokio::test]
async fn an_ended_answers_connection_serves_the_next() {
    let answer = format!("{}{}{DONE}", text("Good"), finish());
    let whole = format!("{CHUNKED_HEAD}{:x}\r\n{answer}\r\n", answer.len());
    let reply = [send(whole), send("0\r\n\r\n")];
    let mut script = reply.to_vec();
    script.push(Act::NextRequest);
    script.extend(reply);
    let endpoint = Endpoint::start(vec![script]).await;
    let client = ModelClient::new(endpoint.settings()).unwrap();
    assert_eq!(collect(&client).await.text(), "Good");
    sleep(Duration::from_millis(20)).await;
    assert_eq!(collect(&client).await.text(), "Good");
}

#[tokio::test]
async fn a_model_that_asks_for_a_tool_is_told_there_is_none_and_answers() {
    let call = json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"name": "search"}}]}, "finish_reason": "tool_calls"}]});
    let asks = vec![send(format!("{STREAM_HEAD}data: {call}\n\n{DONE}"))];
    let mut endpoint = Endpoint::start(vec![asks.clone(), good_answer()]).await;
    assert_eq!(endpoint.ask().await.text(), "Good day");
    endpoint.requests.recv().await.unwrap();
    let second = endpoint.requests.recv().await.unwrap();
    assert!(second.contains("The tool `search` is not available."), "{second}");

    let mut endpoint = Endpoint::start(vec![asks; 3]).await;
    let outcome = endpoint.ask().await;
    assert_eq!((outcome.end(), outcome.text().as_str()), ("stop", "The tool `search` is not available."));
    assert_eq!(endpoint.count(), 2);
}

#[tokio::test]
async fn answers_failures_retries_and_tokens_are_counted() {
    let registry = Registry::new();
    let metrics = LlmMetrics::register(&registry).unwrap();
    assert!(LlmMetrics::register(&registry).is_err());
    let refused = status("401 Unauthorized", "", "{}");
    let endpoint = Endpoint::start(vec![vec![], good_answer(), refused]).await;
    let client = ModelClient::new(endpoint.settings()).unwrap().with_metrics(metrics);
    assert_eq!(collect(&client).await.end(), "stop");
    assert_eq!(collect(&client).await.end(), "model-refused");

    let mut shown = std::collections::BTreeMap::new();
    for family in registry.gather() {
        for metric in family.get_metric() {
            let label = metric.get_label().first().map_or("", |label| label.value());
            let observed = u32::try_from(metric.get_histogram().get_sample_count()).unwrap();
            let value = metric.get_counter().get_value() + f64::from(observed);
            shown.insert(format!("{}/{label}", family.name()), value);
        }
    }
    let failures = ModelError::CODES.map(|code| (format!("llm_failures_total/{code}"), 0.0));
    let mut expected = std::collections::BTreeMap::from(failures);
    let counted = [
        ("llm_answer_seconds/", 1.0),
        ("llm_failures_total/model-refused", 1.0),
        ("llm_first_piece_seconds/", 1.0),
        ("llm_retries_total/", 1.0),
        ("llm_tokens_total/input", 9.0),
        ("llm_tokens_total/output", 2.0),
    ];
    expected.extend(counted.map(|(name, value)| (name.to_owned(), value)));
    assert_eq!(shown, expected);
}
