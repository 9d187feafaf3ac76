#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use sqlx::PgPool;
use time::Duration;

use super::*;
use crate::store::{
    attachments::{
        Attachment,
        tests::{of, put},
    },
    wall::within,
};

const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
/// What the bytes of every blob here are said to sum up to.
const SUM: &str = "5f";

/// A blob of `pieces`, which has not come whole.
pub(in crate::store) async fn arriving(connection: &mut PgConnection, tenant: &str, pieces: &[&[u8]]) -> Uuid {
    let (id, mut offset) = (Uuid::new_v4(), 0);
    within(connection, tenant, async |rows| begin(rows, tenant, id, AT).await).await;
    for piece in pieces {
        assert!(within(connection, tenant, async |rows| append(rows, tenant, id, (offset, piece), AT).await).await);
        offset += i64::try_from(piece.len()).unwrap();
    }
    id
}

/// The same, whole.
pub(in crate::store) async fn whole(connection: &mut PgConnection, tenant: &str, pieces: &[&[u8]]) -> Uuid {
    let id = arriving(connection, tenant, pieces).await;
    let size = pieces.iter().map(|piece| i64::try_from(piece.len()).unwrap()).sum();
    assert!(within(connection, tenant, async |rows| complete(rows, tenant, id, (SUM, size), AT).await).await);
    id
}

pub(in crate::store) async fn counts(pool: &PgPool) -> (i64, i64) {
    let sql = "SELECT (SELECT count(*) FROM attachment_blobs), (SELECT count(*) FROM attachment_chunks)";
    sqlx::query_as(sql).fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_byte_is_found_by_its_place_whatever_the_lengths_of_the_pieces(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let id = whole(&mut connection, "t", &[b"ab", b"cde", b"f"]).await;
    for (offset, expected) in [(0, Some((0, "ab"))), (1, Some((0, "ab"))), (2, Some((2, "cde"))), (5, Some((5, "f")))] {
        let found = within(&mut connection, "t", async |rows| around(rows, "t", (id, offset), None).await).await;
        let expected = expected.map(|(at, text): (i64, &str)| Chunk { at, bytes: text.into() });
        assert_eq!(found, expected, "{offset}");
    }
    assert_eq!(within(&mut connection, "t", async |rows| around(rows, "t", (id, 6), None).await).await, None);
    assert_eq!(within(&mut connection, "u", async |rows| around(rows, "u", (id, 0), None).await).await, None);
    assert_eq!(within(&mut connection, "t", async |rows| around(rows, "u", (id, 0), None).await).await, None);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_sent_ends_once_it_is_not_clean_or_gone_or_its_link_was_taken_back(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let (link, blob) = (Uuid::from_u128(9), whole(&mut connection, "t", &[b"ab", b"cd"]).await);
    let attachment =
        Attachment { status: "clean".to_owned(), quarantine_reason: None, threat: None, ..of("t", Some(blob)) };
    put(&mut connection, &attachment).await;
    let sql = "INSERT INTO attachment_links (id, tenant, attachment_id, token_sha256, created_at, expires_at)
               VALUES ($1, 't', $2, decode(repeat('00', 32), 'hex'), 'epoch', 'epoch'::timestamptz + interval '1 hour')";
    sqlx::query(sql).bind(link).bind(attachment.id).execute(&mut *connection).await.unwrap();
    let ways = [
        None,
        Some(Sending { attachment: attachment.id, link: None }),
        Some(Sending { attachment: attachment.id, link: Some(link) }),
        Some(Sending { attachment: Uuid::from_u128(8), link: None }),
    ];
    for (change, goes_on) in [
        ("SELECT", [true, true, true, false]),
        ("UPDATE attachments SET status = 'quarantined', quarantine_reason = 'infected'", [true, false, false, false]),
        ("UPDATE attachments SET status = 'clean', quarantine_reason = NULL", [true, true, true, false]),
        ("UPDATE attachment_links SET expires_at = created_at + interval '1 second'", [true, true, true, false]),
        ("UPDATE attachment_links SET revoked_at = 'epoch'", [true, true, false, false]),
        ("UPDATE attachments SET deleted_at = 'epoch', blob_id = NULL", [true, false, false, false]),
    ] {
        sqlx::raw_sql(change).execute(&mut *connection).await.unwrap();
        for (sending, goes_on) in ways.into_iter().zip(goes_on) {
            let piece = within(&mut connection, "t", async |rows| around(rows, "t", (blob, 2), sending).await).await;
            assert_eq!(piece.is_some(), goes_on, "{change} {sending:?}");
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn nothing_is_added_to_a_blob_that_is_whole_or_given_up_or_anothers(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let done = whole(&mut connection, "t", &[b"ab"]).await;
    let left = arriving(&mut connection, "t", &[b"ab"]).await;
    let others = arriving(&mut connection, "u", &[b"ab"]).await;
    within(&mut connection, "t", async |rows| abandon(rows, "t", left).await).await;
    for id in [done, left, others] {
        assert!(!within(&mut connection, "t", async |rows| append(rows, "t", id, (2, b"c"), AT).await).await);
        assert!(!within(&mut connection, "t", async |rows| complete(rows, "t", id, (SUM, 2), AT).await).await);
    }
    assert_eq!(counts(&pool).await, (3, 3));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_blob_that_arrives_is_known_to_within_ten_seconds_and_not_swept(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let id = arriving(&mut connection, "t", &[]).await;
    for (offset, after, touched) in [(0, 9, 0), (1, 10, 10), (2, 19, 10), (3, 600, 600)] {
        let at = AT + Duration::seconds(after);
        assert!(within(&mut connection, "t", async |rows| append(rows, "t", id, (offset, b"a"), at).await).await);
        let sql = "SELECT touched_at FROM attachment_blobs";
        let found: OffsetDateTime = sqlx::query_scalar(sql).fetch_one(&mut *connection).await.unwrap();
        assert_eq!(found, AT + Duration::seconds(touched), "{after} s");
    }
    while sweep(&mut connection, AT + Duration::minutes(1), 10).await.unwrap() {}
    assert_eq!(counts(&pool).await, (1, 4));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_blob_of_which_bytes_are_missing_is_never_whole(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let id = arriving(&mut connection, "t", &[b"ab", b"c"]).await;
    for (size, is_whole) in [(0, false), (2, false), (4, false), (3, true)] {
        let done = within(&mut connection, "t", async |rows| complete(rows, "t", id, (SUM, size), AT).await).await;
        assert_eq!(done, is_whole, "{size}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn the_same_bytes_are_found_in_the_same_tenant_once_they_are_whole(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    arriving(&mut connection, "t", &[b"ab"]).await;
    let others = whole(&mut connection, "u", &[b"ab"]).await;
    let found = async |connection: &mut PgConnection, tenant: &str| {
        within(connection, tenant, async |rows| same(rows, tenant, &[SUM]).await).await.into_values().next()
    };
    assert_eq!(found(&mut connection, "t").await, None);
    assert_eq!(found(&mut connection, "u").await, Some(others));
    within(&mut connection, "u", async |rows| release(rows, "u", others).await).await;
    assert_eq!(found(&mut connection, "u").await, None, "nobody referred to it, so it goes");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_stopped_arriving_is_swept_and_nothing_else(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let kept = whole(&mut connection, "t", &[b"ab", b"c"]).await;
    let live = arriving(&mut connection, "t", &[b"ab"]).await;
    let later = AT + Duration::hours(1);
    assert!(within(&mut connection, "t", async |rows| append(rows, "t", live, (2, b"c"), later).await).await);
    arriving(&mut connection, "t", &[b"ab", b"c", b"d"]).await;
    arriving(&mut connection, "u", &[]).await;
    let mut rounds = 1;
    while sweep(&mut connection, AT + Duration::minutes(1), 2).await.unwrap() {
        rounds += 1;
    }
    assert!(rounds > 1, "a round takes two pieces at most");
    let left: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM attachment_blobs").fetch_all(&pool).await.unwrap();
    assert!(left.len() == 2 && left.contains(&kept) && left.contains(&live), "{left:?}");
    assert_eq!(counts(&pool).await, (2, 4));
}
