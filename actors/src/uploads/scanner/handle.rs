//! The way to the scanners for whoever has bytes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use somaagent_supervision::{AskError, Port, Restart, StartError, SupervisorRef};
use time::OffsetDateTime;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::{
    ScanError, Verdict,
    bench::{Bench, Place},
    metrics::ScannerMetrics,
    session::Session,
    settings::AntivirusSettings,
    target::Address,
    upload_scanner::{Attempt, BeginScan, Outcome, ScannerDeps, UploadScanner},
    wire::Signatures,
};
use crate::{
    breaker::{Breaker, BreakerState},
    uploads::{
        rules::{Antivirus, InForce},
        settings::UploadSettings,
    },
};

/// Pieces of a stream that may wait for clamd. What they hold is all that a scan keeps in memory, besides the one being sent.
pub const PIECES_AHEAD: usize = 1;

/// The scanners of this process. Cheap to clone.
#[derive(Clone)]
pub struct Scanners {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    bench: Arc<Bench>,
    ports: Vec<Port<BeginScan>>,
    pub deps: ScannerDeps,
    /// Longest wait for a free scanner.
    open_within: Duration,
    pub clock: fn() -> OffsetDateTime,
    /// What clamd does not look at and calls clean all the same, as far as that was tried.
    pub blind_spot: Mutex<Option<String>>,
}

/// How it stands with the scanners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How many there are.
    pub total: u32,
    /// How many of them have a scan.
    pub busy: usize,
    /// What the breaker thinks of clamd.
    pub breaker: BreakerState,
}

impl Scanners {
    /// Starts the scanners of the settings as children of `supervisor`. Nothing is connected before the first scan.
    ///
    /// # Errors
    /// One of them does not start.
    pub async fn start(
        supervisor: &SupervisorRef,
        settings: &AntivirusSettings,
        in_force: InForce,
        metrics: ScannerMetrics,
        clock: fn() -> OffsetDateTime,
    ) -> Result<Self, StartError> {
        let deps = Self::deps(settings, in_force, metrics);
        let mut ports = Vec::with_capacity(settings.scanners);
        for number in 1..=settings.scanners {
            let seat = supervisor.seat::<UploadScanner>(Restart::Permanent).labelled(number.to_string());
            // The place of a scan is free a moment before its message is done with.
            ports.push(seat.port("begin-scan", 2));
            let deps = deps.clone();
            seat.start(move || UploadScanner::new(deps)).await?;
        }
        Ok(Self::over(ports, deps, settings, clock))
    }

    /// Scanners of a process that scans nothing.
    #[must_use]
    pub fn none(metrics: ScannerMetrics) -> Self {
        let settings = AntivirusSettings { enabled: false, ..AntivirusSettings::default() };
        let rules = UploadSettings::default().rules(&settings);
        let in_force = watch::Sender::new(Arc::new(rules)).subscribe();
        Self::over(Vec::new(), Self::deps(&settings, in_force, metrics), &settings, || OffsetDateTime::UNIX_EPOCH)
    }

    pub(super) fn deps(settings: &AntivirusSettings, in_force: InForce, metrics: ScannerMetrics) -> ScannerDeps {
        let breaker = Arc::new(Mutex::new(Breaker::new(settings.breaker())));
        ScannerDeps { in_force, limits: settings.limits(), breaker, metrics }
    }

    /// The scanners behind these ports.
    pub(super) fn over(
        ports: Vec<Port<BeginScan>>,
        deps: ScannerDeps,
        settings: &AntivirusSettings,
        clock: fn() -> OffsetDateTime,
    ) -> Self {
        let total = u32::try_from(ports.len()).unwrap_or(u32::MAX);
        let bench = Bench::new(total, deps.metrics.clone());
        let open_within = settings.open_within();
        Self { inner: Arc::new(Inner { bench, ports, deps, open_within, clock, blind_spot: Mutex::default() }) }
    }

    /// Begins a scan: waits for a free scanner, at most as long as the settings allow, and until clamd has said that it is there.
    ///
    /// # Errors
    /// [`ScanError`]. Nothing was sent.
    pub async fn open(&self) -> Result<Scan, ScanError> {
        self.open_within(self.inner.open_within).await
    }

    /// The same, without waiting for a free scanner: those who wait come first.
    ///
    /// # Errors
    /// [`ScanError`]. Nothing was sent.
    pub async fn open_now(&self) -> Result<Scan, ScanError> {
        self.open_within(Duration::ZERO).await
    }

    async fn open_within(&self, within: Duration) -> Result<Scan, ScanError> {
        let address = self.address().ok_or(ScanError::Off)?;
        if let Some(refusal) = self.inner.deps.refuses() {
            return Err(refusal);
        }
        let place = self.inner.bench.place(within).await?;
        let attempt = self.inner.deps.attempt()?;
        self.begin(address, place, Some(attempt)).await
    }

    /// The same, whatever the breaker thinks.
    pub(super) async fn open_anyway(&self, address: Address) -> Result<Scan, ScanError> {
        let place = self.inner.bench.place(self.inner.open_within).await?;
        let attempt = self.inner.deps.attempt().ok();
        self.begin(address, place, attempt).await
    }

    async fn begin(&self, address: Address, place: Place, attempt: Option<Attempt>) -> Result<Scan, ScanError> {
        let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
        let ((ready, is_ready), (outcome, came)) = (oneshot::channel(), oneshot::channel());
        let port = self.inner.ports.get(place.at()).ok_or(ScanError::Busy)?;
        let begin = BeginScan { address, attempt, place, pieces: receiver, ready, outcome };
        port.tell(begin).map_err(|refused| match refused.reason() {
            AskError::Draining => ScanError::Draining,
            _ => crashed(),
        })?;
        // A scanner that is being restarted takes its message later.
        let within = self.inner.open_within + self.inner.deps.limits.connect * 2;
        let late = |_| ScanError::TimedOut { step: "say that it is there", within };
        match timeout(within, is_ready).await.map_err(late)? {
            Ok(signatures) => Ok(Scan { pieces: Some(pieces), outcome: Some(came), ended: None, signatures }),
            Err(_) => Err(came_of(Some(came)).await.err().unwrap_or_else(crashed)),
        }
    }

    /// Whether clamd is there, by a connection of its own.
    ///
    /// # Errors
    /// [`ScanError`]: why not.
    pub async fn ping(&self) -> Result<(), ScanError> {
        let address = self.address().ok_or(ScanError::Off)?;
        Session::open(&address, self.inner.deps.limits).await.map(drop)
    }

    /// What is in force now.
    #[must_use]
    pub fn in_force(&self) -> Antivirus {
        self.inner.deps.in_force.borrow().antivirus.clone()
    }

    /// How it stands with the scanners.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let inner = &self.inner;
        let breaker = inner.deps.breaker.lock().state();
        Standing { total: inner.bench.total(), busy: inner.bench.busy(), breaker }
    }

    /// Begins no scan any more, and waits at most `within` for those under way. Says whether all have ended.
    pub async fn drain(&self, within: Duration) -> bool {
        self.inner.bench.drain(within).await
    }

    pub(super) async fn signatures(&self, address: &Address) -> Result<Signatures, ScanError> {
        Ok(Session::open(address, self.inner.deps.limits).await?.signatures().clone())
    }

    /// What clamd does not look at and calls clean all the same; nothing as long as that was not found.
    #[must_use]
    pub fn blind_spot(&self) -> Option<String> {
        self.inner.blind_spot.lock().clone()
    }

    /// Whether a scan may begin that can wait: one more would still be free, and clamd is not left alone. It may be the trial that
    /// finds out that clamd is back, for nobody else may come.
    #[must_use]
    pub fn has_time(&self) -> bool {
        let Standing { total, busy, .. } = self.standing();
        let spare = usize::try_from(total).unwrap_or(usize::MAX).saturating_sub(busy);
        self.inner.deps.refuses().is_none() && spare > usize::from(total > 1)
    }

    pub(super) fn address(&self) -> Option<Address> {
        Address::in_force(&self.inner.deps.in_force)
    }
}

/// A scan under way. Dropped, it ends without a verdict, and its scanner is free.
///
/// ```no_run
/// # use bytes::Bytes;
/// # use somaagent_actors::uploads::scanner::{ScanError, Scanners, Verdict};
/// # async fn scanned(scanners: &Scanners, pieces: Vec<Bytes>) -> Result<Verdict, ScanError> {
/// let mut scan = scanners.open().await?;
/// for piece in pieces {
///     scan.feed(piece).await?;
/// }
/// scan.verdict().await
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a scan that is dropped has no verdict"]
pub struct Scan {
    /// Away while a piece is handed over, so that one that was lost on the way is not forgotten.
    pieces: Option<mpsc::Sender<Bytes>>,
    outcome: Option<oneshot::Receiver<Outcome>>,
    /// What came of it before its end.
    ended: Option<Outcome>,
    signatures: Signatures,
}

impl Scan {
    /// By which signatures it is judged.
    #[must_use]
    pub const fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// Hands over the next bytes, and waits while clamd is behind. Once clamd has given its verdict, further bytes are taken and
    /// dropped. There is no verdict any more if the future is dropped before its end.
    ///
    /// # Errors
    /// [`ScanError`]: there will be no verdict.
    pub async fn feed(&mut self, bytes: Bytes) -> Result<(), ScanError> {
        // Nothing at all would be the end of the stream.
        if self.ended.is_none() && !bytes.is_empty() {
            let pieces = self.pieces.take().ok_or_else(lost)?;
            if pieces.send(bytes).await.is_err() {
                self.ended = Some(came_of(self.outcome.take()).await);
            }
            self.pieces = Some(pieces);
        }
        match &self.ended {
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// Says that these were all bytes, and waits for the verdict.
    ///
    /// # Errors
    /// [`ScanError`]: there is none.
    pub async fn verdict(self) -> Result<Verdict, ScanError> {
        let Self { pieces, outcome, ended, .. } = self;
        drop(pieces.ok_or_else(lost)?);
        match ended {
            Some(outcome) => outcome,
            None => came_of(outcome).await,
        }
    }
}

async fn came_of(outcome: Option<oneshot::Receiver<Outcome>>) -> Outcome {
    match outcome {
        Some(outcome) => outcome.await.unwrap_or_else(|_| Err(crashed())),
        None => Err(lost()),
    }
}

/// A scanner that is down keeps no clamd from anybody.
fn crashed() -> ScanError {
    ScanError::Unavailable("the scanner failed".to_owned())
}

fn lost() -> ScanError {
    ScanError::Unavailable("not all bytes were handed over".to_owned())
}
