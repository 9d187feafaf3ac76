//! The settings on a real database.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

use std::time::Duration;

use prometheus::Registry;
use serde_json::{Value, json};
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        caller::Caller,
        ids::Tenant,
        settings::{Given, GivenField},
    },
    store::{Connections, Store, ui_settings_versions::KEPT},
    uploads::rules::{Antivirus, Quarantine, Quotas, Rules},
};

/// What a process was configured with.
pub(super) fn configured() -> Rules {
    Rules {
        enabled: true,
        max_bytes: 25 << 20,
        max_files: 10,
        allowed_mime: Vec::new(),
        denied_mime: vec!["text/html".to_owned()],
        ttl_days: 7,
        janitor_interval_seconds: 3_600,
        inline_max_bytes: 16 << 20,
        allow_external: false,
        external_allowlist: Vec::new(),
        dedup: false,
        quarantine: Quarantine::StoreAndBlock,
        quotas: Quotas::default(),
        download_token_ttl_seconds: 0,
        antivirus: Antivirus { enabled: false, strict: false, host: "clamav".to_owned(), port: 3_310 },
    }
}

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

/// A process of its own, in which admins of `acme` are operators.
fn process(connections: Connections) -> Settings {
    let store = Store::new(connections, Duration::from_secs(20), Handle::current());
    let metrics = SettingsMetrics::register(&Registry::new()).unwrap();
    let operators = Operators::AdminsOf(vec![tenant("acme")]);
    Settings::new(store, || OffsetDateTime::UNIX_EPOCH + Duration::from_hours(1), operators, configured(), metrics)
}

fn on(pool: &PgPool) -> Settings {
    process(Connections::of_pool(pool.clone()))
}

fn ada() -> Caller {
    Caller { subject: Some("ada".to_owned()), ..Caller::new(tenant("acme"), Uuid::from_u128(7)) }
}

fn given(section: &str, id: &str, value: Value) -> Vec<Given> {
    vec![Given { section: section.to_owned(), fields: vec![GivenField { id: id.to_owned(), value }] }]
}

async fn save(settings: &Settings, id: &str, value: Value) -> Result<View, ChangeError> {
    let section = if id.starts_with("av_") { "antivirus" } else { "uploads" };
    settings.save(&ada(), Expected::Any, given(section, id, value)).await
}

async fn rows(pool: &PgPool) -> (i64, i64) {
    let sql = "SELECT (SELECT count(*) FROM ui_settings_versions), (SELECT count(*) FROM audit_event)";
    sqlx::query_as(sql).fetch_one(pool).await.unwrap()
}

/// Somebody else writes to the row.
async fn scribble(pool: &PgPool, document: Value) {
    let sql = "INSERT INTO ui_settings (key, value) VALUES ('global', $1) ON CONFLICT (key) DO UPDATE SET value = $1";
    sqlx::query(sql).bind(document).execute(pool).await.unwrap();
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_saved_counts_at_once_here_and_after_a_look_elsewhere(pool: PgPool) {
    let (here, there) = (on(&pool), on(&pool));
    for process in [&here, &there] {
        assert!(!process.rules().borrow().enabled, "nothing is known yet");
        let view = process.look().await.unwrap();
        assert_eq!((view.version, view.in_force, process.condition()), (0, Some(0), Condition::Current));
        assert_eq!(**process.rules().borrow(), configured());
    }
    let view = save(&here, "uploads_max_files", json!(3)).await.unwrap();
    assert_eq!((view.version, view.in_force, view.fault), (1, Some(1), None));
    assert_eq!((here.rules().borrow().max_files, there.rules().borrow().max_files), (3, 10));
    there.look().await.unwrap();
    assert_eq!(there.rules().borrow().max_files, 3);

    // Another field of the same section, from the other process.
    save(&there, "uploads_denied_mime", json!("image/PNG")).await.unwrap();
    here.look().await.unwrap();
    let rules = here.rules().borrow().clone();
    assert_eq!((rules.max_files, &*rules.denied_mime), (3, &["image/png".to_owned()][..]));
    // As configured again.
    let view = save(&here, "uploads_denied_mime", json!("")).await.unwrap();
    assert_eq!((view.version, &view.values["uploads_denied_mime"]), (3, &json!("text/html")));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_change_leaves_a_version_and_an_audit_row(pool: PgPool) {
    let settings = on(&pool);
    save(&settings, "av_enabled", json!(true)).await.unwrap();
    let (action, resource, target, details, diff): (String, String, String, Value, Value) =
        sqlx::query_as("SELECT action, resource, target_id, details, diff FROM audit_event")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!((action.as_str(), resource.as_str(), target.as_str()), ("settings.update", "ui.settings", "global"));
    assert_eq!(details, json!({"version": 1, "restored": null}));
    assert_eq!(diff, json!({"antivirus.av_enabled": {"before": null, "after": true}}));

    let page = settings.versions(None, 10).await.unwrap();
    let version = &page.items[0];
    assert_eq!((page.items.len(), page.next, version.number, version.restored), (1, None, 1, None));
    assert_eq!(version.changed, ["antivirus.av_enabled"]);
    assert_eq!((version.tenant.as_str(), version.subject.as_deref()), ("acme", Some("ada")));
    assert_eq!(version.request_id.as_deref(), Some(&*Uuid::from_u128(7).to_string()));
    let stranger = Caller::new(tenant("other"), Uuid::nil());
    assert_eq!((settings.tells_who(&ada(), version), settings.tells_who(&stranger, version)), (true, false));
}

#[sqlx::test(migrations = "../migrations")]
async fn what_changes_nothing_leaves_nothing(pool: PgPool) {
    let settings = on(&pool);
    for (id, value) in
        [("uploads_max_files", json!(10)), ("uploads_max_files", json!(null)), ("av_host", json!("CLAMAV"))]
    {
        assert_eq!(save(&settings, id, value).await.unwrap().version, 0);
    }
    assert_eq!(settings.save(&ada(), Expected::Any, vec![]).await.unwrap().version, 0);
    assert_eq!(settings.restore(&ada(), Expected::Any, 0).await.unwrap().version, 0);
    assert_eq!(rows(&pool).await, (0, 0));
    // It is known since then what is saved.
    assert_eq!((settings.condition(), settings.rules().borrow().enabled), (Condition::Current, true));
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_refused_changes_nothing(pool: PgPool) {
    let settings = on(&pool);
    save(&settings, "uploads_max_files", json!(3)).await.unwrap();
    let before = rows(&pool).await;
    let stranger = Caller::new(tenant("other"), Uuid::nil());
    let order = || given("uploads", "uploads_max_files", json!(4));
    let refused = settings.save(&stranger, Expected::Any, order()).await;
    assert!(matches!(refused, Err(ChangeError::NotOperator)), "{refused:?}");
    let refused = settings.restore(&stranger, Expected::Any, 0).await;
    assert!(matches!(refused, Err(ChangeError::NotOperator)), "{refused:?}");
    for versions in [vec![], vec![0], vec![2]] {
        let refused = settings.save(&ada(), Expected::OneOf(versions), order()).await;
        assert!(matches!(refused, Err(ChangeError::Stale(1))), "{refused:?}");
    }
    let refused = settings.restore(&ada(), Expected::OneOf(vec![0]), 0).await;
    assert!(matches!(refused, Err(ChangeError::Stale(1))), "{refused:?}");
    let refused = save(&settings, "uploads_max_files", json!(0)).await;
    assert!(matches!(&refused, Err(ChangeError::Invalid(faults)) if faults.len() == 1), "{refused:?}");
    let refused = settings.restore(&ada(), Expected::Any, 2).await;
    assert!(matches!(refused, Err(ChangeError::NoSuchVersion)), "{refused:?}");
    assert_eq!((rows(&pool).await, settings.look().await.unwrap().version), (before, 1));
    assert_eq!(settings.rules().borrow().max_files, 3);
    assert_eq!(settings.save(&ada(), Expected::OneOf(vec![7, 1]), order()).await.unwrap().version, 2);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_former_version_is_restored_as_a_new_one(pool: PgPool) {
    let settings = on(&pool);
    save(&settings, "uploads_max_files", json!(3)).await.unwrap();
    save(&settings, "av_port", json!(3311)).await.unwrap();
    let view = settings.restore(&ada(), Expected::OneOf(vec![2]), 1).await.unwrap();
    assert_eq!(
        (view.version, &view.values["uploads_max_files"], &view.values["av_port"]),
        (3, &json!(3), &json!(3310))
    );
    let view = settings.restore(&ada(), Expected::Any, 0).await.unwrap();
    assert_eq!((view.version, settings.rules().borrow().max_files), (4, 10));

    let compared = settings.compare(1, 2).await.unwrap();
    assert_eq!(compared.len(), 1);
    assert_eq!((compared[0].name().as_str(), compared[0].after.as_ref()), ("antivirus.av_port", Some(&json!(3311))));
    assert_eq!(settings.compare(0, 4).await.unwrap(), []);
    assert!(matches!(settings.compare(0, 5).await, Err(ChangeError::NoSuchVersion)));
    let restored: Vec<_> = settings.versions(None, 10).await.unwrap().items.iter().map(|item| item.restored).collect();
    assert_eq!(restored, [Some(0), Some(1), None, None]);
}

#[sqlx::test(migrations = "../migrations")]
async fn versions_come_in_pages_and_the_oldest_go(pool: PgPool) {
    let settings = on(&pool);
    let sql = "INSERT INTO ui_settings_versions (number, document, changed, created_at, tenant)
               SELECT number, '{}', '{}', now(), 'acme' FROM generate_series(1, $1) AS s (number)";
    sqlx::query(sql).bind(KEPT).execute(&pool).await.unwrap();
    // Numbers of versions do not come again, even if the row of the settings was lost.
    let view = save(&settings, "uploads_max_files", json!(3)).await.unwrap();
    assert_eq!(view.version, KEPT + 1);
    let (mut after, mut numbers) = (None, Vec::new());
    loop {
        let page = settings.versions(after, 300).await.unwrap();
        numbers.extend(page.items.iter().map(|item| item.number));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(numbers, (2..=KEPT + 1).rev().collect::<Vec<_>>());
    let gone = settings.restore(&ada(), Expected::Any, 1).await;
    assert!(matches!(gone, Err(ChangeError::NoSuchVersion)), "{gone:?}");
}

#[sqlx::test(migrations = "../migrations")]
async fn rubbish_in_the_row_changes_nothing_and_is_mended_by_a_restore(pool: PgPool) {
    let (running, rubbish) = (on(&pool), json!({"uploads": {"uploads_max_files": "many"}, "antivirus": {"av_new": 1}}));
    save(&running, "uploads_max_files", json!(3)).await.unwrap();
    scribble(&pool, rubbish).await;
    let view = running.look().await.unwrap();
    assert_eq!((running.condition(), running.rules().borrow().max_files), (Condition::Unreadable, 3));
    assert!(view.fault.is_some_and(|fault| fault.contains("antivirus.av_new is not known")));

    // A process that starts now was told nothing that it could go by.
    let started = on(&pool);
    assert_eq!(started.look().await.unwrap().in_force, None);
    assert_eq!((started.condition(), started.rules().borrow().enabled), (Condition::Closed, false));

    let refused = save(&running, "uploads_max_files", json!(4)).await;
    assert!(matches!(refused, Err(ChangeError::Unreadable(_))), "{refused:?}");
    let view = started.restore(&ada(), Expected::Any, 1).await.unwrap();
    assert_eq!((view.version, view.in_force, started.rules().borrow().max_files), (2, Some(2), 3));
    running.look().await.unwrap();
    assert_eq!(running.condition(), Condition::Current);
    let diff: Value =
        sqlx::query_scalar("SELECT diff FROM audit_event ORDER BY id DESC LIMIT 1").fetch_one(&pool).await.unwrap();
    let masked = json!({
        "antivirus.av_new": {"before": "************", "after": null},
        "uploads.uploads_max_files": {"before": "************", "after": 3},
    });
    assert_eq!(diff, masked);

    // Nor is a document that is none at all beyond repair.
    scribble(&pool, json!(7)).await;
    running.look().await.unwrap();
    assert_eq!(running.condition(), Condition::Unreadable);
    let view = running.restore(&ada(), Expected::Any, 0).await.unwrap();
    assert_eq!((view.version, running.condition(), running.rules().borrow().max_files), (3, Condition::Current, 10));
}

#[sqlx::test(migrations = "../migrations")]
async fn what_another_program_writes_counts_without_a_new_version(pool: PgPool) {
    let settings = on(&pool);
    scribble(&pool, json!({"uploads": {"uploads_max_files": 4}, "preferences": {"show_json": true}})).await;
    settings.look().await.unwrap();
    assert_eq!(settings.rules().borrow().max_files, 4);
    // What is not known here stays.
    save(&settings, "uploads_max_files", json!(5)).await.unwrap();
    let stored: Value = sqlx::query_scalar("SELECT value FROM ui_settings").fetch_one(&pool).await.unwrap();
    assert_eq!(stored, json!({"uploads": {"uploads_max_files": 5}, "preferences": {"show_json": true}}));
}

#[sqlx::test(migrations = "../migrations")]
async fn of_changes_at_the_same_time_none_is_lost(pool: PgPool) {
    let settings: Vec<Settings> = (0..8).map(|_| on(&pool)).collect();
    let ids = ["uploads_max_files", "uploads_max_mb", "uploads_ttl_days", "av_port"];
    let changes = settings
        .iter()
        .zip(ids.iter().cycle())
        .enumerate()
        .map(async |(number, (settings, id))| save(settings, id, json!(50 + number)).await.unwrap().version);
    let mut versions = futures_util::future::join_all(changes).await;
    versions.sort_unstable();
    assert_eq!(versions, (1..=8).collect::<Vec<_>>());
    let view = on(&pool).look().await.unwrap();
    for id in ids {
        assert!(view.values[id].as_u64().is_some_and(|value| (50..58).contains(&value)), "{id}: {:?}", view.values[id]);
    }
}

#[tokio::test]
async fn without_a_database_nothing_is_changed_and_what_was_in_force_goes_on() {
    let settings = process(Connections::nowhere().unwrap());
    assert!(matches!(settings.look().await, Err(StoreError::Unavailable(_))));
    let refused = save(&settings, "uploads_max_files", json!(3)).await;
    assert!(matches!(refused, Err(ChangeError::Store(StoreError::Unavailable(_)))), "{refused:?}");
    assert_eq!((settings.condition(), settings.rules().borrow().enabled), (Condition::Closed, false));
}
