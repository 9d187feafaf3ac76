#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use sqlx::PgPool;

use super::*;
use crate::{
    domain::caller::Caller,
    uploads::{
        Declared, Keeping,
        ingest::scanning::{Scan, Wait},
        rules::{Antivirus, Quarantine, Rules},
        scanner::ScannerMetrics,
        tests::{caller, rules, uploads},
        verdicts::{Decision, NotChanged},
    },
};

/// Finds what it is told to find, or fails.
#[derive(Clone)]
struct Finds(Arc<Mutex<Result<Verdict, &'static str>>>);

struct Looks(Finds, Vec<u8>);

impl Finds {
    fn nothing() -> Self {
        Self(Arc::new(Mutex::new(Ok(Verdict::Clean))))
    }

    fn now(&self, found: Result<Verdict, &'static str>) {
        *self.0.lock() = found;
    }
}

impl Scanner for Finds {
    fn open(&self, _: Wait) -> BoxFuture<'_, Result<Box<dyn Scan>, ScanError>> {
        let scan: Box<dyn Scan> = Box::new(Looks(self.clone(), Vec::new()));
        Box::pin(async {
            if self.0.lock().as_ref().err() == Some(&"away") {
                Err(ScanError::Away("away".to_owned()))
            } else {
                Ok(scan)
            }
        })
    }
}

impl Scan for Looks {
    fn feed(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), ScanError>> {
        self.1.extend_from_slice(&bytes);
        Box::pin(async { Ok(()) })
    }

    fn verdict(self: Box<Self>) -> BoxFuture<'static, Result<Found, ScanError>> {
        let found = self.0.0.lock().clone();
        Box::pin(async move {
            assert_eq!(self.1.len(), 600_000, "it saw all bytes");
            let verdict = found.map_err(|why| ScanError::Failed(why.to_owned()))?;
            Ok(Found { verdict, signatures: Some("ClamAV 1/28".to_owned()) })
        })
    }
}

fn bad() -> Verdict {
    Verdict::Infected { signature: "Bad".to_owned() }
}

fn scanned(pool: &PgPool, finds: &Finds) -> Uploads {
    let antivirus = Antivirus { enabled: true, ..rules().antivirus };
    let (_, in_force) = tokio::sync::watch::channel(Arc::new(Rules { antivirus, ..rules() }));
    let Uploads { store, metrics, clock, .. } = uploads(pool);
    Uploads::new(store, in_force, metrics, clock).looked_through_by(Arc::new(finds.clone()))
}

async fn send(uploads: &Uploads) -> Uuid {
    let ingest = uploads.begin(&caller("t"), uploads.rules(), &Declared::default()).await.unwrap();
    let judged = ingest.push(vec![7; 600_000].into()).await.unwrap().finish().await.unwrap();
    let keeping = Keeping { caller: caller("t"), session_id: Some(Uuid::from_u128(7)), persona_id: None };
    judged.keep(keeping).await.unwrap().id
}

/// What is due by signatures of this number.
async fn due(uploads: &Uploads, signatures: i64) -> Option<Due> {
    let settings = AntivirusSettings { rescan_after_seconds: 3_600, ..AntivirusSettings::default() };
    let at = OffsetDateTime::UNIX_EPOCH + time::Duration::MINUTE;
    let terms = Terms { sent_since: OffsetDateTime::UNIX_EPOCH, ..terms(&settings, signatures, at) };
    uploads.store.run(move |connection| Box::pin(rescans::next(connection, terms))).await.unwrap()
}

async fn status(pool: &PgPool, id: Uuid) -> (String, Option<String>, Option<String>) {
    let sql = "SELECT status, quarantine_reason, threat FROM attachments WHERE id = $1";
    sqlx::query_as(sql).bind(id).fetch_one(pool).await.unwrap()
}

fn judged(status: &str, reason: Option<&str>, threat: Option<&str>) -> (String, Option<String>, Option<String>) {
    (status.to_owned(), reason.map(str::to_owned), threat.map(str::to_owned))
}

/// Who did what to an attachment, besides sending it.
async fn trail(pool: &PgPool, id: Uuid) -> Vec<(String, Option<String>)> {
    let sql =
        "SELECT action, subject FROM audit_event WHERE target_id = $1 AND action <> 'attachments.upload' ORDER BY id";
    sqlx::query_as(sql).bind(id.to_string()).fetch_all(pool).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn what_newer_signatures_know_is_quarantined_afterwards(pool: PgPool) {
    let finds = Finds::nothing();
    let uploads = scanned(&pool, &finds);
    let id = send(&uploads).await;
    assert_eq!(due(&uploads, 28).await, None, "they are those by which it was looked through");
    finds.now(Ok(bad()));
    let scanner: Arc<dyn Scanner> = Arc::new(finds);
    rescan(&uploads, &scanner, due(&uploads, 29).await.unwrap()).await.unwrap();
    assert_eq!(status(&pool, id).await, judged("quarantined", Some("infected"), Some("Bad")));
    assert_eq!(
        trail(&pool, id).await,
        [("attachments.rescan".to_owned(), Some("system:attachment-rescanner".to_owned()))]
    );
    assert_eq!(uploads.metrics.count_quarantined(), 1);
    assert_eq!(due(&uploads, 29).await, None, "what is quarantined is for people to judge");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_nobody_could_look_through_is_let_out_once_somebody_could(pool: PgPool) {
    let finds = Finds::nothing();
    finds.now(Err("broken"));
    let uploads = scanned(&pool, &finds);
    let id = send(&uploads).await;
    assert_eq!(status(&pool, id).await, judged("quarantined", Some("av_error"), None));
    let scanner: Arc<dyn Scanner> = Arc::new(finds.clone());
    finds.now(Err("away"));
    let failed = rescan(&uploads, &scanner, due(&uploads, 0).await.unwrap()).await;
    assert!(matches!(failed, Err(Failed::Away(_))), "{failed:?}");
    finds.now(Ok(Verdict::Clean));
    rescan(&uploads, &scanner, due(&uploads, 0).await.unwrap()).await.unwrap();
    assert_eq!(status(&pool, id).await, judged("clean", None, None));
    assert_eq!((due(&uploads, 0).await, trail(&pool, id).await.len()), (None, 1));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_file_that_nobody_can_look_through_keeps_no_other_one_waiting(pool: PgPool) {
    let finds = Finds::nothing();
    let uploads = scanned(&pool, &finds);
    let (id, other) = (send(&uploads).await, send(&uploads).await);
    let order = "UPDATE attachments SET scanned_at = CASE id WHEN $1 THEN to_timestamp(-7) ELSE to_timestamp(-6) END";
    sqlx::query(order).bind(id).execute(&pool).await.unwrap();
    finds.now(Err("broken"));
    let scanner: Arc<dyn Scanner> = Arc::new(finds);
    let first = due(&uploads, 29).await.unwrap();
    rescan(&uploads, &scanner, first.clone()).await.unwrap();
    assert_eq!((status(&pool, id).await, trail(&pool, id).await.len()), (judged("clean", None, None), 0));
    let second = due(&uploads, 29).await.unwrap();
    assert!(second != first && status(&pool, other).await.0 == "clean", "{second:?}");
}

#[sqlx::test(migrations = "../migrations")]
async fn an_admin_has_one_judged_anew_at_once_and_what_was_released_in_spite_of_it_stays_so(pool: PgPool) {
    let finds = Finds::nothing();
    let uploads = scanned(&pool, &finds);
    let admin = Caller { subject: Some("root".to_owned()), ..caller("t") };
    let id = send(&uploads).await;
    finds.now(Ok(bad()));
    let found = uploads.scan_again(&admin, id).await.unwrap();
    assert_eq!((found.status.as_str(), found.signatures.as_deref()), ("quarantined", Some("ClamAV 1/28")));
    uploads.decide(&admin, id, Decision::Release).await.unwrap();
    assert_eq!(uploads.scan_again(&admin, id).await.unwrap().status, "clean", "it is known what is in it");
    finds.now(Ok(Verdict::LimitsExceeded { what: "MaxScanSize".to_owned() }));
    let again = uploads.scan_again(&admin, id).await.unwrap();
    assert_eq!((again.quarantine_reason.as_deref(), again.released_by), (Some("limits_exceeded"), None));
    finds.now(Ok(Verdict::Clean));
    assert_eq!(uploads.scan_again(&admin, id).await.unwrap().quarantine_reason, None, "their word counts");
    let done: Vec<_> =
        trail(&pool, id).await.into_iter().filter(|(action, _)| action == "admin.attachments.scan").collect();
    assert_eq!(done, vec![("admin.attachments.scan".to_owned(), Some("root".to_owned())); 4]);

    finds.now(Err("broken"));
    let failed = uploads.scan_again(&admin, id).await;
    assert!(matches!(failed, Err(NotScanned::Scan(ScanError::Failed(_)))), "{failed:?}");
    let stranger = uploads.scan_again(&caller("u"), id).await;
    assert!(matches!(stranger, Err(NotScanned::NotChanged(NotChanged::Unknown))), "{stranger:?}");
    let off = crate::uploads::tests::uploads(&pool).scan_again(&admin, id).await;
    assert!(matches!(off, Err(NotScanned::Off)), "{off:?}");
    uploads.delete(&admin, id).await.unwrap();
    let gone = uploads.scan_again(&admin, id).await;
    assert!(matches!(gone, Err(NotScanned::NotChanged(NotChanged::Gone))), "{gone:?}");
}

#[sqlx::test(migrations = "../migrations")]
async fn where_bytes_are_dropped_they_are_dropped_afterwards_too(pool: PgPool) {
    let finds = Finds::nothing();
    let mut uploads = scanned(&pool, &finds);
    let id = send(&uploads).await;
    finds.now(Ok(bad()));
    let drops = Rules { quarantine: Quarantine::DropBytesKeepMeta, ..(*uploads.rules()).clone() };
    let (_, in_force) = tokio::sync::watch::channel(Arc::new(drops));
    uploads = Uploads::new(uploads.store.clone(), in_force, uploads.metrics.clone(), uploads.clock);
    let scanner: Arc<dyn Scanner> = Arc::new(finds);
    rescan(&uploads, &scanner, due(&uploads, 29).await.unwrap()).await.unwrap();
    assert_eq!(status(&pool, id).await.0, "quarantined");
    let whole = "SELECT count(*) FROM attachment_blobs WHERE state = 'whole'";
    assert_eq!(sqlx::query_scalar::<_, i64>(whole).fetch_one(&pool).await.unwrap(), 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn nothing_is_done_and_nobody_kept_from_it_while_the_antivirus_is_off(pool: PgPool) {
    let scanners = Scanners::none(ScannerMetrics::register(&prometheus::Registry::new()).unwrap());
    let deps = RescannerDeps { uploads: uploads(&pool), scanners, settings: AntivirusSettings::default() };
    assert_eq!(step(&deps, Uuid::nil(), None).await.unwrap(), Done::All);
    let leases: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox_leases").fetch_one(&pool).await.unwrap();
    assert_eq!(leases, 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn whoever_has_no_time_or_no_clamd_keeps_nobody_from_it_who_has(pool: PgPool) {
    let scanners = Scanners::none(ScannerMetrics::register(&prometheus::Registry::new()).unwrap());
    let uploads = scanned(&pool, &Finds::nothing());
    let deps = RescannerDeps { uploads, scanners, settings: AntivirusSettings::default() };
    assert_eq!(step(&deps, Uuid::nil(), Some(28)).await.unwrap(), Done::More(YIELD, 28));
    let away = step(&deps, Uuid::nil(), None).await;
    assert!(matches!(away, Err(Failed::Away(_))), "{away:?}");
    let leases: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox_leases").fetch_one(&pool).await.unwrap();
    assert_eq!(leases, 0);
}
