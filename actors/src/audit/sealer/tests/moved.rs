//! A sealer with the key that is told that the trail comes from another server.

use futures_util::future::BoxFuture;

use super::*;
use crate::{
    audit::verify::Signature,
    bus::{Log, LogError, Position, Reader, Record, table::TableLog},
    domain::audit_chain::CHECKPOINTS as TOPIC,
};

/// Puts what waits in the outbox into the log, as the relay does.
async fn relayed(deps: &SealerDeps, pool: &PgPool) {
    let sql = "DELETE FROM message_outbox WHERE topic = 'audit.checkpoints' RETURNING tenant, payload";
    let waiting: Vec<(String, Value)> = sqlx::query_as(sql).fetch_all(pool).await.unwrap();
    let log = TableLog::new(deps.store.clone(), clock);
    log.ensure_topics(&[TOPIC]).await.unwrap();
    let records = waiting.into_iter().map(|(key, payload)| Record {
        topic: TOPIC.to_owned(),
        key,
        headers: serde_json::json!({}),
        payload: payload.to_string().into_bytes(),
    });
    assert!(log.append(records.collect()).await.iter().all(Result::is_ok));
}

/// A trail with a checkpoint in the log.
async fn signed(deps: &SealerDeps, pool: &PgPool) {
    put(pool, "t", "sealed", 1).await;
    all_sealed(deps).await;
    assert!(!tell(deps, deps.signer.clone().unwrap()).await.unwrap());
    relayed(deps, pool).await;
}

async fn kinds(deps: &SealerDeps) -> (Vec<Kind>, Vec<Signature>) {
    let told = deps.book.all().await.unwrap();
    let known = Checkpoints::read(&told, &deps.signer.clone().unwrap().public());
    let report = verify(&deps.store, None, known).await.unwrap();
    let signatures = report.takeovers.into_iter().map(|moved| moved.signature).collect();
    (report.findings.into_iter().map(|found| found.kind).collect(), signatures)
}

#[sqlx::test(migrations = "../migrations")]
async fn a_trail_whose_last_checkpoint_was_signed_here_is_not_taken_over(pool: PgPool) {
    let registry = Registry::new();
    let deps = SealerDeps { clock: OffsetDateTime::now_utc, ..deps(&pool, &registry) };
    signed(&deps, &pool).await;
    put(&pool, "t", "planted", 1).await;
    run(&pool, "CREATE TABLE kept AS TABLE audit_sealer; UPDATE audit_sealer SET server = 'cluster 1'").await;
    let mut known = Known::default();
    assert!(!settle_in(&deps, &mut known).await.unwrap() && !known.at_home);
    assert!(known.stuck.as_ref().unwrap().contains("cluster 1") && count(&registry, "audit_sealer_stuck 1"));
    assert_eq!(kinds(&deps).await, (vec![Kind::ServerForged], vec![]));
    // That it was refused once is enough.
    run(&pool, "DELETE FROM event_log").await;
    assert!(!settle_in(&deps, &mut known).await.unwrap() && !known.at_home);
    assert_eq!(sealed(&pool, "t").await, ["sealed"]);
    // Somebody writes the server back.
    run(&pool, "UPDATE audit_sealer SET server = kept.server FROM kept").await;
    assert!(settle_in(&deps, &mut known).await.unwrap() && known.at_home);
    all_sealed(&deps).await;
    assert_eq!(sealed(&pool, "t").await, ["sealed", "planted"]);
    seal(&deps, &mut known).await.unwrap();
    assert!(known.stuck.is_none() && count(&registry, "audit_sealer_stuck 0"));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_trail_that_was_elsewhere_since_is_taken_over_vouched_for_and_signed_at_once(pool: PgPool) {
    let deps = SealerDeps { clock: OffsetDateTime::now_utc, ..deps(&pool, &Registry::new()) };
    signed(&deps, &pool).await;
    // A checkpoint of the other server, a second later.
    let stand = Stand { server: "cluster 1".into(), xact: 1, id: 1, next: 2, signing: None };
    let at = OffsetDateTime::now_utc() + Duration::from_secs(1);
    let jws = deps.signer.clone().unwrap().sign("other", &Head::default(), Some(&stand), at).unwrap();
    let sql =
        "INSERT INTO message_outbox (tenant, topic, partition_key, payload, next_attempt_at, created_at, updated_at)
               VALUES ('other', 'audit.checkpoints', 'other', $1, now(), now(), now())";
    sqlx::query(sql).bind(serde_json::json!({"jws": jws})).execute(&pool).await.unwrap();
    relayed(&deps, &pool).await;
    run(&pool, "UPDATE audit_sealer SET server = 'cluster 1'").await;
    let mut known = Known::default();
    assert!(settle_in(&deps, &mut known).await.unwrap() && known.at_home && known.stuck.is_none());
    assert_eq!(sealed(&pool, "t").await, ["sealed", "audit.takeover"]);
    let payload: Value = sqlx::query_scalar("SELECT payload FROM message_outbox WHERE topic = 'audit.checkpoints'")
        .fetch_one(&pool)
        .await
        .unwrap();
    let jws = payload["jws"].as_str().unwrap();
    let checkpoint = deps.signer.clone().unwrap().public().read(jws).unwrap();
    let server = told_server(&pool).await;
    assert_eq!((checkpoint.number, checkpoint.sealer.map(|stand| stand.server)), (2, Some(server)));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_checkpoint_says_nothing_of_a_server_that_this_one_is_not(pool: PgPool) {
    let deps = deps(&pool, &Registry::new());
    put(&pool, "t", "x", 1).await;
    all_sealed(&deps).await;
    run(&pool, "UPDATE audit_sealer SET server = 'cluster 1'").await;
    let signer = deps.signer.clone().unwrap();
    tell(&deps, signer.clone()).await.unwrap();
    relayed(&deps, &pool).await;
    let told = deps.book.all().await.unwrap();
    let checkpoint = signer.public().read(&told[0]).unwrap();
    assert_eq!((told.len(), checkpoint.number, checkpoint.sealer), (1, 1, None));
}

/// A log that is away.
struct Away;

impl Log for Away {
    fn append(&self, _: Vec<Record>) -> BoxFuture<'_, Vec<Result<Position, LogError>>> {
        unreachable!("nothing is appended")
    }

    fn reached(&self) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(std::future::ready(Err(LogError::Unavailable("it is away".to_owned()))))
    }

    fn join(&self, _: &str, _: &str) -> BoxFuture<'_, Result<Box<dyn Reader>, LogError>> {
        unreachable!("it is not reached")
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn nothing_is_taken_over_while_checkpoints_cannot_be_read(pool: PgPool) {
    let registry = Registry::new();
    let away = Book::Log(Arc::new(Away), "reader".to_owned());
    let mut deps = SealerDeps { book: away, ..deps(&pool, &registry) };
    put(&pool, "t", "sealed", 1).await;
    all_sealed(&deps).await;
    run(&pool, "UPDATE audit_sealer SET server = 'cluster 1'").await;
    let mut known = Known::default();
    assert!(!settle_in(&deps, &mut known).await.unwrap() && !known.at_home);
    assert!(known.stuck.as_ref().unwrap().contains("it is away") && count(&registry, "audit_sealer_stuck 1"));
    // Without the key they would say nothing.
    deps.signer = None;
    assert!(settle_in(&deps, &mut known).await.unwrap() && known.at_home);
    assert_eq!(sealed(&pool, "t").await, ["sealed", "audit.takeover"]);
}
