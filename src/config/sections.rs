//! The sections of the configuration that belong to no room yet, with the limits of their values.
//!
//! Their defaults stand in `config/default.toml` only.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;
use url::Url;

use super::faults::Faults;

/// Longest time that any setting in milliseconds may state: a day.
const DAY_MS: u64 = 86_400_000;

/// Where the embedded parts keep their files.
#[derive(Debug, Clone, Deserialize)]
pub struct DataSettings {
    /// The folder; absent: the platform's folder for the data of programs.
    pub dir: Option<PathBuf>,
}

/// The listeners and what they accept.
#[derive(Debug, Clone, Deserialize)]
pub struct ServerSettings {
    /// Address of the API's listener; `localhost` is 127.0.0.1.
    pub host: String,
    /// Its port; 0 takes a free one.
    pub port: u16,
    /// Address of the metrics' listener.
    pub metrics_host: String,
    /// Its port; 0 or less: there is none.
    pub metrics_port: i32,
    /// Whether callers must prove who they are.
    pub require_auth: bool,
    /// Tenant of callers that name none.
    pub default_tenant: String,
    /// The version shown to clients.
    pub version: String,
    /// Longest body of a request in bytes.
    pub body_limit_bytes: usize,
    /// Longest message of a user in bytes of UTF-8.
    pub message_limit_bytes: usize,
    /// How long a client may take for the head of its request.
    pub header_timeout_ms: u64,
    /// How long a connection may rest between two requests.
    pub keep_alive_ms: u64,
}

impl ServerSettings {
    /// Address of the API's listener.
    ///
    /// # Errors
    /// If `host` is no address; a checked configuration has none of these.
    pub fn address(&self) -> Result<IpAddr, std::net::AddrParseError> {
        parse_host(&self.host)
    }

    /// Address and port of the metrics' listener, if there is to be one.
    #[must_use]
    pub fn metrics_address(&self) -> Option<(IpAddr, u16)> {
        let port = u16::try_from(self.metrics_port).ok().filter(|port| *port > 0)?;
        Some((parse_host(&self.metrics_host).ok()?, port))
    }

    pub(super) fn check(&self, faults: &mut Faults) {
        match self.address() {
            Err(_) => faults.add("server.host", format!("{} is not an IP address", self.host)),
            Ok(address) if !address.is_loopback() => faults.add(
                "server.host",
                format!("{address} is not loopback; callers cannot be authenticated yet, so only this machine may reach the process"),
            ),
            Ok(_) => {}
        }
        if parse_host(&self.metrics_host).is_err() {
            faults.add("server.metrics_host", format!("{} is not an IP address", self.metrics_host));
        }
        faults.range("server.metrics_port", self.metrics_port, i32::MIN..=i32::from(u16::MAX));
        if self.metrics_port > 0 && self.metrics_port == i32::from(self.port) {
            faults.add("server.metrics_port", "is the API's port too; metrics are never served there");
        }
        if self.require_auth {
            faults.add(
                "server.require_auth",
                "callers cannot be authenticated yet; unset it, and the process serves this machine only",
            );
        }
        if self.default_tenant.trim().is_empty() {
            faults.add("server.default_tenant", "is empty");
        }
        faults.range("server.body_limit_bytes", self.body_limit_bytes, 1024..=1 << 30);
        faults.range("server.message_limit_bytes", self.message_limit_bytes, 1..=self.body_limit_bytes);
        faults.range("server.header_timeout_ms", self.header_timeout_ms, 100..=DAY_MS);
        faults.range("server.keep_alive_ms", self.keep_alive_ms, 100..=DAY_MS);
    }
}

/// The database.
#[derive(Debug, Clone, Deserialize)]
pub struct DatabaseSettings {
    /// URL of a PostgreSQL server; absent: the one inside the process.
    pub dsn: Option<SecretString>,
    /// Connections of the pool.
    pub pool_size: u32,
    /// How long a caller waits for a connection.
    pub acquire_timeout_ms: u64,
    /// How long the server works on one statement.
    pub statement_timeout_ms: u64,
}

impl DatabaseSettings {
    pub(super) fn check(&self, faults: &mut Faults) {
        if let Some(dsn) = &self.dsn
            && let Err(what) = parse_dsn(dsn.expose_secret())
        {
            faults.add("database.dsn", what);
        }
        faults.range("database.pool_size", self.pool_size, 2..=1000);
        faults.range("database.acquire_timeout_ms", self.acquire_timeout_ms, 10..=DAY_MS);
        faults.range("database.statement_timeout_ms", self.statement_timeout_ms, 10..=DAY_MS);
    }
}

/// Reads a database URL. The text of a fault never repeats it: it may hold a password.
///
/// # Errors
/// What is wrong with it.
pub fn parse_dsn(dsn: &str) -> Result<PgConnectOptions, &'static str> {
    let url = Url::parse(dsn).map_err(|_| "is not a URL")?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err("must start with postgres:// or postgresql://");
    }
    dsn.parse().map_err(|_| "has a part that PostgreSQL does not know")
}

/// Conversations as long as they live in memory.
#[derive(Debug, Clone, Deserialize)]
pub struct SessionsSettings {
    /// Rest after which a conversation leaves memory.
    pub idle_ms: u64,
    /// How long an owner of sessions may be silent before another may take them.
    pub lease_ms: u64,
    /// Posts waiting in one conversation's mailbox.
    pub posts_capacity: usize,
    /// Messages waiting for their turn in one session.
    pub queue_max: usize,
}

impl SessionsSettings {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.range("sessions.idle_ms", self.idle_ms, 10..=DAY_MS);
        faults.range("sessions.lease_ms", self.lease_ms, 1000..=DAY_MS);
        faults.range("sessions.posts_capacity", self.posts_capacity, 1..=65_536);
        faults.range("sessions.queue_max", self.queue_max, 0..=1024);
    }
}

/// Turns: how often and how long they are tried.
#[derive(Debug, Clone, Deserialize)]
pub struct TurnsSettings {
    /// Attempts of one turn.
    pub max_attempts: u32,
    /// Age after which an interrupted turn is given up.
    pub resume_within_ms: u64,
    /// Turns running at a time in this process.
    pub max_running: usize,
    /// How often turns without a live owner are looked for.
    pub sweep_ms: u64,
    /// How long a turn waits for its memories.
    pub recall_deadline_ms: u64,
}

impl TurnsSettings {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.range("turns.max_attempts", self.max_attempts, 1..=100);
        faults.range("turns.resume_within_ms", self.resume_within_ms, 1000..=30 * DAY_MS);
        faults.range("turns.max_running", self.max_running, 1..=1_000_000);
        faults.range("turns.sweep_ms", self.sweep_ms, 50..=DAY_MS);
        faults.range("turns.recall_deadline_ms", self.recall_deadline_ms, 1..=DAY_MS);
    }
}

/// The group commit.
#[derive(Debug, Clone, Deserialize)]
pub struct JournalSettings {
    /// Appends waiting for a commit.
    pub capacity: usize,
    /// Appends of one commit.
    pub batch_max: usize,
    /// Bytes of one commit.
    pub batch_max_bytes: usize,
    /// How long a commit may take before its outcome is unknown.
    pub commit_timeout_ms: u64,
}

impl JournalSettings {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.range("journal.capacity", self.capacity, 1..=1_000_000);
        faults.range("journal.batch_max", self.batch_max, 1..=10_000);
        faults.range("journal.batch_max_bytes", self.batch_max_bytes, 1024..=256 << 20);
        faults.range("journal.commit_timeout_ms", self.commit_timeout_ms, 10..=DAY_MS);
    }
}

/// The event streams.
#[derive(Debug, Clone, Deserialize)]
pub struct SseSettings {
    /// Time between two heartbeats.
    pub heartbeat_seconds: u64,
    /// Whether there are no streams at all.
    pub disabled: bool,
    /// Frames a subscriber may be behind.
    pub buffer: usize,
}

impl SseSettings {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.range("sse.heartbeat_seconds", self.heartbeat_seconds, 1..=3600);
        faults.range("sse.buffer", self.buffer, 1..=65_536);
    }
}

/// The offline responder.
#[derive(Debug, Clone, Deserialize)]
pub struct ResponderSettings {
    /// Rest between two words of an answer.
    pub token_delay_ms: u64,
}

impl ResponderSettings {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.range("responder.token_delay_ms", self.token_delay_ms, 0..=60_000);
    }
}

/// Deadlines of the start.
#[derive(Debug, Clone, Deserialize)]
pub struct BootSettings {
    /// Of each step but the migrations.
    pub step_ms: u64,
    /// Of the migrations, which may have to move data.
    pub migrations_ms: u64,
}

impl BootSettings {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.range("boot.step_ms", self.step_ms, 10..=DAY_MS);
        faults.range("boot.migrations_ms", self.migrations_ms, 10..=DAY_MS);
    }
}

/// The end of the process.
#[derive(Debug, Clone, Deserialize)]
pub struct ShutdownSettings {
    /// How long turns may go on.
    pub drain_ms: u64,
}

impl ShutdownSettings {
    /// How long turns may go on.
    #[must_use]
    pub const fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    pub(super) fn check(&self, faults: &mut Faults) {
        faults.range("shutdown.drain_ms", self.drain_ms, 0..=DAY_MS);
    }
}

/// The log.
#[derive(Debug, Clone, Deserialize)]
pub struct LogSettings {
    /// Least level that is written, and exceptions by module: `info,sqlx=warn`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, else JSON.
    Auto,
    /// One JSON object a line.
    Json,
    /// Text for people.
    Human,
}

impl LogSettings {
    pub(super) fn check(&self, faults: &mut Faults) {
        if let Err(part) = crate::telemetry::filter(&self.level) {
            faults.add("log.level", format!("`{part}` is no level (error, warn, info, debug, trace, off)"));
        }
    }
}

fn parse_host(host: &str) -> Result<IpAddr, std::net::AddrParseError> {
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(IpAddr::from([127, 0, 0, 1]));
    }
    host.trim_matches(['[', ']']).parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_faulty_dsn_is_refused_without_being_repeated() {
        for dsn in
            ["me:hidden@h/d", "mysql://me:hidden@h/d", "postgres://me:hidden@h:port/d", "postgres://h/d?sslmode=odd"]
        {
            let what = parse_dsn(dsn).err();
            assert!(what.is_some_and(|what| !what.contains("hidden")), "{dsn}: {what:?}");
        }
        assert!(parse_dsn("postgresql://me:hidden@127.0.0.1:5432/d?sslmode=disable").is_ok());
    }

    #[test]
    fn hosts_are_addresses_or_localhost() {
        for (host, loopback) in
            [("localhost", true), ("::1", true), ("[::1]", true), ("127.9.9.9", true), ("0.0.0.0", false)]
        {
            assert_eq!(parse_host(host).map(|address| address.is_loopback()), Ok(loopback), "{host}");
        }
        assert!(parse_host("example.com").is_err());
    }
}
