#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use bytes::Bytes;
use serde_json::Map;
use somaagent_supervision::Probe;
use sqlx::PgPool;
use tokio::join;

use super::*;
use crate::uploads::{
    Declared, Keeping, Uploads,
    tests::{caller, uploads},
};

const SESSION: Uuid = Uuid::from_u128(7);

fn now() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH
}

fn space() -> MemorySpace {
    MemorySpace { universe: Some("u".to_owned()), namespace: "wm".to_owned() }
}

async fn send(uploads: &Uploads, session_id: Option<Uuid>) -> Attachment {
    let said = Declared { filename: Some("note.txt".to_owned()), mime: None };
    let ingest = uploads.begin(&caller("t"), uploads.rules(), &said).await.unwrap();
    let judged = ingest.push(Bytes::from_static(b"words")).await.unwrap().finish().await.unwrap();
    let keeping = Keeping { caller: caller("t"), session_id, persona_id: Some("p".to_owned()) };
    judged.numbered(3).keep(keeping).await.unwrap()
}

/// What waits to be remembered: its lane, its id, and the record.
async fn waiting(pool: &PgPool) -> Vec<(Uuid, String, Value)> {
    let sql = "SELECT session_id, dedupe_key, payload FROM memory_write_outbox ORDER BY id";
    sqlx::query_as(sql).fetch_all(pool).await.unwrap()
}

async fn stage(pool: &PgPool, id: Uuid) -> Option<String> {
    sqlx::query_scalar("SELECT memory FROM attachments WHERE id = $1").bind(id).fetch_one(pool).await.unwrap()
}

/// One round, in which the memory service gives these answers, one after the other. Returns what it was asked to forget.
async fn round(pool: &PgPool, answers: impl IntoIterator<Item = Result<Deletion, BrainError>>) -> Vec<String> {
    let (mut probe, port) = Probe::<Consult<DeleteByKey>>::new(4);
    let store = uploads(pool).store;
    let answer = async {
        let mut asked = Vec::new();
        for answer in answers {
            let (consult, _) = probe.next().await;
            asked.push(consult.question.id);
            consult.reply.send(answer);
        }
        asked
    };
    let mut round = Forgetting::default();
    let forget = async { while round.step(&store, &port, now).await.unwrap() {} };
    join!(forget, answer).1
}

#[expect(clippy::unnecessary_wraps, reason = "an answer as the service gives it")]
fn done() -> Result<Deletion, BrainError> {
    Ok(Deletion::Done { deleted: Some(1), rest: Map::new() })
}

#[sqlx::test(migrations = "../migrations")]
async fn that_a_file_was_sent_is_put_into_the_queue_with_it_where_that_is_wanted(pool: PgPool) {
    let uploads = uploads(&pool);
    let silent = send(&uploads, Some(SESSION)).await;
    assert_eq!((waiting(&pool).await.len(), stage(&pool, silent.id).await), (0, None));
    let uploads = uploads.remembering_in(space());
    let kept = send(&uploads, Some(SESSION)).await;
    let alone = send(&uploads, None).await;
    let found = waiting(&pool).await;
    let id = format!("att:{}", kept.id);
    assert_eq!((found[0].0, &found[0].1), (SESSION, &id));
    let told = json!({
        "id": id, "type": "attachment", "role": "user", "content": "",
        "attachments": [{
            "id": kept.id, "filename": "note.txt", "mime": "text/plain", "size": 5, "sha256": kept.sha256,
            "path": format!("/v1/attachments/{}", kept.id), "status": "clean", "session_id": SESSION, "tenant": "t",
        }],
        "session_id": SESSION, "persona_id": "p",
        "metadata": {
            "tenant": "t", "filename": "note.txt", "mime": "text/plain", "agent_profile_id": null, "upload_index": 3,
            "universe_id": "u", "correlation_id": Uuid::from_u128(1),
        },
        "idempotency_key": found[0].2["idempotency_key"],
    });
    assert_eq!(found[0].2, told);
    assert!(found[0].2["idempotency_key"].as_str().unwrap().starts_with(&format!("t/wm/{SESSION}/user/1970-01-01T")));
    // What belongs to no session is remembered too, and waits for nothing else.
    assert_eq!((found[1].1.clone(), found[1].2["session_id"].is_null()), (format!("att:{}", alone.id), true));
    assert!(found[1].0 != SESSION && stage(&pool, alone.id).await.as_deref() == Some("queued"));
}

#[sqlx::test(migrations = "../migrations")]
async fn the_memory_of_what_was_deleted_is_taken_back_here_in_the_log_and_by_the_service(pool: PgPool) {
    let uploads = uploads(&pool).remembering_in(space());
    let (kept, stays) = (send(&uploads, Some(SESSION)).await, send(&uploads, Some(SESSION)).await);
    assert!(round(&pool, []).await.is_empty(), "nothing was deleted");
    uploads.delete(&caller("t"), kept.id).await.unwrap();
    assert_eq!(round(&pool, [done()]).await, [format!("att:{}", kept.id)]);
    assert_eq!(stage(&pool, kept.id).await, None);
    let left = waiting(&pool).await;
    assert_eq!(left.iter().map(|left| &left.1).collect::<Vec<_>>(), [&format!("att:{}", stays.id)]);
    let record: Value = sqlx::query_scalar("SELECT payload FROM message_outbox").fetch_one(&pool).await.unwrap();
    assert_eq!(
        (&record["type"], &record["payload"]["id"]),
        (&json!("memory.delete"), &json!(format!("att:{}", kept.id)))
    );
    assert_eq!(record["session_id"], json!(SESSION));
    assert!(round(&pool, []).await.is_empty(), "once is enough");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_memory_service_that_does_not_answer_is_told_again_and_one_that_forgets_nothing_is_not(pool: PgPool) {
    let uploads = uploads(&pool).remembering_in(space());
    let [one, two] = [send(&uploads, None).await.id, send(&uploads, None).await.id];
    for id in [one, two] {
        uploads.delete(&caller("t"), id).await.unwrap();
    }
    sqlx::query("UPDATE attachments SET deleted_at = '1970-01-02' WHERE id = $1")
        .bind(two)
        .execute(&pool)
        .await
        .unwrap();
    let endpoint = <DeleteByKey as crate::somabrain::Question>::ENDPOINT;
    let asked = round(&pool, [Err(BrainError::TimedOut { endpoint })]).await;
    assert_eq!(asked, [format!("att:{one}")], "those of the same tenant wait for the next round, too");
    assert_eq!(
        (stage(&pool, one).await.as_deref(), stage(&pool, two).await.as_deref()),
        (Some("withdrawn"), Some("withdrawn")),
        "here they are taken back whether or not the service answers"
    );
    let refused = BrainError::Refused { endpoint, status: 422, detail: String::new() };
    let asked = round(&pool, [Ok(Deletion::Unsupported), Err(refused)]).await;
    assert_eq!(asked, [format!("att:{one}"), format!("att:{two}")]);
    assert_eq!((stage(&pool, one).await, stage(&pool, two).await), (None, None));
    let records: i64 = sqlx::query_scalar("SELECT count(*) FROM message_outbox").fetch_one(&pool).await.unwrap();
    assert_eq!(records, 2, "the log is told of each once");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_memory_that_is_being_written_is_taken_back_only_after_that(pool: PgPool) {
    let uploads = uploads(&pool).remembering_in(space());
    let kept = send(&uploads, Some(SESSION)).await;
    uploads.delete(&caller("t"), kept.id).await.unwrap();
    let lease = "INSERT INTO outbox_leases (queue, scope, key, claim, lease_until)
                 VALUES ('memory_write_outbox', 't', $1, gen_random_uuid(), now())";
    sqlx::query(lease).bind(SESSION.to_string()).execute(&pool).await.unwrap();
    assert!(round(&pool, []).await.is_empty());
    assert_eq!((waiting(&pool).await.len(), stage(&pool, kept.id).await.as_deref()), (1, Some("queued")));
    sqlx::raw_sql("DELETE FROM outbox_leases; UPDATE memory_write_outbox SET status = 'sent'")
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(round(&pool, [done()]).await.len(), 1);
    assert_eq!((waiting(&pool).await.len(), stage(&pool, kept.id).await), (0, None));
}

/// Attachments of `tenant` whose memories are taken back up to `stage`.
async fn forgotten(pool: &PgPool, (tenant, stage): (&str, &str), count: i64) {
    let sql =
        "INSERT INTO attachments (id, tenant, filename, mime, size, sha256, status, created_at, deleted_at, memory)
               SELECT gen_random_uuid(), $1, 'a', 'text/plain', 1, repeat('5f', 32), 'clean', 'epoch', 'epoch', $2
               FROM generate_series(1, $3)";
    sqlx::query(sql).bind(tenant).bind(stage).bind(count).execute(pool).await.unwrap();
}

#[sqlx::test(migrations = "../migrations")]
async fn many_of_which_the_service_will_not_hear_keep_no_other_one_waiting(pool: PgPool) {
    let many = 2 * PAGE + 1;
    forgotten(&pool, ("t", "withdrawn"), many).await;
    forgotten(&pool, ("t", "queued"), many).await;
    // Later than all of those.
    let other = send(&uploads(&pool).remembering_in(space()), None).await.id;
    let rest = "UPDATE attachments SET tenant = 'u', deleted_at = '1970-01-02', blob_id = NULL, memory = 'withdrawn' WHERE id = $1";
    sqlx::query(rest).bind(other).execute(&pool).await.unwrap();
    let (_probe, nobody) = Probe::<Consult<DeleteByKey>>::new(1);
    assert!(Forgetting::default().step(&uploads(&pool).store, &nobody, now).await.unwrap());
    let here = "SELECT count(*) FROM attachments WHERE memory = 'withdrawn'";
    let count: i64 = sqlx::query_scalar(here).fetch_one(&pool).await.unwrap();
    assert_eq!(count, many + 1 + PAGE, "other work has its turn after some of them");
    let endpoint = <DeleteByKey as crate::somabrain::Question>::ENDPOINT;
    let asked = round(&pool, [Err(BrainError::TimedOut { endpoint }), done()]).await;
    assert_eq!((asked.len(), &asked[1]), (2, &format!("att:{other}")), "a tenant that is not heard is asked once");
    let left: Vec<(String, i64)> =
        sqlx::query_as("SELECT memory, count(*) FROM attachments WHERE memory IS NOT NULL GROUP BY memory")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(left, [("withdrawn".to_owned(), 2 * many)], "here all are taken back");
    assert_eq!(round(&pool, (0..2 * many).map(|_| done())).await.len(), usize::try_from(2 * many).unwrap());
}

#[sqlx::test(migrations = "../migrations")]
async fn a_round_comes_to_its_end_although_more_and_more_is_deleted(pool: PgPool) {
    let (mut probe, port) = Probe::<Consult<DeleteByKey>>::new(4);
    let store = uploads(&pool).store;
    let answers = async {
        loop {
            let (consult, _) = probe.next().await;
            consult.reply.send(done());
        }
    };
    let steps = async {
        let (mut round, mut steps) = (Forgetting::default(), 0);
        loop {
            forgotten(&pool, ("t", "queued"), 1).await;
            steps += 1;
            if !round.step(&store, &port, now).await.unwrap() {
                break steps;
            }
        }
    };
    let steps = tokio::select! { steps = steps => steps, () = answers => 0 };
    assert_eq!(steps, 2, "what comes meanwhile waits for the next round");
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM attachments WHERE memory = 'queued'").fetch_one(&pool).await.unwrap();
    assert_eq!(left, 1);
}
