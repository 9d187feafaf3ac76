//! The scanners before a real clamd.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a failed expectation ends the test")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use prometheus::Registry;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use somaagent_actors::uploads::{
    rules::{Antivirus, InForce, Rules},
    scanner::{AntivirusSettings, ScanError, ScannerMetrics, Scanners, Verdict, eicar as look_at},
    settings::UploadSettings,
};
use somaagent_supervision::{Strategy, SupervisorRef, SupervisorSpec, Tree};
use somaagent_test_services::{
    clamd::{Clamd, EICAR, eicar, eicar_in_a_zip},
    proxy::{Direction, Proxy},
    wait::within,
};
use time::OffsetDateTime;
use tokio::sync::watch;

const PIECE: usize = 64 * 1024;

fn stage(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(within("the end of the test", test));
}

/// Rules that say no more than who scans.
fn rules_with(antivirus: Antivirus) -> InForce {
    let rules = Rules { antivirus, ..UploadSettings::default().rules(&AntivirusSettings::default()) };
    watch::Sender::new(Arc::new(rules)).subscribe()
}

/// Deadlines that a busy machine keeps.
fn settings() -> AntivirusSettings {
    AntivirusSettings {
        enabled: true,
        open_timeout_ms: 170_000,
        connect_timeout_ms: 60_000,
        write_timeout_ms: 60_000,
        ..AntivirusSettings::default()
    }
}

struct Stage {
    scanners: Scanners,
    _root: SupervisorRef,
}

impl Stage {
    async fn before(place: (String, u16), settings: AntivirusSettings) -> Self {
        let root = Tree::new(&Registry::new()).unwrap().root(SupervisorSpec::new("root", Strategy::OneForOne));
        let (host, port) = place;
        let in_force = rules_with(Antivirus { enabled: true, strict: false, host, port });
        let metrics = ScannerMetrics::register(&Registry::new()).unwrap();
        let scanners = Scanners::start(&root, &settings, in_force, metrics, || OffsetDateTime::UNIX_EPOCH);
        Self { scanners: scanners.await.unwrap(), _root: root }
    }

    async fn shared() -> Self {
        Self::before(Clamd::shared().unwrap().place(), settings()).await
    }

    async fn judged(&self, pieces: impl IntoIterator<Item = Bytes>) -> Result<Verdict, ScanError> {
        let mut scan = self.scanners.open().await?;
        for piece in pieces {
            scan.feed(piece).await?;
        }
        scan.verdict().await
    }
}

#[expect(clippy::unnecessary_wraps, reason = "compared with what a scan gives")]
fn found(name: &str) -> Result<Verdict, ScanError> {
    Ok(Verdict::Infected { signature: name.to_owned() })
}

/// Bytes that fit no signature.
fn noise(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    StdRng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes.into()
}

async fn behind(clamd: &Clamd) -> Proxy {
    let address: SocketAddr = clamd.address().parse().unwrap();
    Proxy::start(address).await.unwrap()
}

fn through(proxy: &Proxy) -> (String, u16) {
    ("127.0.0.1".to_owned(), proxy.port())
}

#[test]
fn eicar_is_found_plain_and_in_a_zip_and_other_bytes_are_clean() {
    stage(async {
        let stage = Stage::shared().await;
        assert_eq!(stage.judged([eicar().into()]).await, found(EICAR));
        assert_eq!(stage.judged([eicar_in_a_zip().into()]).await, found(EICAR));
        assert_eq!(stage.judged([noise(1, 3 * PIECE)]).await, Ok(Verdict::Clean));
        assert_eq!(stage.judged([]).await, Ok(Verdict::Clean));
    });
}

#[test]
fn eicar_is_found_wherever_a_piece_ends_in_it() {
    stage(async {
        let stage = Stage::shared().await;
        let whole = Bytes::from([noise(2, 1000), eicar().into(), noise(3, 1000)].concat());
        for cut in 1000..1000 + eicar().len() {
            let pieces = [whole.slice(..cut), whole.slice(cut..)];
            assert_eq!(stage.judged(pieces).await, found(EICAR), "cut at {cut}");
        }
        let single = whole.iter().map(|byte| Bytes::from(vec![*byte]));
        assert_eq!(stage.judged(single).await, found(EICAR));
    });
}

#[test]
fn eicar_is_found_behind_90_mb() {
    stage(async {
        let stage = Stage::shared().await;
        let mut rng = StdRng::seed_from_u64(4);
        // Made while it is streamed: nothing holds all of it.
        let pieces = (0..90 * 1024 / 64).map(|_| {
            let mut piece = vec![0; PIECE];
            rng.fill(&mut piece[..]);
            Bytes::from(piece)
        });
        assert_eq!(stage.judged(pieces.chain([eicar().into()])).await, found(EICAR));
    });
}

#[test]
fn what_clamd_does_not_look_at_is_not_clean() {
    stage(async {
        let clamd = Clamd::start(&["StreamMaxLength 1M", "MaxFileSize 600K"]).unwrap();
        let stage = Stage::before(clamd.place(), settings()).await;
        for (len, limit) in
            [(700 * 1024, "Heuristics.Limits.Exceeded.MaxFileSize"), (8 << 20, "INSTREAM size limit exceeded")]
        {
            let verdict = stage.judged(noise(5, len).chunks(PIECE).map(Bytes::copy_from_slice)).await;
            assert_eq!(verdict, Ok(Verdict::LimitsExceeded { what: limit.to_owned() }));
            assert_eq!(stage.judged([eicar().into()]).await, found(EICAR), "the next scan is not spoiled");
        }
    });
}

#[test]
fn a_clamd_that_is_killed_spoils_the_scans_under_way_and_no_later_one() {
    stage(async {
        let clamd = Clamd::start(&[]).unwrap();
        let stage = Stage::before(clamd.place(), settings()).await;
        let mut scan = stage.scanners.open().await.unwrap();
        scan.feed(noise(6, PIECE)).await.unwrap();
        clamd.kill().unwrap();
        let lost = scan.verdict().await;
        assert!(matches!(lost, Err(ScanError::Unavailable(_))), "{lost:?}");
        let away = stage.judged([eicar().into()]).await;
        assert!(matches!(away, Err(ScanError::Unavailable(_))), "{away:?}");
        clamd.restart().unwrap();
        assert_eq!(stage.judged([eicar().into()]).await, found(EICAR));
    });
}

#[test]
fn a_restart_between_scans_and_new_signatures_are_not_noticed_by_uploads() {
    stage(async {
        let clamd = Clamd::start(&[]).unwrap();
        let stage = Stage::before(clamd.place(), settings()).await;
        assert_eq!(stage.judged([noise(7, 100)]).await, Ok(Verdict::Clean));
        clamd.stop().unwrap();
        clamd.restart().unwrap();
        assert_eq!(stage.judged([eicar().into()]).await, found(EICAR));
        let sentence = b"a sentence that nobody may send from now on";
        assert_eq!(stage.judged([Bytes::from_static(sentence)]).await, Ok(Verdict::Clean));
        clamd.sign("Forbidden.Sentence", sentence).unwrap();
        assert_eq!(stage.judged([Bytes::from_static(sentence)]).await, found("Forbidden.Sentence.UNOFFICIAL"));
    });
}

#[test]
fn a_clamd_that_stands_still_costs_its_scan_and_not_the_scanner() {
    stage(async {
        let proxy = behind(Clamd::shared().unwrap()).await;
        let hasty = AntivirusSettings { scanners: 1, answer_timeout_ms: 200, ..settings() };
        let stage = Stage::before(through(&proxy), hasty).await;
        let mut scan = stage.scanners.open().await.unwrap();
        scan.feed(noise(8, PIECE)).await.unwrap();
        proxy.stall(Direction::Down);
        let late = scan.verdict().await;
        assert!(matches!(late, Err(ScanError::TimedOut { .. })), "{late:?}");
        proxy.heal();
        // The answer of the scan before is under way by now, and is nobody's.
        let patient = AntivirusSettings { scanners: 1, ..settings() };
        let stage = Stage::before(through(&proxy), patient).await;
        assert_eq!(stage.judged([eicar().into()]).await, found(EICAR));
    });
}

#[test]
fn a_slow_way_to_clamd_changes_no_verdict() {
    stage(async {
        let proxy = behind(Clamd::shared().unwrap()).await;
        let stage = Stage::before(through(&proxy), settings()).await;
        proxy.delay(Direction::Up, Duration::from_millis(2));
        proxy.delay(Direction::Down, Duration::from_millis(20));
        let verdicts = (0..20).map(|number| {
            let last = if number % 2 == 0 { noise(number, 50) } else { eicar().into() };
            stage.judged([noise(number, 3 * PIECE), last])
        });
        for (number, verdict) in join_all(verdicts).await.into_iter().enumerate() {
            assert_eq!(verdict, if number % 2 == 0 { Ok(Verdict::Clean) } else { found(EICAR) }, "{number}");
        }
    });
}

#[test]
fn two_hundred_scans_at_once_fit_through_ten_scanners() {
    stage(async {
        let stage = Stage::shared().await;
        assert_eq!(stage.scanners.standing().total, 10);
        let verdicts = (0..200_u64).map(|number| {
            let last = if number % 7 == 0 { eicar().into() } else { noise(number, 68) };
            stage.judged((0..4).map(move |piece| noise(number * 4 + piece, PIECE)).chain([last]))
        });
        for (number, verdict) in join_all(verdicts).await.into_iter().enumerate() {
            assert_eq!(verdict, if number % 7 == 0 { found(EICAR) } else { Ok(Verdict::Clean) }, "{number}");
        }
        assert_eq!(stage.scanners.standing().busy, 0);
    });
}

#[test]
fn of_a_thousand_mixed_scans_each_has_its_own_verdict() {
    stage(async {
        let stage = Stage::shared().await;
        let mut rng = StdRng::seed_from_u64(9);
        let plan: Vec<(bool, usize, bool)> =
            (0..1_000).map(|_| (rng.random_bool(0.4), rng.random_range(0..3_000), rng.random_bool(0.1))).collect();
        for batch in plan.chunks(100) {
            let scans = batch.iter().map(|&(is_bad, len, is_given_up)| {
                let stage = &stage;
                async move {
                    let mut scan = stage.scanners.open().await?;
                    scan.feed(noise(len as u64, len)).await?;
                    if is_bad {
                        scan.feed(eicar().into()).await?;
                    }
                    // Some go away and leave their answer behind.
                    if is_given_up { Ok(None) } else { scan.verdict().await.map(Some) }
                }
            });
            for ((is_bad, len, is_given_up), verdict) in batch.iter().zip(join_all(scans).await) {
                let right = if *is_bad { found(EICAR) } else { Ok(Verdict::Clean) };
                assert_eq!(verdict, right.map(|right| (!is_given_up).then_some(right)), "{len} bytes");
            }
        }
    });
}

#[test]
fn the_test_string_shows_that_clamd_finds_something() {
    stage(async {
        let clamd = Clamd::shared().unwrap();
        let report = Stage::shared().await.scanners.test().await.unwrap();
        assert_eq!((report.fault(), &report.eicar, &report.clean), (None, &found(EICAR), &Ok(Verdict::Clean)));
        assert!(report.signatures.unwrap().engine.starts_with("ClamAV "));
        let (host, port) = clamd.place();
        let settings = AntivirusSettings { host, port, ..settings() };
        assert_eq!(look_at::look(&settings, Duration::from_mins(1), OffsetDateTime::UNIX_EPOCH).await.fault(), None);
    });
}
