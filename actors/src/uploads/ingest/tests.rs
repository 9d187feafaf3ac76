#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod findings;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use uuid::Uuid;

use super::{
    scanning::{Found, Scan, ScanError, Scanner, Verdict, Wait},
    *,
};
use crate::{
    domain::caller::Caller,
    store::attachment_blobs::CHUNK_BYTES,
    uploads::{
        Attachment,
        tests::{caller, rules, uploads},
    },
};

/// Finds the same in every file, or fails.
struct Finds(Result<Verdict, &'static str>);

struct Looks(Result<Verdict, &'static str>, Vec<u8>);

impl Scanner for Finds {
    fn open(&self, _: Wait) -> BoxFuture<'_, Result<Box<dyn Scan>, ScanError>> {
        let scan: Box<dyn Scan> = Box::new(Looks(self.0.clone(), Vec::new()));
        Box::pin(async { Ok(scan) })
    }
}

impl Scan for Looks {
    fn feed(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), ScanError>> {
        self.1.extend_from_slice(&bytes);
        Box::pin(async { Ok(()) })
    }

    fn verdict(self: Box<Self>) -> BoxFuture<'static, Result<Found, ScanError>> {
        Box::pin(async move {
            assert!(!self.1.is_empty(), "it saw the bytes");
            let verdict = self.0.map_err(|why| ScanError::Failed(why.to_owned()))?;
            Ok(Found { verdict, signatures: Some("27".to_owned()) })
        })
    }
}

fn said(filename: &str, mime: &str) -> Declared {
    Declared { filename: Some(filename.to_owned()), mime: Some(mime.to_owned()) }
}

fn keeping(caller: &Caller) -> Keeping {
    Keeping { caller: caller.clone(), session_id: None, persona_id: None }
}

/// Bytes that repeat nowhere near a piece.
fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at.wrapping_mul(2_654_435_761) >> 13) & 0xff).unwrap()).collect()
}

async fn judged(uploads: &Uploads, rules: Rules, said: &Declared, bytes: &[u8]) -> Result<Judged, IngestError> {
    let mut ingest = uploads.begin(&caller("t"), Arc::new(rules), said).await?;
    for piece in bytes.chunks(37_000) {
        ingest = ingest.push(Bytes::copy_from_slice(piece)).await?;
    }
    ingest.finish().await
}

async fn kept(uploads: &Uploads, rules: Rules, bytes: &[u8]) -> Attachment {
    let judged = judged(uploads, rules, &said("a.bin", "application/x-test"), bytes).await.unwrap();
    judged.keep(keeping(&caller("t"))).await.unwrap()
}

async fn refusal(uploads: &Uploads, rules: Rules, said: &Declared, bytes: &[u8]) -> String {
    judged(uploads, rules, said, bytes).await.err().unwrap().to_string()
}

async fn bytes_of(pool: &PgPool, blob: Option<Uuid>) -> Vec<(i64, Vec<u8>)> {
    let sql = "SELECT at, bytes FROM attachment_chunks WHERE blob_id = $1 ORDER BY at";
    sqlx::query_as(sql).bind(blob).fetch_all(pool).await.unwrap()
}

/// Blobs by their state, and attachments.
async fn left(pool: &PgPool) -> (i64, i64, i64) {
    let sql = "SELECT count(*) FILTER (WHERE state = 'whole'), count(*) FILTER (WHERE state = 'arriving'),
                      (SELECT count(*) FROM attachments)
               FROM attachment_blobs";
    sqlx::query_as(sql).fetch_one(pool).await.unwrap()
}

/// A piece is written without waiting for a disk, so a database that crashes may come back without it.
#[sqlx::test(migrations = "../migrations")]
async fn a_file_of_which_the_database_forgot_a_piece_is_not_kept(pool: PgPool) {
    let uploads = uploads(&pool);
    for forgotten in [0, CHUNK_BYTES, 2 * CHUNK_BYTES] {
        let bytes = noise(3 * CHUNK_BYTES + 7);
        let judged = judged(&uploads, rules(), &said("a.bin", ""), &bytes).await.unwrap();
        let at = i64::try_from(forgotten).unwrap();
        let gone = sqlx::query("DELETE FROM attachment_chunks WHERE at = $1").bind(at).execute(&pool).await.unwrap();
        assert_eq!(gone.rows_affected(), 1);
        assert!(matches!(judged.keep(keeping(&caller("t"))).await, Err(IngestError::GivenUp)), "{forgotten}");
        assert_eq!(left(&pool).await.2, 0, "{forgotten}");
        sqlx::query("DELETE FROM attachment_blobs").execute(&pool).await.unwrap();
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_file_is_kept_as_it_came_whatever_its_length(pool: PgPool) {
    let uploads = uploads(&pool);
    for length in [0, 1, 65_536, 65_537, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 70_000] {
        let bytes = noise(length);
        let kept = kept(&uploads, rules(), &bytes).await;
        assert_eq!(kept.size, i64::try_from(length).unwrap());
        assert_eq!(kept.sha256, hex(&Sha256::digest(&bytes)));
        assert_eq!((kept.status.as_str(), kept.scanned_at), ("clean", None), "nobody looked");
        let pieces = bytes_of(&pool, kept.blob_id).await;
        assert!(pieces.iter().all(|(_, piece)| piece.len() <= CHUNK_BYTES));
        let mut whole = Vec::new();
        for (at, piece) in pieces {
            assert_eq!(usize::try_from(at).unwrap(), whole.len());
            whole.extend(piece);
        }
        assert!(whole == bytes, "{length}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn of_a_file_that_stops_coming_nothing_is_seen_and_nothing_goes_on_arriving(pool: PgPool) {
    let uploads = uploads(&pool);
    let ingest = uploads.begin(&caller("t"), Arc::new(rules()), &said("a", "b/c")).await.unwrap();
    let ingest = ingest.push(noise(3 * CHUNK_BYTES).into()).await.unwrap();
    drop(ingest);
    let judged = judged(&uploads, rules(), &Declared::default(), &noise(2 * CHUNK_BYTES)).await.unwrap();
    drop(judged);
    for _ in 0..2_000 {
        if left(&pool).await.1 == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(left(&pool).await, (0, 0, 0));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_file_that_was_given_up_meanwhile_is_not_kept(pool: PgPool) {
    let uploads = uploads(&pool);
    let judged = judged(&uploads, rules(), &Declared::default(), &noise(2 * CHUNK_BYTES)).await.unwrap();
    sqlx::raw_sql("UPDATE attachment_blobs SET state = 'going'").execute(&pool).await.unwrap();
    assert!(matches!(judged.keep(keeping(&caller("t"))).await, Err(IngestError::GivenUp)));
    assert_eq!(left(&pool).await, (0, 0, 0));
}

#[sqlx::test(migrations = "../migrations")]
async fn files_of_one_request_are_kept_together_or_not_at_all(pool: PgPool) {
    let (uploads, session) = (uploads(&pool), Uuid::from_u128(7));
    let of = async |lengths: [usize; 3]| {
        let mut files = Vec::new();
        for length in lengths {
            files.push(judged(&uploads, rules(), &said("a", "b/c"), &noise(length)).await.unwrap());
        }
        files
    };
    let keeping = || Keeping { session_id: Some(session), ..keeping(&caller("t")) };
    // The database takes no second file.
    let refuses = "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS
                   $$ BEGIN IF NEW.size = 5 THEN RAISE 'no' USING ERRCODE = '23514'; END IF; RETURN NEW; END $$;
                   CREATE TRIGGER refuses BEFORE INSERT ON attachments FOR EACH ROW EXECUTE FUNCTION refuses();";
    sqlx::raw_sql(refuses).execute(&pool).await.unwrap();
    for each in [false, true] {
        let refused = uploads.keep(of([300_000, 5, 7]).await, keeping(), each).await;
        assert!(matches!(refused, Err(IngestError::Store(_))), "{refused:?}");
    }
    let gone = "UPDATE attachment_blobs SET state = 'going' WHERE id = (SELECT max(id::text)::uuid FROM attachment_blobs WHERE state = 'arriving')";
    let files = of([300_000, 300_001, 7]).await;
    sqlx::raw_sql(gone).execute(&pool).await.unwrap();
    let refused = uploads.keep(files, keeping(), false).await;
    assert!(matches!(refused, Err(IngestError::GivenUp)), "{refused:?}");
    assert_eq!(sqlx::query_scalar::<_, i64>("SELECT count(*) FROM audit_event").fetch_one(&pool).await.unwrap(), 0);
    assert_eq!((left(&pool).await.0, left(&pool).await.2), (0, 0));
    // Where each has a result of its own one that was given up keeps none of the others from it.
    let files = of([300_000, 300_001, 7]).await;
    sqlx::raw_sql(gone).execute(&pool).await.unwrap();
    let kept = uploads.keep(files, keeping(), true).await.unwrap();
    let sizes: Vec<Option<i64>> = kept.iter().map(|kept| kept.as_ref().ok().map(|kept| kept.size)).collect();
    assert_eq!(sizes, [Some(300_000), None, Some(7)]);
    assert_eq!((left(&pool).await.0, left(&pool).await.2), (2, 2));
    let begun =
        "INSERT INTO session_envelopes (tenant, session_id, epoch, last_seq, created_at, updated_at, deleted_at)
                 VALUES ('t', $1, 1, 1, now(), now(), now())";
    let files = of([300_000, 6, 7]).await;
    sqlx::query(begun).bind(session).execute(&pool).await.unwrap();
    let refused = uploads.keep(files, keeping(), true).await;
    assert!(matches!(refused, Err(IngestError::SessionDeleted)), "{refused:?}");
    assert_eq!(left(&pool).await.2, 2);
    assert!(uploads.keep(Vec::new(), keeping(), true).await.unwrap().is_empty());
}

#[sqlx::test(migrations = "../migrations")]
async fn limits_cut_a_file_while_it_comes(pool: PgPool) {
    let uploads = uploads(&pool);
    let small = Rules { max_bytes: 1_000, ..rules() };
    assert!(refusal(&uploads, small.clone(), &Declared::default(), &noise(1_001)).await.contains("more than 1000"));
    assert!(judged(&uploads, small, &Declared::default(), &noise(1_000)).await.is_ok());
    let inline = Rules { max_bytes: 2_000, inline_max_bytes: 1_000, ..rules() };
    assert!(refusal(&uploads, inline, &Declared::default(), &noise(1_001)).await.contains("kept here"));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_type_is_refused_by_what_it_is_called_and_by_what_it_is(pool: PgPool) {
    let uploads = uploads(&pool);
    let list = |list: &[&str]| list.iter().map(|mime| (*mime).to_owned()).collect::<Vec<_>>();
    let images = || Rules { allowed_mime: list(&["image/png"]), ..rules() };
    let no_html = || Rules { denied_mime: list(&["text/html"]), ..rules() };
    let both = Rules { allowed_mime: list(&["text/html"]), ..no_html() };
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    let html = format!("<html >{}", "x".repeat(10_000));
    for (rules, mime, bytes, refused) in [
        (images(), "image/png", &png[..], None),
        (images(), "application/octet-stream", png, None),
        (images(), "", png, None),
        (images(), "IMAGE/PNG; charset=x", png, None),
        (images(), "image/jpeg", png, Some("image/jpeg")),
        (images(), "image/png", html.as_bytes(), Some("text/html")),
        (images(), "image/png", b"words", Some("text/plain")),
        (no_html(), "text/html", b"words", Some("text/html")),
        (no_html(), "text/plain", html.as_bytes(), Some("text/html")),
        (no_html(), "text/plain", b"words", None),
        (both, "text/html", html.as_bytes(), Some("text/html")),
    ] {
        let outcome = judged(&uploads, rules, &said("a", mime), bytes).await;
        let found = outcome.err().map(|error| error.to_string());
        assert_eq!(found, refused.map(|refused| format!("files of the type {refused} are not taken")), "{mime}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_denied_is_denied_under_each_of_its_names_and_what_is_allowed_under_the_more_exact_one(pool: PgPool) {
    let uploads = uploads(&pool);
    let list = |mime: &str| vec![mime.to_owned()];
    let denied = |mime| Rules { denied_mime: list(mime), ..rules() };
    let allowed = |mime| Rules { allowed_mime: list(mime), ..rules() };
    let (jpeg, zip, xml) =
        (&b"\xff\xd8\xff\xe0\0\x10JFIF\0"[..], &b"PK\x03\x04\x14\0\0\0\x08\0"[..], &b"<?xml version=\"1.0\"?><a/>"[..]);
    let long = [zip, &noise(20_000)].concat();
    for (rules, mime, bytes, refused) in [
        (denied("image/jpeg"), "image/jpg", jpeg, Some("image/jpeg")),
        (denied("image/jpg"), "image/jpg", jpeg, Some("image/jpg")),
        (denied("image/png"), "image/jpg", jpeg, None),
        (denied("application/zip"), "application/epub+zip", zip, Some("application/zip")),
        (denied("application/zip"), "application/epub+zip", &long, Some("application/zip")),
        (denied("application/epub+zip"), "application/zip", zip, None),
        (denied("text/xml"), "image/svg+xml", xml, Some("text/xml")),
        (allowed("application/epub+zip"), "application/epub+zip", zip, None),
        (allowed("application/zip"), "application/epub+zip", zip, Some("application/epub+zip")),
        (allowed("text/xml"), "image/svg+xml", xml, Some("image/svg+xml")),
        (allowed("image/jpeg"), "image/jpg", jpeg, Some("image/jpg")),
    ] {
        let outcome = judged(&uploads, rules.clone(), &said("a", mime), bytes).await;
        let found = outcome.err().map(|error| error.to_string());
        let expected = refused.map(|refused| format!("files of the type {refused} are not taken"));
        assert_eq!(found, expected, "{mime} {:?} {:?}", rules.denied_mime, rules.allowed_mime);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_found_decides_what_becomes_of_a_file(pool: PgPool) {
    let infected = || Ok(Verdict::Infected { signature: "Eicar".to_owned() });
    let limits = || Ok(Verdict::LimitsExceeded { what: "MaxScanSize".to_owned() });
    for (more, finds, status, reason, threat, is_scanned) in [
        (1, Ok(Verdict::Clean), "clean", None, None, true),
        (2, infected(), "quarantined", Some("infected"), Some("Eicar"), true),
        (3, limits(), "quarantined", Some("limits_exceeded"), Some("MaxScanSize"), true),
        (4, Err("away"), "quarantined", Some("av_error"), None, false),
    ] {
        let uploads = uploads(&pool).looked_through_by(Arc::new(Finds(finds)));
        let mut rules = rules();
        rules.antivirus.enabled = true;
        for quarantine in [Quarantine::StoreAndBlock, Quarantine::DropBytesKeepMeta] {
            let rules = Rules { quarantine, ..rules.clone() };
            let kept = kept(&uploads, rules, &noise(CHUNK_BYTES + more)).await;
            let found = (kept.status.as_str(), kept.quarantine_reason.as_deref(), kept.threat.as_deref());
            assert_eq!(found, (status, reason, threat));
            assert_eq!((kept.scanned_at.is_some(), kept.signatures.is_some()), (is_scanned, is_scanned));
            let has_bytes = status == "clean" || quarantine == Quarantine::StoreAndBlock;
            assert_eq!(kept.blob_id.is_some(), has_bytes, "{status} {quarantine:?}");
        }
    }
}

/// Looks through other files.
struct Busy;

impl Scanner for Busy {
    fn open(&self, _: Wait) -> BoxFuture<'_, Result<Box<dyn Scan>, ScanError>> {
        Box::pin(async { Err(ScanError::Busy) })
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_file_that_nobody_is_free_to_look_through_is_refused_and_not_blamed(pool: PgPool) {
    let uploads = uploads(&pool).looked_through_by(Arc::new(Busy));
    for strict in [false, true] {
        let mut rules = rules();
        (rules.antivirus.enabled, rules.antivirus.strict) = (true, strict);
        let refused = judged(&uploads, rules, &Declared::default(), b"words").await.err();
        assert!(matches!(refused, Some(IngestError::Busy)), "{refused:?}");
    }
    assert_eq!(left(&pool).await, (0, 0, 0));
}

/// Finds what begins with `bad`, and says what it saw.
#[derive(Clone, Copy)]
enum Time {
    /// It has time at once.
    AtOnce,
    /// At first it has time only for one piece.
    Short,
    /// At first it has no time.
    Later,
}

struct Impatient;

#[derive(Default)]
struct Patient(Vec<u8>);

impl Scanner for Time {
    fn open(&self, wait: Wait) -> BoxFuture<'_, Result<Box<dyn Scan>, ScanError>> {
        let scan: Result<Box<dyn Scan>, _> = match (wait, self) {
            (Wait::Never, Self::Short) => Ok(Box::new(Impatient)),
            (Wait::Never, Self::Later) => Err(ScanError::Busy),
            (Wait::Never, Self::AtOnce) | (Wait::AWhile, _) => Ok(Box::<Patient>::default()),
        };
        Box::pin(async { scan })
    }
}

impl Scan for Impatient {
    fn feed(&mut self, _: Bytes) -> BoxFuture<'_, Result<(), ScanError>> {
        Box::pin(async { Err(ScanError::Starved) })
    }

    fn verdict(self: Box<Self>) -> BoxFuture<'static, Result<Found, ScanError>> {
        Box::pin(async { Err(ScanError::Starved) })
    }
}

impl Scan for Patient {
    fn feed(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), ScanError>> {
        self.0.extend_from_slice(&bytes);
        Box::pin(async { Ok(()) })
    }

    fn verdict(self: Box<Self>) -> BoxFuture<'static, Result<Found, ScanError>> {
        let signature = format!("{} {}", self.0.len(), hex(&Sha256::digest(&self.0)));
        let verdict = if self.0.starts_with(b"bad") { Verdict::Infected { signature } } else { Verdict::Clean };
        Box::pin(async { Ok(Found { verdict, signatures: None }) })
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn all_of_a_file_is_looked_through_while_it_comes_or_once_it_is_here(pool: PgPool) {
    let mut rules = rules();
    (rules.antivirus.enabled, rules.antivirus.strict) = (true, true);
    for time in [Time::AtOnce, Time::Short, Time::Later] {
        let uploads = uploads(&pool).looked_through_by(Arc::new(time));
        for length in [0, 5, 70_000, CHUNK_BYTES - 3, CHUNK_BYTES - 2, CHUNK_BYTES, 2 * CHUNK_BYTES + 9] {
            let file = [b"bad", &noise(length)[..]].concat();
            let found = kept(&uploads, rules.clone(), &file).await;
            let all = format!("{} {}", file.len(), hex(&Sha256::digest(&file)));
            assert_eq!((found.quarantine_reason.as_deref(), found.threat.as_ref()), (Some("infected"), Some(&all)));
            let begun = uploads.begin(&caller("t"), Arc::new(rules.clone()), &Declared::default()).await.unwrap();
            let at_once = begun.push(file.clone().into()).await.unwrap().finish().await.unwrap();
            assert_eq!(at_once.threat, Some(all), "in one go");
            assert_eq!(kept(&uploads, rules.clone(), &file[1..]).await.status, "clean");
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn nothing_passes_for_clean_that_nobody_could_look_through(pool: PgPool) {
    let mut rules = rules();
    rules.antivirus.enabled = true;
    let kept = kept(&uploads(&pool), rules.clone(), b"words").await;
    assert_eq!(kept.quarantine_reason.as_deref(), Some("av_error"));
    rules.antivirus.strict = true;
    let refused = refusal(&uploads(&pool), rules.clone(), &Declared::default(), b"words").await;
    assert_eq!(refused, "the file could not be looked through: there is no scanner");
    let fails = uploads(&pool).looked_through_by(Arc::new(Finds(Err("away"))));
    let refused = refusal(&fails, rules, &Declared::default(), b"words").await;
    assert_eq!(refused, "the file could not be looked through: away");
    assert_eq!(left(&pool).await, (1, 0, 1));
}

#[sqlx::test(migrations = "../migrations")]
async fn the_same_bytes_are_kept_once_where_that_is_wanted(pool: PgPool) {
    let (uploads, once) = (uploads(&pool), Rules { dedup: true, ..rules() });
    for length in [10, 2 * CHUNK_BYTES] {
        let first = kept(&uploads, once.clone(), &noise(length)).await;
        let second = kept(&uploads, once.clone(), &noise(length)).await;
        assert_eq!(first.blob_id, second.blob_id);
        assert_ne!(first.id, second.id);
        let third = kept(&uploads, rules(), &noise(length)).await;
        assert_ne!(third.blob_id, first.blob_id);
    }
    assert_eq!(left(&pool).await, (4, 0, 6));
}

#[sqlx::test(migrations = "../migrations")]
async fn who_sent_what_is_in_the_audit_trail_and_not_what_it_is_called(pool: PgPool) {
    let uploads = uploads(&pool);
    let who = Caller { subject: Some("ann".to_owned()), ..caller("t") };
    let session_id = Some(Uuid::from_u128(7));
    let judged = judged(&uploads, rules(), &said("my/diagnosis.txt", "text/plain"), b"words").await.unwrap();
    assert_eq!(judged.filename, "diagnosis.txt");
    let kept = judged.keep(Keeping { caller: who, session_id, persona_id: None }).await.unwrap();
    let row: (String, String, Option<String>, Option<Uuid>, String) =
        sqlx::query_as("SELECT action, target_id, subject, session_id, details::text FROM audit_event")
            .fetch_one(&pool)
            .await
            .unwrap();
    let expected = ("attachments.upload".to_owned(), kept.id.to_string(), Some("ann".to_owned()), session_id);
    assert_eq!((row.0, row.1, row.2, row.3), expected);
    assert!(row.4.contains(&kept.sha256) && !row.4.contains("diagnosis"), "{}", row.4);
}
