//! Proof that no secret leaves this room but in the header it belongs to.
#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use prometheus::{Encoder, Registry, TextEncoder};
use serde_json::json;
use somaagent_supervision::{Port, Restart, Strategy, SupervisorSpec, Tree};
use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};

use super::{
    BrainClient, BrainDeps, BrainError, BrainMetrics, BrainSettings, CheckHealth, Consult, MemoryWrite, Remember,
    context::Evaluate, testing::asker,
};
use crate::domain::memory::MemorySpace;
use crate::loopback::{Play, Server};

const SOON: Duration = Duration::from_mins(1);
const CANARIES: [&str; 3] = ["sk-canary-key", "canary-token", "canary-cookie"];

/// Everything that is logged on this thread, spans and all levels included.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn assert_clean(place: &str, text: &str) {
    for canary in CANARIES {
        assert!(!text.contains(canary), "{canary} is in {place}:\n{text}");
    }
}

/// Answers with secrets wherever a server can put one: its own in headers, ours in the body, in every status.
async fn indiscreet() -> Server {
    Server::start(|request| {
        let headers = "set-cookie: session=canary-cookie\r\nwww-authenticate: Bearer canary-token\r\n\
                       content-type: application/json\r\n";
        let said = json!({"detail": "Authorization: Bearer sk-canary-key", "weights": "sk-canary-key"});
        let status = match request {
            request if request.contains("refused") => 401,
            request if request.contains("ill") => 500,
            request if request.contains("hurried") => 429,
            request if request.starts_with("GET /health") => 503,
            _ => 200,
        };
        if request.contains("cut") {
            return Play::Cut(format!("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n{headers}\r\n{said}").into_bytes());
        }
        Play::raw(status, headers, &said.to_string())
    })
    .await
}

async fn remember(port: &Port<Remember>, key: &str) -> Result<super::Remembered, BrainError> {
    let memory = MemoryWrite::new(key, json!({"content": "tea"}));
    let space = MemorySpace { universe: None, namespace: "wm".into() };
    port.call(|reply| Remember { asker: asker(SOON), space, memory, reply }, SOON).await.unwrap()
}

#[test]
fn no_key_token_or_cookie_is_in_a_log_an_error_a_span_or_a_metric() {
    let log = Log::default();
    let listener = || {
        let all = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_span_events(FmtSpan::FULL);
        tracing::Dispatch::new(all.with_writer(log.clone()).finish())
    };
    // With a single listener, whether anybody listens to a place is decided by the thread that comes by first, and that
    // may be another test's. With two it is asked of both.
    let (first, _second) = (listener(), listener());
    let _guard = tracing::dispatcher::set_default(&first);
    actix_rt::System::new().block_on(async {
        let server = indiscreet().await;
        let settings = BrainSettings {
            base_url: server.url.clone(),
            api_key: Some(CANARIES[0].into()),
            retry_base_ms: 1,
            breaker_failures: 100,
            ..BrainSettings::default()
        };
        let registry = Registry::new();
        let tree = Tree::new(&registry).unwrap();
        let root = tree.root(SupervisorSpec::new("somabrain", Strategy::OneForOne));
        let deps = BrainDeps::new(&settings, BrainMetrics::new(&registry).unwrap()).unwrap();
        assert_clean("settings and dependencies", &format!("{settings:?} {deps:?}"));
        let seat = root.seat::<BrainClient>(Restart::Permanent);
        let (writes, checks) = (seat.port::<Remember>("remember", 4), seat.port::<CheckHealth>("health", 1));
        let questions = seat.port::<Consult<Evaluate>>("evaluate", 1);
        seat.start(move || BrainClient::new(deps)).await.unwrap();

        remember(&writes, "taken").await.unwrap();
        for key in ["refused", "hurried", "ill", "cut"] {
            let error = remember(&writes, key).await.unwrap_err();
            assert_clean(key, &format!("{error} {error:?}"));
        }
        let question = Evaluate { session_id: "s".into(), query: "unreadable".into(), top_k: 1 };
        let make = |reply| Consult { question, asker: asker(SOON), reply };
        let error = questions.call(make, SOON).await.unwrap().unwrap_err();
        assert!(matches!(error, BrainError::Broken { .. }), "{error:?}");
        assert_clean("an unreadable answer", &format!("{error} {error:?}"));
        let report = checks.call(|reply| CheckHealth { reply }, SOON).await.unwrap();
        assert_clean("the health", &format!("{report:?}"));
        assert!(report.detail.contains("[redacted]"), "{report:?}");

        for request in server.seen() {
            assert!(!request.contains("canary-cookie") && !request.contains("canary-token"), "sent on: {request}");
            let lines: Vec<_> = request.lines().filter(|line| line.contains(CANARIES[0])).collect();
            assert_eq!(lines, ["authorization: Bearer sk-canary-key"], "the key is in its header alone");
        }
        let mut metrics = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut metrics).unwrap();
        assert_clean("metrics", &String::from_utf8(metrics).unwrap());
        root.stop(SOON).await;
    });
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("SomaBrain was asked") && logged.contains("TRACE"), "nothing was seen:\n{logged}");
    assert_clean("the log", &logged);
}
