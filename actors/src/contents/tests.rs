#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]
#![allow(clippy::disallowed_methods, reason = "the tests play the process: they know the runtime")]

use sqlx::PgPool;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::*;
use crate::{
    domain::ids::Tenant,
    extraction::{ExtractionSettings, Purpose},
    store::{
        Connections,
        attachment_texts::{self, Key, Row},
        attachments::Attachment,
    },
};

const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// Contents whose program is not there.
fn contents(pool: PgPool) -> Contents {
    contents_by(pool, Extractor::new("/nowhere/at/all".into(), ExtractionSettings::default()))
}

fn contents_by(pool: PgPool, extractor: Extractor) -> Contents {
    let store = Store::new(Connections::of_pool(pool), std::time::Duration::from_secs(5), Handle::current());
    Contents::new(store, extractor, || AT)
}

/// A file of these bytes.
async fn file(pool: &PgPool, mime: &str) -> Attachment {
    let blob_id = Uuid::new_v4();
    let blob = "INSERT INTO attachment_blobs (id, tenant, state, sha256, size, created_at, touched_at)
                VALUES ($1, 't', 'whole', '5f', 3, now(), now())";
    sqlx::query(blob).bind(blob_id).execute(pool).await.unwrap();
    let chunk = "INSERT INTO attachment_chunks (blob_id, at, tenant, bytes) VALUES ($1, 0, 't', 'tea')";
    sqlx::query(chunk).bind(blob_id).execute(pool).await.unwrap();
    Attachment {
        id: Uuid::new_v4(),
        tenant: "t".into(),
        session_id: None,
        persona_id: None,
        subject: None,
        issuer: None,
        filename: "f".into(),
        mime: mime.into(),
        declared_mime: None,
        size: 3,
        sha256: "5f".into(),
        status: "clean".into(),
        quarantine_reason: None,
        threat: None,
        scanned_at: None,
        signatures: None,
        blob_id: Some(blob_id),
        external_url: None,
        created_at: AT,
        released_at: None,
        released_by: None,
        deleted_at: None,
    }
}

async fn keep(contents: &Contents, file: &Attachment, made: Row) {
    let (blob_id, tenant) = (file.blob_id.unwrap(), Tenant::new("t").unwrap());
    let work = contents.store.change_for(tenant, move |rows| {
        Box::pin(
            async move { attachment_texts::put(rows, Key { tenant: "t", blob_id, kind: "plain" }, &made, AT).await },
        )
    });
    work.await.unwrap();
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_made_is_given_without_making_it_again(pool: PgPool) {
    let (contents, file) = (contents(pool.clone()), file(&pool, "text/csv").await);
    let text = |missing_chars| Row {
        text: Some("a,b\n".into()),
        failure: None,
        missing_chars,
        pages_read: None,
        pages_total: None,
    };
    keep(&contents, &file, text(7)).await;
    let found = contents.text(&file, 3).await.unwrap();
    assert_eq!((found.text.as_str(), found.missing_chars), ("a,b", 8));
    let failure = Row { text: None, failure: Some("the document is encrypted".into()), ..text(0) };
    keep(&contents, &file, failure).await;
    let error = contents.text(&file, 3).await.unwrap_err();
    assert!(matches!(&error, ContentError::Unreadable(why) if why == "the document is encrypted"), "{error}");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_may_pass_is_not_kept_and_what_can_never_be_is_not_tried(pool: PgPool) {
    let contents = contents(pool.clone());
    let (text, image) = (file(&pool, "text/plain").await, file(&pool, "image/png").await);
    let error = contents.text(&text, 9).await.unwrap_err();
    assert!(matches!(&error, ContentError::NotNow(ExtractError::Start(_))), "{error}");
    let error = contents.picture(&image, Purpose::Thumbnail).await.unwrap_err();
    assert!(matches!(&error, ContentError::NotNow(ExtractError::Start(_))), "{error}");
    let kept = "SELECT (SELECT count(*) FROM attachment_texts) + (SELECT count(*) FROM attachment_pictures)";
    assert_eq!(sqlx::query_scalar::<_, i64>(kept).fetch_one(&pool).await.unwrap(), 0);
    let error = contents.text(&image, 9).await.unwrap_err();
    assert!(matches!(error, ContentError::Unreadable(_)), "{error}");
    let error = contents.picture(&text, Purpose::Model).await.unwrap_err();
    assert!(matches!(error, ContentError::Unreadable(_)), "{error}");
    let settings = ExtractionSettings { timeout_ms: 0, ..ExtractionSettings::default() };
    // Whatever it is told, it never ends.
    let late = contents_by(pool.clone(), Extractor::new("/usr/bin/yes".into(), settings));
    let error = late.text(&text, 9).await.unwrap_err();
    assert!(matches!(&error, ContentError::NotNow(ExtractError::TimedOut)), "{error}");
    assert_eq!(sqlx::query_scalar::<_, i64>(kept).fetch_one(&pool).await.unwrap(), 0);
    let gone = Attachment { blob_id: None, ..text };
    assert!(matches!(contents.text(&gone, 9).await.unwrap_err(), ContentError::Gone));
}
