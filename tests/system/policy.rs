//! The policy has its say wherever something is done: at the door, and about actors that recall, remember and show files.

use std::fs;

use serde_json::{Value, json};
use somaagent_test_services::client::{Client, Post};
use somaagent_test_services::port;
use somaagent_test_services::wait::eventually;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::stack::{Setup, Stack, new_session};
use crate::uploads::{Form, upload};

/// A policy that decides as the shipped one where nobody is asked who they are, but for these rules about actors.
fn policy(of_actors: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        r#"package soma.policy

import rego.v1

decision := {{"allow": true, "rule": "auth-off", "reason": "w", "reach": "tenant"}} if input.context.worker == false

{of_actors}
"#
    );
    fs::write(dir.path().join("soma.rego"), text).unwrap();
    dir
}

const DENIED: &str =
    r#"decision := {"allow": false, "rule": "quiet", "reason": "w", "reach": "own"} if input.context.worker == true"#;

/// Waits until the metrics have a line like this with another number than 0.
async fn counted(metrics: &Client, line: &str) {
    eventually(line, async || {
        let page = metrics.get("/metrics").await.ok()?.text;
        let value = page.lines().find_map(|known| known.strip_prefix(line)?.trim().parse::<f64>().ok())?;
        (value > 0.0).then_some(())
    })
    .await;
}

async fn start(dir: &TempDir) -> (Stack, Client) {
    let port = port::free();
    let setup = Setup::default().set("SA01_POLICY_DIR", dir.path().display()).set("GATEWAY_METRICS_PORT", port);
    let setup = setup.set("MEMORY_SYNC_INTERVAL_SECONDS", "0.05").set("MEMORY_SYNC_BACKOFF_BASE_SECONDS", "0.05");
    (setup.start().await, Client::new(&format!("http://127.0.0.1:{port}")).unwrap())
}

/// Says something, and returns what its answer says of the recall.
async fn recall_state(stack: &Stack) -> Value {
    let session = new_session();
    stack.post(&Post::new("our parrot is green").to(&session)).await;
    let turn = stack.ended_turns(&session, 1).await.remove(0);
    assert_eq!(turn.kind(), "assistant.final");
    turn.meta("recall")["state"].clone()
}

#[tokio::test]
async fn what_actors_may_not_do_is_left_undone_and_becomes_a_dead_letter() {
    let (stack, metrics) = start(&policy(DENIED)).await;
    assert_eq!(recall_state(&stack).await, "denied");
    let letters = eventually("two dead letters", async || {
        let found = stack.get("/v1/admin/dlq/memory.wal.dlq").await.as_array().cloned()?;
        (found.len() == 2).then_some(found)
    })
    .await;
    assert!(letters.iter().all(|letter| letter["error"] == "the policy does not let it be remembered"), "{letters:?}");
    for action in ["memory.recall", "memory.write"] {
        counted(&metrics, &format!(r#"policy_actor_decisions_total{{action="{action}",result="denied"}}"#)).await;
    }
    assert!(stack.brain.calls_to("/memory/recall").is_empty() && stack.brain.received().is_empty());
}

#[tokio::test]
async fn a_file_that_the_policy_withholds_is_not_shown_and_the_turn_goes_on() {
    let rules = r#"decision := {"allow": true, "rule": "busy", "reason": "w", "reach": "own"} if {
	input.context.worker == true
	input.action != "attachments.show"
}

decision := {"allow": may, "rule": "files", "reason": "w", "reach": "own"} if {
	input.context.worker == true
	input.action == "attachments.show"
	may := {"text/csv": false, "text/plain": input.context.args.size < 10}[input.context.args.mime]
}"#;
    let (stack, metrics) = start(&policy(rules)).await;
    let form =
        Form::default().file("cups.csv", "text/csv", b"seven,cups\n").file("pot.txt", "text/plain", b"green pot");
    let answer = upload(&stack.client, form).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let ids: Vec<Value> = answer.json().as_array().unwrap().iter().map(|file| file["id"].clone()).collect();
    let session = new_session();
    stack.post(&Post::new("look").to(&session).with("attachments", json!(ids))).await;
    assert_eq!(stack.ended_turns(&session, 1).await[0].kind(), "assistant.final");
    let exchange = stack.model.exchange(0).await;
    let prompt = exchange.prompt();
    assert!(prompt.contains("green pot") && !prompt.contains("seven,cups"), "{prompt}");
    assert!(prompt.contains("[nothing of it is shown: it is withheld by policy]"), "{prompt}");
    for result in ["allowed", "denied"] {
        counted(&metrics, &format!(r#"policy_actor_decisions_total{{action="attachments.show",result="{result}"}}"#))
            .await;
    }
}

#[tokio::test]
async fn the_policy_hears_what_a_file_is_said_to_be_and_what_it_is() {
    let rules = r#"decision := {"allow": false, "rule": "sham", "reason": "w", "reach": "tenant"} if {
	input.action == "attachments.upload.file"
	input.context.args.declared_mime != input.context.args.mime
}"#;
    let dir = policy(rules);
    // Nothing else may decide about what is to be denied.
    let file = dir.path().join("soma.rego");
    let text = fs::read_to_string(&file).unwrap();
    let others = "if {\n\tinput.context.worker == false\n\tinput.action != \"attachments.upload.file\"\n}";
    let agrees = r#"
decision := {"allow": true, "rule": "same", "reason": "w", "reach": "tenant"} if {
	input.action == "attachments.upload.file"
	input.context.args.declared_mime == input.context.args.mime
}
"#;
    fs::write(&file, text.replace("if input.context.worker == false", others) + agrees).unwrap();
    let (stack, _) = start(&dir).await;
    let png: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    for (said, status) in [("image/png", 200), ("image/jpeg", 403)] {
        let answer = upload(&stack.client, Form::default().file("a", said, png)).await;
        assert_eq!(answer.status, status, "{said}: {}", answer.text);
    }
    let kept = stack.get("/v1/attachments").await;
    assert_eq!(kept.as_array().unwrap().len(), 1, "what is denied is not kept: {kept:#}");
}

#[tokio::test]
async fn while_nobody_decides_turns_go_on_and_what_is_to_be_remembered_waits() {
    let dir = policy("");
    let (mut stack, metrics) = start(&dir).await;
    assert_eq!(recall_state(&stack).await, "unavailable");
    counted(&metrics, r#"policy_actor_decisions_total{action="memory.write",result="error"}"#).await;
    counted(&metrics, r#"memory_sync_jobs_total{result="retry"}"#).await;
    assert!(stack.brain.calls_to("/memory/recall").is_empty() && stack.brain.received().is_empty());
    assert_eq!(stack.get("/v1/admin/dlq/memory.wal.dlq").await, Value::Array(vec![]));
    let allowed = DENIED.replace("false", "true");
    fs::copy(policy(&allowed).path().join("soma.rego"), dir.path().join("soma.rego")).unwrap();
    assert_eq!(stack.app.terminate().await.unwrap(), Some(0));
    stack.restart().await;
    eventually("both memories arrived", async || (stack.brain.received().len() == 2).then_some(())).await;
    assert_eq!(recall_state(&stack).await, "ok");
}

/// An OPA on a port that allows everything.
async fn agreeable(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = Vec::new();
            while !asked.ends_with(b"}}") && stream.read_buf(&mut asked).await.is_ok_and(|read| read > 0) {}
            let answer = r#"{"result":{"allow":true,"rule":"yes","reason":"w","reach":"tenant"}}"#;
            let length = answer.len();
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
            let _ = stream.write_all(format!("{head}{answer}").as_bytes()).await;
        }
    });
}

#[tokio::test]
async fn without_its_opa_the_door_is_closed_and_it_opens_when_that_is_there() {
    let opa = port::free();
    let setup = Setup::default().set("OPA_URL", format!("http://127.0.0.1:{opa}")).set("POLICY_CACHE_TTL", 0);
    let stack = setup.set("SA01_POLICY__BREAKER_COOLDOWN_MS", 10).start().await;
    for _ in 0..6 {
        let answer = stack.client.get("/v1/sessions").await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (502, "policy-unavailable"), "{}", answer.text);
        assert_eq!(answer.header("retry-after"), "1");
    }
    let health = stack.get("/v1/health").await;
    assert_eq!((&health["status"], &health["components"]["opa"]["status"]), (&"down".into(), &"down".into()));
    assert_eq!(stack.get("/readyz").await["status"], "ready");
    agreeable(opa).await;
    eventually("the OPA is heard", async || (stack.client.get("/v1/sessions").await.ok()?.status == 200).then_some(()))
        .await;
    assert_eq!(stack.get("/v1/health").await["components"]["opa"]["status"], "ok");
    assert_eq!(recall_state(&stack).await, "ok", "actors are answered too");
    assert_eq!(stack.get("/v1/runtime-config").await["auth"]["opa_configured"], true);
}
