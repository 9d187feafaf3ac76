//! The embedded database without the server around it: one connection that writes the rows of messages one after the other.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use pglite_oxide::PgliteProxy;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

use super::pgbench::MESSAGES_A_SESSION;
use super::rows::Rows;
use crate::{clock, measure};

/// The embedded database on the data of a server that has ended, opened in this process.
#[derive(Debug)]
pub struct EmbeddedDatabase {
    connection: PgConnection,
    thread: JoinHandle<Result<()>>,
    _socket: TempDir,
}

impl EmbeddedDatabase {
    /// Opens the database in the data folder `data`.
    pub async fn open(data: &Path) -> Result<Self> {
        let socket = tempfile::Builder::new().prefix("sa01-socket-").tempdir()?;
        let listener = UnixListener::bind(socket.path().join(".s.PGSQL.5432"))?;
        let proxy = PgliteProxy::new(data.join("postgres"));
        let thread = std::thread::Builder::new()
            .name("embedded-database".into())
            .spawn(move || proxy.accept_unix_once(&listener).map_err(|error| anyhow!("{error:#}")))?;
        let options = PgConnectOptions::new_without_pgpass()
            .host(&socket.path().to_string_lossy())
            .port(5432)
            .username("postgres")
            .database("postgres")
            .ssl_mode(PgSslMode::Disable);
        let connection = PgConnection::connect_with(&options).await.context("the embedded database does not open")?;
        Ok(Self { connection, thread, _socket: socket })
    }

    /// The rows of some message in it.
    pub async fn rows(&mut self) -> Result<Rows> {
        Rows::read(&mut self.connection).await
    }

    /// Writes messages for a while, each in a transaction, a statement for each row. Messages a second.
    pub async fn write(&mut self, rows: &Rows, time: Duration) -> Result<f64> {
        let mut session = Uuid::new_v4();
        // Prepared statements and pages in memory, as on the other side.
        for seq in 1..=MESSAGES_A_SESSION {
            self.message(rows, session, seq).await?;
        }
        let (began, mut count) = (clock::now(), 0_u64);
        let end = began + u64::try_from(time.as_nanos())?;
        while clock::now() < end {
            let seq = count % MESSAGES_A_SESSION + 1;
            if seq == 1 {
                session = Uuid::new_v4();
            }
            self.message(rows, session, seq).await?;
            count += 1;
        }
        Ok(measure::rate(count, began, clock::now()))
    }

    /// Closes the database.
    pub async fn close(self) -> Result<()> {
        self.connection.close().await?;
        let ended = tokio::task::spawn_blocking(|| self.thread.join()).await?;
        ended.map_err(|_| anyhow!("the thread of the embedded database panicked"))?
    }

    async fn message(&mut self, rows: &Rows, session: Uuid, seq: u64) -> Result<()> {
        let (seq, event) = (i64::try_from(seq)?, Uuid::new_v4());
        let mut transaction = self.connection.begin().await?;
        let envelope = if seq == 1 { CREATE_ENVELOPE } else { ADVANCE_ENVELOPE };
        for statement in [envelope].iter().chain(&ROWS) {
            let [first, second, third] = (statement.texts)(rows);
            sqlx::query(statement.sql)
                .bind(session)
                .bind(seq)
                .bind(event)
                .bind(first)
                .bind(second)
                .bind(third)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// A statement that writes one row: `$1` is the session, `$2` the message's number, `$3` its event; then three texts.
struct Statement {
    sql: &'static str,
    texts: fn(&Rows) -> [&str; 3],
}

const CREATE_ENVELOPE: Statement = Statement {
    sql: "INSERT INTO session_envelopes (
              tenant, session_id, title, title_folded, analysis, owner, epoch, lease_until, last_seq, created_at, updated_at
          )
          VALUES ('public', $1, $4, lower($4), $5::jsonb, $6, 1, now() + interval '30 s', $2, now(), now())",
    texts: |rows| [&rows.title, &rows.analysis, &rows.owner],
};

const ADVANCE_ENVELOPE: Statement = Statement {
    sql: "UPDATE session_envelopes
          SET last_seq = $2, updated_at = now(), owner = $6, lease_until = now() + interval '30 s',
              title = COALESCE(title, $4), title_folded = COALESCE(title_folded, lower($4)), analysis = $5::jsonb
          WHERE tenant = 'public' AND session_id = $1",
    texts: |rows| [&rows.title, &rows.analysis, &rows.owner],
};

const ROWS: [Statement; 5] = [
    Statement {
        sql: "INSERT INTO session_events (
                  tenant, session_id, seq, event_id, turn_seq, type, terminal, occurred_at, payload
              )
              VALUES ('public', $1, $2, $3, $2, 'user', false, now(), $4::jsonb)",
        texts: |rows| [&rows.payload, "", ""],
    },
    Statement {
        sql: "INSERT INTO message_outbox (
                  tenant, session_id, seq, topic, partition_key, payload, dedupe_key, next_attempt_at, created_at, updated_at
              )
              VALUES ('public', $1, $2, $5, $1::text, $4::jsonb, $3::text, now(), now(), now())",
        texts: |rows| [&rows.payload, &rows.topic, ""],
    },
    Statement {
        sql: "INSERT INTO memory_write_outbox (
                  tenant, session_id, seq, payload, idempotency_key, dedupe_key, next_attempt_at, created_at, updated_at
              )
              VALUES ('public', $1, $2, $4::jsonb, $5 || left($3::text, 16), $3::text, now(), now(), now())",
        texts: |rows| [&rows.memory, &rows.memory_key, ""],
    },
    Statement {
        sql: "INSERT INTO turns (tenant, session_id, turn_seq, event_id, attempt, state, started_at, updated_at)
              VALUES ('public', $1, $2, $3, 0, 'queued', now(), now())",
        texts: |_| ["", "", ""],
    },
    Statement {
        sql: "INSERT INTO audit_event (
                  ts, tenant, session_id, request_id, workflow_id, action, resource, target_id, decision, details, ip
              )
              VALUES (now(), 'public', $1, gen_random_uuid()::text, $3::text, $4, $5, $3::text, repeat('0', 64),
                      $6::jsonb, '127.0.0.1')",
        texts: |rows| [&rows.action, &rows.resource, &rows.details],
    },
];
