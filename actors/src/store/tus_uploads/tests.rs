#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use sqlx::PgPool;
use time::Duration;

use super::*;
use crate::store::{
    attachment_blobs::tests::{arriving, counts},
    wall::within,
};

const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn of(tenant: &str, blob_id: Uuid) -> TusUpload {
    TusUpload {
        id: Uuid::new_v4(),
        tenant: tenant.to_owned(),
        kind: "whole".to_owned(),
        session_id: Some(Uuid::from_u128(7)),
        persona_id: Some("p".to_owned()),
        subject: Some("ann".to_owned()),
        issuer: None,
        filename: Some("note.txt".to_owned()),
        declared_mime: Some("text/plain".to_owned()),
        metadata: Some("filename bm90ZS50eHQ=".to_owned()),
        length: 5,
        arrived: 2,
        concat: Some("partial".to_owned()),
        parts: Some(vec![Uuid::from_u128(8)]),
        writer: 3,
        finishing_until: Some(AT),
        blob_id: Some(blob_id),
        attachment_id: None,
        created_at: AT,
        expires_at: AT + Duration::HOUR,
    }
}

fn owner(tenant: &str, subject: Option<&str>, issuer: Option<&str>) -> Owner {
    Owner { tenant: tenant.to_owned(), subject: subject.map(str::to_owned), issuer: issuer.map(str::to_owned) }
}

async fn put(connection: &mut PgConnection, tenant: &str) -> TusUpload {
    let new = of(tenant, arriving(connection, tenant, &[b"he"]).await);
    within(connection, tenant, async |rows| insert(rows, &new).await).await;
    new
}

#[sqlx::test(migrations = "../migrations")]
async fn an_upload_is_kept_as_it_is_for_its_owner_alone_until_it_is_over(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let new = put(&mut connection, "t").await;
    for (owner, now, is_there) in [
        (owner("t", Some("ann"), None), AT, true),
        (owner("t", Some("ann"), None), new.expires_at, false),
        (owner("t", Some("bob"), None), AT, false),
        (owner("t", None, None), AT, false),
        (owner("t", Some("ann"), Some("i")), AT, false),
        (owner("u", Some("ann"), None), AT, false),
    ] {
        let expected = is_there.then(|| new.clone());
        assert_eq!(within(&mut connection, "t", async |rows| get(rows, &owner, new.id, now).await).await, expected);
        assert_eq!(within(&mut connection, "t", async |rows| lock(rows, &owner, new.id, now).await).await, expected);
    }
    let count = within(&mut connection, "t", async |rows| count_open(rows, &owner("t", Some("ann"), None)).await).await;
    assert_eq!(count, 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn only_its_last_writer_changes_an_upload_and_only_from_where_it_is(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let (id, until) = (put(&mut connection, "t").await.id, AT + Duration::DAY);
    let taking = async |connection: &mut PgConnection| {
        within(connection, "t", async |rows| take(rows, "t", id, Some(AT)).await).await
    };
    let [former, writer] = [taking(&mut connection).await, taking(&mut connection).await];
    assert_eq!((former.number, writer.number), (4, 5));
    for (writer, step, expected) in [
        (&former, (2, 3), false),
        (&writer, (3, 4), false),
        (&writer, (2, 4), true),
        (&writer, (2, 4), false),
        (&writer, (4, 5), true),
    ] {
        let done = within(&mut connection, "t", async |rows| advance(rows, writer, step, until).await).await;
        assert_eq!(done, expected, "{step:?}");
    }
    for (writer, expected) in [(&former, false), (&writer, true)] {
        assert_eq!(within(&mut connection, "t", async |rows| hold(rows, writer, Some(until)).await).await, expected);
    }
    for (writer, expected) in [(&former, false), (&writer, true), (&writer, false)] {
        let attachment = Uuid::from_u128(9);
        let become_one = async |rows: &mut TenantTx<'_>| become_attachment(rows, writer, attachment).await;
        assert_eq!(within(&mut connection, "t", become_one).await, expected);
    }
    assert!(
        !within(&mut connection, "t", async |rows| hold(rows, &writer, None).await).await,
        "it is no upload any more"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_taken_away_leaves_no_bytes_and_what_is_waited_for_keeps_them(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let [removed, live] = [put(&mut connection, "t").await, put(&mut connection, "u").await];
    let remove_as = async |connection: &mut PgConnection, who: &Owner| {
        within(connection, "t", async |rows| remove(rows, who, removed.id).await).await
    };
    assert!(!remove_as(&mut connection, &owner("t", Some("bob"), None)).await);
    assert!(remove_as(&mut connection, &owner("t", Some("ann"), None)).await);
    assert!(!remove_as(&mut connection, &owner("t", Some("ann"), None)).await);
    let late = AT + Duration::WEEK;
    while attachment_blobs::sweep(&mut connection, late, 2).await.unwrap() {}
    assert_eq!(counts(&pool).await, (1, 1));
    assert_eq!(expire(&mut connection, live.expires_at, 10).await.unwrap(), 1);
    while attachment_blobs::sweep(&mut connection, AT, 2).await.unwrap() {}
    assert_eq!(counts(&pool).await, (0, 0));
}
