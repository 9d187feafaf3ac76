#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::collections::HashMap;

use serde_json::{Value, json};
use sqlx::{Connection, PgPool};
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        brought::Brought,
        dead_letter::{Failure, Origin},
        ids::Tenant,
        receipt::State,
        wal::{self, TakenBack},
    },
    store::{
        dead_letters::{
            self, NewDeadLetter,
            replay::{self, Outgoing},
        },
        forget::{Forgotten, forget},
        memory_replica::{self, LogPartition, NewReplica, tombstones},
        memory_write_outbox::{self, enqueue::enqueue},
        message_outbox::{self, NewMessage},
        outbox::{ClaimTerms, Settled},
        wall::within,
    },
};

const LEASE: std::time::Duration = std::time::Duration::from_mins(1);

fn at(second: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(second)
}

fn record(content: &str) -> Value {
    wal::record("t", &Uuid::nil().to_string(), &json!({"id": "e", "content": content}), &Value::Null, 1, at(0))
}

/// The ways of a memory `e` of the tenant `t`, step by step.
struct Way {
    connection: sqlx::pool::PoolConnection<sqlx::Postgres>,
}

impl Way {
    /// In a session of `ann`'s.
    async fn new(pool: &PgPool) -> Self {
        let sql = "INSERT INTO session_envelopes (tenant, session_id, subject, epoch, last_seq, created_at, updated_at)
                   VALUES ('t', $1, 'ann', 1, 1, now(), now())";
        sqlx::query(sql).bind(Uuid::nil()).execute(pool).await.unwrap();
        Self { connection: pool.acquire().await.unwrap() }
    }

    async fn write(&mut self, content: &str, second: i64) {
        let payload = json!({"id": "e", "content": content});
        let memory = Brought { id: "e".into(), lane: Uuid::nil(), payload, idempotency_key: "k".into() };
        within(&mut self.connection, "t", async |rows| {
            enqueue(rows, &Tenant::new("t").unwrap(), &[memory], at(second)).await
        })
        .await;
    }

    /// The memory service takes the next one, or refuses it.
    async fn remember(&mut self, content: &str, taken: bool, second: i64) {
        let terms = ClaimTerms { rows: 1, rows_a_key: 1, ..ClaimTerms::begin(at(second), LEASE, 1) };
        let from = memory_write_outbox::Place::default();
        let (rows, _) = memory_write_outbox::claim(&mut self.connection, &from, terms).await.unwrap();
        let id = rows[0].id;
        let mut settled = Settled { keys: HashMap::from([(rows[0].id, rows[0].queue_key())]), ..Settled::default() };
        if taken {
            settled.sent.push(id);
        } else {
            settled.failed.push((id, "no".into()));
        }
        memory_write_outbox::settle(&mut self.connection, terms.claim, &settled, at(second)).await.unwrap();
        if taken {
            let message = NewMessage {
                tenant: "t".into(),
                session_id: Uuid::nil(),
                seq: None,
                topic: "memory.wal",
                headers: json!({}),
                payload: record(content),
                dedupe_key: Some("e".into()),
            };
            message_outbox::insert(&mut self.connection, &[message], at(second)).await.unwrap();
        } else {
            self.bury(content, Origin::Memory, None, second).await;
        }
    }

    async fn bury(&mut self, content: &str, origin: Origin, position: Option<(i32, i64)>, second: i64) {
        let letter = NewDeadLetter {
            tenant: "t".into(),
            source_topic: "memory.wal".into(),
            key: Some("k".into()),
            headers: json!({}),
            original: record(content).to_string().into_bytes(),
            failure: Failure { error: "no".into(), class: "refused", code: None, tries: 1 },
            origin,
            session_id: Some(Uuid::nil()),
            seq: None,
            position,
        };
        dead_letters::bury(&mut self.connection, vec![letter], at(second)).await.unwrap();
    }

    /// The log takes the record of the memory, at `place`, or refuses it. Notices of dead letters wait.
    async fn log(&mut self, place: Option<(i32, i64)>, second: i64) {
        let terms = ClaimTerms::begin(at(second), LEASE, 100);
        let from = message_outbox::Place::default();
        let (rows, _) = message_outbox::claim(&mut self.connection, &from, terms).await.unwrap();
        let keys = rows.iter().map(|row| (row.id, row.queue_key())).collect();
        let mut settled = Settled { keys, ..Settled::default() };
        for row in rows.iter().filter(|row| row.topic == "memory.wal") {
            match place {
                Some(place) => {
                    settled.sent.push(row.id);
                    settled.places.insert(row.id, place);
                }
                None => settled.failed.push((row.id, "no".into())),
            }
        }
        message_outbox::settle(&mut self.connection, terms.claim, &settled, at(second)).await.unwrap();
        if place.is_none() {
            self.bury("x", Origin::Outbox, None, second).await;
        }
    }

    /// The replica goes past `place`; with what the record there says, if it can be applied.
    async fn apply(&mut self, (partition, offset): (i32, i64), content: Option<&str>, second: i64) {
        let place = LogPartition { source: "table", topic: "memory.wal".into(), partition };
        let mut transaction = self.connection.begin().await.unwrap();
        let before = memory_replica::position(&mut transaction, &place, at(second)).await.unwrap();
        memory_replica::advance(&mut transaction, &place, before, offset + 1, at(second)).await.unwrap();
        let row = content.map(|content| NewReplica {
            tenant: "t".into(),
            event_id: "e".into(),
            session_id: Some(Uuid::nil().to_string()),
            persona_id: None,
            role: None,
            coord: None,
            request_id: None,
            trace_id: None,
            payload: json!({"id": "e", "content": content}).to_string(),
            revision: None,
            wal_timestamp: None,
            offset,
            sha256: [u8::try_from(offset).unwrap(); 32],
        });
        memory_replica::upsert(&mut transaction, &place, &row.iter().collect::<Vec<_>>(), at(second)).await.unwrap();
        transaction.commit().await.unwrap();
        if content.is_none() {
            self.bury("x", Origin::Replicator, Some((partition, offset)), second).await;
        }
    }

    async fn replay(&mut self, second: i64) {
        let sql = "SELECT max(id) FROM dlq_messages";
        let id: i64 = sqlx::query_scalar(sql).fetch_one(&mut *self.connection).await.unwrap();
        let again = async |rows: &mut TenantTx<'_>| {
            let letter = replay::take(rows, "t", "memory.wal.dlq", id).await?.unwrap();
            replay::send(rows, vec![Outgoing::of(letter).unwrap()], at(second)).await
        };
        within(&mut self.connection, "t", again).await;
    }

    async fn purge(&mut self) {
        memory_write_outbox::purge(&mut self.connection, at(1_000), 100).await.unwrap();
        message_outbox::purge(&mut self.connection, at(1_000), 100).await.unwrap();
    }

    async fn state_for(&mut self, tenant: &str, only: Option<&[&str]>) -> Option<(State, Option<(i32, i64)>)> {
        let only = only.map(|only| only.iter().map(ToString::to_string).collect::<Vec<_>>());
        let receipt = within(&mut self.connection, tenant, async |rows| {
            traces(rows, tenant, "e", "table", only.as_deref()).await
        })
        .await
        .receipt()?;
        assert_eq!(receipt.sha256.is_some(), receipt.state == State::Replicated);
        Some((receipt.state, receipt.place.map(|place| (place.partition, place.offset))))
    }

    async fn state(&mut self) -> Option<(State, Option<(i32, i64)>)> {
        assert_eq!(self.state_for("other", None).await, None, "another tenant has no such memory");
        for stranger in [&["bob"][..], &[]] {
            assert_eq!(self.state_for("t", Some(stranger)).await, None, "to a stranger there is no such memory");
        }
        let state = self.state_for("t", None).await;
        assert_eq!(self.state_for("t", Some(&["ann"])).await, state, "whose it is follows all of its way");
        state
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_receipt_follows_a_memory_and_outlives_the_queues(pool: PgPool) {
    let mut way = Way::new(&pool).await;
    assert_eq!(way.state().await, None);
    way.write("hi", 1).await;
    assert_eq!(way.state().await, Some((State::Queued, None)));
    way.remember("hi", true, 2).await;
    assert_eq!(way.state().await, Some((State::Remembered, None)));
    way.log(Some((2, 5)), 3).await;
    assert_eq!(way.state().await, Some((State::Logged, Some((2, 5)))));
    way.apply((2, 5), Some("hi"), 4).await;
    assert_eq!(way.state().await, Some((State::Replicated, Some((2, 5)))));
    let receipt = within(&mut way.connection, "t", async |rows| traces(rows, "t", "e", "table", None).await)
        .await
        .receipt()
        .unwrap();
    assert_eq!(receipt.sha256, Some(vec![5; 32]));
    let seconds = [receipt.at.queued, receipt.at.remembered, receipt.at.logged, receipt.at.replicated];
    assert_eq!(seconds, [1, 2, 3, 4].map(|second| Some(at(second))));
    way.purge().await;
    assert_eq!(way.state().await, Some((State::Replicated, Some((2, 5)))));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_memory_written_again_is_told_of_anew(pool: PgPool) {
    let mut way = Way::new(&pool).await;
    way.write("one", 1).await;
    way.write("two", 2).await;
    way.remember("one", true, 3).await;
    assert_eq!(way.state().await, Some((State::Queued, None)), "the second waits beside the first, without a key");
    way.log(Some((0, 1)), 4).await;
    way.apply((0, 1), Some("one"), 5).await;
    assert_eq!(way.state().await, Some((State::Queued, None)));
    way.remember("two", true, 6).await;
    assert_eq!(way.state().await, Some((State::Remembered, None)));
    way.log(Some((0, 2)), 7).await;
    assert_eq!(way.state().await, Some((State::Logged, Some((0, 2)))));
    way.apply((0, 2), Some("two"), 8).await;
    assert_eq!(way.state().await, Some((State::Replicated, Some((0, 2)))));
    let receipt = within(&mut way.connection, "t", async |rows| traces(rows, "t", "e", "table", None).await)
        .await
        .receipt()
        .unwrap();
    assert_eq!((receipt.at.queued, receipt.at.replicated), (Some(at(2)), Some(at(8))));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_memory_given_up_is_dead_until_it_is_sent_again(pool: PgPool) {
    let mut way = Way::new(&pool).await;
    way.write("hi", 1).await;
    way.remember("hi", false, 2).await;
    assert_eq!(way.state().await, Some((State::Dead, None)));
    way.purge().await;
    assert_eq!(way.state().await, Some((State::Dead, None)), "the letter tells when the queue has forgotten");
    way.replay(3).await;
    assert_eq!(way.state().await, Some((State::Queued, None)));
    way.remember("hi", true, 4).await;

    way.log(None, 5).await;
    assert_eq!(way.state().await, Some((State::Dead, None)));
    way.replay(6).await;
    assert_eq!(way.state().await, Some((State::Remembered, None)));
    way.log(Some((1, 3)), 7).await;
    assert_eq!(way.state().await, Some((State::Logged, Some((1, 3)))));

    way.apply((1, 3), None, 8).await;
    assert_eq!(way.state().await, Some((State::Dead, Some((1, 3)))));
    way.replay(9).await;
    assert_eq!(way.state().await, Some((State::Remembered, None)));
    way.log(Some((1, 4)), 10).await;
    way.apply((1, 4), Some("hi"), 11).await;
    assert_eq!(way.state().await, Some((State::Replicated, Some((1, 4)))));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_letter_sent_again_beside_a_waiting_version_is_not_lost(pool: PgPool) {
    let mut way = Way::new(&pool).await;
    for (content, second) in [("one", 1), ("two", 4)] {
        way.write(content, second).await;
        way.remember(content, true, second + 1).await;
        if content == "one" {
            way.log(None, second + 2).await;
        }
    }
    way.replay(6).await;
    let sql = "SELECT status FROM message_outbox WHERE topic = 'memory.wal' AND dedupe_key = 'e' ORDER BY id";
    let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&pool).await.unwrap();
    assert_eq!(rows, ["pending", "pending"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_memory_taken_back_has_no_receipt_however_far_it_came(pool: PgPool) {
    let mut way = Way::new(&pool).await;
    let gone = |queued, unpublished, replica| Forgotten {
        replica,
        queued,
        unpublished,
        lane: Some(Uuid::nil()),
        session_id: (replica > 0).then(|| Uuid::nil().to_string()),
        ..Forgotten::default()
    };
    for (steps, expected) in [gone(1, 0, 0), gone(0, 1, 0), gone(0, 0, 0), gone(0, 0, 1)].into_iter().enumerate() {
        let offset = i64::try_from(steps).unwrap();
        way.write("hi", 1).await;
        if steps > 0 {
            way.remember("hi", true, 2).await;
        }
        if steps > 1 {
            way.log(Some((0, offset)), 3).await;
        }
        if steps > 2 {
            way.apply((0, offset), Some("hi"), 4).await;
        }
        assert!(way.state().await.is_some());
        assert_eq!(within(&mut way.connection, "t", async |rows| forget(rows, "t", "e").await).await, expected);
        assert_eq!(way.state().await, None, "after {steps} steps");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_record_on_its_way_into_the_log_is_gone_once_what_takes_it_back_is_applied(pool: PgPool) {
    let mut way = Way::new(&pool).await;
    way.write("hi", 1).await;
    way.remember("hi", true, 2).await;
    let terms = ClaimTerms::begin(at(3), LEASE, 1);
    let from = message_outbox::Place::default();
    let (rows, _) = message_outbox::claim(&mut way.connection, &from, terms).await.unwrap();
    within(&mut way.connection, "t", async |rows| forget(rows, "t", "e").await).await;
    assert_eq!(way.state().await, Some((State::Remembered, None)));
    let places = HashMap::from([(rows[0].id, (0, 7))]);
    let settled = Settled {
        keys: HashMap::from([(rows[0].id, rows[0].queue_key())]),
        sent: vec![rows[0].id],
        places,
        ..Settled::default()
    };
    message_outbox::settle(&mut way.connection, terms.claim, &settled, at(4)).await.unwrap();
    assert_eq!(way.state().await, Some((State::Logged, Some((0, 7)))));
    way.apply((0, 7), Some("hi"), 5).await;
    let place = LogPartition { source: "table", topic: "memory.wal".into(), partition: 0 };
    let back = TakenBack { tenant: "t".into(), event_id: "e".into(), revision: None, timestamp: None };
    tombstones::remove(&mut way.connection, &place, &back, 8, at(6)).await.unwrap();
    assert_eq!(way.state().await, None);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_memory_is_of_the_session_that_each_trace_names(pool: PgPool) {
    let mut way = Way::new(&pool).await;
    way.write("hi", 1).await;
    way.remember("hi", true, 2).await;
    way.log(Some((0, 7)), 3).await;
    way.apply((0, 7), Some("hi"), 4).await;
    way.purge().await;
    let replicated = Some((State::Replicated, Some((0, 7))));
    assert_eq!(way.state_for("t", Some(&["ann"])).await, replicated);
    // Names of sessions that other programs wrote are no ids, and memories without a session are nobody's own.
    for session in [Some("monday"), Some("00000000-0000-0000-0000-00000000000"), None] {
        let sql = "UPDATE memory_replica SET session_id = $1";
        sqlx::query(sql).bind(session).execute(&mut *way.connection).await.unwrap();
        assert_eq!(way.state_for("t", Some(&["ann"])).await, None, "{session:?}");
        assert_eq!(way.state_for("t", None).await, replicated, "{session:?}");
    }
    // Somebody else writes a memory of that name: each sees their own.
    sqlx::query("UPDATE session_envelopes SET subject = 'bob'").execute(&mut *way.connection).await.unwrap();
    way.write("mine", 5).await;
    assert_eq!(way.state_for("t", Some(&["bob"])).await, Some((State::Queued, None)));
    assert_eq!(way.state_for("t", Some(&["ann"])).await, None);
}

/// Many memories of one tenant in every table, as far as each may be.
const MANY: &str = r#"
    INSERT INTO session_envelopes (tenant, session_id, subject, epoch, created_at, updated_at)
    SELECT 't', gen_random_uuid(), 'ann', 1, now(), now() FROM generate_series(1, 3000) AS n;
    INSERT INTO memory_write_outbox (tenant, session_id, payload, idempotency_key, dedupe_key, status, next_attempt_at,
        created_at, updated_at)
    SELECT 't', gen_random_uuid(), jsonb_build_object('id', n::text), 'k', CASE WHEN n % 3 > 0 THEN n::text END,
        CASE WHEN n % 2 = 0 THEN 'sent' ELSE 'pending' END, now(), now(), now()
    FROM generate_series(1, 3000) AS n;
    INSERT INTO message_outbox (tenant, topic, partition_key, payload, dedupe_key, status, next_attempt_at, created_at,
        updated_at)
    SELECT 't', 'memory.wal', n::text, '{}', n::text, CASE WHEN n % 2 = 0 THEN 'sent' ELSE 'pending' END, now(), now(), now()
    FROM generate_series(1, 3000) AS n;
    INSERT INTO memory_replica (tenant, event_id, session_id, payload, topic, partition, "offset", sha256, created_at)
    SELECT 't', n::text, n::text, '{}', 'memory.wal', 0, n, '', now() FROM generate_series(1, 3000) AS n;
    INSERT INTO memory_replica_offsets (source, topic, partition, updated_at)
    SELECT 'table', 'memory.wal', n, now() FROM generate_series(1, 3000) AS n;
    INSERT INTO dlq_messages (tenant, topic, source_topic, original, event, error, error_class, attempts, origin, created_at,
        updated_at)
    SELECT 't', 'memory.wal.dlq', 'memory.wal', '', jsonb_build_object('payload', jsonb_build_object('id', n::text)), 'e', 'c',
        1, 'replicator', now(), now()
    FROM generate_series(1, 3000) AS n;
    ANALYZE;
    SET plan_cache_mode = force_generic_plan;
"#;

#[sqlx::test(migrations = "../migrations")]
async fn every_table_is_looked_up_by_an_index(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    sqlx::raw_sql(MANY).execute(&mut *connection).await.unwrap();
    let prepare = format!("PREPARE receipt (text, text, text, text[]) AS {}", include_str!("../receipt.sql"));
    sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut *connection).await.unwrap();
    let plan: Vec<String> = sqlx::query_scalar("EXPLAIN EXECUTE receipt('t', 'e', 'table', '{ann}')")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    let plan = plan.join("\n");
    for index in [
        "memory_write_outbox_dedupe",
        "memory_write_outbox_memory",
        "memory_write_outbox_beside",
        "message_outbox_memory",
        "memory_replica_event",
        "memory_replica_offsets_pkey",
        "dlq_messages_memory",
        "session_envelopes_pkey",
    ] {
        assert!(plan.contains(index), "{index} is not used: {plan}");
    }
    assert!(!plan.contains("Seq Scan"), "{plan}");
}
