//! How fast memories are exported, and whether the server needs more memory for more of them.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use futures_util::TryStreamExt as _;
use somaagent_test_services::process::Running;
use sqlx::postgres::PgPoolCopyExt as _;
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::binary::Subject;
use crate::clock;
use crate::ground;
use crate::measure::{self, Samples};
use crate::process::{self, Shares};
use crate::report::{Budget, Figure, Report};

/// Bytes read at a time.
const PIECE: usize = 256 << 10;

/// Reads between two looks at the server's memory.
const LOOK_EVERY: usize = 64;

/// Rows of an export that only wakes everything up.
const WARM_UP: u64 = 2_000;

/// Memory that an export may add, in MiB, however many rows it has.
const ADDED_MIB: f64 = 16.0;

/// Rows a second that an export must reach.
const RATE: f64 = 50_000.0;

/// How much is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Rows of an export
    #[arg(long, default_value_t = Self::FULL.rows)]
    rows: u64,
    /// Exports of each side, in turn
    #[arg(long, default_value_t = Self::FULL.rounds)]
    rounds: usize,
}

impl Options {
    /// What is measured by default.
    pub const FULL: Self = Self { rows: 300_000, rounds: 3 };
    /// Enough to see that the bench works.
    pub const QUICK: Self = Self { rows: 10_000, rounds: 1 };
}

/// Measures.
pub async fn run(subject: &Subject, options: &Options) -> Result<Report> {
    let mut report = Report::new("export");
    let port = ground::free_port()?;
    let binary = subject.alone()?.set("GATEWAY_PORT", &port.to_string());
    let binary = binary.set("MEMORY_EXPORT_MAX_ROWS", &options.rows.to_string());
    let (mut server, database) = ground::on_new_database(&binary).await?;
    let pool = database.pool().await?;
    fill(&database.dsn(), options.rows).await?;
    export(port, WARM_UP.min(options.rows), &server).await?;
    let before = resident(&server)?;
    let (mut ours, mut copies, mut highest) = (Samples::default(), Samples::default(), before);
    let shares = Shares::begin(server.id())?;
    for _ in 0..options.rounds {
        copies.push(copy(&pool, options.rows).await?);
        let (rate, most) = export(port, options.rows, &server).await?;
        ours.push(rate);
        highest = highest.max(most);
    }
    let shares = shares.end()?;
    let after = resident(&server)?;
    server.terminate().await?;
    report.add(Figure::new("exported rows", ours.median(), "rows/s").within(Budget::AtLeast(RATE)));
    report.add(Figure::new("the same beside COPY", ours.median(), "rows/s").against(copies.median()));
    let memory = Figure::new("highest memory while exporting", highest, "MiB").against(before);
    report.add(memory.within(Budget::AddsAtMost(ADDED_MIB)));
    report.add(Figure::new("memory afterwards", after, "MiB").against(before));
    report.note(format!("medians of {} exports of {} rows, one at a time", options.rounds, options.rows));
    report.note("reference, rows: COPY (SELECT …) TO STDOUT of the same columns on the same server, by this process");
    report.note("reference, memory: resident, after a small export and before the first large one");
    report.note(shares);
    Ok(report)
}

/// Memories as conversations leave them, straight into the replica.
async fn fill(dsn: &str, rows: u64) -> Result<()> {
    let mut connection = PgConnection::connect(dsn).await?;
    sqlx::query(
        "INSERT INTO memory_replica (
             tenant, event_id, session_id, role, coord, request_id, payload, wal_timestamp, topic, partition, \"offset\",
             sha256, created_at
         )
         SELECT 'public', gen_random_uuid(), md5((n / 20)::text)::uuid, 'user', '0.1,0.2,0.3', gen_random_uuid(),
             jsonb_build_object(
                 'id', gen_random_uuid(), 'type', 'conversation_event', 'role', 'user', 'content', repeat(md5(n::text), 4),
                 'attachments', '[]'::jsonb, 'session_id', md5((n / 20)::text)::uuid, 'persona_id', NULL,
                 'metadata', jsonb_build_object('tenant', 'public', 'agent_profile_id', NULL),
                 'idempotency_key', 'public/wm/' || gen_random_uuid()
             ),
             n, 'memory.wal', 0, n, '\\x00', now()
         FROM generate_series(1, $1) AS n",
    )
    .bind(i64::try_from(rows)?)
    .execute(&mut connection)
    .await?;
    sqlx::query("VACUUM (ANALYZE) memory_replica").execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// Exports `rows` rows and returns rows a second, and the server's highest memory meanwhile, in MiB.
async fn export(port: u16, rows: u64, server: &Running) -> Result<(f64, f64)> {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let path = format!("/v1/memory/export?limit_total={rows}");
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    let began = clock::now();
    socket.write_all(request.as_bytes()).await?;
    let (mut piece, mut end, mut highest) = (vec![0; PIECE], Vec::new(), 0.0_f64);
    for look in 0.. {
        let count = socket.read(&mut piece).await?;
        if count == 0 {
            break;
        }
        if look % LOOK_EVERY == 0 {
            highest = highest.max(resident(server)?);
        }
        end.extend_from_slice(&piece[..count]);
        end.drain(..end.len().saturating_sub(512));
    }
    let seconds = clock::millis_between(began, clock::now()) / 1e3;
    let trailer = format!(r#"{{"type":"trailer","rows":{rows},"#);
    let whole = String::from_utf8_lossy(&end).contains(&trailer);
    ensure!(whole, "an export of {rows} rows did not end as it should");
    Ok((per_second(rows, seconds), highest.max(resident(server)?)))
}

/// The same rows as PostgreSQL gives them away, in rows a second.
async fn copy(pool: &PgPool, rows: u64) -> Result<f64> {
    let sql = format!(
        "COPY (SELECT id, event_id, session_id, persona_id, tenant, role, coord, request_id, trace_id, payload, wal_timestamp,
             created_at FROM memory_replica WHERE tenant = 'public' ORDER BY id DESC LIMIT {rows}) TO STDOUT"
    );
    let began = clock::now();
    let mut lines = pool.copy_out_raw(&sql).await?;
    let mut bytes = 0;
    while let Some(piece) = lines.try_next().await.context("COPY")? {
        bytes += piece.len();
    }
    ensure!(bytes > 0, "COPY gave nothing");
    Ok(per_second(rows, clock::millis_between(began, clock::now()) / 1e3))
}

#[expect(clippy::cast_precision_loss, reason = "rows stay far below 2^53")]
fn per_second(rows: u64, seconds: f64) -> f64 {
    rows as f64 / seconds
}

fn resident(server: &Running) -> Result<f64> {
    Ok(measure::mebibytes(process::resident_bytes(server.id())?))
}
