//! The scriptable SomaBrain as its callers see it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;

async fn post(brain: &Brain, path: &str, body: &Value) -> (u16, Value) {
    let answer = reqwest::Client::new().post(format!("{}{path}", brain.base_url())).json(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn what_was_remembered_is_recalled_in_each_shape() {
    let brain = Brain::start().await.unwrap();
    let write = json!({"tenant": "public", "namespace": "wm", "key": "k1", "value": {"content": "the sky is green"}});
    assert_eq!(post(&brain, "/memory/remember", &write).await.1["ok"], true);
    let query = json!({"query": "which colour is the sky", "top_k": 3});
    for (shape, path, place) in [
        (Shape::Payload, "/memory/recall", "/results/0/payload/content"),
        (Shape::Text, "/memory/recall", "/results/0/content"),
        (Shape::Content, "/memory/recall", "/results/0/content/content"),
        (Shape::Old, "/recall", "/wm/0/payload/content"),
    ] {
        brain.set_shape(shape);
        let (_, answer) = post(&brain, path, &query).await;
        assert_eq!(answer.pointer(place), Some(&json!("the sky is green")), "{shape:?}");
    }
    assert_eq!(brain.keys(), ["k1"]);
}

#[tokio::test]
async fn a_write_without_a_key_is_refused() {
    let brain = Brain::start().await.unwrap();
    let write = json!({"tenant": "public", "namespace": "wm", "value": {}});
    assert_eq!(post(&brain, "/memory/remember", &write).await.0, 422);
}

#[tokio::test]
async fn moods_are_seen_by_the_client() {
    let brain = Brain::start().await.unwrap();
    brain.set_mood(Mood::Failing(503, Some(2)));
    assert_eq!(post(&brain, "/memory/recall", &json!({"query": "x"})).await.0, 503);
    let gate = Gate::closed();
    brain.set_mood(Mood::Slow(gate.clone()));
    let slow = tokio::spawn(reqwest::get(format!("{}/health", brain.base_url())));
    brain.called("/health", 1).await;
    assert!(!slow.is_finished());
    gate.open();
    assert_eq!(slow.await.unwrap().unwrap().status().as_u16(), 200);
    brain.down().await;
    assert!(reqwest::get(format!("{}/health", brain.base_url())).await.unwrap_err().is_connect());
}

#[tokio::test]
async fn a_batch_with_a_faulty_item_is_refused_as_a_whole() {
    let brain = Brain::start().await.unwrap();
    let item = |key: &str| json!({"key": key, "value": {"content": "tea"}});
    let batch = |items: Vec<Value>| json!({"tenant": "public", "namespace": "wm", "items": items});
    let (status, refused) =
        post(&brain, "/memory/remember/batch", &batch(vec![item("k1"), json!({"value": {}})])).await;
    assert_eq!((status, &refused["detail"][0]["loc"]), (422, &json!(["body", "items", 1, "key"])));
    assert!(brain.received().is_empty());
    let (status, taken) = post(&brain, "/memory/remember/batch", &batch(vec![item("k1"), item("k2")])).await;
    assert_eq!((status, &taken["results"][1]["key"]), (200, &json!("k2")));
    assert_eq!(brain.received(), ["k1", "k2"]);
}

#[tokio::test]
async fn the_newest_value_of_a_key_is_kept_and_every_write_is_listed() {
    let brain = Brain::start().await.unwrap();
    let write = |content: &str| json!({"tenant": "t", "namespace": "wm", "key": "k", "value": {"content": content}});
    post(&brain, "/memory/remember", &write("old")).await;
    assert_eq!(post(&brain, "/memory/remember", &write("new")).await.1["deduplicated"], false);
    assert_eq!((brain.keys(), brain.received().len()), (vec!["k".to_owned()], 2));
    assert_eq!(brain.value("t", "wm", "k").unwrap()["content"], "new");
    brain.set_deduplicates(true);
    assert_eq!(post(&brain, "/memory/remember", &write("new")).await.1["deduplicated"], true);
}

#[tokio::test]
async fn planned_moods_hold_for_one_call_each() {
    let brain = Brain::start().await.unwrap();
    brain.next_moods([Mood::Failing(429, Some(1)), Mood::Dropping, Mood::DroppingAfter]);
    let write = json!({"tenant": "t", "namespace": "wm", "key": "k", "value": {}});
    let url = format!("{}/memory/remember", brain.base_url());
    assert_eq!(post(&brain, "/memory/remember", &write).await.0, 429);
    for written in [0, 1] {
        assert!(reqwest::Client::new().post(&url).json(&write).send().await.is_err());
        assert_eq!(brain.received().len(), written);
    }
    assert_eq!(post(&brain, "/memory/remember", &write).await.0, 200);
    brain.next_moods([Mood::Dropping, Mood::Dropping]);
    brain.recover();
    assert_eq!(post(&brain, "/memory/remember", &write).await.0, 200);
}

#[tokio::test]
async fn deletion_exists_only_when_switched_on() {
    let brain = Brain::start().await.unwrap();
    brain.know("k1", "tea");
    assert_eq!(post(&brain, "/recall/delete", &json!({"id": "k1"})).await.0, 404);
    brain.set_deletes(true);
    assert_eq!(post(&brain, "/recall/delete", &json!({"id": "k1"})).await.1["deleted"], 1);
    assert!(brain.keys().is_empty());
}
