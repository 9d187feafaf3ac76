//! Waits until everything that was said has arrived where it belongs, and collects the evidence: by the gateway's HTTP
//! interface, from the broker, and from the doubles. Whatever does not arrive in time is left for the checker to find.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::{join_all, try_join_all};
use serde_json::Value;
use somaagent_test_services::client::Client;
use somaagent_test_services::kafka::Kept;
use tokio::time::{Instant, sleep, timeout};

use crate::checker::is_memory;
use crate::evidence::{Evidence, INBOUND, LETTERS, MEMORIES, Note, OUTBOUND};
use crate::stage::Stage;

/// How long the queues may take to be empty when everything is well again.
const PATIENCE: Duration = Duration::from_secs(90);

/// Receipts that are asked for at a time.
const AT_A_TIME: usize = 8;

/// Longest wait for one receipt.
const WAIT_SECONDS: u64 = 10;

/// Rest between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Waits until every turn of the sessions has ended, and returns their histories.
pub async fn ended(client: &Client, sessions: &[String]) -> Result<BTreeMap<String, Vec<Value>>> {
    let deadline = Instant::now() + PATIENCE;
    let mut histories = BTreeMap::new();
    for session in sessions {
        let history = loop {
            let history = client.history(session).await;
            let over = history.as_ref().is_ok_and(|history| has_ended(history));
            if over || Instant::now() > deadline {
                break history?;
            }
            sleep(LOOK_AGAIN).await;
        };
        histories.insert(session.clone(), history);
    }
    Ok(histories)
}

fn has_ended(history: &[Value]) -> bool {
    let said = history.iter().filter(|event| event["payload"]["type"] == "user").count();
    said * 2 == history.len()
}

/// Waits until the queues are empty, and collects everything but what clients and readers noted themselves.
pub async fn gather(stage: &Stage, histories: BTreeMap<String, Vec<Value>>, notes: Vec<Note>) -> Result<Evidence> {
    let planted = stage.planted.lock().unwrap().clone();
    let events = histories.values().flatten().filter_map(|event| event["payload"]["event_id"].as_str());
    let late = planted.iter().filter_map(|record| record.memory.as_ref().map(|(id, _)| id.as_str()));
    let ids: BTreeSet<&str> = events.collect();
    let deadline = Instant::now() + PATIENCE;
    let said = histories.values().flatten().map(|event| &event["payload"]).filter(|payload| is_memory(payload));
    let all: Vec<&str> = said.filter_map(|payload| payload["event_id"].as_str()).chain(late).collect();
    // One that was taken back has no receipt; those of the others come behind it.
    let written = notes.iter().filter(|note| note.last.is_some()).map(|note| note.id.as_str());
    let all: Vec<&str> = written.chain(all).collect();
    let mut receipts = BTreeMap::new();
    for some in all.chunks(AT_A_TIME) {
        let found = join_all(some.iter().map(|id| settled(&stage.client, id, deadline))).await;
        for (id, receipt) in some.iter().zip(found) {
            receipts.insert((*id).to_owned(), receipt?);
        }
    }
    let poisoned = planted.iter().filter(|record| record.memory.is_none()).count();
    let (letters, log) = arrived(stage, &ids, poisoned, deadline).await?;
    let brain = &stage.brain;
    let keys = brain.keys().into_iter();
    Ok(Evidence {
        receipts,
        replica: replica(&stage.client).await?,
        letters,
        log,
        received: brain.received(),
        kept: keys.map(|key| (key.clone(), brain.value("public", "wm", &key).unwrap_or_default())).collect(),
        asked: stage.model.exchanges().iter().map(|asked| (asked.number, asked.prompt().to_owned())).collect(),
        planted,
        notes,
        histories,
        ..Evidence::default()
    })
}

/// The receipt of a memory, when it has come as far as it will. What came past the system has one once the replica has it.
async fn settled(client: &Client, id: &str, deadline: Instant) -> Result<Value> {
    loop {
        let request = client.request(reqwest::Method::GET, &format!("/v1/memory/{id}/receipt"));
        let wait = deadline.saturating_duration_since(Instant::now()).as_secs().min(WAIT_SECONDS);
        let receipt = client.send(request.header("prefer", format!("wait={wait}"))).await?;
        let settled = ["replicated", "dead"].contains(&receipt.text_of("state").as_str());
        if settled || Instant::now() > deadline {
            return Ok(receipt.json());
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The dead letters and the log, when they tell of everything.
async fn arrived(
    stage: &Stage,
    ids: &BTreeSet<&str>,
    poisoned: usize,
    deadline: Instant,
) -> Result<(Vec<Value>, BTreeMap<&'static str, Vec<Kept>>)> {
    loop {
        let letters = letters(&stage.client).await?;
        let read = async |topic| anyhow::Ok((topic, stage.ground.kafka().records(topic).await?));
        let log = try_join_all([MEMORIES, INBOUND, OUTBOUND, LETTERS].map(read)).await?;
        let log: BTreeMap<&'static str, Vec<Kept>> = log.into_iter().collect();
        let told: BTreeSet<String> = log[INBOUND].iter().chain(&log[OUTBOUND]).filter_map(event_of).collect();
        let notices: BTreeSet<i64> = log[LETTERS].iter().filter_map(letter_of).collect();
        let complete = ids.iter().all(|id| told.contains(*id))
            && letters.iter().filter(|letter| letter["origin"]["kind"] == "replicator").count() >= poisoned
            && letters.iter().all(|letter| letter["id"].as_i64().is_some_and(|id| notices.contains(&id)));
        if complete || Instant::now() > deadline {
            return Ok((letters, log));
        }
        sleep(LOOK_AGAIN).await;
    }
}

fn json(record: &Kept) -> Value {
    serde_json::from_slice(&record.payload).unwrap_or_default()
}

fn event_of(record: &Kept) -> Option<String> {
    json(record)["event_id"].as_str().map(str::to_owned)
}

fn letter_of(record: &Kept) -> Option<i64> {
    json(record)["dead_letter_id"].as_i64()
}

/// Every row of the replica.
async fn replica(client: &Client) -> Result<Vec<Value>> {
    let mut rows: Vec<Value> = Vec::new();
    loop {
        let after = rows.last().map(|row| format!("&after={}", row["id"])).unwrap_or_default();
        let page = list(client, &format!("/v1/admin/memory?limit=200{after}"), "/items").await?;
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page);
    }
}

/// Every dead letter in full.
async fn letters(client: &Client) -> Result<Vec<Value>> {
    let mut letters = Vec::new();
    for topic in list(client, "/v1/admin/dlq", "").await? {
        let path = format!("/v1/admin/dlq/{}", topic["topic"].as_str().unwrap_or_default());
        for letter in list(client, &format!("{path}?limit=1000"), "").await? {
            let answer = client.get(&format!("{path}/{}", letter["id"])).await?;
            ensure!(answer.status == 200, "a dead letter answered {}: {}", answer.status, answer.text);
            letters.push(answer.json());
        }
    }
    Ok(letters)
}

/// The items at a place of a reply.
async fn list(client: &Client, path: &str, place: &str) -> Result<Vec<Value>> {
    let answer = timeout(PATIENCE, client.get(path)).await??;
    ensure!(answer.status == 200, "{path} answered {}: {}", answer.status, answer.text);
    Ok(answer.json().pointer(place).and_then(Value::as_array).cloned().unwrap_or_default())
}
