//! The sections of the configuration that belong to the process itself, with the limits of their values.
//!
//! Their defaults stand in `config/default.toml` only.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use directories::ProjectDirs;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::faults::Faults;
use crate::roles::{Role, Roles};

/// Longest time that any setting in milliseconds may state: a day.
pub(super) const DAY_MS: u64 = 86_400_000;

/// Where the embedded parts keep their files.
#[derive(Debug, Clone, Deserialize)]
pub struct DataSettings {
    /// The folder; absent: the platform's folder for the data of programs.
    pub dir: Option<PathBuf>,
}

impl DataSettings {
    /// The folder in force; `None` where the platform has none and none is set.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        let platforms = || Some(ProjectDirs::from("", "", "somaagent")?.data_dir().to_owned());
        self.dir.clone().or_else(platforms)
    }

    pub(super) fn check(&self, faults: &mut Faults) {
        if self.folder().is_none() {
            faults.add("data.dir", "is not set, and no home folder is known in which data could be kept");
        }
    }
}

/// What the process does, and its listeners.
#[derive(Debug, Clone, Deserialize)]
pub struct ServerSettings {
    /// What it does.
    pub role: Roles,
    /// Address of the API's listener; `localhost` is 127.0.0.1.
    pub host: String,
    /// Its port; 0 takes a free one.
    pub port: u16,
    /// Address of the metrics' listener.
    pub metrics_host: String,
    /// Its port in a process that serves people; 0 or less: there is none.
    pub metrics_port: i32,
    /// Whether the metrics' listener may be reached from other machines, by anybody.
    pub metrics_public: bool,
    /// Its port in a process that only writes memories.
    pub memory_sync_metrics_port: i32,
    /// Its port in a process that only carries records to the log.
    pub outbox_metrics_port: i32,
    /// Its port in a process that only keeps the replica.
    pub replicator_metrics_port: i32,
    /// The version shown to clients.
    pub version: String,
}

impl ServerSettings {
    /// Address of the API's listener.
    ///
    /// # Errors
    /// If `host` is no address; a checked configuration has none of these.
    pub fn address(&self) -> Result<IpAddr, std::net::AddrParseError> {
        parse_host(&self.host)
    }

    /// Address and port of the metrics' listener, if there is to be one, and the variable that sets the port. In a process
    /// of several roles the first one's counts.
    #[must_use]
    pub fn metrics_address(&self) -> Option<(IpAddr, u16, &'static str)> {
        let (_, port, variable) = self.metrics_ports().into_iter().find(|(role, ..)| self.role.has(*role))?;
        let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
        Some((parse_host(&self.metrics_host).ok()?, port, variable))
    }

    const fn metrics_ports(&self) -> [(Role, i32, &'static str); 4] {
        [
            (Role::Gateway, self.metrics_port, "GATEWAY_METRICS_PORT"),
            (Role::MemorySync, self.memory_sync_metrics_port, "MEMORY_SYNC_METRICS_PORT"),
            (Role::Outbox, self.outbox_metrics_port, "OUTBOX_SYNC_METRICS_PORT"),
            (Role::Replicator, self.replicator_metrics_port, "REPLICATOR_METRICS_PORT"),
        ]
    }

    pub(super) fn check(&self, require_auth: bool, faults: &mut Faults) {
        match self.address() {
            Err(_) => faults.add("server.host", format!("{} is not an IP address", self.host)),
            Ok(address) if !address.is_loopback() && self.role.has(Role::Gateway) && !require_auth => faults.add(
                "server.host",
                format!("{address} is not loopback, and nobody would have to prove who they are: that needs GATEWAY_REQUIRE_AUTH=true and a key"),
            ),
            Ok(_) => {}
        }
        match parse_host(&self.metrics_host) {
            Err(_) => faults.add("server.metrics_host", format!("{} is not an IP address", self.metrics_host)),
            Ok(address) if !address.is_loopback() && self.metrics_address().is_some() && !self.metrics_public => faults.add(
                "server.metrics_host",
                format!("{address} is not loopback, and whoever reaches the metrics may read them: GATEWAY_METRICS_PUBLIC=true allows that"),
            ),
            Ok(_) => {}
        }
        for (key, port) in [
            ("server.metrics_port", self.metrics_port),
            ("server.memory_sync_metrics_port", self.memory_sync_metrics_port),
            ("server.outbox_metrics_port", self.outbox_metrics_port),
            ("server.replicator_metrics_port", self.replicator_metrics_port),
        ] {
            faults.range(key, port, i32::MIN..=i32::from(u16::MAX));
        }
        if self.role.has(Role::Gateway) && self.metrics_port > 0 && self.metrics_port == i32::from(self.port) {
            faults.add("server.metrics_port", "is the API's port too; metrics are never served there");
        }
    }
}

/// The database.
#[derive(Debug, Clone, Deserialize)]
pub struct DatabaseSettings {
    /// URL of a PostgreSQL server; absent: the one inside the process.
    pub dsn: Option<SecretString>,
    /// How the connection is guarded, unless the DSN says so: libpq's `sslmode`.
    pub sslmode: Option<String>,
    /// File in PEM of who vouches for the server, or `system`, unless the DSN says so (`sslrootcert`).
    pub tls_ca: Option<String>,
    /// File in PEM of the certificate by which the server knows this program (`sslcert`).
    pub tls_cert: Option<String>,
    /// File in PEM of its key (`sslkey`).
    pub tls_key: Option<String>,
    /// Connections of the pool.
    pub pool_size: u32,
    /// How long a caller waits for a connection.
    pub acquire_timeout_ms: u64,
    /// How long the server works on one statement.
    pub statement_timeout_ms: u64,
}

impl DatabaseSettings {
    pub(super) fn check(&self, faults: &mut Faults) {
        if let Err(error) = self.server() {
            faults.add(error.key, error.what);
        }
        faults.range("database.pool_size", self.pool_size, 2..=1000);
        faults.range("database.acquire_timeout_ms", self.acquire_timeout_ms, 10..=DAY_MS);
        faults.range("database.statement_timeout_ms", self.statement_timeout_ms, 10..=DAY_MS);
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
    /// How long the end may take, but for the database's; turns may go on for nearly as long.
    pub drain_ms: u64,
}

impl ShutdownSettings {
    /// How long the end may take, but for the database's.
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

/// Faults that tests plant. A release build refuses them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct FaultSettings {
    /// Panic in a conversation at this piece of an answer, counted over the process; 0: never.
    pub conversation_panic_at_piece: usize,
    /// How many panics there are, one a piece from that one on.
    pub conversation_panics: usize,
}

impl FaultSettings {
    pub(super) fn check(&self, faults: &mut Faults) {
        if self.conversation_panic_at_piece > 0 && !cfg!(debug_assertions) {
            faults.add("faults.conversation_panic_at_piece", "is for tests of debug builds");
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
    fn hosts_are_addresses_or_localhost() {
        for (host, loopback) in
            [("localhost", true), ("::1", true), ("[::1]", true), ("127.9.9.9", true), ("0.0.0.0", false)]
        {
            assert_eq!(parse_host(host).map(|address| address.is_loopback()), Ok(loopback), "{host}");
        }
        assert!(parse_host("example.com").is_err());
    }
}
