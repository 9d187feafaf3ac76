//! The checker against a small run without a fault, in which each test plants what must not be.

use std::time::Instant;

use base64::Engine as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use somaagent_test_services::client::{Frame, Mode};
use somaagent_test_services::kafka::Kept;

use super::check;
use crate::evidence::{
    Acknowledged, Evidence, INBOUND, LETTERS, MEMORIES, Note, OUTBOUND, PIECES, Planted, Reading, Seen, answer, piece,
};

const SESSION: &str = "s";
/// The event whose memory was refused.
const REFUSED: &str = "e4";

fn event(seq: u64) -> Value {
    let (turn, request) = (seq.div_ceil(2) * 2 - 1, seq / 2);
    let mut payload = json!({
        "event_id": format!("e{seq}"), "session_id": SESSION, "role": "user", "type": "user",
        "message": format!("message {seq}"), "metadata": {"sequence": seq, "turn": turn},
    });
    if seq.is_multiple_of(2) {
        payload["role"] = json!("assistant");
        payload["type"] = json!("assistant.final");
        payload["message"] = json!(answer(request));
        payload["metadata"]["completed"] = json!(true);
        payload["metadata"]["attempt"] = json!(1);
    }
    json!({"id": seq, "payload": payload})
}

fn record(partition: i32, offset: i64, key: &str, said: &Value) -> Kept {
    Kept { partition, offset, key: Some(key.to_owned()), payload: said.to_string().into_bytes() }
}

/// The number of the next record.
fn next(records: &[Kept]) -> i64 {
    i64::try_from(records.len()).unwrap()
}

fn memory(event: &Value) -> Value {
    let said = &event["payload"];
    let memory =
        json!({"id": said["event_id"], "role": said["role"], "content": said["message"], "session_id": SESSION});
    json!({"type": "memory.write", "session_id": SESSION, "payload": memory})
}

fn row(id: &str, memory: &Value, clock: f64) -> Value {
    json!({"event_id": id, "session_id": SESSION, "role": memory["role"], "payload": memory, "wal_timestamp": clock})
}

fn letter(id: i64, payload: &[u8], origin: &Value) -> Value {
    let event: Value = serde_json::from_slice(payload).unwrap_or_default();
    let original = base64::engine::general_purpose::STANDARD.encode(payload);
    json!({"id": id, "event": event, "original": original, "origin": origin, "error_code": "422"})
}

fn frame(id: &str, data: Value) -> Seen {
    Seen { connection: 0, frame: Frame { id: Some(id.to_owned()), data, at: Instant::now() } }
}

/// What a reader sees of four events and the answers under way.
fn reading(history: &[Value], mode: Mode) -> Reading {
    let mut seen = Vec::new();
    for event in history {
        let (seq, payload) = (event["id"].as_u64().unwrap(), &event["payload"]);
        if payload["type"] != "user" {
            let live = |kind: &str| json!({"type": kind, "metadata": {"turn": seq - 1, "attempt": 1}});
            seen.push(frame(&format!("{}.1.1", seq - 1), live("assistant.started")));
            let mut shown = String::new();
            for number in 0..PIECES {
                let (mut data, piece) = (live("assistant.stream"), piece(seq / 2, number));
                shown.push_str(&piece);
                if mode == Mode::Delta {
                    data["delta"] = json!(piece);
                } else {
                    data["message"] = json!(shown);
                }
                seen.push(frame(&format!("{}.1.{}", seq - 1, number + 2), data));
            }
        }
        seen.push(frame(&seq.to_string(), payload.clone()));
    }
    Reading { session: SESSION.to_owned(), mode, seen }
}

/// A run in which all went well: two turns, of whose memories one was refused, one bad record and one late one.
fn kept_run() -> Evidence {
    let history: Vec<Value> = (1..=4).map(event).collect();
    let mut run = Evidence::default();
    for event in &history {
        let (seq, said) = (event["id"].as_u64().unwrap(), &event["payload"]);
        let id = said["event_id"].as_str().unwrap();
        let topic = if said["type"] == "user" { INBOUND } else { OUTBOUND };
        let told = run.log.entry(topic).or_default();
        told.push(record(1, next(told), SESSION, said));
        if said["type"] == "user" {
            let message = said["message"].as_str().unwrap().to_owned();
            run.told.acknowledged.push(Acknowledged {
                session: SESSION.to_owned(),
                message,
                event_id: id.to_owned(),
                seq,
            });
        } else {
            run.asked.insert(seq / 2, format!("message {}", seq - 1));
        }
        let told = memory(event);
        if id == REFUSED {
            run.letters.push(letter(1, told.to_string().as_bytes(), &json!({"kind": "memory"})));
            run.receipts.insert(id.to_owned(), json!({"state": "dead"}));
            continue;
        }
        let records = run.log.entry(MEMORIES).or_default();
        let offset = next(records);
        let record = record(2, offset, SESSION, &told);
        let hex = Sha256::digest(&record.payload).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let receipt = json!({"state": "replicated", "partition": 2, "offset": offset, "sha256": hex});
        run.receipts.insert(id.to_owned(), receipt);
        records.push(record);
        run.received.push(id.to_owned());
        run.kept.push((id.to_owned(), told["payload"].clone()));
        run.replica.push(row(id, &told["payload"], 9.0));
    }
    plant(&mut run);
    let notices = run.letters.iter().map(|letter| record(0, 0, SESSION, &json!({"dead_letter_id": letter["id"]})));
    run.log.insert(LETTERS, notices.collect());
    run.readings = vec![reading(&history, Mode::Delta), reading(&history, Mode::Default)];
    run.histories.insert(SESSION.to_owned(), history);
    run
}

fn plant(run: &mut Evidence) {
    let late = json!({"type": "memory.write", "payload": {"id": "late"}});
    let records = run.log.entry(MEMORIES).or_default();
    for payload in [b"poison".to_vec(), late.to_string().into_bytes()] {
        let offset = next(records);
        records.push(Kept { partition: 2, offset, key: Some(SESSION.to_owned()), payload: payload.clone() });
        let memory = (payload != b"poison").then(|| ("late".to_owned(), 5.0));
        run.planted.push(Planted { partition: 2, offset, payload, memory });
    }
    let bad = &run.planted[0];
    let origin = json!({"kind": "replicator", "partition": bad.partition, "offset": bad.offset});
    run.letters.push(letter(2, &bad.payload, &origin));
    run.replica.push(row("late", &late["payload"], 5.0));
}

/// Plants something and expects a finding that begins with `promise` and contains `words`.
#[track_caller]
fn found(promise: &str, words: &str, plant: impl FnOnce(&mut Evidence)) {
    let mut run = kept_run();
    plant(&mut run);
    let findings = check(&run);
    let told = findings.iter().any(|finding| finding.starts_with(promise) && finding.contains(words));
    assert!(told, "`{promise} … {words}` was not found: {findings:#?}");
}

fn history(run: &mut Evidence) -> &mut Vec<Value> {
    run.histories.get_mut(SESSION).unwrap()
}

fn topic<'a>(run: &'a mut Evidence, topic: &str) -> &'a mut Vec<Kept> {
    run.log.get_mut(topic).unwrap()
}

#[test]
fn a_run_that_kept_its_promises_has_no_finding() {
    assert_eq!(check(&kept_run()), Vec::<String>::new());
}

/// A note that was left so, and is so in the replica.
fn note(run: &mut Evidence, last: Option<&str>, found: Option<&str>) {
    run.notes.push(Note { last: last.map(str::to_owned), ..Note::new("note".to_owned()) });
    if let Some(said) = found {
        let memory = json!({"id": "note", "content": said});
        run.replica.push(json!({"event_id": "note", "payload": memory}));
        let told = json!({"type": "memory.write", "session_id": "elsewhere", "payload": memory});
        let records = topic(run, MEMORIES);
        records.push(record(0, next(records), "elsewhere", &told));
        run.received.push("note".to_owned());
    }
}

#[test]
fn a_note_that_ended_as_it_was_left_is_no_finding() {
    for last in [Some("last"), None] {
        let mut run = kept_run();
        note(&mut run, last, last);
        assert_eq!(check(&run), Vec::<String>::new());
        // Nobody told what became of this.
        run.notes[0].last = Some("later".to_owned());
        assert_eq!(check(&run).len(), 1);
        run.notes[0].unknown.push(last.map(str::to_owned));
        assert_eq!(check(&run), Vec::<String>::new());
    }
}

#[test]
fn a_note_that_ended_as_another_is_found() {
    found("P2", "was left as", |run| note(run, Some("last"), Some("earlier")));
    found("P2", "was left as", |run| note(run, Some("last"), None));
    found("P2", "was left as", |run| note(run, None, Some("earlier")));
    found("P2", "more than once", |run| {
        note(run, Some("last"), Some("last"));
        run.replica.push(run.replica.last().unwrap().clone());
    });
    found("a note was", "rubbish", |run| {
        note(run, None, None);
        run.notes[0].absurd.push("a note was answered rubbish".to_owned());
    });
}

#[test]
fn a_note_that_was_refused_leaves_what_was_there() {
    let mut run = kept_run();
    note(&mut run, Some("last"), Some("earlier"));
    let told = json!({"type": "memory.write", "payload": {"id": "note", "content": "last"}});
    run.letters.push(letter(9, told.to_string().as_bytes(), &json!({"kind": "memory"})));
    topic(&mut run, LETTERS).push(record(0, 1, SESSION, &json!({"dead_letter_id": 9})));
    assert_eq!(check(&run), Vec::<String>::new());
    run.letters.last_mut().unwrap()["error_code"] = json!("500");
    let findings = check(&run);
    assert!(findings.iter().any(|finding| finding.contains("the note note was given up")), "{findings:?}");
}

#[test]
fn what_is_appended_again_is_no_finding() {
    let mut run = kept_run();
    let again = topic(&mut run, MEMORIES)[1..3].to_vec();
    topic(&mut run, MEMORIES).extend(again.into_iter().zip(7..).map(|(record, offset)| Kept { offset, ..record }));
    run.received.extend(["e2".to_owned(), "e1".to_owned()]);
    assert_eq!(check(&run), Vec::<String>::new());
}

#[test]
fn a_lost_message_is_found() {
    found("P1", "is stored 0 times", |run| history(run).truncate(2));
}

#[test]
fn a_message_that_is_stored_twice_is_found() {
    found("P1", "stored more often", |run| {
        let mut again = event(5);
        again["payload"]["message"] = json!("message 3");
        history(run).push(again);
    });
}

#[test]
fn a_message_that_is_stored_as_another_is_found() {
    found("P1", "is stored as", |run| history(run)[0]["payload"]["message"] = json!("something else"));
    found("P1", "is stored as", |run| run.told.acknowledged[0].seq = 3);
}

#[test]
fn a_message_that_nobody_said_or_that_was_refused_is_found() {
    found("P1", "nobody said", |run| drop(run.told.acknowledged.pop()));
    found("P1", "was refused", |run| run.told.refused.push("e3".to_owned()));
    let mut run = kept_run();
    run.told.unknown.push(run.told.acknowledged.pop().unwrap().message);
    assert_eq!(check(&run), Vec::<String>::new(), "whose fate nobody told may be stored");
}

#[test]
fn a_reply_that_no_client_should_get_is_found() {
    found("a post", "500", |run| run.told.absurd.push("a post was answered 500".to_owned()));
}

#[test]
fn a_memory_without_a_row_or_with_two_is_found() {
    found("P2", "0 rows", |run| drop(run.replica.remove(0)));
    found("P2", "2 rows", |run| {
        let again = run.replica[0].clone();
        run.replica.push(again);
    });
}

#[test]
fn a_memory_that_is_a_row_and_a_dead_letter_is_found() {
    found("P2", "1 rows of the replica and 1 dead letters", |run| {
        let told = memory(&event(1));
        run.letters.push(letter(3, told.to_string().as_bytes(), &json!({"kind": "memory"})));
    });
}

#[test]
fn a_memory_that_was_given_up_without_need_is_found() {
    found("P2", "though nobody refused it", |run| run.letters[0]["error_code"] = json!("503"));
    found("P2", "though nobody refused it", |run| run.letters[0]["error_code"] = json!(null));
}

#[test]
fn a_row_that_says_something_else_is_found() {
    found("P2", "in the replica", |run| run.replica[0]["payload"]["content"] = json!("something else"));
    found("P2", "in the replica", |run| run.replica[0]["session_id"] = json!("other"));
}

#[test]
fn a_memory_that_the_service_never_received_or_has_otherwise_is_found() {
    found("P2", "never received", |run| run.received.retain(|key| key != "e1"));
    found("P2", "in the memory service", |run| run.kept[0].1["content"] = json!("something else"));
    found("P2", "[] in the memory service", |run| drop(run.kept.remove(0)));
    found("P2", "in the memory service", |run| {
        let again = run.kept[0].clone();
        run.kept.push(again);
    });
}

#[test]
fn what_is_in_no_history_and_yet_somewhere_is_found() {
    found("P2", "the replica has e9", |run| run.replica.push(row("e9", &json!({}), 1.0)));
    found("P2", "received e9", |run| run.received.push("e9".to_owned()));
    found("P2", "of nothing that was said", |run| run.letters.push(letter(3, b"other", &json!({"kind": "outbox"}))));
}

#[test]
fn an_error_is_no_memory_and_is_found_where_memories_are() {
    found("P2", "received e2, which nobody said", |run| {
        history(run)[1]["payload"]["type"] = json!("assistant.error");
    });
}

#[test]
fn a_planted_record_that_is_lost_doubled_or_changed_is_found() {
    found("P2", "0 dead letters", |run| drop(run.letters.pop()));
    found("P2", "2 dead letters", |run| {
        let again = run.letters[1].clone();
        run.letters.push(again);
    });
    found("P2", "another one in its letter", |run| run.letters[1]["original"] = json!("AAAA"));
    found("P2", "the planted memory late", |run| drop(run.replica.pop()));
    found("P2", "another clock", |run| run.planted[1].memory = Some(("late".to_owned(), 6.0)));
}

/// Puts a planted record into the log once more, behind the first.
fn plant_again(run: &mut Evidence, place: usize) {
    let first = &run.planted[place];
    let (offset, payload) = (first.offset + 2, first.payload.clone());
    let again = Kept { partition: first.partition, offset, key: Some(SESSION.to_owned()), payload };
    topic(run, MEMORIES).push(again);
}

#[test]
fn a_planted_record_may_be_in_the_log_twice_if_its_clock_is_late() {
    let mut run = kept_run();
    plant_again(&mut run, 1);
    assert_eq!(check(&run), Vec::<String>::new());
    found("P3", "no event that is stored", |run| plant_again(run, 0));
}

#[test]
fn a_dead_letter_that_its_topic_does_not_tell_of_is_found() {
    found("P2", "does not tell of dead letter", |run| drop(topic(run, LETTERS).pop()));
}

#[test]
fn a_receipt_that_is_wrong_is_found() {
    found("P2", "is missing", |run| drop(run.receipts.remove("e1")));
    found("P2", "it is replicated", |run| run.receipts.get_mut("e1").unwrap()["state"] = json!("logged"));
    found("P2", "is not there", |run| run.receipts.get_mut("e1").unwrap()["offset"] = json!(1));
    found("P2", "is not there", |run| run.receipts.get_mut("e1").unwrap()["sha256"] = json!("00"));
}

#[test]
fn a_gap_in_the_numbers_is_found() {
    found("P3", "number 3 should be", |run| drop(history(run).remove(2)));
}

#[test]
fn a_turn_with_two_ends_or_none_is_found() {
    found("P3", "has 0 ends", |run| drop(history(run).pop()));
    found("P3", "has 2 ends", |run| {
        let mut again = event(5);
        again["payload"] = event(4)["payload"].clone();
        history(run).push(again);
    });
}

#[test]
fn an_order_of_the_history_that_is_not_that_of_sending_is_found() {
    found("P3", "before what was acknowledged earlier", |run| run.told.acknowledged.reverse());
}

#[test]
fn a_log_in_another_order_or_partition_or_under_another_key_is_found() {
    found("P3", "only after", |run| topic(run, MEMORIES).swap(0, 1));
    found("P3", "only after", |run| topic(run, OUTBOUND).reverse());
    found("P3", "in the partitions", |run| topic(run, INBOUND)[1].partition = 0);
    found("P3", "under the key", |run| topic(run, INBOUND)[1].key = None);
}

#[test]
fn an_event_that_the_log_lacks_or_has_wrongly_is_found() {
    found("P3", "does not tell of e1", |run| drop(topic(run, MEMORIES).remove(0)));
    found("P3", "does not tell of e3", |run| drop(topic(run, INBOUND).pop()));
    found("P3", "tells of e4 and should not", |run| {
        let refused = record(2, 9, SESSION, &memory(&event(4)));
        topic(run, MEMORIES).push(refused);
    });
    found("P3", "no event that is stored", |run| {
        let odd = record(1, 9, SESSION, &json!({"event_id": "e9", "session_id": SESSION}));
        topic(run, INBOUND).push(odd);
    });
}

#[test]
fn an_answer_that_is_not_what_the_model_said_is_found() {
    let spliced = format!("{}{}", &answer(1)[..10], &answer(2)[10..]);
    found("P4", "no single answer", |run| history(run)[1]["payload"]["message"] = json!(spliced));
    found("P4", "no single answer", |run| history(run)[1]["payload"]["message"] = json!(""));
    found("P4", "is stored for", |run| history(run)[1]["payload"]["message"] = json!(answer(2)));
}

#[test]
fn an_answer_that_is_not_what_its_readers_saw_is_found() {
    for (reader, words) in [(0, "and stored is"), (1, "saw `something else ` replaced by")] {
        found("P4", words, |run| {
            let seen = run.readings[reader].seen.iter_mut().find(|seen| seen.frame.kind() == "assistant.stream");
            let data = &mut seen.unwrap().frame.data;
            let name = if reader == 0 { "delta" } else { "message" };
            data[name] = json!("something else ");
        });
    }
    found("P4", "and stored is", |run| {
        let place = run.readings[0].seen.iter().rposition(|seen| seen.frame.kind() == "assistant.stream");
        run.readings[0].seen.remove(place.unwrap());
    });
}

#[test]
fn a_reader_who_missed_an_event_or_saw_one_twice_is_found() {
    found("P4", "saw 3 stored events of 4", |run| drop(run.readings[1].seen.pop()));
    found("P4", "saw 5 stored events of 4", |run| {
        let again = run.readings[1].seen.last().unwrap().clone();
        run.readings[1].seen.push(again);
    });
    found("P4", "where the history has", |run| run.readings[0].seen[0].frame.data["message"] = json!("other"));
}

#[test]
fn a_reader_who_came_back_when_the_turn_was_over_may_lack_its_pieces() {
    let mut run = kept_run();
    let seen = &mut run.readings[0].seen;
    let end = seen.len() - 1;
    seen[end].connection = 1;
    seen.remove(end - 1);
    assert_eq!(check(&run), Vec::<String>::new());
}

#[test]
fn pieces_of_an_attempt_that_did_not_begin_are_found() {
    found("P4", "without its beginning", |run| {
        let seen = &mut run.readings[0].seen;
        let place = seen.iter().position(|seen| seen.frame.kind() == "assistant.started").unwrap();
        seen.remove(place);
    });
}
