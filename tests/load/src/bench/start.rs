//! How long the process takes to be there, how large it is, and what it needs once it is.

use std::time::Duration;

use anyhow::{Context as _, Result};
use somaagent_test_services::postgres::{Ending, Postgres};
use somaagent_test_services::process::{Binary, Running};
use sqlx::{Connection as _, PgConnection};

use crate::binary::Subject;
use crate::clock::{self, Nanos};
use crate::ground;
use crate::measure::{self, Samples};
use crate::process;
use crate::report::{Budget, Figure, Report};
use crate::wire::{self, Wire};

/// Time between two looks whether it is there.
const LOOK_AGAIN: Duration = Duration::from_micros(500);

/// Time a started process gets to settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);

/// Longest start that is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// How much is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Starts of each form
    #[arg(long, default_value_t = Self::FULL.starts)]
    starts: usize,
}

impl Options {
    /// What is measured by default.
    pub const FULL: Self = Self { starts: 10 };
    /// Enough to see that the bench works.
    pub const QUICK: Self = Self { starts: 1 };
}

/// Measures.
pub async fn run(subject: &Subject, options: &Options) -> Result<Report> {
    let mut report = Report::new("start");
    let native = native(options).await?;
    let (first, again, embedded_rss) = embedded(subject, options).await?;
    let (outside, asked, outside_rss) = outside(subject, options).await?;
    let figure = |name: &str, ours: &Samples, reference: &Samples, budget| {
        let figure = Figure::new(name, ours.median(), "ms").against(reference.median());
        figure.within(Budget::AtMost(budget))
    };
    report.add(figure("first start ever, embedded", &first, &native.first, 2000.0));
    report.add(figure("start on existing data, embedded", &again, &native.again, 500.0));
    report.add(figure("start, outside PostgreSQL", &outside, &asked, 150.0));
    for (name, samples) in [("existing data, embedded", &again), ("outside PostgreSQL", &outside)] {
        report.add(Figure::new(format!("slowest start, {name}"), samples.max(), "ms"));
    }
    report.add(Figure::new("binary", measure::mebibytes(subject.size_bytes()?), "MiB"));
    report.add(Figure::new("memory after boot, embedded", embedded_rss.median(), "MiB"));
    report.add(Figure::new("memory after boot, outside PostgreSQL", outside_rss.median(), "MiB"));
    report.note(format!(
        "medians of {} starts, from before the process exists to the 200 of /healthz; memory: resident, {SETTLE:?} later",
        options.starts
    ));
    report.note(
        "reference, embedded: a native PostgreSQL until it takes connections, made by initdb first / on its data",
    );
    report.note("reference, outside: one connection to the same server and one SELECT, by a process that runs already");
    Ok(report)
}

/// First starts, starts on existing data, and memory in MiB after the latter.
async fn embedded(subject: &Subject, options: &Options) -> Result<(Samples, Samples, Samples)> {
    let (mut first, mut again, mut memory) = <(Samples, Samples, Samples)>::default();
    for _ in 0..options.starts {
        let binary = subject.alone()?;
        let mut server = timed(&binary, &mut first).await?;
        server.terminate().await?;
        let mut server = timed(&binary, &mut again).await?;
        memory.push(settled(&server).await?);
        server.terminate().await?;
    }
    Ok((first, again, memory))
}

/// Starts on an outside database that has its tables, connections made to it, and memory in MiB.
async fn outside(subject: &Subject, options: &Options) -> Result<(Samples, Samples, Samples)> {
    let database = Postgres::shared()?.fresh_database().await?;
    let binary = ground::on(&subject.alone()?, &database);
    timed(&binary, &mut Samples::default()).await?.terminate().await?;
    let (mut starts, mut asked, mut memory) = <(Samples, Samples, Samples)>::default();
    for _ in 0..options.starts {
        let mut server = timed(&binary, &mut starts).await?;
        memory.push(settled(&server).await?);
        server.terminate().await?;
        let began = clock::now();
        let mut connection = PgConnection::connect(&database.dsn()).await?;
        sqlx::query("SELECT 1").execute(&mut connection).await?;
        asked.between(began, clock::now());
        connection.close().await?;
    }
    Ok((starts, asked, memory))
}

/// Starts of a native PostgreSQL.
struct Native {
    first: Samples,
    again: Samples,
}

async fn native(options: &Options) -> Result<Native> {
    let starts = options.starts;
    // It waits by blocking its thread.
    let timed = tokio::task::spawn_blocking(move || {
        let mut native = Native { first: Samples::default(), again: Samples::default() };
        for _ in 0..starts {
            let began = clock::now();
            let postgres = Postgres::start()?;
            native.first.between(began, clock::now());
            postgres.end(Ending::Fast)?;
            let began = clock::now();
            postgres.restart()?;
            native.again.between(began, clock::now());
        }
        anyhow::Ok(native)
    });
    timed.await?
}

/// Starts `binary` and notes how long it took to answer.
async fn timed(binary: &Binary, starts: &mut Samples) -> Result<Running> {
    let port = ground::free_port()?;
    let binary = binary.clone().set("GATEWAY_PORT", &port.to_string());
    let began = clock::now();
    let there = tokio::time::timeout(PATIENCE, answers(port));
    let (server, there) = tokio::join!(binary.start(), there);
    let server = server?;
    starts.between(began, there.context("/healthz does not answer")??);
    Ok(server)
}

/// The instant at which `/healthz` answers with 200.
async fn answers(port: u16) -> Result<Nanos> {
    let request = wire::get(port, "/healthz");
    loop {
        if let Ok(mut wire) = Wire::connect(port).await
            && wire.ask(&request).await.is_ok_and(|status| status == 200)
        {
            return Ok(clock::now());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn settled(server: &Running) -> Result<f64> {
    tokio::time::sleep(SETTLE).await;
    Ok(measure::mebibytes(process::resident_bytes(server.id())?))
}
