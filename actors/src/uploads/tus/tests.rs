#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use bytes::Bytes;
use futures_util::future::join_all;
use sqlx::PgPool;

use super::*;
use crate::{
    domain::{caller::Admission, hex::hex},
    store::attachment_blobs::{self, CHUNK_BYTES},
    uploads::{
        Attachment,
        rules::Quarantine,
        tests::{caller, rules, uploads},
    },
};

fn of(subject: &str, issuer: Option<&str>) -> Caller {
    let admission = Admission { issuer: issuer.map(str::to_owned), ..Admission::default() };
    Caller { subject: Some(subject.to_owned()), admission: Some(Arc::new(admission)), ..caller("t") }
}

fn ann() -> Caller {
    of("ann", Some("i"))
}

fn named(filename: &str) -> NewUpload {
    NewUpload { said: Declared { filename: Some(filename.to_owned()), mime: None }, ..NewUpload::default() }
}

/// Bytes that repeat nowhere near a piece.
fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at.wrapping_mul(2_654_435_761) >> 13) & 0xff).unwrap()).collect()
}

async fn begun(tus: &Tus, length: usize) -> TusUpload {
    let length = u64::try_from(length).unwrap();
    tus.begin(&ann(), &rules(), named("a.bin"), (length, false)).await.unwrap()
}

async fn at(tus: &Tus, id: Uuid, offset: usize, check: Option<Checksum>) -> Result<Piece, TusError> {
    tus.write(&ann(), id, (u64::try_from(offset).unwrap(), None), check).await
}

/// Adds `bytes` at `offset`, as if they came in pieces of a network.
async fn add(tus: &Tus, id: Uuid, offset: usize, bytes: &[u8], check: Option<Checksum>) -> Result<TusUpload, TusError> {
    let mut piece = at(tus, id, offset, check).await?;
    for part in bytes.chunks(37_000) {
        piece.push(Bytes::copy_from_slice(part)).await?;
    }
    piece.finish().await
}

async fn arrived(tus: &Tus, id: Uuid) -> usize {
    usize::try_from(tus.find(&ann(), id).await.unwrap().arrived).unwrap()
}

/// Makes an attachment of an upload.
async fn finish(tus: &Tus, rules: Rules, id: Uuid) -> Result<Attachment, IngestError> {
    let Begun::Now(finishing) = tus.finish(&ann(), id).await.unwrap() else { unreachable!("it was before") };
    let judged = finishing.holding(finishing.judge(Arc::new(rules))).await?;
    finishing.keep(judged).await
}

async fn bytes_of(pool: &PgPool, blob: Option<Uuid>) -> (usize, Vec<u8>) {
    let sql = "SELECT bytes FROM attachment_chunks WHERE blob_id = $1 ORDER BY at";
    let pieces: Vec<Vec<u8>> = sqlx::query_scalar(sql).bind(blob).fetch_all(pool).await.unwrap();
    (pieces.len(), pieces.concat())
}

async fn count(pool: &PgPool, what: &'static str) -> i64 {
    sqlx::query_scalar(what).fetch_one(pool).await.unwrap()
}

fn name(error: Option<TusError>) -> String {
    error.map_or_else(String::new, |error| error.to_string())
}

#[sqlx::test(migrations = "../migrations")]
async fn an_upload_becomes_what_its_pieces_are_however_they_are_cut(pool: PgPool) {
    let tus = uploads(&pool).tus();
    let bytes = noise(2 * CHUNK_BYTES + 70_001);
    for cuts in
        [vec![], vec![1], vec![CHUNK_BYTES], vec![CHUNK_BYTES - 1, CHUNK_BYTES + 1], vec![5, 5, 300_000, 500_000]]
    {
        let id = begun(&tus, bytes.len()).await.id;
        let mut from = 0;
        for to in cuts.iter().copied().chain([bytes.len()]) {
            let upload = add(&tus, id, from, &bytes[from..to], None).await.unwrap();
            assert_eq!((upload.arrived.unsigned_abs(), arrived(&tus, id).await), (to as u64, to));
            from = to;
        }
        let kept = finish(&tus, rules(), id).await.unwrap();
        assert_eq!((kept.sha256.clone(), kept.filename.as_str()), (hex(digest(&SHA256, &bytes).as_ref()), "a.bin"));
        assert!(bytes_of(&pool, kept.blob_id).await.1 == bytes, "{cuts:?}");
        let upload = tus.find(&ann(), id).await.unwrap();
        assert_eq!((upload.attachment_id, upload.blob_id), (Some(kept.id), None));
        assert!(matches!(tus.finish(&ann(), id).await.unwrap(), Begun::Before(_)));
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn many_short_pieces_do_not_add_up_to_as_many_rows(pool: PgPool) {
    let tus = uploads(&pool).tus();
    let bytes = noise(CHUNK_BYTES + 5_000);
    let id = begun(&tus, bytes.len()).await.id;
    for (index, piece) in bytes.chunks(9_000).enumerate() {
        add(&tus, id, 9_000 * index, piece, None).await.unwrap();
    }
    let (rows, found) = bytes_of(&pool, tus.find(&ann(), id).await.unwrap().blob_id).await;
    assert!(found == bytes && rows <= 2, "{rows} rows");
}

#[sqlx::test(migrations = "../migrations")]
async fn whoever_comes_later_goes_on_and_the_one_before_writes_nothing_more(pool: PgPool) {
    let tus = uploads(&pool).tus();
    let bytes = noise(3 * CHUNK_BYTES);
    let id = begun(&tus, bytes.len()).await.id;
    let mut first = at(&tus, id, 0, None).await.unwrap();
    first.push(Bytes::copy_from_slice(&bytes[..1_000])).await.unwrap();
    let mut second = at(&tus, id, 0, None).await.unwrap();
    // It is told at its next write, wherever that is.
    assert_eq!(name(first.finish().await.err()), TusError::Overtaken.to_string());
    assert_eq!(arrived(&tus, id).await, 0);
    second.push(Bytes::copy_from_slice(&bytes[..2 * CHUNK_BYTES])).await.unwrap();
    let third = at(&tus, id, 0, None).await;
    assert!(matches!(third.err(), Some(TusError::OffsetMismatch(_))));
    assert_eq!(second.finish().await.unwrap().arrived.unsigned_abs(), 2 * CHUNK_BYTES as u64);
    add(&tus, id, 2 * CHUNK_BYTES, &bytes[2 * CHUNK_BYTES..], None).await.unwrap();
    assert!(bytes_of(&pool, finish(&tus, rules(), id).await.unwrap().blob_id).await.1 == bytes);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_piece_with_a_checksum_is_kept_whole_or_not_at_all(pool: PgPool) {
    let tus = uploads(&pool).tus();
    let bytes = noise(3 * CHUNK_BYTES);
    let sums = |bytes: &[u8]| {
        [(Algorithm::Sha1, &SHA1_FOR_LEGACY_USE_ONLY), (Algorithm::Sha256, &SHA256)]
            .map(|(algorithm, by)| Some(Checksum { algorithm, sum: digest(by, bytes).as_ref().to_vec() }))
    };
    for length in [1, 1_000, 2 * CHUNK_BYTES + 7] {
        let id = begun(&tus, bytes.len()).await.id;
        let piece = &bytes[5..5 + length];
        add(&tus, id, 0, &bytes[..5], None).await.unwrap();
        let [sha1, sha256] = sums(piece);
        let refused = add(&tus, id, 5, &bytes[6..6 + length], sha1.clone()).await;
        assert_eq!(name(refused.err()), TusError::ChecksumMismatch.to_string(), "{length}");
        let mut broken = at(&tus, id, 5, sha256.clone()).await.unwrap();
        broken.push(Bytes::copy_from_slice(piece)).await.unwrap();
        broken.break_off().await.unwrap();
        // Of one that was only dropped, the next one takes the rest away.
        let mut dropped = at(&tus, id, 5, sha256.clone()).await.unwrap();
        dropped.push(Bytes::copy_from_slice(piece)).await.unwrap();
        drop(dropped);
        assert_eq!(arrived(&tus, id).await, 5);
        let kept = add(&tus, id, 5, piece, if length == 1 { sha1 } else { sha256 }).await.unwrap();
        assert_eq!(kept.arrived.unsigned_abs(), 5 + length as u64);
        assert!(bytes_of(&pool, kept.blob_id).await.1 == bytes[..5 + length], "{length}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn what_came_before_a_piece_broke_off_is_kept(pool: PgPool) {
    let tus = uploads(&pool).tus();
    let bytes = noise(2 * CHUNK_BYTES);
    let id = begun(&tus, bytes.len()).await.id;
    let mut broken = at(&tus, id, 0, None).await.unwrap();
    broken.push(Bytes::copy_from_slice(&bytes[..1_000])).await.unwrap();
    broken.break_off().await.unwrap();
    assert_eq!(arrived(&tus, id).await, 1_000);
    let mut dropped = at(&tus, id, 1_000, None).await.unwrap();
    dropped.push(Bytes::copy_from_slice(&bytes[1_000..3_000])).await.unwrap();
    drop(dropped);
    for _ in 0..2_000 {
        if arrived(&tus, id).await == 3_000 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(arrived(&tus, id).await, 3_000);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_piece_that_does_not_fit_changes_nothing(pool: PgPool) {
    let tus = uploads(&pool).tus();
    let id = begun(&tus, 10).await.id;
    add(&tus, id, 0, b"hello", None).await.unwrap();
    for (offset, announced, expected) in [
        (0, None, TusError::OffsetMismatch(5)),
        (6, Some(1), TusError::OffsetMismatch(5)),
        (u64::MAX, None, TusError::OffsetMismatch(5)),
        (5, Some(6), TusError::TooLong),
        (5, Some(u64::MAX), TusError::TooLong),
    ] {
        let refused = tus.write(&ann(), id, (offset, announced), None).await.err();
        assert_eq!(name(refused), expected.to_string());
    }
    let mut piece = at(&tus, id, 5, None).await.unwrap();
    assert_eq!(name(piece.push(Bytes::from_static(b"worlds")).await.err()), TusError::TooLong.to_string());
    assert_eq!(name(tus.write(&ann(), Uuid::nil(), (0, None), None).await.err()), TusError::NotFound.to_string());
    drop(piece);
    assert_eq!(arrived(&tus, id).await, 5);
    assert_eq!(name(tus.finish(&ann(), id).await.err()), TusError::Incomplete.to_string());
}

#[sqlx::test(migrations = "../migrations")]
async fn for_others_there_is_no_such_upload(pool: PgPool) {
    let tus = uploads(&pool).tus();
    let id = begun(&tus, 10).await.id;
    let unknown = TusError::NotFound.to_string();
    let elsewhere = Caller { tenant: caller("u").tenant, ..ann() };
    for other in [of("bob", Some("i")), of("ann", Some("j")), of("ann", None), caller("t"), elsewhere] {
        assert_eq!(name(tus.find(&other, id).await.err()), unknown);
        assert_eq!(name(tus.write(&other, id, (0, None), None).await.err()), unknown);
        assert_eq!(name(tus.finish(&other, id).await.err()), unknown);
        assert_eq!(name(tus.parts(&other, &[id]).await.err()), unknown);
        assert!(!tus.remove(&other, id).await.unwrap());
    }
    assert!(tus.find(&ann(), id).await.is_ok());
    assert!(tus.remove(&ann(), id).await.unwrap());
    assert_eq!(name(tus.find(&ann(), id).await.err()), unknown);
    assert_eq!(count(&pool, "SELECT count(*) FROM attachment_blobs WHERE state = 'arriving'").await, 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn one_at_a_time_looks_through_an_upload_and_nobody_adds_to_it_meanwhile(pool: PgPool) {
    let tus = uploads(&pool).tus();
    let id = begun(&tus, 5).await.id;
    add(&tus, id, 0, b"hello", None).await.unwrap();
    let Begun::Now(first) = tus.finish(&ann(), id).await.unwrap() else { unreachable!("it was before") };
    let locked = TusError::Locked.to_string();
    assert_eq!(name(tus.finish(&ann(), id).await.err()), locked);
    assert_eq!(name(at(&tus, id, 5, None).await.err()), locked);
    let judged = first.judge(Arc::new(rules())).await.unwrap();
    // The process that looked through it was taken for dead.
    sqlx::raw_sql("UPDATE tus_uploads SET finishing_until = NULL").execute(&pool).await.unwrap();
    let Begun::Now(second) = tus.finish(&ann(), id).await.unwrap() else { unreachable!("it was before") };
    assert!(matches!(first.keep(judged).await, Err(IngestError::GivenUp)));
    assert_eq!(count(&pool, "SELECT count(*) FROM attachments").await, 0);
    second.release().await.unwrap();
    assert_eq!(finish(&tus, rules(), id).await.unwrap().size, 5);
    assert_eq!(count(&pool, "SELECT count(*) FROM attachments").await, 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_refused_in_the_end_goes_with_its_bytes(pool: PgPool) {
    let tus = uploads(&pool).tus();
    let id = begun(&tus, 5).await.id;
    add(&tus, id, 0, b"hello", None).await.unwrap();
    let Begun::Now(finishing) = tus.finish(&ann(), id).await.unwrap() else { unreachable!("it was before") };
    let no_text = Rules { denied_mime: vec!["text/plain".to_owned()], ..rules() };
    let refused = finishing.judge(Arc::new(no_text)).await.err();
    assert!(matches!(refused, Some(IngestError::MimeNotAllowed(_))));
    finishing.refuse().await.unwrap();
    assert_eq!(name(tus.find(&ann(), id).await.err()), TusError::NotFound.to_string());
    assert_eq!(count(&pool, "SELECT count(*) FROM attachment_blobs WHERE state <> 'going'").await, 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn bytes_that_are_known_or_dropped_are_given_up_with_the_upload(pool: PgPool) {
    let tus = uploads(&pool).tus();
    let mut dropping = Rules { quarantine: Quarantine::DropBytesKeepMeta, ..rules() };
    dropping.antivirus.enabled = true;
    for (rules, whole) in [(Rules { dedup: true, ..rules() }, 1), (dropping, 1)] {
        for _ in 0..2 {
            let id = begun(&tus, 5).await.id;
            add(&tus, id, 0, b"hello", None).await.unwrap();
            finish(&tus, rules.clone(), id).await.unwrap();
        }
        assert_eq!(count(&pool, "SELECT count(*) FROM attachment_blobs WHERE state = 'whole'").await, whole);
        assert_eq!(count(&pool, "SELECT count(*) FROM attachment_blobs WHERE state = 'arriving'").await, 0);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_file_is_made_of_parts_in_their_order(pool: PgPool) {
    let tus = uploads(&pool).tus();
    let (mut ids, mut whole) = (Vec::new(), Vec::new());
    for bytes in [&b"hello "[..], &noise(CHUNK_BYTES + 1), b""] {
        let length = u64::try_from(bytes.len()).unwrap();
        let part = tus.begin(&ann(), &rules(), NewUpload::default(), (length, true)).await.unwrap();
        if !bytes.is_empty() {
            assert_eq!(name(tus.parts(&ann(), &[part.id]).await.err()), TusError::Incomplete.to_string());
        }
        add(&tus, part.id, 0, bytes, None).await.unwrap();
        assert_eq!(name(tus.finish(&ann(), part.id).await.err()), TusError::Incomplete.to_string());
        ids.push(part.id);
        whole.extend_from_slice(bytes);
    }
    ids.push(ids[0]);
    whole.extend_from_slice(b"hello ");
    let parts = tus.parts(&ann(), &ids).await.unwrap();
    let new = named("b.bin");
    let judged = tus.judge_parts(&ann(), Arc::new(rules()), &new.said, &parts).await.unwrap();
    let (upload, kept) = tus.keep_final(judged, &ann(), new, &ids).await.unwrap();
    assert!(bytes_of(&pool, kept.blob_id).await.1 == whole);
    assert_eq!(tus.find(&ann(), upload.id).await.unwrap(), upload);
    let end = u64::try_from(whole.len()).unwrap();
    assert_eq!(name(tus.write(&ann(), upload.id, (end, None), None).await.err()), TusError::Final.to_string());
    let whole = begun(&tus, 1).await;
    assert_eq!(name(tus.parts(&ann(), &[whole.id]).await.err()), TusError::Incomplete.to_string());
    let small = Rules { max_bytes: end - 1, ..rules() };
    let refused = tus.judge_parts(&ann(), Arc::new(small), &Declared::default(), &parts).await;
    assert!(matches!(refused.err(), Some(IngestError::TooLarge(_))));
}

#[sqlx::test(migrations = "../migrations")]
async fn nobody_begins_more_than_some_or_what_is_not_taken(pool: PgPool) {
    let tus = uploads(&pool).tus();
    let rules = Rules { max_bytes: 10, inline_max_bytes: 5, denied_mime: vec!["text/html".to_owned()], ..rules() };
    let html = NewUpload {
        said: Declared { filename: None, mime: Some("Text/HTML; a=b".to_owned()) },
        ..NewUpload::default()
    };
    for (new, length, expected) in [
        (NewUpload::default(), 11, "the file has more than 10 bytes"),
        (NewUpload::default(), 6, "the file has more than 5 bytes, which is too much to be kept here"),
        (html, 1, "files of the type text/html are not taken"),
    ] {
        assert_eq!(name(tus.begin(&ann(), &rules, new, (length, false)).await.err()), expected);
    }
    // A part that has come whole already.
    let part = tus.begin(&ann(), &rules, NewUpload::default(), (0, true)).await.unwrap();
    for _ in 6..MAX_OPEN {
        tus.begin(&ann(), &rules, NewUpload::default(), (1, false)).await.unwrap();
    }
    let who = ann();
    let at_once = (0..10).map(|_| tus.begin(&who, &rules, NewUpload::default(), (1, false)));
    let begun = join_all(at_once).await.into_iter().flatten().count();
    assert_eq!(begun, 5, "those at once are counted too");
    let parts = tus.parts(&ann(), &[part.id]).await.unwrap();
    let judged = tus.judge_parts(&ann(), Arc::new(rules.clone()), &Declared::default(), &parts).await.unwrap();
    let made = tus.keep_final(judged, &ann(), NewUpload::default(), &[part.id]).await.map(drop);
    assert!(matches!(made, Err(IngestError::TooManyUploads)), "{made:?}");
    assert_eq!(count(&pool, "SELECT count(*) FROM attachments").await, 0);
    let more = tus.begin(&ann(), &rules, NewUpload::default(), (1, true)).await;
    assert_eq!(name(more.err()), TusError::TooMany.to_string());
    assert!(tus.begin(&of("bob", Some("i")), &rules, NewUpload::default(), (1, false)).await.is_ok());
    let id: Uuid = sqlx::query_scalar("SELECT id FROM tus_uploads WHERE subject = 'ann' AND kind = 'whole' LIMIT 1")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(tus.remove(&ann(), id).await.unwrap());
    assert!(tus.begin(&ann(), &rules, NewUpload::default(), (1, false)).await.is_ok());
}

#[sqlx::test(migrations = "../migrations")]
async fn an_upload_waits_for_a_day_and_its_bytes_with_it(pool: PgPool) {
    let tus = uploads(&pool).tus();
    let [id, done] = [begun(&tus, 10).await.id, begun(&tus, 5).await.id];
    add(&tus, id, 0, b"hello", None).await.unwrap();
    add(&tus, done, 0, b"hello", None).await.unwrap();
    let kept = finish(&tus, rules(), done).await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    let day = OffsetDateTime::UNIX_EPOCH + KEPT_FOR;
    for (now, left) in [(day - Duration::SECOND, 2), (day, 0)] {
        let gone = tus_uploads::expire(&mut connection, now, 10).await.unwrap();
        assert_eq!(gone, 2 - u64::try_from(left).unwrap());
        while attachment_blobs::sweep(&mut connection, now, 10).await.unwrap() {}
        assert_eq!(count(&pool, "SELECT count(*) FROM tus_uploads").await, left);
        assert_eq!(count(&pool, "SELECT count(*) FROM attachment_blobs").await, 1 + i64::from(left > 0));
    }
    assert!(bytes_of(&pool, kept.blob_id).await.1 == b"hello");
    let told =
        "SELECT count(*) FROM audit_event WHERE action = 'attachments.upload.expire' AND details->>'count' = '1'";
    assert_eq!(count(&pool, told).await, 1, "of what became an attachment nothing was lost");
}
