//! What conversations cost that are live and idle, and how fast one is woken from the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use somaagent_test_services::process::Running;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::binary::Subject;
use crate::clock;
use crate::ground;
use crate::measure::{self, Samples};
use crate::model::{Model, Plan};
use crate::process::{self, Shares};
use crate::report::{Budget, Figure, Report};
use crate::sse::{Stream, Writer};
use crate::wire::{self, Wire};

/// Connections over which conversations are made live.
const CONNECTIONS: usize = 16;

/// Time the server gets to settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(3);

/// How long a conversation stays while wakings are measured.
const IDLE_MS: u64 = 300;

/// Longest wait for conversations to come or go.
const PATIENCE: Duration = Duration::from_mins(1);

/// Budgets are for this many.
const MANY: usize = 100_000;

/// How much is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Conversations
    #[arg(long, default_value_t = Self::FULL.conversations)]
    conversations: usize,
    /// Wakings that are measured
    #[arg(long, default_value_t = Self::FULL.wakings)]
    wakings: usize,
}

impl Options {
    /// What is measured by default.
    pub const FULL: Self = Self { conversations: MANY, wakings: 1_000 };
    /// Enough to see that the bench works.
    pub const QUICK: Self = Self { conversations: 2_000, wakings: 50 };
}

/// Measures.
pub async fn run(subject: &Subject, options: &Options) -> Result<Report> {
    let model = Model::start(Plan::Silent)?;
    let binary = subject.with(&model)?;
    let database = ground::tables(&binary).await?;
    let sessions = Arc::new(seed(&database.dsn(), options.conversations).await?);
    let binary = ground::on(&binary, &database).set("SA01_SESSIONS__LEASE_MS", "3600000");

    let mut report = Report::new("idle");
    let metrics = ground::free_port()?;
    let binary = binary.set("GATEWAY_METRICS_PORT", &metrics.to_string());
    let mut server = binary.clone().set("SA01_SESSIONS__IDLE_MS", "3600000").start().await?;
    live_and_idle(&mut report, &server, metrics, &sessions).await?;
    server.terminate().await?;
    let mut server = binary.set("SA01_SESSIONS__IDLE_MS", &IDLE_MS.to_string()).start().await?;
    let mut plain = PgConnection::connect(&database.dsn()).await?;
    wakings(&mut report, &server, (metrics, &mut plain), &sessions, options).await?;
    plain.close().await?;
    server.terminate().await?;
    report.note(
        "memory: the server's, resident; each conversation had a turn once, and was made live by asking it to stop",
    );
    report.note(
        "waking: a new stream of a session that is only in the store, from its request on an open connection to its first \
         bytes; it takes ownership of the session, which is a commit (outside PostgreSQL, fsync on), and reads where it stands",
    );
    report.note("a bare commit: one row of the same table, between the wakings, on a connection of its own");
    report.note("reference, waking: the same for a session whose conversation is live");
    Ok(report)
}

async fn live_and_idle(report: &mut Report, server: &Running, metrics: u16, sessions: &Arc<Vec<Uuid>>) -> Result<()> {
    let port = server.port();
    // What is made once, for the first conversation, is no conversation's cost.
    let first = sessions.len().min(100);
    activate(port, sessions, 0..first).await?;
    let before = process::resident_bytes(server.id())?;
    let (shares, began) = (Shares::begin(server.id())?, clock::now());
    activate(port, sessions, first..sessions.len()).await?;
    let rate = measure::rate(u64::try_from(sessions.len() - first)?, began, clock::now());
    report.note(shares.end()?);
    tokio::time::sleep(SETTLE).await;
    let after = process::resident_bytes(server.id())?;
    let live = live(metrics).await?;
    ensure!(live == sessions.len(), "{live} conversations are live of {}", sessions.len());
    let added =
        Figure::new(format!("memory added by {live} live conversations"), measure::mebibytes(after - before), "MiB");
    // The budget is for 100 000.
    report.add(if live >= MANY { added.within(Budget::AtMost(400.0)) } else { added });
    report.add(Figure::new("memory a conversation", measure::kibibytes_each(before, after, live - first), "KiB"));
    report.add(Figure::new("memory before", measure::mebibytes(before), "MiB"));
    report.add(Figure::new(format!("conversations made live, {CONNECTIONS} connections"), rate, "1/s"));
    Ok(())
}

async fn wakings(
    report: &mut Report,
    server: &Running,
    (metrics, plain): (u16, &mut PgConnection),
    sessions: &[Uuid],
    options: &Options,
) -> Result<()> {
    let port = server.port();
    let (mut woken, mut awake, mut commits) = (Samples::default(), Samples::default(), Samples::default());
    // Far from each other in the tables, as sessions are that people come back to.
    let step = (sessions.len() / options.wakings.max(1)).max(1);
    for (n, session) in sessions.iter().step_by(step).take(options.wakings).enumerate() {
        // In turns before and after a waking: a disk may be quick at the first of two commits only.
        if n % 2 == 0 {
            commit(plain, *session, &mut commits).await?;
        }
        let first = timed(port, *session, &mut woken).await?;
        // The first reader keeps the conversation live while the second comes.
        drop(timed(port, *session, &mut awake).await?);
        drop(first);
        if n % 2 == 1 {
            commit(plain, *session, &mut commits).await?;
        }
    }
    gone(metrics).await?;
    // Now from the store again, after conversations that have gone by themselves.
    let mut again = Samples::default();
    for session in sessions.iter().step_by(step).take(options.wakings) {
        drop(timed(port, *session, &mut again).await?);
    }
    for (percent, budget) in [(50, None), (99, Some(Budget::AtMost(5.0)))] {
        let reference = awake.percentile(percent);
        for (name, samples) in [("after a restart", &woken), ("after passivation", &again)] {
            let figure = Figure::new(format!("waking {name} p{percent}"), samples.percentile(percent), "ms");
            report.add(budget.into_iter().fold(figure.against(reference), Figure::within));
        }
        report.add(Figure::new(format!("a bare commit p{percent}"), commits.percentile(percent), "ms"));
    }
    Ok(())
}

/// Changes a row of the table that a waking changes, and nothing that anybody reads, and notes how long that took.
async fn commit(plain: &mut PgConnection, session: Uuid, samples: &mut Samples) -> Result<()> {
    let began = clock::now();
    let update = "UPDATE session_envelopes SET updated_at = updated_at WHERE tenant = 'public' AND session_id = $1";
    sqlx::query(update).bind(session).execute(plain).await?;
    samples.between(began, clock::now());
    Ok(())
}

/// Opens a session's stream and notes how long that took.
async fn timed(port: u16, session: Uuid, samples: &mut Samples) -> Result<Stream> {
    let mut stream = Stream::connect(port, Writer::Server).await?;
    let began = clock::now();
    stream.watch(port, session).await?;
    samples.between(began, clock::now());
    Ok(stream)
}

/// Makes the conversations of `range` live, by asking each for something that needs it and changes nothing.
async fn activate(port: u16, sessions: &Arc<Vec<Uuid>>, range: std::ops::Range<usize>) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(range.start));
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (next, sessions) = (Arc::clone(&next), Arc::clone(sessions));
        clients.spawn(async move {
            let mut wire = Wire::connect(port).await?;
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                match sessions.get(place).filter(|_| place < range.end) {
                    Some(session) => wire.expect_ok(&ground::stop(port, *session)).await?,
                    None => return anyhow::Ok(()),
                }
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(())
}

/// Waits until no conversation is live.
async fn gone(metrics: u16) -> Result<()> {
    let all_gone = async {
        while live(metrics).await? > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, all_gone).await.context("conversations do not go")?
}

/// Conversations that are live, as the server's metrics tell.
async fn live(metrics: u16) -> Result<usize> {
    let mut wire = Wire::connect(metrics).await?;
    wire.expect_ok(&wire::get(metrics, "/metrics")).await?;
    gauge(&wire.text(), "sessions_live").context("the metrics do not tell `sessions_live`")
}

fn gauge(metrics: &str, name: &str) -> Option<usize> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Writes sessions with one answered message each, straight into the tables, and answers their ids.
async fn seed(dsn: &str, count: usize) -> Result<Vec<Uuid>> {
    let mut connection = PgConnection::connect(dsn).await?;
    for statement in SEED {
        sqlx::query(statement).bind(i64::try_from(count)?).execute(&mut connection).await?;
    }
    sqlx::raw_sql("ANALYZE").execute(&mut connection).await?;
    let sessions = sqlx::query_scalar("SELECT session_id FROM session_envelopes").fetch_all(&mut connection).await?;
    connection.close().await?;
    Ok(sessions)
}

const SEED: [&str; 3] = [
    "INSERT INTO session_envelopes (tenant, session_id, title, title_folded, epoch, last_seq, created_at, updated_at)
     SELECT 'public', gen_random_uuid(), 'Seeded ' || n, 'seeded ' || n, 1, 2, now(), now()
     FROM generate_series(1, $1::bigint) AS n",
    "INSERT INTO session_events (
         tenant, session_id, seq, event_id, turn_seq, type, terminal, occurred_at, payload
     )
     SELECT v.tenant, v.session_id, e.seq, gen_random_uuid(), 1, e.type, e.seq = 2, now(),
            jsonb_build_object('type', e.type, 'session_id', v.session_id, 'message', 'seeded', 'metadata', '{}'::jsonb)
     FROM session_envelopes AS v, (VALUES (1, 'user'), (2, 'assistant.final')) AS e(seq, type)
     WHERE $1::bigint > 0",
    "INSERT INTO turns (tenant, session_id, turn_seq, event_id, attempt, state, started_at, updated_at)
     SELECT tenant, session_id, 1, event_id, 1, 'final', now(), now()
     FROM session_events
     WHERE seq = 1 AND $1::bigint > 0",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_read_by_its_whole_name() {
        let metrics = "# HELP sessions_live x\nsessions_live_more 9\nsessions_live 42\n";
        assert_eq!(gauge(metrics, "sessions_live"), Some(42));
        assert_eq!(gauge(metrics, "sessions"), None);
    }
}
