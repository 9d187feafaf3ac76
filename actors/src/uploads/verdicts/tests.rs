#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use bytes::Bytes;
use sqlx::PgPool;

use super::*;
use crate::{
    domain::caller::Reach,
    uploads::{
        Declared, Keeping,
        tests::{caller, uploads},
    },
};

const SESSION: Uuid = Uuid::from_u128(7);

/// What `who` sends to a session.
async fn send(uploads: &Uploads, who: &Caller, session_id: Option<Uuid>) -> Uuid {
    let ingest = uploads.begin(who, uploads.rules(), &Declared::default()).await.unwrap();
    let judged = ingest.push(Bytes::from_static(b"words")).await.unwrap().finish().await.unwrap();
    let keeping = Keeping { caller: who.clone(), session_id, persona_id: None };
    judged.keep(keeping).await.unwrap().id
}

async fn quarantine(pool: &PgPool, id: Uuid) {
    let sql =
        "UPDATE attachments SET status = 'quarantined', quarantine_reason = 'infected', threat = 'Bad' WHERE id = $1";
    sqlx::query(sql).bind(id).execute(pool).await.unwrap();
}

fn own(subject: &str) -> Caller {
    Caller { reach: Reach::Own, subject: Some(subject.to_owned()), ..caller("t") }
}

/// Actions of the trail about an attachment, each with its session and its subject.
async fn trail(pool: &PgPool, id: Uuid) -> Vec<(String, Option<Uuid>, Option<String>)> {
    let sql = "SELECT action, session_id, subject FROM audit_event WHERE target_id = $1 AND action <> 'attachments.upload' ORDER BY id";
    sqlx::query_as(sql).bind(id.to_string()).fetch_all(pool).await.unwrap()
}

fn said<T>(outcome: Result<T, NotChanged>) -> String {
    outcome.map_or_else(|error| error.to_string(), |_| "done".to_owned())
}

#[sqlx::test(migrations = "../migrations")]
async fn one_is_deleted_by_whom_it_exists_for_and_by_nobody_else(pool: PgPool) {
    let uploads = uploads(&pool);
    let (ann, bob, admin) = (own("ann"), own("bob"), Caller { subject: Some("root".to_owned()), ..caller("t") });
    let [anns, another] = [send(&uploads, &ann, Some(SESSION)).await, send(&uploads, &ann, None).await];
    for stranger in [&bob, &caller("u")] {
        let outcome = said(uploads.delete(stranger, anns).await);
        assert_eq!(outcome, "the attachment does not exist for the caller");
    }
    for _ in 0..2 {
        assert_eq!(said(uploads.delete(&ann, anns).await), "done", "also a second time");
    }
    assert_eq!(said(uploads.delete(&admin, another).await), "done");
    let row = |who: &str, session| ("attachments.delete".to_owned(), session, Some(who.to_owned()));
    assert_eq!(trail(&pool, anns).await, [row("ann", Some(SESSION))], "what changes nothing leaves no row");
    assert_eq!(trail(&pool, another).await, [row("root", None)]);
    let left = "SELECT (SELECT count(*) FROM attachments WHERE deleted_at IS NOT NULL),
                       (SELECT count(*) FROM attachment_blobs WHERE state = 'whole')";
    assert_eq!(sqlx::query_as::<_, (i64, i64)>(left).fetch_one(&pool).await.unwrap(), (2, 0));
}

#[sqlx::test(migrations = "../migrations")]
async fn one_that_is_released_goes_out_and_tells_who_did_it_and_what_was_found(pool: PgPool) {
    let uploads = uploads(&pool);
    let admin = Caller { subject: Some("root".to_owned()), ..caller("t") };
    let id = send(&uploads, &admin, Some(SESSION)).await;
    let untouched = uploads.decide(&admin, id, Decision::Release).await.unwrap();
    assert_eq!((untouched.released_at, trail(&pool, id).await.len()), (None, 0), "it was clean");
    quarantine(&pool, id).await;
    let stranger = uploads.decide(&caller("u"), id, Decision::Release).await;
    assert_eq!(said(stranger), "the attachment does not exist for the caller");
    for _ in 0..2 {
        let released = uploads.decide(&admin, id, Decision::Release).await.unwrap();
        assert_eq!((released.status.as_str(), released.quarantine_reason.as_deref()), ("clean", Some("infected")));
        assert_eq!((released.threat.as_deref(), released.released_by.as_deref()), (Some("Bad"), Some("root")));
        assert!(released.released_at.is_some() && released.blob_id.is_some());
    }
    let row = ("admin.attachments.release".to_owned(), Some(SESSION), Some("root".to_owned()));
    assert_eq!(trail(&pool, id).await, [row]);
    uploads.delete(&admin, id).await.unwrap();
    assert_eq!(said(uploads.decide(&admin, id, Decision::Release).await), "the attachment was deleted");
}

#[sqlx::test(migrations = "../migrations")]
async fn of_one_that_is_cleared_the_bytes_go_for_good_and_the_verdict_stays(pool: PgPool) {
    let uploads = uploads(&pool);
    let admin = caller("t");
    let id = send(&uploads, &admin, None).await;
    assert_eq!(said(uploads.decide(&admin, id, Decision::Clear).await), "the attachment is not quarantined");
    quarantine(&pool, id).await;
    for _ in 0..2 {
        let cleared = uploads.decide(&admin, id, Decision::Clear).await.unwrap();
        assert_eq!((cleared.status.as_str(), cleared.blob_id, cleared.size), ("quarantined", None, 5));
    }
    assert_eq!(said(uploads.decide(&admin, id, Decision::Release).await), "the bytes of the attachment were dropped");
    assert_eq!(trail(&pool, id).await, [("admin.attachments.clear".to_owned(), None, None)]);
    let whole = "SELECT count(*) FROM attachment_blobs WHERE state = 'whole'";
    assert_eq!(sqlx::query_scalar::<_, i64>(whole).fetch_one(&pool).await.unwrap(), 0);
}
