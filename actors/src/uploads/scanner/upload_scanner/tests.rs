#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

use std::{future::pending, sync::atomic::AtomicBool, sync::atomic::Ordering};

use futures_util::future::join_all;
use prometheus::{Encoder as _, Registry, TextEncoder};
use somaagent_supervision::{Port, Restart, Strategy, SupervisorRef, SupervisorSpec, Tree};
use time::OffsetDateTime;
use tokio::{sync::watch, task::yield_now, time::sleep};

use super::*;
use crate::uploads::{
    rules::{Antivirus, Rules},
    scanner::{
        AntivirusSettings, Scan, Scanners,
        testing::{Double, rules},
    },
};

const TEXT: Bytes = Bytes::from_static(b"text");
const BAD: Bytes = Bytes::from_static(b"bad");

/// Has a scanner fail while it scans.
#[derive(Message)]
#[rtype(result = "()")]
struct Trip;

impl Handler<Admitted<Trip>> for UploadScanner {
    type Result = ();

    fn handle(&mut self, _: Admitted<Trip>, _: &mut Context<Self>) {
        panic!("tripped");
    }
}

fn stage(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(test);
}

/// Deadlines that a busy machine keeps.
fn settings(scanners: usize) -> AntivirusSettings {
    AntivirusSettings {
        scanners,
        open_timeout_ms: 120_000,
        connect_timeout_ms: 60_000,
        write_timeout_ms: 60_000,
        feed_timeout_ms: 120_000,
        idle_ms: 3_600_000,
        ..AntivirusSettings::default()
    }
}

/// Scanners under a supervisor of their own.
struct Stage {
    scanners: Scanners,
    told: watch::Sender<Arc<Rules>>,
    trips: Vec<Port<Trip>>,
    registry: Registry,
    _root: SupervisorRef,
}

impl Stage {
    async fn start(target: Antivirus, settings: AntivirusSettings) -> Self {
        let registry = Registry::new();
        let root = Tree::new(&Registry::new()).unwrap().root(SupervisorSpec::new("root", Strategy::OneForOne));
        let (told, in_force) = watch::channel(Arc::new(rules(target)));
        let deps = Scanners::deps(&settings, in_force, ScannerMetrics::register(&registry).unwrap());
        let (mut ports, mut trips) = (Vec::new(), Vec::new());
        for _ in 0..settings.scanners {
            let seat = root.seat::<UploadScanner>(Restart::Permanent);
            ports.push(seat.port("begin-scan", 2));
            trips.push(seat.port("trip", 1));
            let deps = deps.clone();
            seat.start(move || UploadScanner::new(deps)).await.unwrap();
        }
        let scanners = Scanners::over(ports, deps, &settings, || OffsetDateTime::UNIX_EPOCH);
        Self { scanners, told, trips, registry, _root: root }
    }

    async fn judged(&self, bytes: Bytes) -> Outcome {
        let mut scan = self.scanners.open().await?;
        scan.feed(bytes).await?;
        scan.verdict().await
    }

    fn metric(&self, line: &str) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {line} in {text}")).to_owned()
    }

    async fn until(&self, is: impl Fn(&Self) -> bool) {
        while !is(self) {
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn busy(&self) -> usize {
        self.scanners.standing().busy
    }
}

#[expect(clippy::unnecessary_wraps, reason = "compared with what a scan gives")]
fn bad() -> Outcome {
    Ok(Verdict::Infected { signature: "Bad".to_owned() })
}

#[test]
fn one_connection_serves_one_scan_after_the_other() {
    stage(async {
        let double = Double::sound().await;
        let stage = Stage::start(double.target(), settings(1)).await;
        for _ in 0..20 {
            assert_eq!(stage.judged(TEXT).await, Ok(Verdict::Clean));
            assert_eq!(stage.judged(BAD).await, bad());
        }
        assert_eq!((double.opened(), stage.busy()), (1, 0));
        assert_eq!(stage.metric(r#"clamav_scan_duration_seconds_count{result="infected"}"#), "20");
        assert_eq!(stage.metric("upload_scanners_busy"), "0");
    });
}

#[test]
fn a_connection_that_clamd_ended_fails_no_upload() {
    stage(async {
        // It greets, serves one scan, and goes.
        let double = Double::start(|mut line| async move {
            line.begun().await;
            line.stream().await;
            line.answer("stream: OK").await;
        });
        let double = double.await;
        let stage = Stage::start(double.target(), settings(1)).await;
        for number in 1..=10 {
            assert_eq!(stage.judged(TEXT).await, Ok(Verdict::Clean));
            assert_eq!(double.opened(), number);
        }
    });
}

#[test]
fn a_scan_that_is_dropped_frees_its_scanner_and_leaves_no_answer_behind() {
    stage(async {
        let double = Double::sound().await;
        let stage = Stage::start(double.target(), settings(1)).await;
        for number in 1..=10 {
            let mut scan = stage.scanners.open().await.unwrap();
            scan.feed(BAD).await.unwrap();
            drop(scan);
            assert_eq!(stage.judged(TEXT).await, Ok(Verdict::Clean));
            // The stream that had no end took its connection along, and the next scan's serves the one after it.
            assert_eq!(double.opened(), number + 1);
        }
        assert_eq!(stage.metric(r#"clamav_scan_duration_seconds_count{result="abandoned"}"#), "10");
    });
}

#[test]
fn a_scanner_that_panics_loses_its_scan_and_serves_the_next_anew() {
    stage(async {
        let double = Double::sound().await;
        let stage = Stage::start(double.target(), settings(1)).await;
        let mut scan = stage.scanners.open().await.unwrap();
        scan.feed(BAD).await.unwrap();
        stage.trips[0].tell(Trip).unwrap();
        let lost = loop {
            if let Err(error) = scan.feed(TEXT).await {
                break error;
            }
            yield_now().await;
        };
        assert!(matches!(&lost, ScanError::Unavailable(why) if why.contains("failed")), "{lost:?}");
        assert_eq!(scan.verdict().await, Err(lost));
        assert_eq!(stage.judged(TEXT).await, Ok(Verdict::Clean));
        assert_eq!((double.opened(), stage.busy()), (2, 0));
    });
}

#[test]
fn who_waits_gets_the_next_free_scanner_and_nobody_waits_for_ever() {
    stage(async {
        let double = Double::sound().await;
        let stage = Stage::start(double.target(), settings(2)).await;
        let (first, second) = (stage.scanners.open().await.unwrap(), stage.scanners.open().await.unwrap());
        let waiting = async {
            let mut third = stage.scanners.open().await.unwrap();
            third.feed(BAD).await.unwrap();
            third.verdict().await
        };
        let freeing = async {
            stage.until(|stage| stage.metric("upload_scanners_waiting") == "1").await;
            assert_eq!(stage.metric("upload_scanners_busy"), "2");
            assert_eq!(first.verdict().await, Ok(Verdict::Clean));
        };
        assert_eq!(tokio::join!(waiting, freeing).0, bad());
        drop(second);

        let hasty = AntivirusSettings { open_timeout_ms: 50, ..settings(1) };
        let stage = Stage::start(double.target(), hasty).await;
        let _kept = stage.scanners.open().await.unwrap();
        assert_eq!(stage.scanners.open().await.map(drop), Err(ScanError::Busy));
    });
}

#[test]
fn another_address_counts_for_the_next_scan_and_ends_connections_that_are_kept() {
    stage(async {
        let (here, there) = (Double::sound().await, Double::sound().await);
        let stage = Stage::start(here.target(), settings(1)).await;
        let under_way = stage.scanners.open().await.unwrap();
        stage.told.send_replace(Arc::new(rules(there.target())));
        assert_eq!(under_way.verdict().await, Ok(Verdict::Clean));
        assert_eq!(stage.judged(BAD).await, bad());
        assert_eq!((here.opened(), there.opened()), (1, 1));

        let off = Antivirus { enabled: false, ..there.target() };
        stage.told.send_replace(Arc::new(rules(off)));
        assert_eq!(stage.scanners.open().await.map(drop), Err(ScanError::Off));
        assert_eq!(stage.scanners.ping().await, Err(ScanError::Off));
    });
}

#[test]
fn a_kept_connection_is_closed_once_scans_go_elsewhere_or_it_is_old() {
    for old in [false, true] {
        stage(async move {
            let ended = Arc::new(AtomicBool::new(false));
            let told = Arc::clone(&ended);
            let double = Double::start(move |mut line| {
                let told = Arc::clone(&told);
                async move {
                    line.begun().await;
                    line.stream().await;
                    line.answer("stream: OK").await;
                    line.command().await;
                    told.store(true, Ordering::SeqCst);
                }
            });
            let double = double.await;
            let idle_ms = if old { 300 } else { 3_600_000 };
            let stage = Stage::start(double.target(), AntivirusSettings { idle_ms, ..settings(1) }).await;
            assert_eq!(stage.judged(TEXT).await, Ok(Verdict::Clean));
            if !old {
                stage.told.send_replace(Arc::new(rules(Antivirus { enabled: false, ..double.target() })));
            }
            stage.until(|_| ended.load(Ordering::SeqCst)).await;
        });
    }
}

#[test]
fn clamd_is_left_alone_after_failures_and_a_trial_that_reaches_it_ends_that() {
    stage(async {
        let is_well = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_well);
        let double = Double::start(move |mut line| {
            let told = Arc::clone(&told);
            async move {
                if told.load(Ordering::SeqCst) {
                    line.begun().await;
                    line.stream().await;
                    line.answer("stream: OK").await;
                }
            }
        });
        let double = double.await;
        let settings = AntivirusSettings { breaker_failures: 3, breaker_cooldown_ms: 3_000, ..settings(2) };
        let stage = Stage::start(double.target(), settings).await;
        for _ in 0..3 {
            assert!(matches!(stage.judged(TEXT).await, Err(ScanError::Unavailable(_))));
        }
        assert_eq!(stage.metric("upload_scanner_breaker_open"), "1");
        let asked = double.opened();
        let refused = stage.judged(TEXT).await;
        assert!(matches!(refused, Err(ScanError::Resting { .. })), "{refused:?}");
        assert_eq!(double.opened(), asked);
        is_well.store(true, Ordering::SeqCst);
        let trial = loop {
            match stage.scanners.open().await {
                Ok(scan) => break scan,
                Err(ScanError::Resting { retry_after }) => sleep(retry_after).await,
                Err(other) => panic!("{other:?}"),
            }
        };
        // The trial is not over, and others go on.
        assert_eq!(stage.judged(TEXT).await, Ok(Verdict::Clean));
        assert_eq!(trial.verdict().await, Ok(Verdict::Clean));
        assert_eq!(stage.metric("upload_scanner_breaker_open"), "0");
    });
}

#[test]
fn verdicts_and_uploads_that_stop_are_no_failures_of_clamd() {
    stage(async {
        let double = Double::sound().await;
        let patient = AntivirusSettings { breaker_failures: 1, ..settings(1) };
        let stage = Stage::start(double.target(), patient.clone()).await;
        assert_eq!(stage.judged(BAD).await, bad());
        drop(stage.scanners.open().await.unwrap());
        assert_eq!(stage.judged(TEXT).await, Ok(Verdict::Clean));
        let hasty = AntivirusSettings { feed_timeout_ms: 30, ..patient };
        let stage = Stage::start(double.target(), hasty).await;
        let starved = stage.scanners.open().await.unwrap();
        stage.until(|stage| stage.busy() == 0).await;
        let starved = starved.verdict().await;
        assert!(matches!(starved, Err(ScanError::Starved { .. })), "{starved:?}");
        assert_eq!(stage.metric("upload_scanner_breaker_open"), "0");
    });
}

#[test]
fn a_file_that_clamd_cannot_cope_with_is_no_reason_to_leave_it_alone() {
    for silent in [false, true] {
        stage(async move {
            let double = Double::start(move |mut line| async move {
                line.begun().await;
                if line.stream().await.is_some_and(|bytes| bytes == BAD) {
                    if silent {
                        pending::<()>().await;
                    }
                    line.answer("stream: Can't allocate memory ERROR").await;
                } else {
                    line.answer("stream: OK").await;
                }
            });
            let double = double.await;
            let settings = AntivirusSettings { breaker_failures: 1, answer_timeout_ms: 500, ..settings(1) };
            let stage = Stage::start(double.target(), settings).await;
            for _ in 0..3 {
                let bad = stage.judged(BAD).await.unwrap_err();
                assert!(bad.may_be_the_files(), "{bad:?}");
            }
            assert_eq!(stage.scanners.standing().breaker, BreakerState::Closed);
        });
    }
}

#[test]
fn a_scan_tells_by_which_signatures() {
    stage(async {
        let double = Double::sound().await;
        let stage = Stage::start(double.target(), settings(1)).await;
        for _ in 0..2 {
            let scan = stage.scanners.open().await.unwrap();
            assert_eq!(scan.signatures().to_string(), "ClamAV 1.4.6/27400");
            scan.verdict().await.unwrap();
        }
        assert_eq!(double.opened(), 1);
    });
}

#[test]
fn a_piece_that_was_lost_on_the_way_costs_the_verdict() {
    stage(async {
        // It greets and reads nothing.
        let deaf = Double::start(|mut line| async move {
            line.begun().await;
            pending::<()>().await;
        });
        let deaf = deaf.await;
        let stage = Stage::start(deaf.target(), settings(1)).await;
        let mut scan = stage.scanners.open().await.unwrap();
        let piece = Bytes::from(vec![0; 8 << 20]);
        let fed = async {
            loop {
                scan.feed(piece.clone()).await.unwrap();
            }
        };
        tokio::select! {
            () = fed => {}
            () = sleep(Duration::from_millis(100)) => {}
        }
        assert!(scan.feed(TEXT).await.is_err());
        assert!(scan.verdict().await.is_err());
    });
}

#[test]
fn a_drain_waits_for_scans_under_way_and_refuses_others() {
    stage(async {
        let double = Double::sound().await;
        let stage = Stage::start(double.target(), settings(2)).await;
        let scan = stage.scanners.open().await.unwrap();
        let (is_done, verdict) = tokio::join!(stage.scanners.drain(Duration::from_mins(2)), async {
            yield_now().await;
            scan.verdict().await
        });
        assert_eq!((is_done, verdict), (true, Ok(Verdict::Clean)));
        assert_eq!(stage.scanners.open().await.map(drop), Err(ScanError::Draining));

        let stage = Stage::start(double.target(), settings(1)).await;
        let _kept: Scan = stage.scanners.open().await.unwrap();
        assert!(!stage.scanners.drain(Duration::from_millis(50)).await);
    });
}

#[test]
fn many_scans_at_once_share_the_scanners_and_each_has_its_own_verdict() {
    stage(async {
        let double = Double::sound().await;
        let stage = Stage::start(double.target(), settings(4)).await;
        let judged = (0..100).map(|number| stage.judged(if number % 3 == 0 { BAD } else { TEXT }));
        for (number, verdict) in join_all(judged).await.into_iter().enumerate() {
            assert_eq!(verdict, if number % 3 == 0 { bad() } else { Ok(Verdict::Clean) }, "{number}");
        }
        assert_eq!((double.opened(), stage.busy()), (4, 0));
    });
}
