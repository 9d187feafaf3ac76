//! What somebody gains who writes that a chain goes on on another server: nothing, where there is a key.

use super::*;
use crate::{
    domain::audit_walk::Vouched,
    store::audit_takeover::{settle, take},
};

/// A pair of takeovers with a row of yesterday in between, in the chain of `tenant`.
async fn plant(pool: &PgPool, tenant: &str) {
    let sql = format!(
        "INSERT INTO audit_event (ts, tenant, action, resource, details)
         SELECT now() - p.age, '{tenant}', p.action, 'audit.chain', CASE p.n
             WHEN 1 THEN jsonb_build_object('from', s.server, 'to', 'cluster 1', 'rows', 0)
             WHEN 3 THEN jsonb_build_object('from', 'cluster 1', 'to', s.server, 'rows', 0)
         END
         FROM audit_sealer AS s, (
             VALUES (1, interval '0', 'audit.takeover'), (2, interval '1 day', 'do'), (3, interval '0', 'audit.takeover')
         ) AS p (n, age, action)
         ORDER BY p.n"
    );
    run(pool, &sql).await;
}

/// Somebody writes that the trail comes from another server, and a process takes it over and vouches for it if it has the key.
async fn taken_over(pool: &PgPool, from: &str, signer: Option<&CheckpointSigner>) {
    run(pool, &format!("UPDATE audit_sealer SET server = '{from}'")).await;
    let at: OffsetDateTime = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(pool).await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    let server = audit_server::identity(&mut connection).await.unwrap();
    let Home::Elsewhere(takeover) = audit_takeover::look(&mut connection, server).await.unwrap() else {
        unreachable!()
    };
    for tenant in ["t", "u"] {
        let mut after = None;
        loop {
            let sign = |vouched: &Vouched| signer?.vouch(vouched);
            let taken = take(&mut connection, &takeover, tenant, (after, 100), at, sign).await.unwrap().unwrap();
            let Some(last) = taken.last else { break };
            after = Some(last);
        }
    }
    settle(&mut connection, &takeover).await.unwrap();
}

fn signer() -> CheckpointSigner {
    CheckpointSigner::new(&ed_signer().private_pem).unwrap()
}

/// What was found, by tenant and number, and who vouches for the takeovers that are told.
async fn judged(store: &Store, told: &[String]) -> (Vec<(String, Kind, i64)>, Vec<Signature>) {
    let report = verify(store, None, Checkpoints::read(told, &signer().public())).await.unwrap();
    let findings =
        report.findings.into_iter().map(|found| (found.tenant, found.kind, found.number.unwrap_or_default()));
    (findings.collect(), report.takeovers.into_iter().map(|moved| moved.signature).collect())
}

fn of_both(kind: Kind, number: i64) -> Vec<(String, Kind, i64)> {
    ["t", "u"].map(|tenant| (tenant.to_owned(), kind, number)).into()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_pair_of_takeovers_that_somebody_wrote_is_named_and_hides_no_row(pool: PgPool) {
    let store = trail(&pool).await;
    let mut told = signed_now(&pool, &signer()).await;
    plant(&pool, "t").await;
    seal_all(&store).await;
    let named = |tenant: &str, first| {
        [(Kind::TakeoverUnsigned, first), (Kind::RowBackdated, first + 1), (Kind::TakeoverUnsigned, first + 2)]
            .map(|(kind, number)| (tenant.to_owned(), kind, number))
    };
    assert_eq!(judged(&store, &told).await, (named("t", 7).to_vec(), vec![Signature::Missing; 2]));
    // Without a key nobody can tell.
    let report = verify(&store, None, Checkpoints::default()).await.unwrap();
    let signatures: Vec<Signature> = report.takeovers.into_iter().map(|moved| moved.signature).collect();
    assert_eq!((report.findings, signatures), (vec![], vec![Signature::Unread; 2]));
    // Nor does it help to make a chain for that, which is signed with them in it.
    plant(&pool, "made").await;
    seal_all(&store).await;
    let sql = "SELECT clock_timestamp() + interval '1 hour'";
    let later: OffsetDateTime = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
    told.extend(signed_at(&pool, &signer(), None, later).await);
    let (found, _) = judged(&store, &told).await;
    let made: Vec<_> = found.into_iter().filter(|(tenant, ..)| tenant == "made").collect();
    assert_eq!(made, named("made", 1));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_takeover_that_the_key_vouches_for_is_believed_where_it_was_signed_and_nowhere_else(pool: PgPool) {
    let store = trail(&pool).await;
    taken_over(&pool, "cluster 1", Some(&signer())).await;
    seal_all(&store).await;
    assert_eq!(judged(&store, &[]).await, (vec![], vec![Signature::Good; 2]));
    let told = signed_now(&pool, &signer()).await;
    assert_eq!(judged(&store, &told).await, (vec![], vec![Signature::Good; 2]));
    // The same row once more, and in another chain.
    run(
        &pool,
        "INSERT INTO audit_event (ts, tenant, action, resource, target_id, details)
         SELECT a.ts, o.tenant, a.action, a.resource, a.target_id, a.details
         FROM audit_event AS a, unnest('{t,u}'::text[]) AS o (tenant)
         WHERE a.tenant = 't' AND a.action = 'audit.takeover' ORDER BY o.tenant",
    )
    .await;
    seal_all(&store).await;
    let [good, wrong] = [Signature::Good, Signature::Wrong];
    assert_eq!(judged(&store, &told).await, (of_both(Kind::TakeoverUnsigned, 8), vec![good, wrong, good, wrong]));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_takeover_without_the_key_is_told_apart_from_one_before_there_was_a_key(pool: PgPool) {
    let store = trail(&pool).await;
    taken_over(&pool, "cluster 1", None).await;
    seal_all(&store).await;
    assert_eq!(judged(&store, &[]).await, (of_both(Kind::TakeoverUnsigned, 7), vec![Signature::Missing; 2]));
    // The key comes, and signs what there is.
    let told = signed_now(&pool, &signer()).await;
    assert_eq!(judged(&store, &told).await, (vec![], vec![Signature::OlderThanKey; 2]));
    taken_over(&pool, "cluster 2", None).await;
    seal_all(&store).await;
    let [older, missing] = [Signature::OlderThanKey, Signature::Missing];
    assert_eq!(judged(&store, &told).await, (of_both(Kind::TakeoverUnsigned, 8), vec![older, missing, older, missing]));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_takeover_that_never_happened_is_named_although_a_process_with_the_key_was_made_to_sign_it(pool: PgPool) {
    let store = trail(&pool).await;
    let told = signed_now(&pool, &signer()).await;
    run(&pool, &format!("{PLANT} '1 day', 't', 'do', 'thing', 'planted'")).await;
    taken_over(&pool, "cluster 1", Some(&signer())).await;
    seal_all(&store).await;
    let mut expected = of_both(Kind::TakeoverFeigned, 7);
    expected.insert(1, ("t".to_owned(), Kind::RowBackdated, 8));
    assert_eq!(judged(&store, &told).await, (expected, vec![Signature::Good; 2]));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_server_that_somebody_wrote_down_is_told_apart_from_one_that_changed(pool: PgPool) {
    let store = trail(&pool).await;
    let told = signed_now(&pool, &signer()).await;
    run(&pool, "UPDATE audit_sealer SET server = 'cluster 1'").await;
    let of_all = |kind| vec![(String::new(), kind, 0)];
    assert_eq!(judged(&store, &told).await.0, of_all(Kind::ServerForged));
    assert_eq!(judged(&store, &[]).await.0, of_all(Kind::ServerChanged));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_takeover_that_is_not_believed_does_not_say_where_the_chain_began(pool: PgPool) {
    // Nothing was done by the quiet one for days, so only checkpoints of this server tell how old a row can be.
    run(&pool, &format!("{PLANT} '3 days', 'quiet', 'do', 'thing', 'first'")).await;
    let store = trail(&pool).await;
    let told = signed_now(&pool, &signer()).await;
    run(&pool, &format!("{PLANT} '1 day', 'quiet', 'do', 'thing', 'planted'")).await;
    run(
        &pool,
        "INSERT INTO audit_event (ts, tenant, action, resource, details)
         SELECT now(), 'quiet', 'audit.takeover', 'audit.chain', jsonb_build_object('from', 'cluster 1', 'to', server, 'rows', 0)
         FROM audit_sealer",
    )
    .await;
    seal_all(&store).await;
    let expected = [(Kind::RowBackdated, 2), (Kind::TakeoverUnsigned, 3)];
    let expected = expected.map(|(kind, number)| ("quiet".to_owned(), kind, number)).to_vec();
    assert_eq!(judged(&store, &told).await, (expected, vec![Signature::Missing]));
}
