//! How fast the outbox is drained, beside a loop that only takes rows away, and whether rows that were sent slow it down.

use anyhow::{Context as _, Result, ensure};
use somaagent_test_services::kafka::Kafka;
use somaagent_test_services::process::Binary;
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};

use crate::binary::Subject;
use crate::clock;
use crate::ground;
use crate::measure;
use crate::process::Shares;
use crate::report::{Budget, Figure, Report};
use crate::scrape::Scrape;

/// Rows of one session, one behind the other.
const ROWS_A_SESSION: u64 = 20;

/// Rows that the reference takes away at a time: as many as the original's relay takes by default.
const REFERENCE_ROWS: i64 = 100;

/// Rows that a round of the relay takes by default. A loop that takes as many is shown too: it is told nothing by a broker, keeps
/// nothing of what it took and writes no new row version, so it is a bound and no budget.
const ROUND_ROWS: i64 = 1_000;

/// Part of the reference's rate that the relay must reach.
const RATIO: f64 = 0.5;

/// Part of its own rate that the relay must keep when the table is full of what was sent.
const KEPT: f64 = 0.9;

const SENT: &str = r#"outbox_sync_publish_total{result="success"}"#;

/// How much is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Rows to be drained
    #[arg(long, default_value_t = Self::FULL.rows)]
    rows: u64,
    /// Sent rows in the table, the second time
    #[arg(long, default_value_t = Self::FULL.sent)]
    sent: u64,
}

impl Options {
    /// What is measured by default.
    pub const FULL: Self = Self { rows: 300_000, sent: 5_000_000 };
    /// Enough to see that the bench works.
    pub const QUICK: Self = Self { rows: 5_000, sent: 20_000 };
}

/// Measures.
pub async fn run(subject: &Subject, options: &Options) -> Result<Report> {
    let mut report = Report::new("relay");
    let kafka = Kafka::shared()?;
    let inside = subject.alone()?.set("SA01_ROLE", "outbox");
    let outside = inside.clone().set("KAFKA_BOOTSTRAP_SERVERS", kafka.address());
    for (log, binary) in [("Kafka", outside), ("a table", inside)] {
        let database = ground::tables(&binary).await?;
        let mut connection = PgConnection::connect(&database.dsn()).await?;
        fill(&mut connection, "pending", options.rows).await?;
        let bound = take_away(&mut connection, options.rows, ROUND_ROWS).await?;
        fill(&mut connection, "pending", options.rows).await?;
        let reference = take_away(&mut connection, options.rows, REFERENCE_ROWS).await?;
        fill(&mut connection, "pending", options.rows).await?;
        let binary = ground::on(&binary, &database);
        let (drained, shares) = drain(&binary, options.rows).await?;
        let figure = Figure::new(format!("drained into {log}"), drained, "rows/s").against(reference);
        report.add(figure.within(Budget::RatioAtLeast(RATIO)));
        report.add(Figure::new(format!("the same, and a loop of {ROUND_ROWS}"), drained, "rows/s").against(bound));
        fill(&mut connection, "sent", options.sent).await?;
        fill(&mut connection, "pending", options.rows).await?;
        let (beside, _) = drain(&binary, options.rows).await?;
        let figure = Figure::new(format!("the same beside {} sent rows", options.sent), beside, "rows/s");
        report.add(figure.against(drained).within(Budget::RatioAtLeast(KEPT)));
        report.note(format!("{log}: {shares}"));
    }
    report.note(format!("{} rows, {ROWS_A_SESSION} of a session, by one process with the role outbox", options.rows));
    report.note(format!(
        "reference of the first: DELETE … SKIP LOCKED RETURNING of {REFERENCE_ROWS} rows at a time by one connection, which tells nobody"
    ));
    report.note("reference of the last: the first");
    Ok(report)
}

/// Rows as conversations leave them.
async fn fill(connection: &mut PgConnection, status: &str, rows: u64) -> Result<()> {
    let statement = sqlx::query(
        "INSERT INTO message_outbox (
             tenant, session_id, seq, topic, partition_key, payload, dedupe_key, status, next_attempt_at, log_partition,
             log_offset, created_at, updated_at
         )
         SELECT 'public', session, n % $2, 'conversation.inbound', session::text,
             jsonb_build_object('event_id', id, 'session_id', session, 'role', 'user', 'message', repeat(md5(n::text), 4)),
             id::text, $3, now(), CASE $3 WHEN 'sent' THEN 0 END, CASE $3 WHEN 'sent' THEN n END, now(), now()
         FROM (
             SELECT n, gen_random_uuid() AS id, md5(($3 || n / $2))::uuid AS session FROM generate_series(1, $1) AS n
         ) AS row",
    );
    let statement = statement.bind(i64::try_from(rows)?).bind(i64::try_from(ROWS_A_SESSION)?).bind(status);
    statement.execute(&mut *connection).await.context("the outbox could not be filled")?;
    connection.execute("VACUUM (ANALYZE) message_outbox").await?;
    Ok(())
}

/// Takes all rows away, so many at a time, and returns rows a second.
async fn take_away(connection: &mut PgConnection, rows: u64, at_a_time: i64) -> Result<f64> {
    let statement = "DELETE FROM message_outbox WHERE id IN (
             SELECT id FROM message_outbox WHERE status = 'pending' ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
         ) RETURNING payload::text";
    let (began, mut taken) = (clock::now(), 0);
    loop {
        let some = sqlx::query(statement).bind(at_a_time).fetch_all(&mut *connection).await?;
        if some.is_empty() {
            break;
        }
        taken += u64::try_from(some.iter().filter(|row| !row.get::<&str, _>(0).is_empty()).count())?;
    }
    ensure!(taken == rows, "{taken} rows of {rows} were taken away");
    Ok(measure::rate(rows, began, clock::now()))
}

/// Lets a process drain the outbox; returns rows a second, and how the cores were shared out meanwhile.
async fn drain(binary: &Binary, rows: u64) -> Result<(f64, String)> {
    let port = ground::free_port()?;
    let mut server = binary.clone().set("OUTBOX_SYNC_METRICS_PORT", &port.to_string()).start().await?;
    let shares = Shares::begin(server.id())?;
    let mut scrape = Scrape::connect(port).await?;
    let rate = scrape.rate_to(SENT, rows).await?;
    let shares = shares.end()?;
    server.terminate().await?;
    Ok((rate, shares))
}
