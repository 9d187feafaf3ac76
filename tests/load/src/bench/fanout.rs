//! Ten thousand open streams, some of them busy: how late a piece reaches its reader, and what a stream costs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use crate::binary::Subject;
use crate::clock::{self, Nanos};
use crate::ground;
use crate::measure::{self, Samples};
use crate::model::{Model, Plan};
use crate::process::{self, Shares};
use crate::report::{Budget, Figure, Report};
use crate::sse::{Seen, Stream, Writer};
use crate::wire::Wire;

/// Streams that are being opened at a time.
const OPENING: usize = 32;

/// Files a process needs besides its streams and busy answers.
const OTHER_FILES: usize = 500;

/// Time the server gets to settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);

/// Time from the last start of an answer to the first piece that is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// Longest time over its due that a run may take.
const GRACE: Duration = Duration::from_mins(1);

/// How much is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Open streams, each of a session of its own
    #[arg(long, default_value_t = Self::FULL.streams)]
    streams: usize,
    /// Streams that receive an answer
    #[arg(long, default_value_t = Self::FULL.busy)]
    busy: usize,
    /// Pieces a second on each of those
    #[arg(long, default_value_t = Self::FULL.rate)]
    rate: u32,
    /// Seconds that are measured
    #[arg(long, default_value_t = Self::FULL.seconds)]
    seconds: u32,
}

impl Options {
    /// What is measured by default.
    pub const FULL: Self = Self { streams: 9_500 + 500, busy: 500, rate: 20, seconds: 10 };
    /// Enough to see that the bench works.
    pub const QUICK: Self = Self { streams: 1_000, busy: 50, rate: 20, seconds: 2 };

    fn apart(&self) -> Duration {
        Duration::from_secs(1) / self.rate.max(1)
    }
}

/// Measures.
pub async fn run(subject: &Subject, options: &Options) -> Result<Report> {
    ensure!(options.busy <= options.streams, "more busy streams than streams");
    process::allow_open_files(u64::try_from(options.streams + 2 * options.busy + OTHER_FILES)?)?;
    // The answers begin one after the other over one distance of pieces or more, and last past the last one's measured time.
    let spread = options.apart().max(Duration::from_millis(4) * u32::try_from(options.busy)?);
    let pieces = options.rate * (options.seconds + u32::try_from((spread + WARM_UP).as_secs())? + 2);
    let model = Model::start(Plan::Pieces(pieces, options.apart()))?;
    let run = Run { model: &model, options, between: spread / u32::try_from(options.busy.max(1))? };

    let direct = run.direct().await?;
    let binary = subject.with(&model)?.set("SA01_TURNS__MAX_RUNNING", &(options.busy + 1).to_string());
    let (mut server, _database) = ground::on_new_database(&binary).await?;
    let before = process::resident_bytes(server.id())?;
    let streams = open(server.port(), options.streams).await?;
    tokio::time::sleep(SETTLE).await;
    let after = process::resident_bytes(server.id())?;
    let shares = Shares::begin(server.id())?;
    let ours = run.through_server(server.port(), streams).await?;
    let shares = shares.end()?;
    let busy = process::resident_bytes(server.id())?;
    server.kill().await?;

    let mut report = Report::new("fanout");
    report.add(Figure::new("delta delay p50", ours.median(), "ms").against(direct.median()));
    let p99 = Figure::new("delta delay p99", ours.percentile(99), "ms").against(direct.percentile(99));
    report.add(p99.within(Budget::AtMost(20.0)));
    report.add(Figure::new("delta delay max", ours.max(), "ms").against(direct.max()));
    report.add(Figure::new("memory a stream", measure::kibibytes_each(before, after, options.streams), "KiB"));
    report.add(Figure::new("memory, nothing open", measure::mebibytes(before), "MiB"));
    report.add(Figure::new("memory, all open", measure::mebibytes(after), "MiB"));
    report.add(Figure::new("memory, busy", measure::mebibytes(busy), "MiB"));
    report.note(format!(
        "{} open streams (mode=delta), each of a session of its own, {} of them with {} deltas/s for {} s: {} deltas measured",
        options.streams,
        options.busy,
        options.rate,
        options.seconds,
        ours.len()
    ));
    report.note("delay: from the instant the model writes a piece to the instant the reader has read it");
    report.note("reference: as many direct readers of the same model at the same pace, and no other stream");
    report.note("memory a stream is the server's, with the conversation of its session; what the kernel holds for sockets is not in it");
    report.note(shares);
    Ok(report)
}

struct Run<'a> {
    model: &'a Model,
    options: &'a Options,
    /// Time between the starts of two answers, so that they do not all send at the same instants.
    between: Duration,
}

/// What the readers have seen, of all streams together.
#[derive(Clone)]
struct Readers {
    delays: Arc<Mutex<(Window, Samples)>>,
    ended: mpsc::UnboundedSender<Result<()>>,
}

/// Pieces sent in this time are measured.
#[derive(Clone, Copy, Debug)]
struct Window {
    from: Nanos,
    to: Nanos,
}

impl Window {
    /// Before it is known.
    const NONE: Self = Self { from: Nanos::MAX, to: Nanos::MAX };

    const fn has(self, sent: Nanos) -> bool {
        sent >= self.from && sent < self.to
    }
}

impl Run<'_> {
    async fn direct(&self) -> Result<Samples> {
        let (readers, ends) = Readers::new();
        let mut tasks = JoinSet::new();
        for _ in 0..self.options.busy {
            let stream = Stream::open(self.model.port(), &self.model.request(), Writer::Model).await?;
            tasks.spawn(readers.clone().follow(stream));
            tokio::time::sleep(self.between).await;
        }
        self.measured(&readers, ends).await
    }

    async fn through_server(&self, port: u16, streams: Vec<(Uuid, Stream)>) -> Result<Samples> {
        let (readers, ends) = Readers::new();
        let mut tasks = JoinSet::new();
        let mut sessions = Vec::with_capacity(streams.len());
        for (session, stream) in streams {
            sessions.push(session);
            tasks.spawn(readers.clone().follow(stream));
        }
        let mut wire = Wire::connect(port).await?;
        // Spread over all that are open.
        let every = sessions.len() / self.options.busy.max(1);
        for session in sessions.iter().step_by(every.max(1)).take(self.options.busy) {
            wire.expect_ok(&ground::message(port, *session)).await?;
            tokio::time::sleep(self.between).await;
        }
        self.measured(&readers, ends).await
    }

    /// Waits until all answers have ended and takes the delays.
    async fn measured(&self, readers: &Readers, mut ends: mpsc::UnboundedReceiver<Result<()>>) -> Result<Samples> {
        let length = Duration::from_secs(self.options.seconds.into());
        let from = clock::now() + u64::try_from(WARM_UP.as_nanos())?;
        readers.measure(Window { from, to: from + u64::try_from(length.as_nanos())? });
        let all = async {
            for _ in 0..self.options.busy {
                ends.recv().await.context("a reader is gone")??;
            }
            anyhow::Ok(())
        };
        timeout(length + GRACE, all).await.context("not all answers have ended")??;
        let delays = readers.take();
        let due = self.options.busy * (self.options.rate * self.options.seconds) as usize;
        ensure!(delays.len() * 100 >= due * 95, "{} pieces came of {due}", delays.len());
        Ok(delays)
    }
}

impl Readers {
    fn new() -> (Self, mpsc::UnboundedReceiver<Result<()>>) {
        let (ended, ends) = mpsc::unbounded_channel();
        (Self { delays: Arc::new(Mutex::new((Window::NONE, Samples::default()))), ended }, ends)
    }

    /// Reads a stream until its answer has ended, and then on, until nobody waits any more.
    async fn follow(self, mut stream: Stream) {
        loop {
            let mut end = None;
            let read = stream.read(|at, seen| match seen {
                Seen::Piece(sent) => self.note(sent, at),
                Seen::End => end = Some(Ok(())),
                Seen::Failed => end = Some(Err(anyhow::anyhow!("an answer failed"))),
                Seen::Opened => {}
            });
            let failed = read.await.err();
            let is_over = failed.is_some();
            if let Some(end) = failed.map(Err).or(end) {
                let _ = self.ended.send(end);
            }
            if is_over {
                return;
            }
        }
    }

    fn note(&self, sent: Nanos, at: Nanos) {
        let mut delays = self.delays.lock().unwrap_or_else(PoisonError::into_inner);
        if delays.0.has(sent) {
            delays.1.between(sent, at);
        }
    }

    fn measure(&self, window: Window) {
        self.delays.lock().unwrap_or_else(PoisonError::into_inner).0 = window;
    }

    fn take(&self) -> Samples {
        std::mem::take(&mut self.delays.lock().unwrap_or_else(PoisonError::into_inner).1)
    }
}

/// Opens the streams of so many new sessions.
async fn open(port: u16, count: usize) -> Result<Vec<(Uuid, Stream)>> {
    let mut opening = JoinSet::new();
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        if opening.len() >= OPENING
            && let Some(stream) = opening.join_next().await
        {
            streams.push(stream??);
        }
        opening.spawn(async move {
            let session = Uuid::new_v4();
            anyhow::Ok((session, Stream::of_session(port, session).await?))
        });
    }
    while let Some(stream) = opening.join_next().await {
        streams.push(stream??);
    }
    Ok(streams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pieces_of_the_measured_time_count() {
        let (readers, _ends) = Readers::new();
        readers.note(5, 6);
        readers.measure(Window { from: 10, to: 20 });
        for sent in [9, 10, 19, 20] {
            readers.note(sent, sent + 1_000_000);
        }
        assert_eq!(readers.take().len(), 2);
    }
}
