#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use serde_json::json;
use sqlx::PgPool;
use time::Duration;

use super::*;
use crate::{
    domain::{append::AuditWrite, ids::Tenant},
    store::{
        attachment_blobs::{
            same, sweep,
            tests::{counts, whole},
        },
        erase,
        wall::{Entrance, Purpose, Wall, within},
    },
};

const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

pub(in crate::store) fn of(tenant: &str, blob_id: Option<Uuid>) -> Attachment {
    Attachment {
        id: Uuid::new_v4(),
        tenant: tenant.to_owned(),
        session_id: Some(Uuid::from_u128(7)),
        persona_id: Some("p".to_owned()),
        subject: Some("ann".to_owned()),
        issuer: Some("i".to_owned()),
        filename: "note.txt".to_owned(),
        mime: "text/plain".to_owned(),
        declared_mime: Some("text/markdown".to_owned()),
        size: 5,
        sha256: "5f".to_owned(),
        status: "quarantined".to_owned(),
        quarantine_reason: Some("infected".to_owned()),
        threat: Some("Eicar".to_owned()),
        scanned_at: Some(AT),
        signatures: Some("27".to_owned()),
        blob_id,
        external_url: None,
        created_at: AT,
        deleted_at: None,
        released_at: None,
        released_by: None,
    }
}

pub(in crate::store) async fn put(connection: &mut PgConnection, new: &Attachment) {
    within(connection, &new.tenant, async |rows| insert(rows, new).await).await;
}

pub(super) async fn read(connection: &mut PgConnection, tenant: &str, id: Uuid) -> Option<Attachment> {
    within(connection, tenant, async |rows| get(rows, tenant, id).await).await
}

#[sqlx::test(migrations = "../migrations")]
async fn an_attachment_is_kept_as_it_is_for_its_tenant_alone(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let blob = whole(&mut connection, "t", &[b"hello"]).await;
    let new = of("t", Some(blob));
    put(&mut connection, &new).await;
    assert_eq!(read(&mut connection, "t", new.id).await, Some(new.clone()));
    assert_eq!(read(&mut connection, "u", new.id).await, None);
    assert_eq!(within(&mut connection, "t", async |rows| get(rows, "u", new.id).await).await, None);
}

#[sqlx::test(migrations = "../migrations")]
async fn an_attachment_cannot_have_the_bytes_of_another_tenant(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let others = whole(&mut connection, "u", &[b"hello"]).await;
    let new = of("t", Some(others));
    let refused = within(&mut connection, "t", async |rows| {
        let refused = insert(rows, &new).await.unwrap_err();
        rows.undo();
        Ok(refused.as_database_error().unwrap().code().unwrap().into_owned())
    });
    assert_eq!(refused.await, "23503");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_deleted_leaves_a_tombstone_and_its_bytes_go_with_the_last_reference(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let blob = whole(&mut connection, "t", &[b"he", b"llo"]).await;
    let (first, second) = (of("t", Some(blob)), of("t", Some(blob)));
    for new in [&first, &second] {
        put(&mut connection, new).await;
    }
    let later = AT + Duration::hours(1);
    let deleted = async |connection: &mut PgConnection, tenant: &str, id| {
        within(connection, tenant, async |rows| delete(rows, tenant, id, later).await).await
    };
    assert!(!deleted(&mut connection, "u", first.id).await, "another tenant has none");
    assert!(deleted(&mut connection, "t", first.id).await);
    assert!(!deleted(&mut connection, "t", first.id).await, "it is gone already");
    let found = read(&mut connection, "t", first.id).await.unwrap();
    assert_eq!((found.deleted_at, found.blob_id, found.filename), (Some(later), None, first.filename));
    let here = within(&mut connection, "t", async |rows| same(rows, "t", &["5f"]).await).await.into_values().next();
    assert_eq!(here, Some(blob), "the other one has them");
    assert!(deleted(&mut connection, "t", second.id).await);
    assert!(!sweep(&mut connection, AT, 10).await.unwrap());
    assert_eq!(counts(&pool).await, (0, 0));
}

#[sqlx::test(migrations = "../migrations")]
async fn two_that_delete_the_last_two_references_at_once_leave_no_bytes(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    for _ in 0..10 {
        let blob = whole(&mut connection, "t", &[b"hello"]).await;
        let both = [of("t", Some(blob)), of("t", Some(blob))];
        for new in &both {
            put(&mut connection, new).await;
        }
        let deleted = async |id| {
            let mut own = pool.acquire().await.unwrap();
            within(&mut own, "t", async |rows| delete(rows, "t", id, AT).await).await
        };
        assert_eq!(tokio::join!(deleted(both[0].id), deleted(both[1].id)), (true, true));
        assert!(!sweep(&mut connection, AT, 10).await.unwrap());
        assert_eq!(counts(&pool).await, (0, 0));
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_too_old_is_deleted_and_told_to_the_audit_trail(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let blob = whole(&mut connection, "t", &[b"hello"]).await;
    let old = of("t", Some(blob));
    let young = Attachment { created_at: AT + Duration::days(2), ..of("t", Some(blob)) };
    let others = of("u", None);
    for new in [&old, &young, &others] {
        put(&mut connection, new).await;
    }
    let (before, now) = (AT + Duration::days(1), AT + Duration::days(9));
    assert_eq!(expire(&mut connection, before, now, 1).await.unwrap(), 1, "no more than the limit");
    assert_eq!(expire(&mut connection, before, now, 10).await.unwrap(), 1);
    assert_eq!(expire(&mut connection, before, now, 10).await.unwrap(), 0);
    assert_eq!(read(&mut connection, "t", old.id).await.unwrap().deleted_at, Some(now));
    assert_eq!(read(&mut connection, "t", young.id).await.unwrap().blob_id, Some(blob));
    let told: Vec<(String, String, serde_json::Value)> =
        sqlx::query_as("SELECT tenant, action, details FROM audit_event ORDER BY tenant")
            .fetch_all(&pool)
            .await
            .unwrap();
    let row = |tenant: &str, id: Uuid| {
        (tenant.to_owned(), "attachments.expire".to_owned(), serde_json::json!({"count": 1, "ids": [id]}))
    };
    assert_eq!(told, [row("t", old.id), row("u", others.id)]);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_attachments_of_an_erased_session_go_with_it_and_a_file_that_comes_meanwhile_is_not_left_behind(
    pool: PgPool,
) {
    let mut connection = pool.acquire().await.unwrap();
    let key = SessionKey::new(Tenant::new("t").unwrap(), Uuid::from_u128(7));
    let begun = "INSERT INTO session_envelopes (tenant, session_id, epoch, last_seq, created_at, updated_at)
                 VALUES ('t', $1, 1, 3, now(), now())";
    sqlx::query(begun).bind(key.session_id).execute(&mut *connection).await.unwrap();
    let shared = whole(&mut connection, "t", &[b"hello"]).await;
    let [first, late] = [of("t", Some(shared)), of("t", Some(shared))];
    let elsewhere = Attachment { session_id: None, ..of("t", Some(shared)) };
    for new in [&first, &elsewhere, &of("u", None)] {
        put(&mut connection, new).await;
    }
    // One transaction is about to add a file to the session while another one erases that.
    let mut other = pool.acquire().await.unwrap();
    let tenant = Tenant::new("t").unwrap();
    let mut adding = TenantTx::begin(&mut other, &Wall::Up(Entrance::ASKING), &tenant, Purpose::Change).await.unwrap();
    assert!(!erase::hold_off(&mut adding, &key).await.unwrap());
    let line =
        AuditWrite { action: "session.delete", resource: "session", details: json!({}), ..AuditWrite::default() };
    let erasing = within(&mut connection, "t", async |rows| {
        erase::erase(rows, &key, (1, 3), erase::Leave::Tombstone, AT, &line).await
    });
    let added = async {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&pool).await.unwrap() == 0 {}
        insert(&mut adding, &late).await.unwrap();
        adding.end().await.unwrap();
    };
    assert_eq!(tokio::join!(erasing, added).0, Some(3));
    for gone in [&first, &late] {
        let found = read(&mut connection, "t", gone.id).await.unwrap();
        assert_eq!((found.deleted_at, found.blob_id), (Some(AT), None));
    }
    assert_eq!(read(&mut connection, "t", elsewhere.id).await.unwrap().blob_id, Some(shared));
    let told: Vec<serde_json::Value> =
        sqlx::query_scalar("SELECT details FROM audit_event").fetch_all(&pool).await.unwrap();
    assert_eq!(told, [json!({"attachments": 2})]);
    assert!(within(&mut connection, "t", async |rows| erase::hold_off(rows, &key).await).await, "it is deleted");
}
