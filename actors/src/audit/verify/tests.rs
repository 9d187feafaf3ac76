#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod smuggled;
mod takeovers;

use std::time::Duration;

use somaagent_test_services::tokens::{ed_signer, other_ed_signer};
use sqlx::{AssertSqlSafe, PgPool};
use time::OffsetDateTime;
use tokio::runtime::Handle;

use super::*;
use crate::{
    audit::checkpoint::CheckpointSigner,
    domain::audit_chain::{Head, Stand, VERSION, content, linked},
    store::{
        Connections,
        audit_chain::{oldest_unsealed, seal},
        audit_server,
        audit_takeover::{self, Home},
    },
};

fn store(pool: &PgPool) -> Store {
    Store::new(Connections::of_pool(pool.clone()), Duration::from_secs(5), Handle::current())
}

async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await.unwrap();
}

/// What was done, at which number, to which row.
type Place = (Kind, Option<i64>, Option<i64>);

/// Six sealed rows of `t`, with the ids 1 to 6, and as many of `u`.
async fn trail(pool: &PgPool) -> Store {
    let sql = "INSERT INTO audit_event (ts, tenant, session_id, action, resource, target_id, details, ip)
               SELECT now(), tenant, gen_random_uuid(), 'do', 'thing', n::text, '{\"n\": 1.0}', '127.0.0.1'
               FROM unnest('{t,u}'::text[]) AS tenant, generate_series(1, 6) AS n
               ORDER BY tenant, n";
    run(pool, sql).await;
    let store = store(pool);
    seal_all(&store).await;
    store
}

/// Transactions of other tests, which are on the same server, hold it up.
async fn seal_all(store: &Store) {
    store.run(|connection| Box::pin(at_home(connection))).await.unwrap();
    let left = async || store.run(|connection| Box::pin(oldest_unsealed(connection))).await.unwrap();
    while left().await.is_some() {
        store.run(|connection| Box::pin(seal(connection, 100, None))).await.unwrap();
    }
}

/// The sealer has looked where it is.
async fn at_home(connection: &mut sqlx::PgConnection) -> Result<(), sqlx::Error> {
    let server = audit_server::identity(connection).await?;
    let home = audit_takeover::look(connection, server).await?;
    assert!(matches!(home, Home::Here), "{home:?}");
    Ok(())
}

async fn found(store: &Store, checkpoints: Checkpoints) -> Vec<(String, Kind, Option<i64>, Option<i64>)> {
    let report = verify(store, None, checkpoints).await.unwrap();
    report.findings.into_iter().map(|found| (found.tenant, found.kind, found.number, found.row)).collect()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_trail_that_nobody_touched_has_no_findings(pool: PgPool) {
    let store = trail(&pool).await;
    let report = verify(&store, None, Checkpoints::default()).await.unwrap();
    assert_eq!(report, Report { tenants: 2, links: 12, ..Report::default() });
    let one = verify(&store, Some("u"), Checkpoints::default()).await.unwrap();
    assert_eq!(one, Report { tenants: 1, links: 6, ..Report::default() });
    // What was not sealed yet is no finding.
    run(&pool, "INSERT INTO audit_event (ts, tenant, action, resource) VALUES (now(), 't', 'do', 'thing')").await;
    assert_eq!(found(&store, Checkpoints::default()).await, []);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_change_of_any_column_is_found(pool: PgPool) {
    let store = trail(&pool).await;
    for change in [
        "ts = ts + interval '1 microsecond'",
        "xact = '3'",
        "session_id = NULL",
        "request_id = ''",
        "trace_id = 'x'",
        "workflow_id = 'x'",
        "subject = 'x'",
        "issuer = 'x'",
        "action = 'did'",
        "resource = 'things'",
        "target_id = NULL",
        "decision = 'x'",
        "details = '{\"n\": 1.00}'",
        "diff = 'null'",
        "ip = '127.0.0.1/24'",
        "user_agent = ''",
    ] {
        run(&pool, "CREATE TABLE before AS SELECT * FROM audit_event WHERE tenant = 't' AND id = 3").await;
        run(&pool, &format!("UPDATE audit_event SET {change} WHERE tenant = 't' AND id = 3")).await;
        let expected = [("t".to_owned(), Kind::RowChanged, Some(3), Some(3))];
        assert_eq!(found(&store, Checkpoints::default()).await, expected, "{change}");
        run(&pool, "DELETE FROM audit_event WHERE tenant = 't' AND id = 3").await;
        run(&pool, "INSERT INTO audit_event OVERRIDING SYSTEM VALUE TABLE before; DROP TABLE before").await;
        assert_eq!(found(&store, Checkpoints::default()).await, [], "{change} was undone");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn what_keeps_rows_from_the_sealing_is_named(pool: PgPool) {
    let store = trail(&pool).await;
    for (id, xact) in [("-5", "3"), ("99", "9000000000000000000")] {
        let sql = format!(
            "INSERT INTO audit_event (id, ts, tenant, action, resource, xact) OVERRIDING SYSTEM VALUE
             SELECT {id}, ts, tenant, action, resource, '{xact}' FROM audit_event WHERE tenant = 't' AND id = 2"
        );
        run(&pool, &sql).await;
        let row = ("t".to_owned(), Kind::RowInserted, None, id.parse().ok());
        assert_eq!(found(&store, Checkpoints::default()).await, [row], "{id}");
        run(&pool, &format!("DELETE FROM audit_event WHERE id = {id}")).await;
    }
    run(&pool, "DELETE FROM audit_sealer").await;
    let sealer = (String::new(), Kind::SealerMissing, None, None);
    assert_eq!(found(&store, Checkpoints::default()).await, [sealer]);
}

#[sqlx::test(migrations = "../migrations")]
async fn every_kind_of_tampering_is_found_and_named(pool: PgPool) {
    let store = trail(&pool).await;
    run(
        &pool,
        "CREATE TABLE e AS TABLE audit_event; CREATE TABLE z AS TABLE audit_seal; CREATE TABLE c AS TABLE audit_chain",
    )
    .await;
    let cases: [(&str, &[Place]); 11] = [
        ("DELETE FROM audit_event WHERE tenant = 't' AND id = 2", &[(Kind::RowRemoved, Some(2), Some(2))]),
        (
            "DELETE FROM audit_event WHERE tenant = 't' AND id = 2; DELETE FROM audit_seal WHERE tenant = 't' AND number = 2",
            &[(Kind::LinkRemoved, Some(2), None)],
        ),
        (
            "INSERT INTO audit_event (id, ts, tenant, action, resource, xact) OVERRIDING SYSTEM VALUE
             SELECT 99, ts, tenant, action, resource, xact FROM audit_event WHERE tenant = 't' AND id = 2;
             UPDATE audit_sealer SET id = 1000",
            &[(Kind::RowInserted, None, Some(99))],
        ),
        (
            "UPDATE audit_event SET target_id = CASE target_id WHEN '2' THEN '5' ELSE '2' END,
                 session_id = (SELECT o.session_id FROM e AS o WHERE o.tenant = 't' AND o.id = 7 - audit_event.id)
             WHERE tenant = 't' AND id IN (2, 5)",
            &[(Kind::RowMoved, Some(2), Some(2)), (Kind::RowMoved, Some(5), Some(5))],
        ),
        (
            "UPDATE audit_seal SET number = -1 - number + 10 + 100 WHERE tenant = 't' AND number IN (3, 5);
             UPDATE audit_seal SET number = CASE number WHEN 106 THEN 5 ELSE 3 END WHERE tenant = 't' AND number > 100",
            &[(Kind::RowMoved, Some(3), Some(5)), (Kind::RowMoved, Some(5), Some(3))],
        ),
        (
            "UPDATE audit_seal SET hash = sha256(hash) WHERE tenant = 't' AND number = 4",
            &[(Kind::LinkBroken, Some(4), Some(4)), (Kind::LinkBroken, Some(5), Some(5))],
        ),
        (
            "UPDATE audit_seal SET content = sha256(content) WHERE tenant = 't' AND number = 4",
            &[(Kind::RowChanged, Some(4), Some(4))],
        ),
        (
            "DELETE FROM audit_event WHERE tenant = 't' AND id > 4; DELETE FROM audit_seal WHERE tenant = 't' AND number > 4",
            &[(Kind::Truncated, Some(6), None)],
        ),
        ("DELETE FROM audit_chain WHERE tenant = 't'", &[(Kind::HeadWrong, None, None)]),
        (
            "UPDATE audit_chain SET number = 3 WHERE tenant = 't'",
            &[(Kind::HeadWrong, Some(6), None), (Kind::Rewritten, Some(3), Some(3))],
        ),
        (
            "UPDATE audit_seal SET version = 9 WHERE tenant = 't' AND number = 6",
            &[(Kind::LinkBroken, Some(6), Some(6))],
        ),
    ];
    for (tampering, expected) in cases {
        run(&pool, tampering).await;
        let mut expected: Vec<_> =
            expected.iter().map(|(kind, number, row)| ("t".to_owned(), *kind, *number, *row)).collect();
        let mut found = found(&store, Checkpoints::default()).await;
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{tampering}");
        run(
            &pool,
            "TRUNCATE audit_event, audit_seal, audit_chain;
             INSERT INTO audit_event OVERRIDING SYSTEM VALUE TABLE e;
             INSERT INTO audit_seal TABLE z;
             INSERT INTO audit_chain TABLE c;
             UPDATE audit_sealer SET xact = (SELECT max(xact::text::bigint)::text::xid8 FROM e), id = (SELECT max(id) FROM e)",
        )
        .await;
    }
}

/// The ends of all chains, signed.
async fn signed(pool: &PgPool, signer: &CheckpointSigner) -> Vec<String> {
    signed_at(pool, signer, None, OffsetDateTime::UNIX_EPOCH).await
}

/// The ends of all chains and how far the sealing is, signed now.
async fn signed_now(pool: &PgPool, signer: &CheckpointSigner) -> Vec<String> {
    let sql = "SELECT server, xact::text::bigint, id, pg_current_xact_id()::text::bigint, clock_timestamp() FROM audit_sealer";
    let (server, xact, id, next, at) = sqlx::query_as(sql).fetch_one(pool).await.unwrap();
    signed_at(pool, signer, Some(Stand { server, xact, id, next, signing: None }), at).await
}

async fn signed_at(pool: &PgPool, signer: &CheckpointSigner, stand: Option<Stand>, at: OffsetDateTime) -> Vec<String> {
    let rows = sqlx::query_as("SELECT tenant, number, hash FROM audit_chain ORDER BY tenant");
    let rows: Vec<(String, i64, Vec<u8>)> = rows.fetch_all(pool).await.unwrap();
    rows.into_iter()
        .map(|(tenant, number, hash)| {
            let head = Head { number, hash: hash.try_into().unwrap() };
            signer.sign(&tenant, &head, stand.as_ref(), at).unwrap()
        })
        .collect()
}

#[sqlx::test(migrations = "../migrations")]
async fn only_a_checkpoint_tells_that_a_chain_was_made_anew_or_cut(pool: PgPool) {
    let store = trail(&pool).await;
    let signer = CheckpointSigner::new(&ed_signer().private_pem).unwrap();
    let told = signed(&pool, &signer).await;
    let known = || Checkpoints::read(&told, &signer.public());
    assert_eq!(found(&store, known()).await, []);
    // The owner of the database changes a row, takes the chain away, and lets it be made again.
    run(&pool, "UPDATE audit_event SET subject = 'somebody else' WHERE tenant = 't' AND id = 2").await;
    run(
        &pool,
        "DELETE FROM audit_seal WHERE tenant = 't'; DELETE FROM audit_chain WHERE tenant = 't';
         UPDATE audit_sealer SET xact = '0', id = 0",
    )
    .await;
    seal_all(&store).await;
    assert_eq!(found(&store, Checkpoints::default()).await, []);
    assert_eq!(found(&store, known()).await, [("t".to_owned(), Kind::Rewritten, Some(6), Some(6))]);
    // The same with the tail cut off, and with nothing left at all.
    run(
        &pool,
        "DELETE FROM audit_event WHERE tenant = 't' AND id > 4; DELETE FROM audit_seal WHERE tenant = 't' AND number > 4;
         UPDATE audit_chain AS c SET number = 4, hash = z.hash
         FROM audit_seal AS z WHERE z.tenant = 't' AND z.number = 4 AND c.tenant = 't'",
    )
    .await;
    assert_eq!(found(&store, Checkpoints::default()).await, []);
    assert_eq!(found(&store, known()).await, [("t".to_owned(), Kind::Truncated, Some(6), None)]);
    run(&pool, "DELETE FROM audit_event; DELETE FROM audit_seal; DELETE FROM audit_chain").await;
    let gone = ["t", "u"].map(|tenant| (tenant.to_owned(), Kind::Truncated, Some(6), None));
    assert_eq!(found(&store, known()).await, gone);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_checkpoint_that_somebody_else_signed_is_named_and_not_believed(pool: PgPool) {
    let store = trail(&pool).await;
    let signer = CheckpointSigner::new(&ed_signer().private_pem).unwrap();
    let forger = CheckpointSigner::new(&other_ed_signer().private_pem).unwrap();
    let mut told = signed(&pool, &signer).await;
    told.extend(signed(&pool, &forger).await);
    told.extend(["rubbish".to_owned(), told[0].clone()]);
    let report = verify(&store, None, Checkpoints::read(&told, &signer.public())).await.unwrap();
    assert_eq!(report.checkpoints, 2);
    let kinds: Vec<Kind> = report.findings.iter().map(|found| found.kind).collect();
    assert_eq!(kinds, [Kind::CheckpointForged; 3]);
    assert!(report.findings[0].what.starts_with("checkpoint 3 "), "{:?}", report.findings);
}

const PLANT: &str = "INSERT INTO audit_event (ts, tenant, action, resource, target_id) SELECT now() - interval";

#[sqlx::test(migrations = "../migrations")]
async fn a_row_that_claims_to_be_old_is_named_by_what_came_before_it_or_by_a_checkpoint(pool: PgPool) {
    // Nothing was done by the quiet one for days.
    run(&pool, &format!("{PLANT} '3 days', 'quiet', 'do', 'thing', 'first'")).await;
    let store = trail(&pool).await;
    let signer = CheckpointSigner::new(&ed_signer().private_pem).unwrap();
    let told = signed_now(&pool, &signer).await;
    let known = || Checkpoints::read(&told, &signer.public());
    run(&pool, &format!("{PLANT} '1 second', 't', 'do', 'thing', 'honest'")).await;
    seal_all(&store).await;
    assert_eq!(found(&store, known()).await, []);
    run(
        &pool,
        &format!("{PLANT} '1 hour', 't', 'do', 'thing', 'planted'; {PLANT} '1 day', 'quiet', 'do', 'thing', ''"),
    )
    .await;
    seal_all(&store).await;
    let rows: Vec<i64> =
        sqlx::query_scalar("SELECT max(id) FROM audit_event GROUP BY tenant HAVING tenant <> 'u' ORDER BY tenant")
            .fetch_all(&pool)
            .await
            .unwrap();
    let quiet = ("quiet".to_owned(), Kind::RowBackdated, Some(2), Some(rows[0]));
    let loud = ("t".to_owned(), Kind::RowBackdated, Some(8), Some(rows[1]));
    assert_eq!(found(&store, Checkpoints::default()).await, std::slice::from_ref(&loud));
    assert_eq!(found(&store, known()).await, [quiet, loud]);
}

#[sqlx::test(migrations = "../migrations")]
async fn setting_the_sealing_back_or_forth_is_found_and_what_it_hides_is_named(pool: PgPool) {
    let store = trail(&pool).await;
    let signer = CheckpointSigner::new(&ed_signer().private_pem).unwrap();
    let told = signed_now(&pool, &signer).await;
    let known = || Checkpoints::read(&told, &signer.public());
    let of_all = |kind| (String::new(), kind, None, None);
    let planted = |number| ("t".to_owned(), Kind::RowInserted, number, Some(99));

    // Too far: nothing is sealed any more, and honest rows are no fault.
    run(&pool, "CREATE TABLE s AS TABLE audit_sealer; UPDATE audit_sealer SET xact = '4000000000000'").await;
    run(&pool, &format!("{PLANT} '0', 't', 'do', 'thing', 'honest'")).await;
    assert_eq!(found(&store, known()).await, [of_all(Kind::SealerAhead)]);
    run(&pool, "DELETE FROM audit_event WHERE target_id = 'honest'; DELETE FROM audit_sealer; INSERT INTO audit_sealer TABLE s").await;
    assert_eq!(found(&store, known()).await, []);

    // Back, so that a row of a transaction of old waits to be sealed; then it is sealed by one who knows no better.
    run(
        &pool,
        "INSERT INTO audit_event (id, ts, tenant, action, resource, xact) OVERRIDING SYSTEM VALUE
         SELECT 99, ts, 't', 'do', 'thing', (xact::text::bigint - 1)::text::xid8 FROM audit_event WHERE tenant = 't' AND id = 6;
         UPDATE audit_sealer SET xact = '0', id = 0",
    )
    .await;
    for checkpoints in [Checkpoints::default(), known()] {
        assert_eq!(found(&store, checkpoints).await, [planted(None), of_all(Kind::SealerSetBack)]);
    }
    seal_all(&store).await;
    assert_eq!(found(&store, Checkpoints::default()).await, [planted(Some(7))]);

    // With everything that is sealed gone, only checkpoints tell that there was something.
    run(&pool, "TRUNCATE audit_event, audit_seal, audit_chain; UPDATE audit_sealer SET xact = '0', id = 0").await;
    assert_eq!(found(&store, Checkpoints::default()).await, []);
    let gone = ["t", "u"].map(|tenant| (tenant.to_owned(), Kind::Truncated, Some(6), None));
    assert_eq!(found(&store, known()).await, [gone[0].clone(), gone[1].clone(), of_all(Kind::SealerSetBack)]);
}

#[sqlx::test(migrations = "../migrations")]
async fn with_a_key_a_trail_without_checkpoints_is_not_called_signed_even_if_nothing_is_left_of_it(pool: PgPool) {
    let key = || Checkpoints::read(&[], &CheckpointSigner::new(&ed_signer().private_pem).unwrap().public());
    let nothing = verify(&store(&pool), None, key()).await.unwrap();
    assert_eq!((nothing.links, nothing.is_unsigned, nothing.findings), (0, true, vec![]));
    let store = trail(&pool).await;
    assert!(verify(&store, None, key()).await.unwrap().is_unsigned);
    assert!(!verify(&store, None, Checkpoints::default()).await.unwrap().is_unsigned, "nobody asked for signatures");
}
