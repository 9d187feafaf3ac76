//! The audit trail and what is known of a session, as admins and owners read them.

use std::fmt::Write as _;

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use somaagent_test_services::client::{Client, Post};
use somaagent_test_services::tokens::SECRET;
use somaagent_test_services::wait::eventually;

use crate::audit::token;
use crate::stack::{Setup, Stack, ended_turns, new_session};

const TRAIL: &str = "/v1/admin/audit";

/// A guarded system with a member, an admin of the same tenant, and a session of the member with an answer that has come
/// into the replica.
async fn answered() -> (Stack, Client, Client, String) {
    let stack = Setup::default()
        .set("GATEWAY_JWT_SECRET", SECRET)
        .set("MEMORY_SYNC_INTERVAL_SECONDS", "0.05")
        .set("OUTBOX_SYNC_INTERVAL_SECONDS", "0.05")
        .start()
        .await;
    let [member, admin] =
        [("ann", "chat"), ("root", "admin")].map(|who| stack.client.showing(&token(who.0, who.1)).unwrap());
    let session = new_session();
    let posted = member.message(&Post::new("our parrot is green").to(&session)).await.unwrap();
    assert_eq!(posted.status, 200, "{}", posted.text);
    ended_turns(&member, &session, 1).await;
    let pool = stack.database.pool().await.unwrap();
    eventually("both memories in the replica", async || {
        let sql = "SELECT count(*) FROM memory_replica WHERE session_id = $1";
        (sqlx::query_scalar::<_, i64>(sql).bind(&session).fetch_one(&pool).await.unwrap() == 2).then_some(())
    })
    .await;
    let renamed = member.patch(&format!("/v1/sessions/{session}"), &json!({"title": "parrots"})).await.unwrap();
    assert_eq!(renamed.status, 200, "{}", renamed.text);
    (stack, member, admin, session)
}

async fn got(client: &Client, path: &str) -> Value {
    let answer = client.get(path).await.unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.json()
}

fn actions(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["action"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_admin_lists_and_exports_what_was_done_in_the_tenant_and_nobody_else_does() {
    let (stack, member, admin, session) = answered().await;
    let page = got(&admin, TRAIL).await;
    assert_eq!(actions(&page), ["session.rename", "turn.end", "message.enqueue"]);
    assert_eq!((&page["items"][0]["subject"], &page["items"][0]["session_id"]), (&json!("ann"), &json!(session)));
    assert!(page["next_cursor"].is_null() && page["items"][0]["diff"]["title"].is_object(), "{page:#}");
    let first = got(&admin, &format!("{TRAIL}?limit=1")).await;
    let rest = got(&admin, &format!("{TRAIL}?after={}", first["next_cursor"])).await;
    assert_eq!((actions(&first), actions(&rest)), (vec!["session.rename"], vec!["turn.end", "message.enqueue"]));
    let request = page["items"][1]["request_id"].as_str().unwrap();
    for (query, expected) in [
        ("action=session.rename".to_owned(), &["session.rename"][..]),
        (format!("request_id={request}"), &["turn.end", "message.enqueue"]),
        (format!("session_id={}", new_session()), &[]),
        (format!("session_id={session}&until=2020-01-01T00:00:00Z"), &[]),
        (
            format!("session_id={session}&since=2020-01-01T00:00:00Z"),
            &["session.rename", "turn.end", "message.enqueue"],
        ),
    ] {
        assert_eq!(actions(&got(&admin, &format!("{TRAIL}?{query}")).await), expected, "{query}");
    }
    for bad in ["session_id=x", "since=yesterday", "limit=0", "after=-1"] {
        let answer = admin.get(&format!("{TRAIL}?{bad}")).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (422, "invalid-query"), "{bad}: {}", answer.text);
    }
    let export = admin.get(&format!("{TRAIL}/export")).await.unwrap();
    assert_eq!((export.status, export.header("content-type")), (200, "application/x-ndjson"), "{}", export.text);
    let (rows, trailer) = export.text.trim_end().rsplit_once('\n').unwrap();
    let trailer: Value = serde_json::from_str(trailer).unwrap();
    let sum = Sha256::digest(format!("{rows}\n")).iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").unwrap();
        digits
    });
    assert_eq!(trailer, json!({"type": "trailer", "rows": 3, "sha256": sum, "cursor": null}));
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!([&rows[0], &rows[1], &rows[2]], [2, 1, 0].map(|place| &page["items"][place]));
    assert_eq!(
        (&rows[1]["subject"], &rows[1]["workflow_id"]),
        (&json!("system:conversation"), &rows[0]["workflow_id"])
    );
    let stranger = stack.client.showing(&crate::audit::token_of("umbrella", "eve", "admin")).unwrap();
    assert_eq!(actions(&got(&stranger, TRAIL).await), [""; 0]);
    for path in [TRAIL.to_owned(), format!("{TRAIL}/export")] {
        let answer = member.get(&path).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (403, "admin-scope-required"), "{path}");
    }
}

#[tokio::test]
async fn a_session_is_described_as_one_story_to_its_owner_and_does_not_exist_for_others() {
    let (stack, member, admin, session) = answered().await;
    let path = format!("/v1/describe/{session}");
    let told = got(&member, &path).await;
    assert_eq!((&told["session_id"], &told["sagas"], &told["workflow"]), (&json!(session), &json!([]), &Value::Null));
    let events: Vec<&str> =
        told["events"].as_array().unwrap().iter().map(|event| event["payload"]["type"].as_str().unwrap()).collect();
    assert_eq!(events, ["assistant.final", "user"]);
    let audit: Vec<&str> =
        told["audit"].as_array().unwrap().iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(audit, ["session.rename", "turn.end", "message.enqueue"]);
    assert!(told["audit"][0]["decision"].is_string() && told["audit"][0].get("ip").is_none(), "{told:#}");
    let timeline = told["timeline"].as_array().unwrap();
    let times: Vec<&str> = timeline.iter().map(|entry| entry["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let count = |kind: &str| timeline.iter().filter(|entry| entry["kind"] == kind).count();
    assert_eq!(["event", "audit", "turn", "memory", "replica"].map(count), [2, 3, 1, 2, 2], "{timeline:#?}");
    assert_eq!((&timeline[0]["kind"], &timeline[0]["entry"]["seq"]), (&json!("event"), &json!(1)));
    assert_eq!(timeline.last().unwrap()["entry"]["action"], "session.rename");
    assert!(!json!(timeline).to_string().contains("parrot is"), "{timeline:#?}");
    let without = got(&member, &format!("{path}?include_audit=false&limit=1")).await;
    assert_eq!((&without["audit"], without["events"].as_array().unwrap().len()), (&json!([]), 1));
    let turn = told["timeline"][0]["entry"]["event_id"].as_str().unwrap();
    let steps = got(&member, &format!("{path}?workflow_id={turn}")).await;
    assert_eq!(steps["audit"].as_array().unwrap().len(), 2, "{steps:#}");
    assert_eq!(got(&admin, &path).await["events"], told["events"]);
    let other = stack.client.showing(&token("bob", "chat")).unwrap();
    for (client, path) in [(&other, path.clone()), (&member, format!("/v1/describe/{}", new_session()))] {
        let answer = client.get(&path).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (404, "session-not-found"), "{}", answer.text);
    }
    let request = member.request(Method::DELETE, &format!("/v1/sessions/{session}"));
    assert_eq!(member.send(request).await.unwrap().status, 200);
    assert_eq!(member.get(&path).await.unwrap().code(), "session-deleted");
}
