#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use sqlx::PgPool;
use time::Duration;

use super::*;
use crate::store::wall::within;

const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const LEASE: Duration = Duration::seconds(30);

fn job(tenant: &str, at: OffsetDateTime) -> NewExportJob {
    NewExportJob {
        tenant: Tenant::new(tenant).unwrap(),
        filter: ReplicaFilter { containing: Some("x".into()), max_ts: Some(1.5), ..ReplicaFilter::default() },
        after: Some(9),
        max_rows: 7,
        subject: None,
        request_id: Uuid::nil(),
        ip: "127.0.0.1".parse().ok(),
        at,
    }
}

async fn ordered(connection: &mut PgConnection, tenant: &str, at: OffsetDateTime) -> i64 {
    within(connection, tenant, async |rows| insert(rows, &job(tenant, at), 100).await).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_job_is_kept_as_it_was_ordered_for_its_tenant_alone(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let id = ordered(&mut connection, "t", AT).await;
    let found = within(&mut connection, "t", async |rows| get(rows, "t", id).await).await.unwrap();
    assert_eq!((found.status.as_str(), &found.filter.0), ("queued", &job("t", AT).filter));
    assert_eq!((found.cursor, found.max_rows, found.ip.as_deref()), (Some(9), 7, Some("127.0.0.1")));
    assert!(within(&mut connection, "t", async |rows| get(rows, "other", id).await).await.is_none());
    assert!(within(&mut connection, "t", async |rows| list(rows, "other", None, 10).await).await.is_empty());
    assert!(within(&mut connection, "t", async |rows| end(rows, "other", id, AT).await).await.is_none());
    let later = ordered(&mut connection, "t", AT).await;
    let ids = |jobs: Vec<ExportJob>| jobs.iter().map(|job| job.id).collect::<Vec<_>>();
    assert_eq!(ids(within(&mut connection, "t", async |rows| list(rows, "t", None, 10).await).await), [later, id]);
    assert_eq!(ids(within(&mut connection, "t", async |rows| list(rows, "t", Some(later), 10).await).await), [id]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_tenant_has_no_more_jobs_than_it_may_also_if_it_orders_them_at_once(pool: PgPool) {
    let order = async |tenant: &str| {
        let mut connection = pool.acquire().await.unwrap();
        within(&mut connection, tenant, async |rows| insert(rows, &job(tenant, AT), 2).await).await
    };
    let (one, two, three) = tokio::join!(order("t"), order("t"), order("t"));
    let taken: Vec<i64> = [one, two, three].into_iter().flatten().collect();
    assert_eq!(taken.len(), 2);
    assert!(order("other").await.is_some(), "another tenant's jobs do not count");
    let mut connection = pool.acquire().await.unwrap();
    within(&mut connection, "t", async |rows| end(rows, "t", taken[0], AT).await).await.unwrap();
    assert!(order("t").await.is_some(), "what is over does not count");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_claim_is_free_again_when_its_lease_is_over_and_what_it_writes_late_is_refused(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let (first, second) = (ordered(&mut connection, "t", AT).await, ordered(&mut connection, "other", AT).await);
    let [one, two] = [Uuid::new_v4(), Uuid::new_v4()];
    let job = claim(&mut connection, one, AT, AT + LEASE).await.unwrap().unwrap();
    assert_eq!((job.id, job.status.as_str(), job.tries), (first, "running", 1));
    let other = claim(&mut connection, two, AT, AT + LEASE).await.unwrap().unwrap();
    assert_eq!(other.id, second);
    let third = Uuid::new_v4();
    assert!(claim(&mut connection, third, AT, AT + LEASE).await.unwrap().is_none());
    let again = claim(&mut connection, third, AT + LEASE, AT + 2 * LEASE).await.unwrap().unwrap();
    assert_eq!((again.id, again.tries, again.started_at), (first, 2, Some(AT)));
    let late = ExportJob { row_count: 5, lease_until: None, ..job };
    assert!(!settle(&mut connection, &late, one, AT).await.unwrap());
    let right = ExportJob { row_count: 3, tries: 0, lease_until: None, ..again };
    assert!(settle(&mut connection, &right, third, AT + LEASE).await.unwrap());
    assert!(!settle(&mut connection, &right, third, AT + LEASE).await.unwrap(), "a claim is good for one page");
    assert_eq!(within(&mut connection, "t", async |rows| get(rows, "t", first).await).await.unwrap().row_count, 3);
    // It has waited less than the other one now.
    let next = claim(&mut connection, one, AT + 3 * LEASE, AT + 4 * LEASE).await.unwrap().unwrap();
    assert_eq!(next.id, second);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_job_that_was_ended_takes_no_further_page(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let (id, mine) = (ordered(&mut connection, "t", AT).await, Uuid::new_v4());
    let job = claim(&mut connection, mine, AT, AT + LEASE).await.unwrap().unwrap();
    // Whoever has the claim holds no lock.
    let ended = within(&mut connection, "t", async |rows| end(rows, "t", id, AT).await).await.unwrap();
    assert_eq!((ended.status.as_str(), ended.ended_at), ("cancelled", Some(AT)));
    assert!(!settle(&mut connection, &job, mine, AT).await.unwrap());
    let again = within(&mut connection, "t", async |rows| end(rows, "t", id, AT).await).await;
    assert!(again.is_none(), "it is over only once");
    assert!(claim(&mut connection, mine, AT + 9 * LEASE, AT + 10 * LEASE).await.unwrap().is_none());
}
