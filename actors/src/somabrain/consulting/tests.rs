//! Questions against a server on a loopback socket, without the actor around them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

use std::time::Duration;

use serde_json::json;

use super::super::{
    context::{AdaptationState, CountMemories, Evaluate, Feedback},
    deletion::{DeleteAt, DeleteByKey, Deletion},
    documents::{ConstitutionVersion, DeletePersona, GetPersona, LoadConstitution, PutPersona, ValidateConstitution},
    testing::{asker, caller},
};
use super::*;
use crate::loopback::{Play, Server};

const SOON: Duration = Duration::from_mins(1);

async fn put<Q: Question>(server: &Server, question: Q) -> Result<Q::Answer, BrainError> {
    answered(&caller(server), &question, &asker(SOON)).await
}

/// First line and body of the last request.
fn sent(server: &Server) -> (String, Value) {
    let last = server.last();
    let (head, body) = last.split_once("\r\n\r\n").unwrap();
    let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    (line, serde_json::from_str(body).unwrap_or_default())
}

async fn server(answer: Value) -> Server {
    let answer = answer.to_string();
    Server::start(move |_| Play::json(200, &answer)).await
}

#[tokio::test]
async fn evaluation_sends_the_tenant_and_keeps_what_it_does_not_know() {
    let server = server(json!({"prompt": "p", "memories": [{"a": 1}], "weights": [0.5], "residual_vector": []})).await;
    let question = Evaluate { session_id: "s".into(), query: "tea?".into(), top_k: 90 };
    let evaluated = put(&server, question).await.unwrap();
    assert_eq!((evaluated.prompt.as_str(), &evaluated.memories[0]["a"], evaluated.weights[0]), ("p", &json!(1), 0.5));
    assert_eq!(evaluated.rest["residual_vector"], json!([]));
    let body = json!({"session_id": "s", "query": "tea?", "top_k": 50, "tenant_id": "acme"});
    assert_eq!(sent(&server), ("POST /context/evaluate".into(), body));
}

#[tokio::test]
async fn feedback_is_sent_once_even_if_its_answer_is_lost() {
    let feedback = || Feedback {
        session_id: "s".into(),
        query: "q".into(),
        prompt: "p".into(),
        response_text: "r".into(),
        utility: 0.5,
        reward: None,
        metadata: json!({}),
    };
    let lossy = Server::start(|_| Play::Cut(Vec::new())).await;
    assert!(matches!(put(&lossy, feedback()).await, Err(BrainError::Unavailable { .. })));
    assert_eq!(lossy.seen().len(), 1);
    let server = server(json!({"accepted": true, "adaptation_applied": true, "elapsed_ms": 3})).await;
    let taken = put(&server, feedback()).await.unwrap();
    assert_eq!((taken.accepted, taken.adaptation_applied, &taken.rest["elapsed_ms"]), (true, true, &json!(3)));
}

#[tokio::test]
async fn adaptation_and_count_name_the_tenant_in_the_query() {
    let server = server(json!({
        "tenant_id": "acme", "retrieval": {"alpha": 1.0}, "utility": {"mu": 0.5}, "history_len": 2,
        "learning_rate": 0.1, "wm_items": 7, "circuit_open": true,
    }))
    .await;
    let state = put(&server, AdaptationState).await.unwrap();
    assert_eq!((&state.retrieval["alpha"], state.history_len), (&json!(1.0), Some(2)));
    assert_eq!(sent(&server).0, "GET /context/adaptation/state?tenant_id=acme");
    let count = put(&server, CountMemories { namespace: "wm & more".into() }).await.unwrap();
    assert_eq!((count.wm_items, count.circuit_open, &count.rest["tenant_id"]), (Some(7), true, &json!("acme")));
    assert_eq!(sent(&server).0, "GET /memory/metrics?tenant=acme&namespace=wm%20%26%20more");
}

fn ada(if_match: Option<&str>) -> PutPersona {
    let properties = json!({"kind": true}).as_object().unwrap().clone();
    PutPersona { id: "a/b?".into(), display_name: "Ada".into(), properties, if_match: if_match.map(str::to_owned) }
}

#[tokio::test]
async fn a_persona_is_put_over_the_version_that_is_known() {
    let server = Server::start(|request| {
        if request.contains("if-match: \"old\"") {
            return Play::json(412, r#"{"detail": "ETag mismatch"}"#);
        }
        Play::raw(200, "etag: \"v2\"\r\n", r#"{"ok": true, "persona": {"id": "a/b?"}, "more": 1}"#)
    })
    .await;
    let persona = put(&server, ada(Some("\"v1\""))).await.unwrap();
    assert_eq!((persona.etag.as_deref(), &persona.rest["more"]), (Some("\"v2\""), &json!(1)));
    let body = json!({"id": "a/b?", "display_name": "Ada", "properties": {"kind": true}, "fact": "persona"});
    assert_eq!(sent(&server), ("PUT /persona/a%2Fb%3F".into(), body));
    assert!(server.last().contains("if-match: \"v1\""));
    let refused = put(&server, ada(Some("\"old\""))).await;
    assert!(matches!(refused, Err(BrainError::Refused { status: 412, .. })), "{refused:?}");
    put(&server, ada(None)).await.unwrap();
    assert!(!server.last().contains("if-match"));
}

#[tokio::test]
async fn a_persona_that_depends_on_a_version_is_sent_once() {
    let server = Server::start(|_| Play::json(503, "{}")).await;
    put(&server, ada(Some("\"v1\""))).await.unwrap_err();
    assert_eq!(server.seen().len(), 1);
    put(&server, ada(None)).await.unwrap_err();
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_persona_that_is_not_there_is_none() {
    let server = Server::start(|_| Play::json(404, r#"{"detail": "Not Found"}"#)).await;
    assert_eq!(put(&server, GetPersona { id: "ada".into() }).await.unwrap(), None);
    assert!(!put(&server, DeletePersona { id: "ada".into() }).await.unwrap());
    assert_eq!(sent(&server).0, "DELETE /persona/ada");
    for id in ["", ".", ".."] {
        let refused = put(&server, GetPersona { id: id.into() }).await;
        assert!(matches!(refused, Err(BrainError::Refused { .. })), "{id:?}");
    }
    assert_eq!(server.seen().len(), 2, "no other path was asked");
}

#[tokio::test]
async fn the_constitution_is_told_judged_by_and_replaced() {
    let server = server(json!({
        "constitution_version": "v", "constitution_status": "loaded", "constitution_signatures": ["s"],
        "status": "saved", "checksum": "c",
    }))
    .await;
    let version = put(&server, ConstitutionVersion).await.unwrap();
    assert_eq!((version.version.as_deref(), version.signatures), (Some("v"), json!(["s"])));
    assert_eq!(sent(&server).0, "GET /constitution/version");
    put(&server, ValidateConstitution { input: json!("x") }).await.unwrap();
    assert_eq!(sent(&server), ("POST /constitution/validate".into(), json!({"input": "x"})));
    let loaded = put(&server, LoadConstitution { constitution: json!({"rules": []}) }).await.unwrap();
    assert_eq!(loaded.checksum.as_deref(), Some("c"));
    assert_eq!(sent(&server), ("POST /constitution/load".into(), json!({"rules": []})));
}

#[tokio::test]
async fn a_server_without_deletion_is_told_apart_from_one_that_deletes() {
    let deletes = server(json!({"ok": true, "deleted": 1, "more": 2})).await;
    let Deletion::Done { deleted, rest } = put(&deletes, DeleteByKey { id: "k".into() }).await.unwrap() else {
        panic!("it has deletion");
    };
    assert_eq!((deleted, &rest["more"]), (Some(1), &json!(2)));
    assert_eq!(sent(&deletes), ("POST /recall/delete".into(), json!({"id": "k"})));
    put(&deletes, DeleteAt { coordinate: vec![0.5, 1.0] }).await.unwrap();
    assert_eq!(sent(&deletes), ("POST /delete".into(), json!({"coordinate": [0.5, 1.0]})));
    for status in [404, 405] {
        let without = Server::start(move |_| Play::raw(status, "", "<h1>no</h1>")).await;
        assert_eq!(put(&without, DeleteByKey { id: "k".into() }).await.unwrap(), Deletion::Unsupported);
    }
}

#[tokio::test]
async fn an_answer_of_another_form_is_broken() {
    for answer in ["<h1>", "[]", r#"{"persona": 7}"#] {
        let server = Server::start(move |_| Play::json(200, answer)).await;
        let broken = put(&server, GetPersona { id: "ada".into() }).await;
        assert!(matches!(broken, Err(BrainError::Broken { .. })), "{answer}: {broken:?}");
    }
}
