//! What is found in bytes, and for which files it counts.

use futures_util::future::poll_immediate;

use super::*;
use crate::{
    store::{
        attachment_blobs::Sum,
        attachments::rescans::{self, Finding},
        wall::within,
    },
    uploads::rules::Antivirus,
};

/// Waits until so many wait for a lock.
async fn waiting(pool: &PgPool, count: i64) {
    let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    for _ in 0..10_000 {
        if sqlx::query_scalar::<_, i64>(sql).fetch_one(pool).await.unwrap() == count {
            return;
        }
        tokio::task::yield_now().await;
    }
    unreachable!("nobody waits");
}

fn infected(drops_bytes: bool) -> Finding {
    let (reason, threat) = (Some("infected"), Some("Bad".to_owned()));
    Finding { reason, threat, signatures: Some("28".to_owned()), acquits: false, drops_bytes }
}

async fn statuses(pool: &PgPool) -> Vec<(String, Option<String>, Option<String>, bool)> {
    let sql = "SELECT status, quarantine_reason, threat, blob_id IS NOT NULL FROM attachments";
    sqlx::query_as(sql).fetch_all(pool).await.unwrap()
}

fn sum_of(attachment: &Attachment) -> Sum {
    Sum { sha256: attachment.sha256.clone(), size: attachment.size }
}

fn looking() -> Antivirus {
    Antivirus { enabled: true, ..rules().antivirus }
}

fn finding(threat: &str) -> Arc<dyn Scanner> {
    Arc::new(Finds(Ok(Verdict::Infected { signature: threat.to_owned() })))
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_found_in_a_file_counts_for_the_same_bytes_that_were_let_in_before(pool: PgPool) {
    for dedup in [true, false] {
        for quarantine in [Quarantine::StoreAndBlock, Quarantine::DropBytesKeepMeta] {
            let bytes = noise(300_000);
            let before = Rules { dedup, quarantine, ..rules() };
            kept(&uploads(&pool), before.clone(), &bytes).await;
            let now = uploads(&pool).looked_through_by(finding("Bad"));
            kept(&now, Rules { antivirus: looking(), ..before }, &bytes).await;
            let drops = quarantine == Quarantine::DropBytesKeepMeta;
            let expected = ("quarantined".to_owned(), Some("infected".to_owned()), Some("Bad".to_owned()), !drops);
            assert_eq!(statuses(&pool).await, vec![expected.clone(), expected], "{dedup}");
            sqlx::raw_sql("DELETE FROM attachments; DELETE FROM attachment_blobs").execute(&pool).await.unwrap();
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_found_in_a_file_is_known_of_the_same_bytes_or_the_file_is_not_kept(pool: PgPool) {
    let bytes = noise(300_000);
    kept(&uploads(&pool), rules(), &bytes).await;
    let fails = "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no more room'; END $$;
                 CREATE TRIGGER fails BEFORE UPDATE ON attachments FOR EACH ROW EXECUTE FUNCTION fails()";
    sqlx::raw_sql(fails).execute(&pool).await.unwrap();
    let now = uploads(&pool).looked_through_by(finding("Bad"));
    let looking = Rules { antivirus: looking(), ..rules() };
    let second = judged(&now, looking, &Declared::default(), &bytes).await.unwrap();
    let refused = second.keep(keeping(&caller("t"))).await;
    assert!(matches!(refused, Err(IngestError::Store(_))), "{refused:?}");
    assert_eq!(statuses(&pool).await, [("clean".to_owned(), None, None, true)], "there is only the first");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_known_of_bytes_counts_for_a_file_that_nobody_looks_through(pool: PgPool) {
    let bytes = noise(300_000);
    for dedup in [true, false] {
        let looking = Rules { dedup, antivirus: looking(), ..rules() };
        kept(&uploads(&pool).looked_through_by(finding("Bad")), looking.clone(), &bytes).await;
        kept(&uploads(&pool).looked_through_by(Arc::new(Finds(Err("broken")))), looking, &bytes).await;
        kept(&uploads(&pool), Rules { dedup, ..rules() }, &bytes).await;
        let expected = ("quarantined".to_owned(), Some("infected".to_owned()), Some("Bad".to_owned()), true);
        assert_eq!(statuses(&pool).await, vec![expected; 3], "{dedup}");
        sqlx::raw_sql("DELETE FROM attachments; DELETE FROM attachment_blobs").execute(&pool).await.unwrap();
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn where_bytes_were_found_clean_since_nothing_is_known_of_them(pool: PgPool) {
    let (bytes, looking) = (noise(300_000), Rules { antivirus: looking(), ..rules() });
    kept(&uploads(&pool).looked_through_by(finding("Bad")), looking.clone(), &bytes).await;
    sqlx::raw_sql("UPDATE attachments SET scanned_at = '1969-12-31'").execute(&pool).await.unwrap();
    let clean = uploads(&pool).looked_through_by(Arc::new(Finds(Ok(Verdict::Clean))));
    assert_eq!(kept(&clean, looking.clone(), &bytes).await.status, "clean");
    let blind = uploads(&pool).looked_through_by(Arc::new(Finds(Err("broken"))));
    assert_eq!(kept(&blind, looking, &bytes).await.quarantine_reason.as_deref(), Some("av_error"));
    assert_eq!(kept(&uploads(&pool), rules(), &bytes).await.status, "clean");
    // That an admin lets one out does not make it clean.
    let released =
        "UPDATE attachments SET quarantine_reason = 'infected', released_at = 'epoch' WHERE status = 'clean'";
    sqlx::raw_sql(released).execute(&pool).await.unwrap();
    assert_eq!(kept(&uploads(&pool), rules(), &bytes).await.threat.as_deref(), Some("Bad"));
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_found_in_one_file_of_a_request_counts_for_the_same_bytes_in_another(pool: PgPool) {
    let bytes = noise(300_000);
    for (dedup, quarantine) in [(true, Quarantine::StoreAndBlock), (false, Quarantine::DropBytesKeepMeta)] {
        let unseen = Rules { dedup, quarantine, ..rules() };
        let seen = Rules { antivirus: looking(), ..unseen.clone() };
        let now = uploads(&pool).looked_through_by(finding("Bad"));
        let blind = uploads(&pool).looked_through_by(Arc::new(Finds(Err("broken"))));
        let files = vec![
            judged(&now, unseen, &Declared::default(), &bytes).await.unwrap(),
            judged(&blind, seen.clone(), &Declared::default(), &bytes).await.unwrap(),
            judged(&now, seen, &Declared::default(), &bytes).await.unwrap(),
        ];
        let kept = now.keep(files, keeping(&caller("t")), false).await.unwrap();
        let drops = quarantine == Quarantine::DropBytesKeepMeta;
        assert!(kept.iter().all(|kept| kept.as_ref().unwrap().status == "quarantined"), "{kept:?}");
        let expected = ("quarantined".to_owned(), Some("infected".to_owned()), Some("Bad".to_owned()), !drops);
        assert_eq!(statuses(&pool).await, vec![expected; 3], "{dedup}");
        sqlx::raw_sql("DELETE FROM attachments; DELETE FROM attachment_blobs").execute(&pool).await.unwrap();
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn of_a_file_elsewhere_in_which_something_is_found_nothing_is_kept_but_what_it_is(pool: PgPool) {
    let uploads = uploads(&pool).looked_through_by(finding("Bad"));
    let source = || Source { url: "https://files.example/a?k=canary".to_owned(), host: "files.example".to_owned() };
    let small_here = Rules { inline_max_bytes: 1_000, ..rules() };
    let [one, other] = [300_000, 300_001].map(noise);
    for (large, antivirus, reason) in [(&one, looking(), Some("infected")), (&other, rules().antivirus, None)] {
        let rules = Arc::new(Rules { antivirus, ..small_here.clone() });
        let ingest = uploads.begin(&caller("t"), rules, &Declared::default()).await.unwrap().fetched_from(source());
        let judged = ingest.push(Bytes::from(large.clone())).await.unwrap().finish().await.unwrap();
        let kept = judged.keep(keeping(&caller("t"))).await.unwrap();
        assert_eq!((kept.quarantine_reason.as_deref(), kept.blob_id), (reason, None));
        assert_eq!(kept.external_url.is_some(), reason.is_none());
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn bytes_in_which_something_is_found_while_they_are_kept_once_more_are_not_clean_there(pool: PgPool) {
    let uploads = uploads(&pool);
    let mut connection = pool.acquire().await.unwrap();
    for (round, quarantine) in [(1, Quarantine::StoreAndBlock), (2, Quarantine::DropBytesKeepMeta)] {
        let (once, bytes) = (Rules { dedup: true, quarantine, ..rules() }, noise(300_000 + round));
        let first = kept(&uploads, once.clone(), &bytes).await;
        let second = judged(&uploads, once, &Declared::default(), &bytes).await.unwrap();
        let mut keeping = pin!(second.keep(keeping(&caller("t"))));
        let (sum, drops) = (sum_of(&first), quarantine == Quarantine::DropBytesKeepMeta);
        within(&mut connection, "t", async |rows| {
            let found = rescans::judge(rows, "t", &sum, &infected(drops), OffsetDateTime::UNIX_EPOCH).await?;
            assert_eq!(found.len(), 1, "the other one is not there yet");
            assert!(poll_immediate(keeping.as_mut()).await.is_none());
            waiting(&pool, 1).await;
            Ok(())
        })
        .await;
        let second = keeping.await.unwrap();
        let found = (second.status.as_str(), second.quarantine_reason.as_deref(), second.threat.as_deref());
        assert_eq!(found, ("quarantined", Some("infected"), Some("Bad")));
        let expected = ("quarantined".to_owned(), Some("infected".to_owned()), Some("Bad".to_owned()), !drops);
        assert_eq!(statuses(&pool).await, vec![expected.clone(), expected]);
        assert_eq!((left(&pool).await.0, left(&pool).await.1), (i64::from(!drops), 0));
        sqlx::raw_sql("DELETE FROM attachments; UPDATE attachment_blobs SET state = 'going'")
            .execute(&pool)
            .await
            .unwrap();
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn whoever_judges_bytes_waits_for_those_that_are_keeping_them(pool: PgPool) {
    let (uploads, once, bytes) = (uploads(&pool), Rules { dedup: true, ..rules() }, noise(300_000));
    let first = kept(&uploads, once.clone(), &bytes).await;
    let waits = "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$;
                 CREATE TRIGGER waits BEFORE INSERT ON attachments FOR EACH ROW EXECUTE FUNCTION waits()";
    sqlx::raw_sql(waits).execute(&pool).await.unwrap();
    let mut held = pool.begin().await.unwrap();
    sqlx::raw_sql("SELECT pg_advisory_xact_lock(7)").execute(&mut *held).await.unwrap();
    let second = judged(&uploads, once, &Declared::default(), &bytes).await.unwrap();
    let mut keeping = pin!(second.keep(keeping(&caller("t"))));
    assert!(poll_immediate(keeping.as_mut()).await.is_none());
    waiting(&pool, 1).await;
    let sum = sum_of(&first);
    let mut judging = pin!(uploads.store.change_for(caller("t").tenant, move |rows| {
        Box::pin(async move { rescans::judge(rows, "t", &sum, &infected(false), OffsetDateTime::UNIX_EPOCH).await })
    }));
    assert!(poll_immediate(judging.as_mut()).await.is_none());
    waiting(&pool, 2).await;
    held.rollback().await.unwrap();
    assert_eq!(keeping.await.unwrap().status, "clean", "nothing was found yet");
    assert_eq!(judging.await.unwrap().len(), 2);
    assert!(statuses(&pool).await.iter().all(|(status, ..)| status == "quarantined"));
}
