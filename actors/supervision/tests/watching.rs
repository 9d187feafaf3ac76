//! What can be seen of the tree: snapshot, metrics, logs.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests spawn the neighbours they play themselves")]

mod support;

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use somaagent_supervision::{InstanceQuery, Restart, Strategy, Tree};
use support::{Do, SECOND, Stage, lenient, seat, settle, stage};
use tracing::Instrument;

#[test]
fn the_snapshot_shows_every_actor_with_its_mailbox_and_its_last_error() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let spec = lenient("sub", Strategy::RestForOne);
        let sub = stage.root.supervisor(spec).await.unwrap();
        assert_eq!(sub.path(), "root/sub");
        let port = stage.imp(&sub, "a", Restart::Permanent).await;
        port.ask(Do::Panic, SECOND).await.unwrap_err();
        settle().await;
        port.tell(Do::Take(60 * SECOND)).unwrap();
        tokio::time::sleep(Duration::from_millis(250)).await;
        port.tell(Do::Take(60 * SECOND)).unwrap();
        settle().await;
        let shown = serde_json::to_value(stage.tree.snapshot()).unwrap();
        let supervisor = |path| {
            serde_json::json!({
                "path": path, "state": "running", "restarts": 0, "mailbox_depth": 0,
                "mailbox_capacity": 0, "oldest_message_age_ms": null, "last_error": null, "ports": [],
            })
        };
        let expected = serde_json::json!({
            "actors": [
                supervisor("root"),
                supervisor("root/sub"),
                {
                    "path": "root/sub/imp", "state": "fresh", "restarts": 1, "mailbox_depth": 2,
                    "mailbox_capacity": 8, "oldest_message_age_ms": 250,
                    "last_error": "panicked: told to",
                    "ports": [{"name": "do", "message": "Do", "depth": 2, "capacity": 8}],
                },
            ],
            "groups": [],
        });
        assert_eq!(shown, expected);
    });
}

#[test]
fn the_state_is_right_also_when_a_future_changed_it() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let doing = || stage.tree.snapshot().actors[1].state;
        assert_eq!(doing(), "fresh");
        port.ask(Do::Count, SECOND).await.unwrap();
        settle().await;
        assert_eq!(doing(), "counting");
        port.ask(Do::TireAfter(SECOND), SECOND).await.unwrap();
        tokio::time::sleep(2 * SECOND).await;
        settle().await;
        assert_eq!(doing(), "tired");
    });
}

#[test]
fn temporary_children_are_grouped_by_state_and_paged() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        stage.imp(&stage.root, "lasting", Restart::Permanent).await;
        let mut ports = Vec::new();
        for n in 0..25 {
            let (seat, port) = seat(&stage.root, Restart::Temporary);
            let seat = seat.labelled(format!("number-{n}"));
            seat.start(stage.make("t")).await.unwrap();
            ports.push(port);
        }
        for port in &ports[..10] {
            port.ask(Do::Count, SECOND).await.unwrap();
        }
        ports[3].tell(Do::Take(60 * SECOND)).unwrap();
        tokio::time::sleep(SECOND).await;

        let snapshot = stage.tree.snapshot();
        let paths: Vec<_> = snapshot.actors.iter().map(|actor| &*actor.path).collect();
        assert_eq!(paths, ["root", "root/imp/1"], "the lasting one by itself");
        let [group] = &snapshot.groups[..] else { unreachable!("one group") };
        assert_eq!(group.path, "root/imp");
        assert_eq!(group.instances, 25);
        let states: Vec<_> = group.states.clone().into_iter().collect();
        assert_eq!(states, [("counting", 10), ("fresh", 15)]);
        assert_eq!((group.mailbox_depth, group.mailbox_capacity), (1, 25 * 8));
        assert_eq!(group.oldest_message_age_ms, Some(1_000));

        let mut query = InstanceQuery { state: Some("counting".to_owned()), after: 0, limit: 4 };
        let mut seen = Vec::new();
        let mut sizes = Vec::new();
        loop {
            let page = stage.tree.instances("root/imp", &query);
            sizes.push(page.instances.len());
            seen.extend(page.instances.into_iter().map(|instance| instance.path));
            let Some(next) = page.next else { break };
            query.after = next;
        }
        assert_eq!(sizes, [4, 4, 2]);
        let expected: Vec<_> = (0..10).map(|n| format!("root/imp/number-{n}")).collect();
        assert_eq!(seen, expected);
        for path in ["root/nobody", "nowhere/imp", "root", ""] {
            assert!(stage.tree.instances(path, &query).instances.is_empty());
        }
    });
}

#[test]
fn an_actor_whose_oldest_message_is_too_old_is_stalled() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        stage.imp(&stage.root, "b", Restart::Permanent).await;
        port.tell(Do::Take(60 * SECOND)).unwrap();
        tokio::time::sleep(10 * SECOND).await;
        assert_eq!(stage.tree.stalled(11 * SECOND), []);
        let stalled = stage.tree.stalled(9 * SECOND);
        assert_eq!(stalled.len(), 1);
        assert_eq!(stalled[0].path, "root/imp/1");
        assert_eq!(stalled[0].oldest_message_age_ms, Some(10_000));
        tokio::time::sleep(60 * SECOND).await;
        assert_eq!(stage.tree.stalled(Duration::ZERO), []);
    });
}

#[test]
fn the_metrics_tell_depth_outcomes_times_and_restarts() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForAll);
        let value = |name: &str, labels: &[(&str, &str)]| stage.metric(name, labels).to_string();
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let other = stage.imp(&stage.root, "b", Restart::Permanent).await;
        assert_eq!(value("actor_mailbox_capacity", &[("actor", "imp")]), "16");
        port.tell(Do::Take(SECOND)).unwrap();
        other.tell(Do::Take(SECOND)).unwrap();
        assert_eq!(value("actor_mailbox_depth", &[("port", "do")]), "2");
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(value("actor_mailbox_depth", &[]), "0");
        port.tell(Do::Take(SECOND)).unwrap();
        port.ask(Do::Panic, SECOND).await.unwrap_err();
        settle().await;
        let outcome =
            |outcome| value("actor_messages_total", &[("actor", "imp"), ("message", "Do"), ("outcome", outcome)]);
        assert_eq!(outcome("handled"), "2");
        assert_eq!(outcome("lost"), "2", "in hand at the crash");
        assert_eq!(outcome("dead"), "0");
        let message = [("actor", "imp"), ("message", "Do")];
        assert_eq!(value("actor_message_wait_seconds", &message), "4");
        assert_eq!(value("actor_message_handling_seconds", &message), "4");
        let restarts = |reason| value("actor_restarts_total", &[("reason", reason)]);
        assert_eq!(restarts("panic"), "1");
        assert_eq!(restarts("group"), "1");
        stage.root.stop(SECOND).await;
        drop((port, other));
        assert_eq!(value("actor_mailbox_capacity", &[]), "0");
    });
}

#[test]
fn restarts_that_did_not_happen_are_counted_as_none() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let _kept = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let families = stage.registry.gather();
        let restarts = families.iter().find(|family| family.name() == "actor_restarts_total").unwrap();
        let reasons = restarts.get_metric().iter().map(|metric| {
            assert!(metric.get_counter().get_value() == 0.0);
            metric.get_label().iter().find(|label| label.name() == "reason").unwrap().value()
        });
        assert_eq!(reasons.collect::<Vec<_>>(), ["escalated", "group", "normal", "panic"]);
    });
}

#[test]
fn no_metric_has_a_label_for_an_instance() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let (seat, port) = seat(&stage.root, Restart::Temporary);
        let seat = seat.labelled("somebody-in-particular");
        seat.start(stage.make("t")).await.unwrap();
        port.ask(Do::Count, SECOND).await.unwrap();
        for family in stage.registry.gather() {
            for metric in family.get_metric() {
                for label in metric.get_label() {
                    assert!(["actor", "message", "outcome", "port", "reason"].contains(&label.name()));
                    assert!(!label.value().contains("somebody"));
                }
            }
        }
    });
}

#[test]
fn a_second_tree_on_one_registry_is_refused() {
    let registry = prometheus::Registry::new();
    assert!(Tree::new(&registry).is_ok());
    assert!(Tree::new(&registry).is_err());
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_panic_is_logged_once_with_the_actors_name_and_the_message_type() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        stage(async {
            let stage = Stage::lenient(Strategy::OneForOne);
            let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
            port.ask(Do::Count, SECOND).await.unwrap();
            port.ask(Do::Panic, SECOND).await.unwrap_err();
            port.ask(Do::PanicLater, SECOND).await.unwrap();
            tokio::time::sleep(SECOND).await;
            assert_eq!(port.ask(Do::Count, SECOND).await, Ok(1));
        });
    });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let errors: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["level"] == "ERROR")
        .collect();
    let shown: Vec<_> = errors
        .iter()
        .map(|line| {
            let fields = &line["fields"];
            (
                fields["actor"].as_str().unwrap(),
                fields["in_hand"].as_str().unwrap(),
                fields["message"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(shown, [("imp", "Do", "actor panicked: told to"), ("imp", "none", "actor panicked: told to, later"),]);
}

#[test]
fn a_message_has_a_span_below_that_of_whoever_sent_it() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::DEBUG)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::NEW)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        stage(async {
            let stage = Stage::lenient(Strategy::OneForOne);
            let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
            port.ask(Do::Count, SECOND).instrument(tracing::info_span!("request", number = 7)).await.unwrap();
        });
    });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let made = |line: &serde_json::Value| line["span"]["name"] == "actor" && line["fields"]["message"] == "new";
    let spans: Vec<_> = text.lines().map(|line| serde_json::from_str(line).unwrap()).filter(made).collect();
    let told: Vec<_> = spans.iter().map(|line| (&line["span"]["otel.name"], &line["spans"][0]["number"])).collect();
    assert_eq!(told, [(&serde_json::json!("actor.imp.Do"), &serde_json::json!(7))], "{text}");
}
