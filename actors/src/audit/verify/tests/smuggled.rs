//! What somebody gains who owns the database and makes links for rows of old, as the sealer would have made them then.

use super::*;
use crate::domain::audit_chain::CHECKPOINTS;

fn signer() -> CheckpointSigner {
    CheckpointSigner::new(&ed_signer().private_pem).unwrap()
}

/// The time of the database and so many minutes.
async fn minutes(pool: &PgPool, minutes: i64) -> OffsetDateTime {
    let now: OffsetDateTime = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(pool).await.unwrap();
    now + time::Duration::minutes(minutes)
}

/// A part of a round of checkpoints at that time.
async fn part(store: &Store, limit: i64, at: OffsetDateTime) -> usize {
    let told = store.run(move |connection| {
        let signer = signer();
        Box::pin(async move {
            let sign = move |tenant: &str, head: &Head, stand: Option<&Stand>| signer.sign(tenant, head, stand, at);
            audit_chain::tell(connection, limit, at, sign).await
        })
    });
    told.await.unwrap()
}

async fn round(pool: &PgPool, store: &Store, after: i64) {
    part(store, 100, minutes(pool, after).await).await;
}

/// What there is to find with everything that was signed, without a tenant's name and a row's number.
async fn judged(pool: &PgPool, store: &Store) -> Vec<(Kind, Option<i64>)> {
    let sql = "SELECT payload ->> 'jws' FROM message_outbox WHERE topic = $1 ORDER BY id";
    let told: Vec<String> = sqlx::query_scalar(sql).bind(CHECKPOINTS).fetch_all(pool).await.unwrap();
    let findings = found(store, Checkpoints::read(&told, &signer().public())).await;
    findings.into_iter().map(|(_, kind, number, _)| (kind, number)).collect()
}

/// Rows are written and sealed.
async fn write(pool: &PgPool, store: &Store, tenant: &str) {
    run(pool, &format!("{PLANT} '0', '{tenant}', 'do', 'thing', ''")).await;
    seal_all(store).await;
}

/// Somebody writes a row that says to come from that transaction, and makes its link: the sums have no secret.
async fn smuggle(pool: &PgPool, store: &Store, tenant: &str, age: &str, (xact, id): (i64, i64), version: i16) {
    run(
        pool,
        &format!(
            "INSERT INTO audit_event (id, ts, tenant, action, resource, xact) OVERRIDING SYSTEM VALUE
             VALUES ({id}, now() - interval '{age}', '{tenant}', 'keys.create', 'x', '{xact}');
             CREATE TABLE kept AS TABLE audit_sealer;
             UPDATE audit_sealer SET xact = '0', id = -1000"
        ),
    )
    .await;
    seal_all(store).await;
    let sql = format!("SELECT number FROM audit_seal WHERE tenant = '{tenant}' AND event_id = {id}");
    let number: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await.unwrap();
    if version < VERSION {
        make_as_before(pool, store, tenant, number, version).await;
    }
    run(pool, "UPDATE audit_sealer SET xact = kept.xact, id = kept.id FROM kept; DROP TABLE kept").await;
}

/// Makes the last link as in an earlier version.
async fn make_as_before(pool: &PgPool, store: &Store, tenant: &str, number: i64, version: i16) {
    let of = tenant.to_owned();
    let page = store.run(move |connection| {
        Box::pin(async move { crate::store::audit_walk::page(connection, &of, number - 1, 1).await })
    });
    let link = page.await.unwrap().remove(0);
    let sql = "SELECT hash FROM audit_seal WHERE tenant = $1 AND number = $2 - 1";
    let before: Option<Vec<u8>> = sqlx::query_scalar(sql).bind(tenant).bind(number).fetch_optional(pool).await.unwrap();
    let before = before.map(|hash| hash.try_into().unwrap()).unwrap_or_default();
    let sum = content(version, &link.said.unwrap()).unwrap();
    let hash = linked(&before, tenant, number, link.event_id, &sum);
    sqlx::query("UPDATE audit_seal SET version = $3, content = $4, hash = $5 WHERE tenant = $1 AND number = $2")
        .bind(tenant)
        .bind(number)
        .bind(version)
        .bind(sum.to_vec())
        .bind(hash.to_vec())
        .execute(pool)
        .await
        .unwrap();
    let sql = "UPDATE audit_chain SET hash = $2 WHERE tenant = $1";
    sqlx::query(sql).bind(tenant).bind(hash.to_vec()).execute(pool).await.unwrap();
}

/// How far the sealing is.
async fn reached(pool: &PgPool) -> (i64, i64) {
    sqlx::query_as("SELECT xact::text::bigint, id FROM audit_sealer").fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_chain_that_somebody_made_of_rows_of_old_is_named_before_and_after_it_is_signed(pool: PgPool) {
    for (version, tenant) in [(VERSION, "ghost"), (1, "older")] {
        let store = trail(&pool).await;
        round(&pool, &store, 0).await;
        write(&pool, &store, "t").await;
        round(&pool, &store, 20).await;
        assert_eq!(judged(&pool, &store).await, []);
        smuggle(&pool, &store, tenant, "1 year", (100, -5), version).await;
        assert_eq!(judged(&pool, &store).await, [(Kind::RowSmuggled, Some(1))], "{tenant}");
        round(&pool, &store, 21).await;
        assert_eq!(judged(&pool, &store).await, [(Kind::RowSmuggled, Some(1))], "{tenant}: a signature comes too late");
        run(&pool, "TRUNCATE audit_event, audit_seal, audit_chain, message_outbox RESTART IDENTITY").await;
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_row_at_the_end_of_a_quiet_chain_that_says_to_be_older_than_a_checkpoint_is_named(pool: PgPool) {
    let store = trail(&pool).await;
    write(&pool, &store, "quiet").await;
    round(&pool, &store, 0).await;
    write(&pool, &store, "t").await;
    let (xact, id) = reached(&pool).await;
    write(&pool, &store, "t").await;
    round(&pool, &store, 1).await;
    smuggle(&pool, &store, "quiet", "100 seconds", (xact, id + 1_000), VERSION).await;
    round(&pool, &store, 2).await;
    assert_eq!(judged(&pool, &store).await, [(Kind::RowSmuggled, Some(2))]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_link_that_somebody_keeps_from_being_signed_is_named_too(pool: PgPool) {
    let store = trail(&pool).await;
    round(&pool, &store, 0).await;
    smuggle(&pool, &store, "ghost", "1 day", (100, -5), VERSION).await;
    run(&pool, "UPDATE audit_chain SET checkpointed = number WHERE tenant = 'ghost'").await;
    write(&pool, &store, "t").await;
    round(&pool, &store, 20).await;
    assert_eq!(judged(&pool, &store).await, [(Kind::RowSmuggled, Some(1))]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_round_in_parts_blames_nobody(pool: PgPool) {
    let store = trail(&pool).await;
    for tenant in ["v", "w", "x"] {
        write(&pool, &store, tenant).await;
    }
    let at = minutes(&pool, -600).await;
    assert_eq!(part(&store, 2, at).await, 2);
    // The process ends there, and another one signs the rest after hours.
    let later = minutes(&pool, -300).await;
    write(&pool, &store, "t").await;
    assert_eq!([part(&store, 2, later).await, part(&store, 2, later).await, part(&store, 2, later).await], [2, 2, 0]);
    assert_eq!(judged(&pool, &store).await, []);
    write(&pool, &store, "t").await;
    round(&pool, &store, 0).await;
    assert_eq!(judged(&pool, &store).await, []);
}
