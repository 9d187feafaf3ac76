//! How fast files are taken, looked through by clamd or not, and how much memory one of them needs.
//!
//! What the server does is done beside it without the server: the same bytes are handed to the same clamd, and are hashed and
//! inserted into the same PostgreSQL. Files are noise, in which clamd finds nothing and which nothing can compress.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use somaagent_test_services::clamd::Clamd;
use somaagent_test_services::postgres::Database;
use somaagent_test_services::process::{Binary, Running};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;

use crate::binary::Subject;
use crate::clock;
use crate::ground;
use crate::measure::{self, Samples};
use crate::process::{self, Shares};
use crate::reference::{chunks, clamd};
use crate::report::{Budget, Figure, Report};
use crate::wire::Wire;

const BOUNDARY: &str = "----c1a4d0f7";

/// Memory of an upload under way, in KiB.
const EACH_KIB: f64 = 2048.0;

/// Time between two looks at the server's memory.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How much is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// MiB of a file
    #[arg(long, default_value_t = Self::FULL.mebibytes)]
    mebibytes: usize,
    /// Files of a client in a round, one after the other
    #[arg(long, default_value_t = Self::FULL.files)]
    files: usize,
    /// Clients at a time for each file that clamd looks through at a time
    #[arg(long, default_value_t = Self::FULL.clients)]
    clients: usize,
    /// Rounds of each side, in turn
    #[arg(long, default_value_t = Self::FULL.rounds)]
    rounds: usize,
    /// Files under way at a time while memory is measured
    #[arg(long, default_value_t = Self::FULL.at_once)]
    at_once: usize,
}

impl Options {
    /// What is measured by default.
    pub const FULL: Self = Self { mebibytes: 32, files: 4, clients: 2, rounds: 5, at_once: 24 };
    /// Enough to see that the bench works.
    pub const QUICK: Self = Self { mebibytes: 4, files: 1, rounds: 1, at_once: 4, ..Self::FULL };
}

/// Measures.
pub async fn run(subject: &Subject, options: &Options) -> Result<Report> {
    let mut report = Report::new("upload");
    let file: Arc<[u8]> = noise(options.mebibytes << 20).into();
    let binary = subject.alone()?.set("GATEWAY_UPLOAD_MAX_MB", &options.mebibytes.to_string());
    let binary = binary.set("SA01_UPLOADS__INLINE_MAX_MB", &options.mebibytes.to_string());
    let cores = process::cores();
    let half = (cores / 2).max(1);
    // Where clamd has every core there is none for the rest, and each second of work beside it is a second that it lacks: that shows
    // what a file costs. Where it has half of them, it shows whether anything keeps clamd waiting.
    let (ours, bare) = looked_through(&binary, half, &file, options).await?;
    let figure = Figure::new("taken and looked through, clamd on half the cores", ours.median(), "MB/s");
    report.add(figure.against(bare.median()).within(Budget::RatioAtLeast(0.8)));
    let (ours, bare) = looked_through(&binary, cores, &file, options).await?;
    let figure = Figure::new("taken and looked through, clamd on all cores", ours.median(), "MB/s");
    report.add(figure.against(bare.median()));
    let clamd = looking_at(cores)?;
    let clients = options.clients * half;
    let (ours, plain) = unseen(&binary, clients, &file, options, &mut report).await?;
    let figure = Figure::new("taken without a scanner", ours.median(), "MB/s").against(plain.median());
    report.add(figure.within(Budget::AtLeastOrRatio(400.0, 0.8)));
    let each = memory(&looking(&binary, &clamd), &file, options).await?;
    report.add(Figure::new("memory of an upload under way", each, "KiB").within(Budget::AtMost(EACH_KIB)));
    report.note(format!(
        "medians of {} rounds in turn, {clients} clients at a time ({} where clamd has all cores) with {} files of {} MiB each, \
         one file a request",
        options.rounds,
        options.clients * cores,
        options.files,
        options.mebibytes
    ));
    report.note(format!(
        "half the cores: clamd looks through {half} files at a time and no more (MaxThreads), wherever it runs"
    ));
    report.note("reference, looked through: as many raw clients that stream the same bytes to the same clamd, whose cache of what is clean is off");
    report.note(
        "reference, without: as many clients that each pipe the same bytes through sha256sum and then insert them into the \
         same PostgreSQL, 256 KiB a row and a file a transaction",
    );
    report
        .note(format!("memory: {} files at a time, the highest resident size above that before them", options.at_once));
    Ok(report)
}

/// A clamd that looks through `at_once` files at a time, each on a core.
fn looking_at(at_once: usize) -> Result<Arc<Clamd>> {
    // What it has looked through it knows again by its sum: it would not look a second time.
    Ok(Arc::new(Clamd::start(&["DisableCache yes", &format!("MaxThreads {at_once}")])?))
}

/// `binary` with scanners.
fn looking(binary: &Binary, clamd: &Clamd) -> Binary {
    let (host, port) = clamd.place();
    binary.clone().set("CLAMAV_ENABLED", "true").set("CLAMAV_HOST", &host).set("CLAMAV_PORT", &port.to_string())
}

/// MB a second with a clamd that looks through `at_once` files at a time, through the server and without it.
async fn looked_through(
    binary: &Binary,
    at_once: usize,
    file: &Arc<[u8]>,
    options: &Options,
) -> Result<(Samples, Samples)> {
    let clamd = looking_at(at_once)?;
    let clients = options.clients * at_once;
    // A file for which there is no scanner is looked through later, which is not what is measured.
    let binary = looking(binary, &clamd).set("SA01_ANTIVIRUS__SCANNERS", &clients.to_string());
    let (mut server, database) = ground::on_new_database(&binary).await?;
    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    for _ in 0..options.rounds {
        let clamd = Arc::clone(&clamd);
        let scan = move |file: Arc<[u8]>| {
            let clamd = Arc::clone(&clamd);
            async move { clamd::scan(&clamd, &file).await }
        };
        bare.push(reference(clients, options.files, file, scan).await?);
        ours.push(uploads(&server, clients, options.files, file).await?);
        empty(&database).await?;
    }
    server.terminate().await?;
    Ok((ours, bare))
}

/// MB a second without a scanner, through the server and without it.
async fn unseen(
    binary: &Binary,
    clients: usize,
    file: &Arc<[u8]>,
    options: &Options,
    report: &mut Report,
) -> Result<(Samples, Samples)> {
    let (mut server, database) = ground::on_new_database(binary).await?;
    let dsn: &'static str = database.dsn().leak();
    let shares = Shares::begin(server.id())?;
    let (mut ours, mut plain) = (Samples::default(), Samples::default());
    for _ in 0..options.rounds {
        chunks::table(&database).await?;
        let keep = async move |file: Arc<[u8]>| {
            chunks::sum(&file).await?;
            let mut connection = PgConnection::connect(dsn).await?;
            chunks::write(&mut connection, &file).await?;
            anyhow::Ok(connection.close().await?)
        };
        plain.push(reference(clients, options.files, file, keep).await?);
        ours.push(uploads(&server, clients, options.files, file).await?);
        empty(&database).await?;
    }
    report.note(shares.end()?);
    server.terminate().await?;
    Ok((ours, plain))
}

/// Forgets what was written, so that no round bears that of the one before.
async fn empty(database: &Database) -> Result<()> {
    let mut connection = PgConnection::connect(&database.dsn()).await?;
    sqlx::raw_sql("TRUNCATE attachments, attachment_blobs CASCADE; DROP TABLE IF EXISTS plain; CHECKPOINT")
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    Ok(())
}

/// MB a second that `keep` takes of `clients`, each with so many `files`.
async fn reference<K, F>(clients: usize, files: usize, file: &Arc<[u8]>, keep: K) -> Result<f64>
where
    K: Fn(Arc<[u8]>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (began, mut under_way) = (clock::now(), JoinSet::new());
    for _ in 0..clients {
        let (file, keep) = (Arc::clone(file), keep.clone());
        under_way.spawn(async move {
            for _ in 0..files {
                keep(Arc::clone(&file)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(client) = under_way.join_next().await {
        client??;
    }
    Ok(megabytes_a_second(clients * files * file.len(), began))
}

/// MB a second that the server takes.
async fn uploads(server: &Running, clients: usize, files: usize, file: &Arc<[u8]>) -> Result<f64> {
    let port = server.port();
    reference(clients, files, file, move |file| upload(port, file)).await
}

/// Sends a file that must be kept.
async fn upload(port: u16, file: Arc<[u8]>) -> Result<()> {
    let before = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"files\"; filename=\"noise.bin\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let after = format!("\r\n--{BOUNDARY}--\r\n");
    let length = before.len() + file.len() + after.len();
    let head = format!(
        "POST /v1/uploads HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: multipart/form-data; boundary={BOUNDARY}\r\n\
         content-length: {length}\r\n\r\n{before}"
    );
    let mut wire = Wire::connect(port).await?;
    wire.send(head.as_bytes()).await?;
    wire.send(&file).await?;
    wire.expect_ok(after.as_bytes()).await?;
    anyhow::ensure!(wire.text().contains("\"clean\""), "the server found something: {}", wire.text());
    Ok(())
}

/// KiB that an upload needs while it is under way.
async fn memory(binary: &Binary, file: &Arc<[u8]>, options: &Options) -> Result<f64> {
    let (mut server, _database) = ground::on_new_database(binary).await?;
    // A short file of each wakes everything up that stays.
    uploads(&server, options.at_once, 1, &Arc::from(&file[..1 << 20])).await?;
    let before = process::resident_bytes(server.id())?;
    let (mut clients, mut highest) = (JoinSet::new(), before);
    for _ in 0..options.at_once {
        clients.spawn(upload(server.port(), Arc::clone(file)));
    }
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            ended = clients.join_next() => match ended {
                Some(ended) => ended?.context("an upload while memory is measured")?,
                None => break,
            },
            _ = looks.tick() => highest = highest.max(process::resident_bytes(server.id())?),
        }
    }
    server.terminate().await?;
    Ok(measure::kibibytes_each(before, highest, options.at_once))
}

#[expect(clippy::cast_precision_loss, reason = "bytes stay far below 2^53")]
fn megabytes_a_second(bytes: usize, began: clock::Nanos) -> f64 {
    bytes as f64 / 1e6 / (clock::millis_between(began, clock::now()) / 1e3)
}

/// Bytes in which nothing repeats (xorshift).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::iter::repeat_with(|| next().to_le_bytes()).flatten().take(length).collect()
}
