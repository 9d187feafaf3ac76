//! How many messages the server makes durable, and how fast a stop reaches the model.
//!
//! The model takes one request and never answers, and one turn may run: what is measured is the acceptance of messages, not
//! the answers. Every round has a database of its own, so both sides begin with empty tables and no round bears the leases
//! and open turns that the one before it left behind.

use std::time::Duration;

use anyhow::{Context as _, Result};
use somaagent_test_services::process::{Binary, Running};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::binary::Subject;
use crate::clock;
use crate::ground;
use crate::measure::{self, Samples};
use crate::model::{Model, Plan};
use crate::process::Shares;
use crate::reference::embedded::EmbeddedDatabase;
use crate::reference::pgbench::{MESSAGES_A_SESSION, Pgbench};
use crate::reference::rows::Rows;
use crate::report::{Budget, Figure, Report};
use crate::sse::{Stream, Writer};
use crate::wire::Wire;

/// Time between two pieces of an answer that is about to be stopped.
const PACE: Duration = Duration::from_millis(5);

/// How long such an answer is let run.
const BEFORE_STOP: Duration = Duration::from_millis(20);

/// How much is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Connections that post, and clients of pgbench
    #[arg(long, default_value_t = Self::FULL.connections)]
    connections: usize,
    /// Seconds of a round
    #[arg(long, default_value_t = Self::FULL.seconds)]
    seconds: u64,
    /// Rounds of each side
    #[arg(long, default_value_t = Self::FULL.rounds)]
    rounds: usize,
    /// Answers that are stopped
    #[arg(long, default_value_t = Self::FULL.stops)]
    stops: usize,
}

impl Options {
    /// What is measured by default.
    pub const FULL: Self = Self { connections: 64, seconds: 6, rounds: 3, stops: 300 };
    /// Enough to see that the bench works.
    pub const QUICK: Self = Self { seconds: 1, rounds: 1, stops: 20, ..Self::FULL };

    const fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// Rates of both sides, a round each.
#[derive(Default)]
struct Rounds {
    ours: Samples,
    reference: Samples,
    latency: Samples,
}

/// Measures.
pub async fn run(subject: &Subject, options: &Options) -> Result<Report> {
    let mut report = Report::new("accept");
    let model = Model::start(Plan::Silent)?;
    let outside = outside(subject, &model, options, &mut report).await?;
    let embedded = embedded(subject, &model, options).await?;
    drop(model);
    let (stops, hang_ups) = stops(subject, options).await?;
    let rate = |name: &str, rounds: &Rounds| {
        Figure::new(name, rounds.ours.median(), "messages/s").against(rounds.reference.median())
    };
    let at_least = Budget::RatioAtLeast(1.0);
    report.add(rate("durable messages, outside PostgreSQL", &outside).within(at_least));
    for percent in [50, 99] {
        let name = format!("message to 200 under that load, p{percent}");
        report.add(Figure::new(name, outside.latency.percentile(percent), "ms"));
    }
    report.add(rate("durable messages, embedded", &embedded).within(at_least));
    for (percent, budget) in [(50, None), (99, Some(Budget::AtMost(100.0)))] {
        let figure = Figure::new(format!("stop to closed provider socket p{percent}"), stops.percentile(percent), "ms");
        let figure = figure.against(hang_ups.percentile(percent));
        report.add(budget.into_iter().fold(figure, Figure::within));
    }
    report.note(format!(
        "medians of {} rounds of {} s in turn, {} connections, {MESSAGES_A_SESSION} messages a session, each side on a \
         database of its own with empty tables; the aim for the first ratio is 2",
        options.rounds, options.seconds, options.connections
    ));
    report.note(
        "reference, outside: pgbench on the same server (fsync on), as many clients, the same rows (event, turn, envelope, \
         outbox, memory write, audit) in one prepared statement, one message a transaction",
    );
    report.note(
        "reference, embedded: one connection to the embedded database opened in this process, a transaction a message, a \
         statement a row",
    );
    report.note("reference, stop: a direct client that hangs up");
    Ok(report)
}

async fn outside(subject: &Subject, model: &Model, options: &Options, report: &mut Report) -> Result<Rounds> {
    let binary = accepting(subject.with(model)?);
    let pgbench = Pgbench::new(outside_rows(&binary).await?)?;
    let mut rounds = Rounds::default();
    for _ in 0..options.rounds {
        let tables = ground::tables(&binary).await?;
        rounds.reference.push(pgbench.run(&tables.dsn(), options.connections, options.time()).await?);
        let (mut server, _database) = ground::on_new_database(&binary).await?;
        let shares = Shares::begin(server.id())?;
        let (rate, latency) = load(server.port(), options).await?;
        if rounds.ours.len() == 0 {
            report.note(shares.end()?);
        }
        rounds.ours.push(rate);
        rounds.latency.extend(&latency);
        server.kill().await?;
    }
    Ok(rounds)
}

/// What the server writes of one message.
async fn outside_rows(binary: &Binary) -> Result<Rows> {
    let (mut server, database) = ground::on_new_database(binary).await?;
    post_one(&server).await?;
    server.kill().await?;
    let mut connection = PgConnection::connect(&database.dsn()).await?;
    Rows::read(&mut connection).await
}

async fn post_one(server: &Running) -> Result<()> {
    Wire::connect(server.port()).await?.expect_ok(&ground::message(server.port(), Uuid::new_v4())).await
}

async fn embedded(subject: &Subject, model: &Model, options: &Options) -> Result<Rounds> {
    let mut rounds = Rounds::default();
    for _ in 0..options.rounds {
        let binary = accepting(subject.with(model)?);
        // The reference's tables, and a message to take the rows from.
        let other = binary.elsewhere()?;
        let mut server = other.start().await?;
        post_one(&server).await?;
        server.terminate().await?;
        let mut database = EmbeddedDatabase::open(&other.data()).await?;
        let rows = database.rows().await?;
        rounds.reference.push(database.write(&rows, options.time()).await?);
        database.close().await?;
        let mut server = binary.start().await?;
        let (rate, latency) = load(server.port(), options).await?;
        rounds.ours.push(rate);
        rounds.latency.extend(&latency);
        server.kill().await?;
    }
    Ok(rounds)
}

/// A server that runs one turn, and does not wait for its end when it is told to end: it has none.
fn accepting(binary: Binary) -> Binary {
    binary.set("SA01_TURNS__MAX_RUNNING", "1").set("SA01_SHUTDOWN__DRAIN_MS", "100")
}

/// Posts on all connections for a while. Messages a second, and the time of each until its 200.
async fn load(port: u16, options: &Options) -> Result<(f64, Samples)> {
    let began = clock::now();
    let end = began + u64::try_from(options.time().as_nanos())?;
    let mut clients = JoinSet::new();
    for _ in 0..options.connections {
        clients.spawn(async move {
            let mut wire = Wire::connect(port).await?;
            let mut latency = Samples::default();
            loop {
                let message = ground::message(port, Uuid::new_v4());
                for _ in 0..MESSAGES_A_SESSION {
                    let sent = clock::now();
                    if sent >= end {
                        return anyhow::Ok(latency);
                    }
                    wire.expect_ok(&message).await?;
                    latency.between(sent, clock::now());
                }
            }
        });
    }
    let mut latency = Samples::default();
    while let Some(client) = clients.join_next().await {
        latency.extend(&client??);
    }
    Ok((measure::rate(u64::try_from(latency.len())?, began, clock::now()), latency))
}

/// From sending a stop to the model seeing its socket closed; and from a direct client's hanging up.
async fn stops(subject: &Subject, options: &Options) -> Result<(Samples, Samples)> {
    let mut model = Model::start(Plan::Endless(PACE))?;
    let (mut server, _database) = ground::on_new_database(&subject.with(&model)?).await?;
    let mut wire = Wire::connect(server.port()).await?;
    let (mut ours, mut direct) = (Samples::default(), Samples::default());
    for _ in 0..options.stops {
        model.forget();
        let session = Uuid::new_v4();
        wire.expect_ok(&ground::message(server.port(), session)).await?;
        model.asked().await?;
        tokio::time::sleep(BEFORE_STOP).await;
        let stopped = clock::now();
        wire.expect_ok(&ground::stop(server.port(), session)).await?;
        ours.between(stopped, closed(&mut model).await?);

        let stream = Stream::open(model.port(), &model.request(), Writer::Model).await?;
        model.asked().await?;
        tokio::time::sleep(BEFORE_STOP).await;
        let hung_up = clock::now();
        drop(stream);
        direct.between(hung_up, closed(&mut model).await?);
    }
    server.kill().await?;
    Ok((ours, direct))
}

async fn closed(model: &mut Model) -> Result<u64> {
    let closed = tokio::time::timeout(Duration::from_secs(10), model.hung_up()).await;
    closed.context("the provider's socket stays open")?
}
