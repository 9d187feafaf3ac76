#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]
#![allow(clippy::disallowed_methods, reason = "the tests play the process: they read the clock")]

mod moved;

use prometheus::Registry;
use serde_json::Value;
use somaagent_supervision::{Restart, Strategy, SupervisorSpec, Tree};
use somaagent_test_services::tokens::ed_signer;
use sqlx::PgPool;
use tokio::{runtime::Handle, task::LocalSet};

use super::*;
use crate::{
    audit::{
        checkpoint::CheckpointKey,
        verify::{Checkpoints, Kind, Takeover, verify},
    },
    domain::audit_chain::{Head, Stand},
    store::Connections,
};

fn clock() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH
}

fn deps(pool: &PgPool, registry: &Registry) -> SealerDeps {
    SealerDeps {
        store: Store::new(Connections::of_pool(pool.clone()), Duration::from_secs(5), Handle::current()),
        crowded: Arc::new(|| false),
        settings: Arc::new(AuditSettings { seal_every_ms: 10, ..AuditSettings::default() }),
        signer: Some(CheckpointSigner::new(&ed_signer().private_pem).unwrap()),
        book: Book::Table(Store::new(Connections::of_pool(pool.clone()), Duration::from_secs(5), Handle::current())),
        metrics: AuditMetrics::register(registry).unwrap(),
        clock,
    }
}

const INSERT: &str =
    "INSERT INTO audit_event (ts, tenant, action, resource) SELECT now(), $1, $2, 'r' FROM generate_series(1, $3)";

async fn put(pool: &PgPool, tenant: &str, action: &str, count: i32) {
    sqlx::query(INSERT).bind(tenant).bind(action).bind(count).execute(pool).await.unwrap();
}

/// What is sealed of a tenant, in the order of the chain.
async fn sealed(pool: &PgPool, tenant: &str) -> Vec<String> {
    let sql = "SELECT a.action FROM audit_seal AS z JOIN audit_event AS a ON a.tenant = z.tenant AND a.id = z.event_id
               WHERE z.tenant = $1 ORDER BY z.number";
    sqlx::query_scalar(sql).bind(tenant).fetch_all(pool).await.unwrap()
}

/// Seals until nothing is left. Transactions of other tests, which are on the same server, hold it up.
async fn all_sealed(deps: &SealerDeps) {
    let left = async || deps.store.run(|connection| Box::pin(audit_chain::oldest_unsealed(connection))).await.unwrap();
    let mut known = at_home(deps).await;
    while left().await.is_some() {
        seal(deps, &mut known).await.unwrap();
    }
}

/// What a sealer knows that has looked where it is.
async fn at_home(deps: &SealerDeps) -> Known {
    let mut known = Known::default();
    assert!(settle_in(deps, &mut known).await.unwrap() && known.at_home);
    known
}

#[sqlx::test(migrations = "../migrations")]
async fn every_tenant_has_a_chain_of_its_own_without_gaps(pool: PgPool) {
    let deps = deps(&pool, &Registry::new());
    for (tenant, count) in [("a", 2), ("b", 3), ("a", 1)] {
        put(&pool, tenant, "x", count).await;
    }
    put(&pool, "c", "x", 1203).await;
    all_sealed(&deps).await;
    let sql = "SELECT tenant, count(*), max(number) FROM audit_seal GROUP BY tenant ORDER BY tenant";
    let chains: Vec<(String, i64, i64)> = sqlx::query_as(sql).fetch_all(&pool).await.unwrap();
    assert_eq!(chains, [("a".into(), 3, 3), ("b".into(), 3, 3), ("c".into(), 1203, 1203)]);
    assert!(!seal(&deps, &mut at_home(&deps).await).await.unwrap());
}

#[sqlx::test(migrations = "../migrations")]
async fn a_row_that_is_committed_late_is_sealed_behind_those_it_came_before(pool: PgPool) {
    let deps = deps(&pool, &Registry::new());
    let mut known = at_home(&deps).await;
    let mut late = pool.begin().await.unwrap();
    sqlx::query(INSERT).bind("t").bind("late").bind(1).execute(&mut *late).await.unwrap();
    put(&pool, "t", "early", 1).await;
    assert!(!seal(&deps, &mut known).await.unwrap());
    assert_eq!(sealed(&pool, "t").await, [""; 0], "an earlier row may yet come to light");
    late.commit().await.unwrap();
    all_sealed(&deps).await;
    assert_eq!(sealed(&pool, "t").await, ["late", "early"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn while_people_wait_for_the_database_rows_wait_for_their_seals_but_not_for_long(pool: PgPool) {
    let crowded = SealerDeps {
        crowded: Arc::new(|| true),
        clock: || OffsetDateTime::now_utc() + Duration::from_secs(1),
        ..deps(&pool, &Registry::new())
    };
    let mut known = at_home(&crowded).await;
    put(&pool, "t", "x", 1).await;
    assert!(seal(&crowded, &mut known).await.unwrap(), "it is still to be done");
    assert_eq!(sealed(&pool, "t").await, [""; 0]);
    all_sealed(&SealerDeps { clock: || OffsetDateTime::now_utc() + Duration::from_mins(1), ..crowded }).await;
    assert_eq!(sealed(&pool, "t").await, ["x"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_round_ends_with_the_part_behind_which_nothing_is_left_however_full_it_is(pool: PgPool) {
    let deps = deps(&pool, &Registry::new());
    for tenant in ["a", "b", "c", "d"] {
        put(&pool, tenant, "x", 1).await;
    }
    all_sealed(&deps).await;
    let mut parts = Vec::new();
    for _ in 0..3 {
        let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let signed = Arc::clone(&told);
        let work = deps.store.run(move |connection| {
            Box::pin(async move {
                let sign = move |tenant: &str, _: &Head, stand: Option<&Stand>| {
                    let signing = stand.and_then(|stand| stand.signing).unwrap();
                    signed.lock().push((tenant.to_owned(), signing.is_whole, signing.chains));
                    Some(tenant.to_owned())
                };
                audit_chain::tell(connection, 2, clock(), sign).await
            })
        });
        work.await.unwrap();
        parts.push(told.lock().clone());
    }
    let part = |whole, tenants: [&str; 2]| tenants.map(|tenant| (tenant.to_owned(), whole, 2)).to_vec();
    assert_eq!(parts, [part(false, ["a", "b"]), part(true, ["c", "d"]), vec![]]);
}

#[sqlx::test(migrations = "../migrations")]
async fn of_two_sealers_one_works_and_the_other_waits_for_nothing(pool: PgPool) {
    let deps = deps(&pool, &Registry::new());
    let mut known = at_home(&deps).await;
    put(&pool, "t", "x", 1).await;
    let mut other = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM audit_sealer FOR UPDATE").execute(&mut *other).await.unwrap();
    assert!(!seal(&deps, &mut known).await.unwrap());
    other.rollback().await.unwrap();
    all_sealed(&deps).await;
    assert_eq!(sealed(&pool, "t").await, ["x"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn sealers_at_the_same_time_make_one_chain(pool: PgPool) {
    let all: Vec<SealerDeps> = (0..3).map(|_| deps(&pool, &Registry::new())).collect();
    let writing = async {
        for _ in 0..20 {
            put(&pool, "t", "x", 40).await;
        }
    };
    let sealing = futures_util::future::join_all(all.iter().map(|deps| async move {
        let mut known = at_home(deps).await;
        for _ in 0..20 {
            seal(deps, &mut known).await.unwrap();
        }
    }));
    futures_util::future::join(writing, sealing).await;
    all_sealed(&all[0]).await;
    let report = verify(&all[0].store, None, Checkpoints::default()).await.unwrap();
    assert_eq!((report.links, report.findings), (800, vec![]));
}

/// What verifying finds, and what it tells of other servers.
async fn verified(deps: &SealerDeps) -> (Vec<(Kind, Option<i64>)>, Vec<Takeover>) {
    let report = verify(&deps.store, None, Checkpoints::default()).await.unwrap();
    (report.findings.into_iter().map(|found| (found.kind, found.row)).collect(), report.takeovers)
}

async fn run(pool: &PgPool, sql: &'static str) {
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}

fn count(registry: &Registry, line: &str) -> bool {
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    text.lines().any(|other| other == line)
}

#[sqlx::test(migrations = "../migrations")]
async fn a_trail_that_was_restored_on_another_server_is_taken_over_once_and_says_so(pool: PgPool) {
    let registry = Registry::new();
    let deps = deps(&pool, &registry);
    put(&pool, "t", "sealed", 2).await;
    put(&pool, "u", "sealed", 1).await;
    all_sealed(&deps).await;
    put(&pool, "t", "unsealed", 1).await;
    // As a dump of a server that has counted further brings them.
    run(
        &pool,
        "UPDATE audit_event SET xact = '4000000000000' WHERE action = 'unsealed';
         UPDATE audit_sealer SET xact = '3999999999999', server = 'cluster 1'",
    )
    .await;
    assert_eq!(verified(&deps).await.0, [(Kind::ServerChanged, None)]);
    let mut known = Known { at_home: true, ..Known::default() };
    assert!(seal(&deps, &mut known).await.unwrap() && !known.at_home, "it sees that it was moved");
    put(&pool, "t", "new", 1).await;
    all_sealed(&deps).await;
    all_sealed(&deps).await;
    assert_eq!(sealed(&pool, "t").await, ["sealed", "sealed", "audit.takeover", "unsealed", "new"]);
    assert_eq!(sealed(&pool, "u").await, ["sealed", "audit.takeover"]);
    let (findings, takeovers) = verified(&deps).await;
    assert_eq!(findings, []);
    let told: Vec<_> = takeovers.iter().map(|told| (told.tenant.as_str(), told.number, told.from.as_deref())).collect();
    assert_eq!(told, [("t", 3, Some("cluster 1")), ("u", 2, Some("cluster 1"))]);
    assert!(takeovers[0].rows >= 1 && takeovers[1].rows == 0, "{takeovers:?}");
    // What is known of the time here tells nothing of the rows that came along.
    let (signer, server) = (deps.signer.clone().unwrap(), told_server(&pool).await);
    let (stand, late) =
        (Stand { server, xact: 1, id: 1, next: 1, signing: None }, OffsetDateTime::now_utc() + Duration::from_hours(9));
    let told = signer.sign("nobody", &Head::default(), Some(&stand), late).unwrap();
    let report = verify(&deps.store, Some("u"), Checkpoints::read(&[told], &signer.public())).await.unwrap();
    assert_eq!(report.findings, []);
    let subject: String =
        sqlx::query_scalar("SELECT DISTINCT subject FROM audit_event WHERE action = 'audit.takeover'")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(subject, "system:audit-sealer");
    // What is told is not what was sealed for somebody.
    assert!(count(&registry, "audit_rows_sealed_total 5"), "what was sealed is counted once");
}

/// The server that the trail is at home on.
async fn told_server(pool: &PgPool) -> String {
    sqlx::query_scalar("SELECT server FROM audit_sealer").fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_row_of_the_future_is_left_unsealed_and_named_where_the_server_is_the_same(pool: PgPool) {
    let deps = deps(&pool, &Registry::new());
    put(&pool, "t", "sealed", 2).await;
    all_sealed(&deps).await;
    put(&pool, "t", "planted", 1).await;
    run(&pool, "UPDATE audit_event SET xact = '4000000000000' WHERE action = 'planted'").await;
    put(&pool, "t", "honest", 1).await;
    // Also after a start.
    all_sealed(&deps).await;
    assert_eq!(sealed(&pool, "t").await, ["sealed", "sealed", "honest"]);
    assert_eq!(verified(&deps).await, (vec![(Kind::RowInserted, Some(3))], vec![]));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_sealer_that_was_set_back_goes_on_where_it_was_and_what_was_put_in_is_named(pool: PgPool) {
    let registry = Registry::new();
    let deps = deps(&pool, &registry);
    put(&pool, "t", "x", 2).await;
    put(&pool, "t", "x", 1).await;
    let mut known = at_home(&deps).await;
    while sealed(&pool, "t").await.len() < 3 {
        seal(&deps, &mut known).await.unwrap();
    }
    put(&pool, "t", "planted", 1).await;
    run(
        &pool,
        "UPDATE audit_event SET xact = (SELECT min(xact::text::bigint)::text::xid8 FROM audit_event) WHERE action = 'planted';
         UPDATE audit_sealer SET xact = '0', id = 0",
    )
    .await;
    let found = verified(&deps).await.0;
    assert_eq!(found, [(Kind::RowInserted, Some(4)), (Kind::SealerSetBack, None)]);
    put(&pool, "t", "honest", 1).await;
    while sealed(&pool, "t").await.len() < 4 {
        seal(&deps, &mut known).await.unwrap();
    }
    assert_eq!(sealed(&pool, "t").await, ["x", "x", "x", "honest"]);
    assert_eq!(verified(&deps).await.0, [(Kind::RowInserted, Some(4))]);
    assert!(count(&registry, "audit_sealer_set_back_total 1") && count(&registry, "audit_rows_sealed_total 4"));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_sealer_that_cannot_seal_says_so_until_it_can(pool: PgPool) {
    let registry = Registry::new();
    let deps = deps(&pool, &registry);
    let mut known = at_home(&deps).await;
    run(&pool, "CREATE TABLE kept AS TABLE audit_sealer").await;
    for harm in ["DELETE FROM audit_sealer", "UPDATE audit_sealer SET xact = '4000000000000'"] {
        for waiting in [0, 1] {
            put(&pool, "t", "x", waiting).await;
            run(&pool, harm).await;
            assert!(!seal(&deps, &mut known).await.unwrap());
            assert!(known.stuck.is_some() && count(&registry, "audit_sealer_stuck 1"), "{harm}");
            run(&pool, "DELETE FROM audit_sealer; INSERT INTO audit_sealer SELECT * FROM kept").await;
            all_sealed(&deps).await;
            seal(&deps, &mut known).await.unwrap();
            assert!(known.stuck.is_none() && count(&registry, "audit_sealer_stuck 0"), "{harm}");
        }
    }
    run(&pool, "DELETE FROM audit_sealer").await;
    let mut fresh = Known::default();
    assert!(!settle_in(&deps, &mut fresh).await.unwrap());
    assert!(fresh.stuck.is_some() && !fresh.at_home && count(&registry, "audit_sealer_stuck 1"));
}

#[sqlx::test(migrations = "../migrations")]
async fn the_end_of_a_chain_that_has_grown_goes_out_once_and_signed(pool: PgPool) {
    let deps = deps(&pool, &Registry::new());
    let signer = deps.signer.clone().unwrap();
    let waiting = async || -> Vec<(String, String, Value)> {
        let sql =
            "SELECT tenant, partition_key, payload FROM message_outbox WHERE topic = 'audit.checkpoints' ORDER BY id";
        sqlx::query_as(sql).fetch_all(&pool).await.unwrap()
    };
    put(&pool, "a", "x", 2).await;
    put(&pool, "b", "x", 1).await;
    all_sealed(&deps).await;
    assert!(!tell(&deps, signer.clone()).await.unwrap());
    assert!(!tell(&deps, signer.clone()).await.unwrap());
    assert_eq!(waiting().await.len(), 2);
    put(&pool, "a", "x", 1).await;
    all_sealed(&deps).await;
    tell(&deps, signer).await.unwrap();
    let key = CheckpointKey::new(&ed_signer().public_pem).unwrap();
    let told: Vec<(String, i64)> = waiting()
        .await
        .into_iter()
        .map(|(tenant, partition_key, payload)| {
            let checkpoint = key.read(payload["jws"].as_str().unwrap()).unwrap();
            assert_eq!((&checkpoint.tenant, &partition_key), (&tenant, &tenant));
            (tenant, checkpoint.number)
        })
        .collect();
    assert_eq!(told, [("a".into(), 2), ("b".into(), 1), ("a".into(), 3)]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_sealer_that_panics_starts_afresh_and_seals_on(pool: PgPool) {
    let registry = Registry::new();
    let deps = deps(&pool, &registry);
    LocalSet::new()
        .run_until(async {
            let tree = Tree::new(&registry).unwrap();
            let root = tree.root(SupervisorSpec::new("root", Strategy::OneForOne));
            let seat = root.seat::<AuditSealer>(Restart::Permanent);
            let panics = Arc::new(std::sync::atomic::AtomicBool::new(true));
            let crowded = move || {
                assert!(!panics.swap(false, std::sync::atomic::Ordering::SeqCst), "planted");
                false
            };
            let deps = SealerDeps { crowded: Arc::new(crowded), ..deps };
            seat.launch(move || AuditSealer::new(deps.clone()));
            put(&pool, "t", "x", 1).await;
            while sealed(&pool, "t").await != ["x"] {
                tokio::task::yield_now().await;
            }
            root.stop(Duration::from_secs(5)).await;
        })
        .await;
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let mut restarts = text.lines().filter(|line| line.starts_with("actor_restarts_total{actor=\"audit-sealer\""));
    assert!(restarts.any(|line| line.ends_with(" 1")), "{text}");
}
