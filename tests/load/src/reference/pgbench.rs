//! `pgbench` writing the rows of messages, one message a transaction, in one prepared statement: the fastest way in which
//! a client of its own for each message can do it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::NamedTempFile;
use tokio::process::Command;

use super::rows::Rows;

/// Messages of one session, as the load on the server has it: the first of them makes the session's envelope.
pub const MESSAGES_A_SESSION: u64 = 16;

/// The rest of the statement, after the envelope. Every value that is one message's own is made by the server.
const ROWS: &str = "
history AS (
    INSERT INTO session_events (tenant, session_id, seq, event_id, turn_seq, type, terminal, occurred_at, payload)
    SELECT 'public', session_id, last_seq, event_id, last_seq, 'user', false, now(), :payload::jsonb FROM message
),
published AS (
    INSERT INTO message_outbox (
        tenant, session_id, seq, topic, partition_key, payload, dedupe_key, next_attempt_at, created_at, updated_at
    )
    SELECT 'public', session_id, last_seq, :topic, session_id::text, :payload::jsonb, event_id::text, now(), now(), now()
    FROM message
),
remembered AS (
    INSERT INTO memory_write_outbox (
        tenant, session_id, seq, payload, idempotency_key, dedupe_key, next_attempt_at, created_at, updated_at
    )
    SELECT 'public', session_id, last_seq, :memory::jsonb, :memory_key || left(event_id::text, 16), event_id::text, now(),
           now(), now()
    FROM message
),
turn AS (
    INSERT INTO turns (tenant, session_id, turn_seq, event_id, attempt, state, started_at, updated_at)
    SELECT 'public', session_id, last_seq, event_id, 0, 'queued', now(), now() FROM message
)
INSERT INTO audit_event (
    ts, tenant, session_id, request_id, workflow_id, action, resource, target_id, decision, details, ip
)
SELECT now(), 'public', session_id, gen_random_uuid()::text, event_id::text, :action, :resource, event_id::text,
       repeat('0', 64), :details::jsonb, '127.0.0.1'
FROM message;";

const CREATED: &str = "
WITH envelope AS (
    INSERT INTO session_envelopes (
        tenant, session_id, title, title_folded, analysis, owner, epoch, lease_until, last_seq, created_at, updated_at
    )
    VALUES (
        'public', lpad(to_hex(:session::bigint), 32, '0')::uuid, :title, lower(:title), :analysis::jsonb, :owner, 1,
        now() + interval '30 s', 1, now(), now()
    )
    RETURNING session_id, last_seq
),";

const ADVANCED: &str = "
WITH envelope AS (
    UPDATE session_envelopes
    SET last_seq = last_seq + 1, updated_at = now(), owner = :owner, lease_until = now() + interval '30 s',
        title = COALESCE(title, :title), title_folded = COALESCE(title_folded, lower(:title)),
        analysis = :analysis::jsonb
    WHERE tenant = 'public' AND session_id = lpad(to_hex(:session::bigint), 32, '0')::uuid
    RETURNING session_id, last_seq
),";

const MESSAGE: &str =
    "\nmessage AS MATERIALIZED (SELECT session_id, last_seq, gen_random_uuid() AS event_id FROM envelope),";

/// The program, and what it writes.
#[derive(Debug)]
pub struct Pgbench {
    program: PathBuf,
    script: NamedTempFile,
    rows: Rows,
}

impl Pgbench {
    /// Finds the program and makes it write `rows`.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn new(rows: Rows) -> Result<Self> {
        let script = NamedTempFile::with_prefix("sa01-pgbench-")?;
        std::fs::write(script.path(), text())?;
        Ok(Self { program: find()?, script, rows })
    }

    /// Runs `clients` for a while on the database of `dsn`, which must have the tables and no rows. Messages a second.
    ///
    /// # Errors
    /// When a transaction fails; the error holds the program's output.
    pub async fn run(&self, dsn: &str, clients: usize, time: Duration) -> Result<f64> {
        let rows = &self.rows;
        let variables = [
            ("owner", &rows.owner),
            ("title", &rows.title),
            ("analysis", &rows.analysis),
            ("payload", &rows.payload),
            ("topic", &rows.topic),
            ("memory", &rows.memory),
            ("memory_key", &rows.memory_key),
            ("action", &rows.action),
            ("resource", &rows.resource),
            ("details", &rows.details),
        ];
        let output = Command::new(&self.program)
            .args(["--no-vacuum", "--protocol=prepared", "--jobs=2", "--define=n=-1"])
            .args(variables.map(|(name, value)| format!("--define={name}={value}")))
            .args([format!("--client={clients}"), format!("--time={}", time.as_secs().max(1))])
            .arg(format!("--file={}", self.script.path().display()))
            .arg(dsn)
            .kill_on_drop(true)
            .output()
            .await
            .context("pgbench does not start")?;
        let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "pgbench failed: {errors}");
        rate_in(&text).with_context(|| format!("pgbench tells no rate: {text}{errors}"))
    }
}

/// The script of one transaction.
fn text() -> String {
    format!(
        "\\set n :n + 1\n\\set session :client_id * 1000000000 + :n / {MESSAGES_A_SESSION}\n\
         \\if :n % {MESSAGES_A_SESSION} = 0{CREATED}{MESSAGE}{ROWS}\n\\else{ADVANCED}{MESSAGE}{ROWS}\n\\endif\n"
    )
}

/// Transactions a second in what the program prints at its end.
fn rate_in(output: &str) -> Option<f64> {
    output.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
}

/// Beside the newest server on this machine, else on the `PATH`.
fn find() -> Result<PathBuf> {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut installed: Vec<(u32, PathBuf)> = installed
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin/pgbench"))))
        .filter(|(_, program)| program.is_file())
        .collect();
    installed.sort();
    if let Some((_, newest)) = installed.pop() {
        return Ok(newest);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("pgbench"))
        .find(|program| program.is_file())
        .context("pgbench is missing: install the package `postgresql`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_from_the_programs_output() {
        let output = "number of transactions actually processed: 9\nlatency average = 9.1 ms\n\
                      initial connection time = 80.1 ms\ntps = 6712.34 (without initial connection time)\n";
        assert_eq!(rate_in(output), Some(6712.34));
        assert_eq!(rate_in("pgbench: error"), None);
    }

    #[test]
    fn one_message_in_sixteen_makes_its_session() {
        let script = text();
        assert!(script.contains("\\if :n % 16 = 0\nWITH envelope AS (\n    INSERT"), "{script}");
        assert_eq!(script.matches("INSERT INTO session_events").count(), 2);
        assert_eq!(script.lines().filter(|line| line.starts_with('\\')).count(), 5);
    }
}
