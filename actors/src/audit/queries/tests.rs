#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use time::macros::datetime;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::*;
use crate::{domain::hex::hex, store::Connections};

const SESSION: Uuid = Uuid::from_u128(7);

fn tenant() -> Tenant {
    Tenant::new("t").unwrap()
}

/// The trail of a database with so many rows of `t`, every tenth of them rare and every other one another tenant's beside it.
async fn trail(pool: &PgPool, rows: i32) -> Trail {
    let sql = "INSERT INTO audit_event (ts, tenant, session_id, request_id, action, resource, details, ip)
               SELECT timestamptz '2026-01-01 00:00:00Z' + n * interval '1 minute', tenant,
                   CASE WHEN n = 3 THEN $2 END, 'r' || n, CASE WHEN n % 10 = 0 THEN 'rare' ELSE 'common' END, 'thing',
                   '{\"n\": 1}', '127.0.0.1'
               FROM generate_series(1, $1) AS n, unnest('{t,other}'::text[]) AS tenant
               ORDER BY n, tenant";
    sqlx::query(sql).bind(rows).bind(SESSION).execute(pool).await.unwrap();
    let store = Store::new(Connections::of_pool(pool.clone()), Duration::from_secs(5), Handle::current());
    Trail::new(store)
}

async fn requests(trail: &Trail, filter: TrailFilter, limit: i64) -> Vec<String> {
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = trail.list(&tenant(), &filter, before, limit).await.unwrap();
        assert!(page.items.iter().all(|item| item.tenant == "t"));
        found.extend(page.items.into_iter().filter_map(|item| item.request_id));
        before = page.next;
        if before.is_none() {
            return found;
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_list_has_every_row_that_passes_once_and_the_newest_first(pool: PgPool) {
    let trail = trail(&pool, 40).await;
    let all: Vec<String> = (1..=40).rev().map(|n| format!("r{n}")).collect();
    assert_eq!(requests(&trail, TrailFilter::default(), 7).await, all);
    let rare = TrailFilter { action: Some("rare".into()), ..TrailFilter::default() };
    assert_eq!(requests(&trail, rare, 3).await, ["r40", "r30", "r20", "r10"]);
    let one = TrailFilter { request_id: Some("r5".into()), ..TrailFilter::default() };
    assert_eq!(requests(&trail, one, 3).await, ["r5"]);
    let session = TrailFilter { session_id: Some(SESSION), ..TrailFilter::default() };
    assert_eq!(requests(&trail, session, 3).await, ["r3"]);
    let (since, until) = (datetime!(2026-01-01 00:05 UTC), datetime!(2026-01-01 00:07 UTC));
    let span = TrailFilter { since: Some(since), until: Some(until), ..TrailFilter::default() };
    assert_eq!(requests(&trail, span, 3).await, ["r6", "r5"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_rare_is_found_behind_any_number_of_others(pool: PgPool) {
    let trail = trail(&pool, 12_001).await;
    let oldest = TrailFilter { request_id: Some("r1".into()), ..TrailFilter::default() };
    assert_eq!(requests(&trail, oldest, 1).await, ["r1"]);
    let newest = TrailFilter { request_id: Some("r12001".into()), ..TrailFilter::default() };
    let mut export = trail.export(&tenant(), newest, 0, 10);
    let line = export.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&line).contains("\"r12001\""));
}

#[sqlx::test(migrations = "../migrations")]
async fn an_export_is_whole_and_one_that_is_cut_off_goes_on(pool: PgPool) {
    let trail = trail(&pool, 1_203).await;
    let (mut lines, mut after) = (Vec::<Value>::new(), 0);
    loop {
        let mut export = trail.export(&tenant(), TrailFilter::default(), after, 700);
        let mut text = Vec::new();
        while let Some(piece) = export.next().await.unwrap() {
            text.extend_from_slice(&piece);
        }
        let text = String::from_utf8(text).unwrap();
        let (rows, last) = text.trim_end().rsplit_once('\n').unwrap();
        let trailer: Value = serde_json::from_str(last).unwrap();
        assert_eq!(trailer["sha256"], hex(&Sha256::digest(format!("{rows}\n"))));
        assert_eq!(trailer["rows"], rows.lines().count());
        lines.extend(rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        match trailer["cursor"].as_i64() {
            Some(cursor) => after = cursor,
            None => break,
        }
    }
    let requests: Vec<&str> = lines.iter().map(|line| line["request_id"].as_str().unwrap()).collect();
    let all: Vec<String> = (1..=1_203).map(|n| format!("r{n}")).collect();
    assert_eq!(requests, all);
    assert_eq!((&lines[0]["ts"], &lines[0]["ip"]), (&"2026-01-01T00:01:00.000000Z".into(), &"127.0.0.1".into()));
    assert!(lines[0]["details"].is_object() && lines[0]["diff"].is_null());
}
