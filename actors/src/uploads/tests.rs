#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]
#![allow(clippy::disallowed_methods, reason = "the tests play the process: they know the runtime")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prometheus::Registry;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::{runtime::Handle, sync::watch};
use uuid::Uuid;

use super::{ingest::IngestError, rules::Rules, scanner::AntivirusSettings, settings::UploadSettings, *};
use crate::{
    domain::{
        caller::{Caller, Reach},
        ids::Tenant,
    },
    store::{Connections, Store},
};

pub(super) fn caller(tenant: &str) -> Caller {
    Caller::new(Tenant::new(tenant).unwrap(), Uuid::from_u128(1))
}

pub(super) fn rules() -> Rules {
    UploadSettings::default().rules(&AntivirusSettings::default())
}

pub(super) fn uploads(pool: &PgPool) -> Uploads {
    let store = Store::new(Connections::of_pool(pool.clone()), Duration::from_secs(10), Handle::current());
    let (_, in_force) = watch::channel(Arc::new(rules()));
    let metrics = UploadMetrics::register(&Registry::new()).unwrap();
    Uploads::new(store, in_force, metrics, || OffsetDateTime::UNIX_EPOCH)
}

#[sqlx::test(migrations = "../migrations")]
async fn files_go_to_ones_own_sessions_and_to_those_that_nobody_has_begun(pool: PgPool) {
    let uploads = uploads(&pool);
    let [anns, deleted, unused, new] = [1, 2, 3, 4].map(Uuid::from_u128);
    for (id, last_seq, subject, is_deleted) in
        [(anns, 1, Some("ann"), false), (deleted, 1, Some("ann"), true), (unused, 0, None, false)]
    {
        sqlx::query(
            "INSERT INTO session_envelopes (tenant, session_id, epoch, last_seq, subject, created_at, updated_at, deleted_at)
             VALUES ('t', $1, 1, $2, $3, now(), now(), CASE WHEN $4 THEN now() END)",
        )
        .bind(id)
        .bind(i64::from(last_seq))
        .bind(subject)
        .bind(is_deleted)
        .execute(&pool)
        .await
        .unwrap();
    }
    let own = |subject: &str| Caller { reach: Reach::Own, subject: Some(subject.to_owned()), ..caller("t") };
    for (who, session, expected) in [
        (own("ann"), anns, "taken"),
        (own("bob"), anns, "the session does not exist for the caller"),
        (caller("t"), anns, "taken"),
        (caller("u"), anns, "taken"),
        (own("ann"), deleted, "the session was deleted"),
        (own("bob"), deleted, "the session does not exist for the caller"),
        (own("bob"), unused, "taken"),
        (own("bob"), new, "taken"),
    ] {
        let outcome = uploads.check_session(&who, session).await;
        let found = outcome.map_or_else(|refused| refused.to_string(), |()| "taken".to_owned());
        assert_eq!(found, expected, "{who:?} {session}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn nothing_is_kept_for_a_session_that_was_deleted_while_it_came(pool: PgPool) {
    let (uploads, caller, session) = (uploads(&pool), caller("t"), Uuid::from_u128(7));
    let judged = async || {
        let ingest = uploads.begin(&caller, uploads.rules(), &Declared::default()).await.unwrap();
        ingest.push(Bytes::from_static(b"words")).await.unwrap().finish().await.unwrap()
    };
    let keeping = || Keeping { caller: caller.clone(), session_id: Some(session), persona_id: None };
    let (first, second) = (judged().await, judged().await);
    let begun = "INSERT INTO session_envelopes (tenant, session_id, epoch, last_seq, created_at, updated_at)
                 VALUES ('t', $1, 1, 1, now(), now())";
    sqlx::query(begun).bind(session).execute(&pool).await.unwrap();
    first.keep(keeping()).await.unwrap();
    sqlx::query("UPDATE session_envelopes SET deleted_at = now()").execute(&pool).await.unwrap();
    let refused = second.keep(keeping()).await;
    assert!(matches!(refused, Err(IngestError::SessionDeleted)), "{refused:?}");
    let left =
        "SELECT (SELECT count(*) FROM attachments), (SELECT count(*) FROM attachment_blobs WHERE state = 'whole')";
    assert_eq!(sqlx::query_as::<_, (i64, i64)>(left).fetch_one(&pool).await.unwrap(), (1, 1));
}
