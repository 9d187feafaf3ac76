//! Long histories: erased at once, deleted in pages.

use super::*;
use crate::{
    domain::{
        append::{AuditWrite, Doer},
        event::StoredEvent,
    },
    store::{
        erase::{Leave, erase, sweep, unswept},
        session_events,
        wall::{TenantTx, within},
    },
};

/// More rows than any page has.
const LONG: i64 = 5000;

fn key(session: Uuid) -> SessionKey {
    SessionKey::new(Tenant::new("public").unwrap(), session)
}

fn line() -> AuditWrite {
    AuditWrite {
        doer: Doer::default(),
        action: "session.reset",
        resource: "session",
        target_id: "x".into(),
        workflow_id: None,
        details: Value::Null,
        diff: None,
    }
}

/// A session with [`LONG`] messages, each with a key of its own and a turn that was never answered.
async fn long_session(pool: &PgPool) -> Uuid {
    let session = Uuid::new_v4();
    let rows = format!(
        "INSERT INTO session_envelopes (tenant, session_id, epoch, last_seq, created_at, updated_at)
         VALUES ('public', '{session}', 1, {LONG}, now(), now());
         INSERT INTO session_events (
             tenant, session_id, seq, event_id, turn_seq, type, idempotency_key, body_hash, occurred_at, payload
         )
         SELECT 'public', '{session}', n, gen_random_uuid(), n, 'user', 'key-' || n, '', now(), '{{\"message\": \"old\"}}'
         FROM generate_series(1, {LONG}) AS n;
         INSERT INTO turns (tenant, session_id, turn_seq, event_id, attempt, state, started_at, updated_at)
         SELECT tenant, session_id, seq, event_id, 0, 'queued', now(), now() FROM session_events"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(pool).await.unwrap();
    session
}

async fn erased(
    connection: &mut sqlx::PgConnection,
    key: &SessionKey,
    fence: (i64, i64),
    now: OffsetDateTime,
) -> Option<u64> {
    let reset = async |rows: &mut TenantTx<'_>| erase(rows, key, fence, Leave::Envelope, now, &line()).await;
    within(connection, "public", reset).await
}

async fn rows(pool: &PgPool, upto: i64) -> i64 {
    let sql = "SELECT (SELECT count(*) FROM session_events WHERE seq <= $1) + (SELECT count(*) FROM turns WHERE turn_seq <= $1)";
    sqlx::query_scalar(sql).bind(upto).fetch_one(pool).await.unwrap()
}

/// Everything of a session that any read gives.
async fn readable(pool: &PgPool, key: &SessionKey, event_id: Uuid) -> Vec<StoredEvent> {
    let mut connection = pool.acquire().await.unwrap();
    let mut found = session_events::between(&mut connection, key, None, 0, i64::MAX, 10).await.unwrap();
    let read = async |rows: &mut TenantTx<'_>| {
        let mut found = session_events::before(rows, key, None, i64::MAX, 10).await?;
        found.extend(session_events::said_before(rows, key, i64::MAX, 10).await?);
        Ok(found)
    };
    found.extend(within(&mut connection, "public", read).await);
    found.extend(session_events::by_id(&mut connection, key, event_id).await.unwrap());
    assert!(turns::open(&mut connection, key).await.unwrap().is_empty(), "a turn that was erased is open");
    assert_eq!(turns::last(&mut connection, key).await.unwrap(), 0);
    found
}

#[sqlx::test(migrations = "../migrations")]
async fn a_long_history_is_gone_at_once_and_its_rows_follow_also_after_a_crash_between_pages(pool: PgPool) {
    let session = long_session(&pool).await;
    let key = key(session);
    let last: Uuid = sqlx::query_scalar("SELECT event_id FROM session_events WHERE seq = $1")
        .bind(LONG)
        .fetch_one(&pool)
        .await
        .unwrap();
    let mut connection = pool.acquire().await.unwrap();
    let now = OffsetDateTime::now_utc();
    let stale = erased(&mut connection, &key, (1, LONG - 1), now).await;
    assert_eq!((stale, rows(&pool, LONG).await), (None, 2 * LONG));
    let events = erased(&mut connection, &key, (1, LONG), now).await;
    assert_eq!(events, u64::try_from(LONG).ok());
    // One page goes, then everything stops.
    let due = unswept(&mut connection, 10).await.unwrap();
    sweep(&mut connection, &due[0], 100).await.unwrap();
    assert_eq!(rows(&pool, LONG).await, 2 * (LONG - 100));
    assert_eq!(readable(&pool, &key, last).await, []);
    drop(connection);

    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("new answer"));
        // A key that an erased message has used is free again, whether that message still has its row or not.
        let idempotency = Some(Idempotency { key: format!("key-{LONG}"), body_hash: [1; 32] });
        let draft = MessageDraft { message: "new".into(), idempotency, ..MessageDraft::default() };
        let mut stream = world.listen(session, Some(Cursor::after(LONG)), StreamMode::Delta).await;
        let accepted = world.conversations.post(&world.caller, session, Uuid::new_v4(), draft.clone()).await.unwrap();
        assert_eq!(accepted.seq, LONG + 1);
        turn(&mut stream).await;
        let swept = async {
            while rows(&pool, LONG).await > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, swept).await.expect("the keeper goes on with the pages");
        assert_eq!(world.conversations.post(&world.caller, session, Uuid::new_v4(), draft).await.unwrap(), accepted);
        let events = world.reads.events(&world.caller, session, 0, 10).await.unwrap().events;
        let said: Vec<_> = events.iter().map(|event| event.payload["message"].as_str().unwrap()).collect();
        assert_eq!(said, ["new", "new answer"]);
        assert_eq!(world.conversations.delete(&world.caller, session).await.unwrap(), 2);
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_of_an_erased_message_that_still_has_its_row_is_free(pool: PgPool) {
    let session = long_session(&pool).await;
    let mut connection = pool.acquire().await.unwrap();
    let now = OffsetDateTime::now_utc();
    let used = session_events::by_idempotency_key(&mut connection, &key(session), "key-7").await.unwrap();
    assert_eq!(used.map(|used| used.seq), Some(7));
    erased(&mut connection, &key(session), (1, LONG), now).await;
    assert!(session_events::by_idempotency_key(&mut connection, &key(session), "key-7").await.unwrap().is_none());
    assert_eq!(rows(&pool, LONG).await, 2 * LONG - 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_rows_of_a_deleted_session_go_and_its_tombstone_stays(pool: PgPool) {
    let session = long_session(&pool).await;
    sqlx::query("DELETE FROM turns").execute(&pool).await.unwrap();
    local(async {
        let world = World::start(&pool, None).await;
        assert_eq!(world.conversations.delete(&world.caller, session).await.unwrap(), u64::try_from(LONG).unwrap());
        let gone = async {
            while rows(&pool, i64::MAX).await > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, gone).await.expect("the keeper deletes the rows");
        let again = world.conversations.reset(&world.caller, session).await;
        assert!(matches!(again, Err(ConversationError::Deleted)));
    })
    .await;
}
