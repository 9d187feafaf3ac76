//! How fast the replica follows the log, beside inserts of the same rows, and how far it is behind while memories come in.

use anyhow::{Result, ensure};
use serde_json::json;
use somaagent_test_services::kafka::{Kafka, Writer};
use somaagent_test_services::postgres::Database;
use sqlx::{Connection as _, Executor as _, PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::binary::Subject;
use crate::clock;
use crate::ground;
use crate::measure::{self, Samples};
use crate::process::Shares;
use crate::report::{Budget, Figure, Report};
use crate::scrape::{LOOK_EVERY, Scrape};

const TOPIC: &str = "memory.wal";

/// Memories of one session.
const ROWS_A_SESSION: usize = 20;

/// Records written to the log at a time, and rows of one statement of the reference: as many as the replicator applies at a time.
const BATCH: u64 = 500;

/// Records a second that the replica must keep up with.
const RATE: u64 = 20_000;

/// Part of the reference's rate that the replicator must reach.
const RATIO: f64 = 0.6;

/// Seconds that the replica may be behind.
const BEHIND: f64 = 1.0;

const APPLIED: &str = r#"memory_replicator_events_total{result="ok"}"#;
const LAG: &str = "memory_replicator_lag_seconds";

/// How much is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Records that lie in the log when the replicator begins
    #[arg(long, default_value_t = Self::FULL.rows)]
    rows: u64,
    /// Seconds for which records come in at the rate of the budget
    #[arg(long, default_value_t = Self::FULL.seconds)]
    seconds: u64,
}

impl Options {
    /// What is measured by default.
    pub const FULL: Self = Self { rows: 300_000, seconds: 20 };
    /// Enough to see that the bench works.
    pub const QUICK: Self = Self { rows: 10_000, seconds: 1 };
}

/// Measures.
pub async fn run(subject: &Subject, options: &Options) -> Result<Report> {
    let mut report = Report::new("replicate");
    let kafka = Kafka::shared()?;
    let port = ground::free_port()?;
    let binary = subject.alone()?.set("SA01_ROLE", "replicator").set("KAFKA_BOOTSTRAP_SERVERS", kafka.address());
    let binary = binary.set("REPLICATOR_METRICS_PORT", &port.to_string());
    let database = ground::tables(&binary).await?;
    let reference = insert(&database, options.rows).await?;
    let mut writer = kafka.writer()?;
    for _ in 0..options.rows / BATCH {
        write(&mut writer).await?;
    }
    let rows = options.rows / BATCH * BATCH;

    let mut server = ground::on(&binary, &database).start().await?;
    let shares = Shares::begin(server.id())?;
    let mut scrape = Scrape::connect(port).await?;
    let rate = scrape.rate_to(APPLIED, rows).await?;
    report.note(format!("catching up: {}", shares.end()?));

    let shares = Shares::begin(server.id())?;
    let (written, lags) = tokio::try_join!(keep_writing(&mut writer, options.seconds), look(port, options.seconds))?;
    report.note(format!("keeping up: {}", shares.end()?));
    let last = clock::now();
    // The first connection was idle for too long.
    let mut scrape = Scrape::connect(port).await?;
    while scrape.count(APPLIED).await? < rows + written.records {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let rest = clock::millis_between(last, clock::now()) / 1e3;
    server.terminate().await?;

    let caught_up = |name: &str| Figure::new(name, rate, "rows/s");
    #[expect(clippy::cast_precision_loss, reason = "a rate is small")]
    let wanted = RATE as f64;
    report.add(caught_up("catching up").within(Budget::AtLeast(wanted)));
    report.add(caught_up("the same beside inserts").against(reference).within(Budget::RatioAtLeast(RATIO)));
    // The pace is kept by a clock of milliseconds.
    let budget = Budget::AtLeast(0.99 * wanted);
    report.add(Figure::new("records written meanwhile", written.rate, "records/s").within(budget));
    report.add(Figure::new("behind them, worst", lags.max(), "s").within(Budget::AtMost(BEHIND)));
    report.add(Figure::new("behind them, median", lags.median(), "s"));
    report.add(Figure::new("after the last one, all applied", rest, "s").within(Budget::AtMost(BEHIND)));
    report.note(format!("{rows} records of {ROWS_A_SESSION} a session, then {} s of {RATE} a second", options.seconds));
    report.note(format!("reference: INSERT … VALUES of {BATCH} of the same rows at a time by one connection"));
    Ok(report)
}

/// The memory of one message as its columns, and as the record that tells the log of it.
struct Memory {
    session: String,
    event: String,
    payload: String,
}

impl Memory {
    fn of(session: Uuid) -> Self {
        let (session, event) = (session.to_string(), Uuid::new_v4().to_string());
        let payload = json!({
            "id": event, "type": "conversation_event", "role": "user", "content": format!("{event} ").repeat(4),
            "attachments": [], "session_id": session, "persona_id": null,
            "metadata": {"tenant": "public", "agent_profile_id": null},
            "idempotency_key": format!("public/wm/{event}"),
        });
        Self { payload: payload.to_string(), session, event }
    }

    fn record(&self, at: f64) -> Vec<u8> {
        format!(
            r#"{{"type":"memory.write","role":"user","session_id":"{}","persona_id":null,"tenant":"public","payload":{},"result":{{"coordinate":[0.1,0.2,0.3],"request_id":"{}","trace_id":null}},"timestamp":{at}}}"#,
            self.session, self.payload, self.event
        )
        .into_bytes()
    }
}

/// A batch of memories of several sessions.
fn batch() -> Vec<Memory> {
    let mut session = Uuid::new_v4();
    let mut memories = Vec::new();
    for n in 0..usize::try_from(BATCH).unwrap_or_default() {
        if n % ROWS_A_SESSION == 0 {
            session = Uuid::new_v4();
        }
        memories.push(Memory::of(session));
    }
    memories
}

/// Writes a batch of memories into the replica's table again and again; rows a second.
async fn insert(database: &Database, rows: u64) -> Result<f64> {
    let mut connection = PgConnection::connect(&database.dsn()).await?;
    let (began, mut offset) = (clock::now(), 0_i64);
    for _ in 0..rows / BATCH {
        let mut statement = QueryBuilder::<Postgres>::new(
            "INSERT INTO memory_replica (tenant, event_id, session_id, role, coord, request_id, payload, wal_timestamp,
                 topic, partition, \"offset\", sha256, created_at) ",
        );
        let at = seconds();
        statement.push_values(batch(), |mut row, memory| {
            offset += 1;
            row.push_bind("public").push_bind(memory.event.clone()).push_bind(memory.session).push_bind("user");
            row.push_bind("0.1,0.2,0.3").push_bind(memory.event).push_bind(memory.payload).push_unseparated("::jsonb");
            row.push_bind(at).push_bind(TOPIC).push_bind(0).push_bind(offset).push_bind(vec![0_u8; 32]).push("now()");
        });
        statement.build().execute(&mut connection).await?;
    }
    let rate = measure::rate(rows / BATCH * BATCH, began, clock::now());
    connection.execute("TRUNCATE memory_replica").await?;
    connection.close().await?;
    Ok(rate)
}

/// Writes a batch of records to the log.
async fn write(writer: &mut Writer) -> Result<()> {
    let at = seconds();
    let records = batch().into_iter().map(|memory| (memory.session.clone(), memory.record(at)));
    writer.append(TOPIC, records.collect()).await
}

/// What was written while the replicator was looked at.
struct Written {
    records: u64,
    rate: f64,
}

/// Writes records at the rate of the budget, a batch at a time.
async fn keep_writing(writer: &mut Writer, seconds: u64) -> Result<Written> {
    let began = clock::now();
    let batches = RATE / BATCH * seconds;
    for n in 0..batches {
        clock::until(began + n * BATCH * 1_000_000_000 / RATE).await;
        write(writer).await?;
    }
    let records = batches * BATCH;
    Ok(Written { records, rate: measure::rate(records, began, clock::now()) })
}

/// How far the replica says that it is behind, again and again.
async fn look(port: u16, seconds: u64) -> Result<Samples> {
    let mut scrape = Scrape::connect(port).await?;
    let end = clock::now() + seconds * 1_000_000_000;
    let mut lags = Samples::default();
    while clock::now() < end {
        tokio::time::sleep(LOOK_EVERY).await;
        lags.push(scrape.value(LAG).await?);
    }
    ensure!(lags.len() > 0, "nobody looked");
    Ok(lags)
}

/// Seconds since 1970.
fn seconds() -> f64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64())
}
