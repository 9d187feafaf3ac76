//! The actor under its supervisor, against a server on a loopback socket.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

use std::sync::atomic::{AtomicU32, Ordering};

use actix::Message;
use prometheus::{Encoder, Registry, TextEncoder};
use serde_json::json;
use somaagent_supervision::{AskError, Port, Restart, Strategy, SupervisorSpec, Tree};

use super::super::{
    messages::{BrainError, MemoryWrite, Recall, Recalled, Remember, RememberBatch, Remembered},
    testing::asker,
};
use super::*;
use crate::domain::memory::MemorySpace;
use crate::loopback::{Play, Server};

const SOON: Duration = Duration::from_mins(1);
const TEA: &str = r#"{"results": [{"content": "tea", "score": 0.9, "layer": "ltm"}], "wm_hits": 0}"#;

/// A planted panic.
#[derive(Message)]
#[rtype(result = "()")]
struct Panic;

impl Handler<Admitted<Panic>> for BrainClient {
    type Result = ();

    fn handle(&mut self, _: Admitted<Panic>, _: &mut Context<Self>) {
        panic!("planted");
    }
}

/// A running client and its ports.
struct Stage {
    tree: Tree,
    registry: Registry,
    recall: Port<Recall>,
    remember: Port<Remember>,
    batch: Port<RememberBatch>,
    check: Port<CheckHealth>,
    panic: Port<Panic>,
    health: HealthReader,
}

impl Stage {
    async fn start(settings: BrainSettings) -> Self {
        let registry = Registry::new();
        let tree = Tree::new(&registry).unwrap();
        let spec = SupervisorSpec::new("somabrain", Strategy::OneForOne).backoff(
            Duration::from_millis(1),
            Duration::from_millis(5),
            SOON,
        );
        let supervisor = tree.root(spec);
        let deps = BrainDeps::new(&settings, BrainMetrics::new(&registry).unwrap()).unwrap();
        let health = deps.health();
        let seat = supervisor.seat::<BrainClient>(Restart::Permanent);
        let (recall, check, panic) = (seat.port("recall", 64), seat.port("health", 8), seat.port("panic", 1));
        let (remember, batch) = (seat.port("remember", 64), seat.port("remember-batch", 8));
        seat.start(move || BrainClient::new(deps)).await.unwrap();
        Self { tree, registry, recall, remember, batch, check, panic, health }
    }

    async fn remember(&self, key: &str, within: Duration) -> Result<Remembered, BrainError> {
        let memory = MemoryWrite::new(key, json!({"content": "tea"}));
        let make = |reply| Remember { asker: asker(within), space: space(), memory, reply };
        self.remember.call(make, SOON).await.unwrap()
    }

    async fn ask(&self, query: &str, within: Duration) -> Result<Result<Recalled, BrainError>, AskError> {
        let make = |reply| Recall {
            query: query.into(),
            asker: asker(within),
            space: space(),
            top_k: 80,
            session_id: Uuid::nil(),
            reply,
        };
        self.recall.call(make, SOON).await
    }

    async fn recall(&self, query: &str) -> Result<Recalled, BrainError> {
        self.ask(query, SOON).await.unwrap()
    }

    /// The client's state name in the tree.
    fn state(&self) -> &'static str {
        self.tree.snapshot().actors.iter().find(|actor| actor.path.ends_with(BrainClient::NAME)).unwrap().state
    }

    /// The metrics as they are scraped.
    fn metrics(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn assert_metric(&self, line: &str) {
        let metrics = self.metrics();
        assert!(metrics.lines().any(|seen| seen == line), "{line} is missing in\n{metrics}");
    }
}

fn space() -> MemorySpace {
    MemorySpace { universe: Some("somabrain_ns:acme".into()), namespace: "wm".into() }
}

fn stage(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(test);
}

fn settings(base_url: &str) -> BrainSettings {
    BrainSettings { base_url: base_url.into(), retry_base_ms: 1, ..BrainSettings::default() }
}

/// Requests for anything but the health.
fn asked(server: &Server) -> Vec<String> {
    server.seen().into_iter().filter(|request| !request.starts_with("GET /health")).collect()
}

/// Answers recalls by `play` and probes with "well".
async fn server(play: impl Fn(&str) -> Play + Send + Sync + 'static) -> Server {
    Server::start(
        move |request| {
            if request.starts_with("GET /health") { Play::json(200, r#"{"ok": true}"#) } else { play(request) }
        },
    )
    .await
}

#[test]
fn a_recall_brings_what_the_server_found() {
    stage(async {
        let server = server(|_| Play::json(200, TEA)).await;
        let stage = Stage::start(BrainSettings { api_key: Some("sk-canary".into()), ..settings(&server.url) }).await;
        let recalled = stage.recall("what do I drink?").await.unwrap();
        assert_eq!(recalled.memories[0].text, "tea");
        assert_eq!(recalled.rest["wm_hits"], 0);
        let request = asked(&server).remove(0);
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains("x-tenant-id: acme") && head.contains(&format!("x-request-id: {}", Uuid::max())),
            "{head}"
        );
        let expected = json!({
            "tenant": "acme", "namespace": "wm", "universe": "somabrain_ns:acme", "query": "what do I drink?",
            "top_k": 50, "session_id": Uuid::nil(),
        });
        assert_eq!(serde_json::from_str::<Value>(body).unwrap(), expected);
        stage.assert_metric(r#"somabrain_requests_total{method="POST",path="/memory/recall",status="200"} 1"#);
        stage.assert_metric(r#"somabrain_requests_total{method="POST",path="/memory/recall",status="error"} 0"#);
        stage.assert_metric(r#"somabrain_request_seconds_count{method="POST",path="/memory/recall",status="200"} 1"#);
        assert!(!stage.metrics().contains("canary"));
    });
}

#[test]
fn a_server_without_the_path_is_asked_the_old_way() {
    stage(async {
        let server = server(|request| {
            if request.starts_with("POST /recall ") {
                Play::json(200, r#"{"wm": [], "memory": [{"task": "tea"}]}"#)
            } else {
                Play::json(404, r#"{"detail": "Not Found"}"#)
            }
        })
        .await;
        let stage = Stage::start(settings(&server.url)).await;
        assert_eq!(stage.recall("tea").await.unwrap().memories[0].text, "tea");
        let (_, body) =
            asked(&server)[1].split_once("\r\n\r\n").map(|(head, body)| (head.to_owned(), body.to_owned())).unwrap();
        let expected = json!({"query": "tea", "top_k": 50, "universe": "somabrain_ns:acme"});
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
    });
}

#[test]
fn a_recall_is_tried_again_once() {
    stage(async {
        let calls = AtomicU32::new(0);
        let server = server(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Play::json(503, "{}"),
            1 => Play::json(200, TEA),
            _ => Play::json(500, r#"{"detail": "boom"}"#),
        })
        .await;
        let stage = Stage::start(settings(&server.url)).await;
        assert!(stage.recall("tea").await.is_ok());
        let error = stage.recall("tea").await.unwrap_err();
        assert_eq!(error.to_string(), "SomaBrain request POST /memory/recall failed: 500 boom");
        assert_eq!(asked(&server).len(), 4);
        stage.assert_metric(r#"somabrain_requests_total{method="POST",path="/memory/recall",status="200"} 1"#);
        stage.assert_metric(r#"somabrain_requests_total{method="POST",path="/memory/recall",status="500"} 1"#);
    });
}

#[test]
fn a_dead_server_is_left_alone_after_three_failures() {
    stage(async {
        let stage = Stage::start(settings("http://127.0.0.1:1")).await;
        assert!(matches!(stage.recall("tea").await, Err(BrainError::Unavailable { retry_after: None, .. })));
        assert_eq!(stage.state(), "closed");
        assert!(matches!(stage.recall("tea").await, Err(BrainError::Unavailable { retry_after: None, .. })));
        let Err(BrainError::Unavailable { retry_after: Some(wait), .. }) = stage.recall("tea").await else {
            panic!("the breaker let a call through");
        };
        assert!(!wait.is_zero() && wait <= Duration::from_secs(15), "{wait:?}");
        assert_eq!(stage.state(), "open");
        stage.assert_metric(r#"somabrain_requests_total{method="POST",path="/memory/recall",status="error"} 2"#);
    });
}

#[test]
fn a_slow_call_holds_up_no_other_and_ends_at_its_deadline() {
    stage(async {
        let server = server(|request| if request.contains("slow") { Play::Hang } else { Play::json(200, TEA) }).await;
        let stage = Stage::start(settings(&server.url)).await;
        let begun = Instant::now();
        let (slow, quick) = tokio::join!(stage.ask("slow", Duration::from_secs(2)), async {
            stage.recall("quick").await.unwrap();
            begun.elapsed()
        });
        assert!(matches!(slow.unwrap(), Err(BrainError::TimedOut { .. })));
        assert!(quick < Duration::from_secs(2), "it waited {quick:?}");
        assert!(begun.elapsed() < Duration::from_secs(20), "no attempt after the deadline");
    });
}

#[test]
fn calls_above_the_bound_wait_inside_their_deadline() {
    stage(async {
        let server = server(|request| if request.contains("slow") { Play::Hang } else { Play::json(200, TEA) }).await;
        let stage = Stage::start(BrainSettings { max_in_flight: 1, ..settings(&server.url) }).await;
        let (slow, impatient, patient) = tokio::join!(
            stage.ask("slow", Duration::from_secs(2)),
            stage.ask("impatient", Duration::from_secs(1)),
            stage.ask("patient", SOON),
        );
        assert!(matches!(slow.unwrap(), Err(BrainError::TimedOut { .. })));
        assert!(matches!(impatient.unwrap(), Err(BrainError::TimedOut { .. })));
        assert!(patient.unwrap().is_ok());
        let sent = asked(&server);
        assert_eq!(sent.len(), 2);
        assert!(!sent.iter().any(|request| request.contains("impatient")), "it was sent after its deadline");
        assert_eq!(stage.recall.depth(), 0);
    });
}

#[test]
fn refusals_and_unreadable_answers_are_told_apart_and_not_retried() {
    stage(async {
        let server = server(|request| match request {
            request if request.contains("refused") => Play::json(422, r#"{"detail": "no such tenant"}"#),
            request if request.contains("no JSON") => Play::raw(200, "content-type: text/html\r\n", "<h1>Hi</h1>"),
            request if request.contains("other JSON") => Play::json(200, r#"{"hits": []}"#),
            _ => Play::raw(204, "", ""),
        })
        .await;
        let stage = Stage::start(settings(&server.url)).await;
        let refused = stage.recall("refused").await;
        let Err(BrainError::Refused { status: 422, detail, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(detail, "no such tenant");
        for query in ["no JSON", "other JSON", "empty"] {
            let broken = stage.recall(query).await;
            assert!(matches!(broken, Err(BrainError::Broken { .. })), "{query}: {broken:?}");
        }
        assert_eq!((asked(&server).len(), stage.state()), (4, "closed"));
    });
}

#[test]
fn health_is_probed_by_itself_and_on_demand() {
    stage(async {
        let ill = std::sync::Arc::new(AtomicU32::new(0));
        let seen = std::sync::Arc::clone(&ill);
        let server = Server::start(move |_| match seen.load(Ordering::Relaxed) {
            0 => Play::json(200, r#"{"ok": true}"#),
            1 => Play::json(200, r#"{"status": "degraded"}"#),
            _ => Play::Hang,
        })
        .await;
        let quick = BrainSettings { health_interval_ms: 100, health_timeout_ms: 50, ..settings(&server.url) };
        let mut stage = Stage::start(quick).await;
        assert_eq!(stage.health.changed().await.state, HealthState::Normal);
        stage.assert_metric(r#"somabrain_health_state{state="normal"} 1"#);
        ill.store(1, Ordering::Relaxed);
        // The first of these may still meet the probe that was under way.
        while stage.check.call(|reply| CheckHealth { reply }, SOON).await.unwrap().state != HealthState::Degraded {}
        ill.store(2, Ordering::Relaxed);
        while stage.health.changed().await.state != HealthState::Down {}
        stage.assert_metric(r#"somabrain_health_state{state="normal"} 0"#);
        stage.assert_metric(r#"somabrain_health_state{state="down"} 1"#);
        assert_eq!(&*stage.health.last().unwrap().detail, "no answer in 50 ms");
    });
}

#[test]
fn probes_asked_for_at_a_time_are_one() {
    stage(async {
        let server = server(|_| Play::Hang).await;
        let mut stage = Stage::start(settings(&server.url)).await;
        stage.health.changed().await;
        let check = || stage.check.call(|reply| CheckHealth { reply }, SOON);
        let (one, two, three) = tokio::join!(check(), check(), check());
        assert!([one, two, three].iter().all(|report| report.as_ref().unwrap().state == HealthState::Normal));
        assert_eq!(server.seen().len(), 2, "the first probe and one for all three");
        assert_eq!(stage.check.depth(), 0);
    });
}

#[test]
fn a_crash_loses_what_is_under_way_and_the_breaker_and_serves_the_queue() {
    stage(async {
        let server =
            server(|request| if request.contains("under way") { Play::Hang } else { Play::json(200, TEA) }).await;
        let stage = Stage::start(BrainSettings { breaker_failures: 1, ..settings(&server.url) }).await;
        assert!(stage.ask("under way", Duration::from_millis(50)).await.unwrap().is_err());
        assert_eq!(stage.state(), "open");
        stage.panic.ask(Panic, SOON).await.unwrap_err();
        stage.recall("tea").await.unwrap();
        assert_eq!(stage.state(), "closed", "the state is fresh");
        let probes = server.seen().len() - asked(&server).len();
        assert_eq!(probes, 2, "one at each start");

        let (lost, crash, queued) = tokio::join!(
            stage.ask("under way", SOON),
            async {
                while asked(&server).len() < 3 {
                    tokio::task::yield_now().await;
                }
                stage.panic.ask(Panic, SOON).await
            },
            async {
                while stage.panic.depth() == 0 {
                    tokio::task::yield_now().await;
                }
                stage.ask("queued behind the crash", SOON).await
            },
        );
        assert!(matches!((&lost, crash), (Err(AskError::Down), Err(AskError::Down))), "{lost:?}");
        assert_eq!(queued.unwrap().unwrap().memories[0].text, "tea");
        assert_eq!(stage.recall.depth(), 0, "every place came back");
    });
}

#[test]
fn writes_that_hang_hold_up_no_recall_and_wait_for_each_other() {
    stage(async {
        let server =
            server(|request| if request.contains("/remember") { Play::Hang } else { Play::json(200, TEA) }).await;
        let stage = Stage::start(BrainSettings { max_writes_in_flight: 1, ..settings(&server.url) }).await;
        let begun = Instant::now();
        let within = Duration::from_secs(2);
        let (one, two, recalled) = tokio::join!(stage.remember("k1", within), stage.remember("k2", within), async {
            stage.recall("tea").await.unwrap();
            begun.elapsed()
        });
        assert!(matches!((one, two), (Err(BrainError::TimedOut { .. }), Err(BrainError::TimedOut { .. }))));
        assert!(recalled < within, "it waited {recalled:?}");
        assert!(!asked(&server).iter().any(|request| request.contains("k2")), "it took a place that was not free");
    });
}

#[test]
fn writes_are_counted_by_memory_and_by_what_came_of_them() {
    stage(async {
        let server = server(|request| match request {
            request if request.contains("refused") => Play::json(422, "{}"),
            request if request.contains("/batch") => {
                Play::json(200, r#"{"ok": true, "results": [{"key": "a"}, {"key": "b"}]}"#)
            }
            _ => Play::json(200, r#"{"ok": true}"#),
        })
        .await;
        let stage = Stage::start(settings(&server.url)).await;
        stage.remember("k1", SOON).await.unwrap();
        stage.remember("refused", SOON).await.unwrap_err();
        for keys in [&["a", "b"][..], &[]] {
            let memories = keys.iter().map(|key| MemoryWrite::new(*key, json!({}))).collect();
            let make = |reply| RememberBatch { asker: asker(SOON), space: space(), memories, reply };
            assert_eq!(stage.batch.call(make, SOON).await.unwrap().unwrap().len(), keys.len());
        }
        stage.assert_metric(r#"somabrain_memory_write_total{result="ok"} 3"#);
        stage.assert_metric(r#"somabrain_memory_write_total{result="refused"} 1"#);
        stage.assert_metric(r#"somabrain_memory_write_seconds_count{result="ok"} 2"#);
        stage.assert_metric(r#"somabrain_requests_total{method="POST",path="/memory/remember",status="422"} 1"#);
    });
}
