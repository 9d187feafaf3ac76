#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use somaagent_supervision::Probe;
use sqlx::PgPool;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{messages::ExportJobsChanged, page::next_page, sweep::sweep, *};
use crate::{
    domain::caller::Caller,
    memory::{
        export::{
            ExportOf,
            tests::{fill, memories, tenant},
        },
        queries::{Memories, ReplicaFilter},
        settings::MemorySettings,
    },
    store::export_jobs,
};

/// Longer than any time of the settings.
fn much_later() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::days(365)
}

/// A little later: leases are over, results are still there.
fn later() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::minutes(1)
}

/// Results have expired, jobs are still shown.
fn after_a_day() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::hours(25)
}

/// A process of its own, as far as a job can see.
fn process(pool: &PgPool, settings: ExportJobSettings) -> RunnerDeps {
    RunnerDeps {
        memories: memories(pool, MemorySettings { export_page_size: 2, ..MemorySettings::default() }),
        crowded: Arc::new(|| false),
        settings: Arc::new(settings),
        metrics: ExportJobMetrics::register(&prometheus::Registry::new()).unwrap(),
    }
}

fn at(clock: fn() -> OffsetDateTime, deps: &RunnerDeps) -> RunnerDeps {
    RunnerDeps { memories: Memories { clock, ..deps.memories.clone() }, ..deps.clone() }
}

fn desk(deps: &RunnerDeps) -> (Probe<ExportJobsChanged>, ExportJobs) {
    let (probe, changed) = Probe::new(8);
    let desk = ExportJobs::new(deps.memories.clone(), Arc::clone(&deps.settings), deps.metrics.clone(), changed);
    (probe, desk)
}

fn caller(name: &str) -> Caller {
    let tenant = crate::domain::ids::Tenant::new(name).unwrap();
    Caller { subject: Some("ann".into()), ..Caller::new(tenant, Uuid::nil()) }
}

async fn text(desk: &ExportJobs, id: i64) -> Option<String> {
    let mut chunks = desk.fetch(&tenant(), id).await.unwrap().unwrap().result?;
    let mut text = String::new();
    while let Some(chunk) = chunks.next().await.unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    Some(text)
}

async fn streamed(memories: &Memories, of: ExportOf) -> String {
    let mut export = memories.export(&tenant(), of).await;
    let mut text = String::new();
    while let Some(lines) = export.next().await.unwrap() {
        text.push_str(std::str::from_utf8(&lines).unwrap());
    }
    text
}

async fn audited(pool: &PgPool) -> Vec<(String, Option<String>)> {
    sqlx::query_as("SELECT action, subject FROM audit_event ORDER BY id").fetch_all(pool).await.unwrap()
}

async fn chunks(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM export_chunks").fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_job_becomes_what_the_export_streams_whoever_does_each_page(pool: PgPool) {
    fill(&pool, 0, 5).await;
    let deps = process(&pool, ExportJobSettings::default());
    let (_told, desk) = desk(&deps);
    let id = desk.order(&caller("t"), ExportOf::default()).await.unwrap().unwrap();
    let expected = streamed(&deps.memories, ExportOf::default()).await;
    let mut seen = vec![];
    while next_page(&process(&pool, ExportJobSettings::default())).await.unwrap() {
        let job = desk.find(&tenant(), id).await.unwrap().unwrap();
        seen.push((job.row_count, job.total, job.status == "completed"));
        // What is remembered meanwhile is not in it.
        let new = 5 + i64::try_from(seen.len()).unwrap();
        fill(&pool, new, new + 1).await;
    }
    assert_eq!(seen, [(2, Some(5), false), (4, Some(5), false), (5, Some(5), false), (5, Some(5), true)]);
    assert_eq!(text(&desk, id).await.as_deref(), Some(expected.as_str()));
    let job = desk.find(&tenant(), id).await.unwrap().unwrap();
    assert_eq!(job.byte_size, i64::try_from(expected.len()).unwrap());
    assert_eq!(job.sha256, Some(Sha256::digest(&expected).to_vec()));
    assert_eq!((job.chunks, job.cursor, job.digest), (4, None, None));
    assert_eq!(job.expires_at, Some(OffsetDateTime::UNIX_EPOCH + Duration::days(1)));
    let by_ann = |action: &str| (action.to_owned(), Some("ann".to_owned()));
    assert_eq!(audited(&pool).await, ["memory.export.order", "memory.export.complete"].map(by_ann));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_job_ends_by_its_limit_and_says_where_the_next_one_goes_on(pool: PgPool) {
    fill(&pool, 0, 5).await;
    let deps = process(&pool, ExportJobSettings { max_rows: 3, ..ExportJobSettings::default() });
    let (_told, desk) = desk(&deps);
    let first = desk.order(&caller("t"), ExportOf::default()).await.unwrap().unwrap();
    while next_page(&deps).await.unwrap() {}
    let job = desk.find(&tenant(), first).await.unwrap().unwrap();
    assert_eq!((job.row_count, job.total, job.max_rows), (3, Some(3), 3));
    let of = ExportOf { after: job.cursor, limit: Some(9), ..ExportOf::default() };
    let second = desk.order(&caller("t"), of.clone()).await.unwrap().unwrap();
    while next_page(&deps).await.unwrap() {}
    assert_eq!(text(&desk, second).await, Some(streamed(&deps.memories, of).await));
}

#[sqlx::test(migrations = "../migrations")]
async fn how_many_rows_come_is_not_told_where_each_would_have_to_be_read(pool: PgPool) {
    fill(&pool, 0, 3).await;
    let deps = process(&pool, ExportJobSettings::default());
    let (_told, desk) = desk(&deps);
    let filter = ReplicaFilter { containing: Some("\"n\": 1".into()), ..ReplicaFilter::default() };
    let id = desk.order(&caller("t"), ExportOf { filter, ..ExportOf::default() }).await.unwrap().unwrap();
    assert!(next_page(&deps).await.unwrap());
    let job = desk.find(&tenant(), id).await.unwrap().unwrap();
    assert_eq!((job.row_count, job.total), (1, None));
    while next_page(&deps).await.unwrap() {}
    assert_eq!(desk.find(&tenant(), id).await.unwrap().unwrap().total, Some(1));
}

#[sqlx::test(migrations = "../migrations")]
async fn the_page_of_a_process_that_died_is_done_by_another_one_when_its_lease_is_over(pool: PgPool) {
    fill(&pool, 0, 5).await;
    let deps = process(&pool, ExportJobSettings::default());
    let (_told, desk) = desk(&deps);
    let id = desk.order(&caller("t"), ExportOf::default()).await.unwrap().unwrap();
    assert!(next_page(&deps).await.unwrap());
    let mut connection = pool.acquire().await.unwrap();
    let (start, lease) = (OffsetDateTime::UNIX_EPOCH, Duration::seconds(30));
    export_jobs::claim(&mut connection, Uuid::new_v4(), start, start + lease).await.unwrap().unwrap();
    assert!(!next_page(&deps).await.unwrap(), "somebody has it");
    while next_page(&at(later, &deps)).await.unwrap() {}
    assert_eq!(text(&desk, id).await, Some(streamed(&deps.memories, ExportOf::default()).await));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_job_that_gets_nowhere_is_given_up(pool: PgPool) {
    let deps = process(&pool, ExportJobSettings::default());
    let (_told, desk) = desk(&deps);
    let id = desk.order(&caller("t"), ExportOf::default()).await.unwrap().unwrap();
    sqlx::query("UPDATE export_jobs SET tries = 8, error = 'too slow'").execute(&pool).await.unwrap();
    assert!(next_page(&deps).await.unwrap());
    let job = desk.find(&tenant(), id).await.unwrap().unwrap();
    assert_eq!((job.status.as_str(), job.error_code.as_deref()), ("failed", Some("no-progress")));
    assert!(job.error.unwrap().ends_with("too slow"));
    assert!(!next_page(&deps).await.unwrap());
}

#[sqlx::test(migrations = "../migrations")]
async fn a_result_that_would_be_too_large_fails_and_leaves_nothing(pool: PgPool) {
    fill(&pool, 0, 5).await;
    let size = streamed(&process(&pool, ExportJobSettings::default()).memories, ExportOf::default()).await.len();
    let limit = |max_bytes: usize| ExportJobSettings { max_bytes: max_bytes as u64, ..ExportJobSettings::default() };
    for (max_bytes, status, code) in [(size, "completed", None), (size - 1, "failed", Some("result-too-large"))] {
        let deps = process(&pool, limit(max_bytes));
        let (_told, desk) = desk(&deps);
        let id = desk.order(&caller("t"), ExportOf::default()).await.unwrap().unwrap();
        while next_page(&deps).await.unwrap() {}
        let job = desk.find(&tenant(), id).await.unwrap().unwrap();
        assert_eq!((job.status.as_str(), job.error_code.as_deref()), (status, code));
        assert_eq!(text(&desk, id).await.is_some(), status == "completed");
    }
    assert_eq!(chunks(&pool).await, 7);
    while sweep(&process(&pool, ExportJobSettings::default())).await.unwrap() {}
    assert_eq!(chunks(&pool).await, 4, "what the failed one found is gone");
    let actions: Vec<String> = audited(&pool).await.into_iter().map(|(action, _)| action).collect();
    assert_eq!(actions[2..], ["memory.export.order", "memory.export.fail"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn an_ended_job_goes_no_further_and_its_chunks_go(pool: PgPool) {
    fill(&pool, 0, 5).await;
    let deps = process(&pool, ExportJobSettings::default());
    let (_told, desk) = desk(&deps);
    let id = desk.order(&caller("t"), ExportOf::default()).await.unwrap().unwrap();
    assert!(next_page(&deps).await.unwrap());
    assert!(desk.end(&caller("other"), id).await.unwrap().is_none(), "another tenant's");
    assert!(desk.fetch(&caller("other").tenant, id).await.unwrap().is_none());
    let ended = desk.end(&caller("t"), id).await.unwrap().unwrap();
    assert_eq!((ended.status.as_str(), ended.row_count), ("cancelled", 2));
    assert!(!next_page(&deps).await.unwrap());
    while sweep(&deps).await.unwrap() {}
    assert_eq!(chunks(&pool).await, 0);
    assert_eq!(desk.end(&caller("t"), id).await.unwrap().unwrap().ended_at, ended.ended_at, "over is over");
    let actions: Vec<String> = audited(&pool).await.into_iter().map(|(action, _)| action).collect();
    assert_eq!(actions, ["memory.export.order", "memory.export.end"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_result_expires_and_long_after_that_its_job_is_forgotten(pool: PgPool) {
    fill(&pool, 0, 60).await;
    let deps = process(&pool, ExportJobSettings { page_size: 1, ..ExportJobSettings::default() });
    let (_told, desk) = desk(&deps);
    let id = desk.order(&caller("t"), ExportOf::default()).await.unwrap().unwrap();
    while next_page(&deps).await.unwrap() {}
    while sweep(&at(later, &deps)).await.unwrap() {}
    assert_eq!(chunks(&pool).await, 61);
    assert!(sweep(&at(after_a_day, &deps)).await.unwrap(), "not everything goes in one step");
    let job = desk.find(&tenant(), id).await.unwrap().unwrap();
    assert_eq!(job.status, "expired");
    assert!(desk.fetch(&tenant(), id).await.unwrap().unwrap().result.is_none());
    while sweep(&at(after_a_day, &deps)).await.unwrap() {}
    assert_eq!(chunks(&pool).await, 0);
    assert!(desk.find(&tenant(), id).await.unwrap().is_some(), "the job is still shown");
    while sweep(&at(much_later, &deps)).await.unwrap() {}
    assert!(desk.find(&tenant(), id).await.unwrap().is_none());
    let audited = audited(&pool).await;
    let expired = ("memory.export.expire".to_owned(), Some("ann".to_owned()));
    let purged = ("memory.export.purge".to_owned(), Some("system:export-runner".to_owned()));
    assert_eq!(audited[audited.len() - 2..], [expired, purged]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_tenant_with_as_many_jobs_as_it_may_have_gets_no_further_one(pool: PgPool) {
    let deps = process(&pool, ExportJobSettings { max_kept: 1, ..ExportJobSettings::default() });
    let (_told, desk) = desk(&deps);
    let id = desk.order(&caller("t"), ExportOf::default()).await.unwrap().unwrap();
    while next_page(&deps).await.unwrap() {}
    assert_eq!(desk.order(&caller("t"), ExportOf::default()).await.unwrap(), None);
    let expired = desk.end(&caller("t"), id).await.unwrap().unwrap();
    assert_eq!((expired.status.as_str(), expired.expires_at), ("expired", Some(OffsetDateTime::UNIX_EPOCH)));
    assert!(desk.order(&caller("t"), ExportOf::default()).await.unwrap().is_some());
    let filter: Value = sqlx::query_scalar("SELECT params FROM export_jobs LIMIT 1").fetch_one(&pool).await.unwrap();
    assert_eq!(filter["q"], json!(null));
}
