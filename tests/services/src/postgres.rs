//! A real PostgreSQL server for tests.
//!
//! Found by `SA01_TEST_DB_DSN` (its user must be allowed to create databases), else on this machine. A server started here
//! lives in a folder of its own on a free port, with synchronous commits and `fsync` on: what it acknowledged survives its
//! crash. It refuses root, so root runs it as the user `postgres`.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use reqwest::Url;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use crate::lock::locked;
use crate::papers::{CLIENT, Papers};
use crate::port;

/// The variable that names a server to use instead of starting one.
pub const VARIABLE: &str = "SA01_TEST_DB_DSN";

/// Runs the server and ends it when its own standard input ends, which happens at the latest with the test process, however
/// that ends. A line on the input is a signal to send instead: the folder then stays, for a restart.
const KEEPER: &str = r#"
folder=$1; shift
"$@" </dev/null >>"$folder/log" 2>&1 & server=$!
if read -r signal; then
    kill -"$signal" "$server"; wait "$server"; echo ended; exit 0
fi
kill -INT "$server"; wait "$server"; rm -rf "$folder"
"#;

const START_WITHIN: Duration = Duration::from_mins(3);

/// A PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    admin: Url,
    own: Option<Mutex<Own>>,
}

/// What is known of a server that was started here.
#[derive(Debug)]
struct Own {
    binaries: PathBuf,
    folder: PathBuf,
    port: u16,
    /// Settings of its own.
    settings: Vec<String>,
    keeper: Option<Keeper>,
}

#[derive(Debug)]
struct Keeper {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// How a server of our own is made to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Open connections are ended, everything is written, the server stops.
    Fast,
    /// All processes end at once, nothing is written: the next start recovers from the write-ahead log.
    Crash,
}

impl Postgres {
    /// The server all tests of this process share; started by the first that asks.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Postgres>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| match std::env::var(VARIABLE) {
            Ok(dsn) => Self::outside(&dsn),
            Err(_) => Self::start(),
        });
        shared.as_ref().map_err(|error| anyhow!("no PostgreSQL for this test: {error:#}"))
    }

    /// A server that runs elsewhere, by the DSN of a user who may create databases.
    pub fn outside(dsn: &str) -> Result<Self> {
        let admin = Url::parse(dsn).with_context(|| format!("{VARIABLE} is no URL"))?;
        Ok(Self { admin, own: None })
    }

    /// Starts a server of one's own.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start; the error ends with its log.
    pub fn start() -> Result<Self> {
        Self::start_with(|_| Ok(Vec::new()))
    }

    /// Starts one that shows the certificate of the server of `papers` to whoever asks for TLS, and that takes [`CLIENT`] by
    /// TLS and the client's certificate only.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_tls(papers: &Papers) -> Result<Self> {
        Self::start_with(|folder| {
            let rules = folder.join("data/pg_hba.conf");
            let others = std::fs::read_to_string(&rules)?;
            let client = format!("hostssl all {CLIENT} all cert\nhostnossl all {CLIENT} all reject\n");
            std::fs::write(&rules, client + &others)?;
            let keep = |name: &str| {
                let kept = folder.join(name);
                std::fs::copy(papers.file(name), &kept)?;
                std::fs::set_permissions(&kept, Permissions::from_mode(0o600))?;
                std::os::unix::fs::chown(&kept, postgres_user()?, None)?;
                anyhow::Ok(kept.display().to_string())
            };
            // One file has both.
            let (server, ca) = (keep("server")?, keep("ca")?);
            Ok(vec![
                "ssl=on".to_owned(),
                format!("ssl_cert_file={server}"),
                format!("ssl_key_file={server}"),
                format!("ssl_ca_file={ca}"),
            ])
        })
    }

    /// Starts one whose folder, with its data, was prepared, which tells its settings.
    fn start_with(prepare: impl FnOnce(&Path) -> Result<Vec<String>>) -> Result<Self> {
        let binaries = find_binaries()?;
        let folder = tempfile::Builder::new().prefix("sa01-postgres-").tempdir()?.keep();
        if let Some(user) = postgres_user()? {
            std::os::unix::fs::chown(&folder, Some(user), None)?;
        }
        init(&binaries, &folder)?;
        let settings = prepare(&folder)?;
        let mut own = Own { binaries, folder, port: port::free(), settings, keeper: None };
        own.run()?;
        let admin = Url::parse(&format!("postgres://postgres@127.0.0.1:{}/postgres", own.port))?;
        Ok(Self { admin, own: Some(Mutex::new(own)) })
    }

    /// Host and port, as a proxy in front of the server needs them.
    pub fn address(&self) -> Result<(String, u16)> {
        let host = self.admin.host_str().context("the DSN names no host")?;
        Ok((host.to_owned(), self.admin.port().unwrap_or(5432)))
    }

    /// The DSN of the administrator's database.
    #[must_use]
    pub fn admin_dsn(&self) -> &str {
        self.admin.as_str()
    }

    /// An empty database nobody else uses. It stays until its server ends, so that a failed test can be looked into.
    pub async fn fresh_database(&self) -> Result<Database> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sa01_test_{}_{number}", std::process::id());
        let mut admin = PgConnection::connect(self.admin.as_str()).await?;
        if self.own.is_none() {
            let drop = format!("DROP DATABASE IF EXISTS {name}");
            sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut admin).await?;
        }
        let create = format!("CREATE DATABASE {name}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut admin).await?;
        admin.close().await?;
        let mut url = self.admin.clone();
        url.set_path(&name);
        Ok(Database { url })
    }

    /// Ends a server that was started here. Its data stay for [`Self::restart`].
    pub fn end(&self, ending: Ending) -> Result<()> {
        locked(self.own()?).end(ending)
    }

    /// Starts the ended server again, on the same port and data.
    pub fn restart(&self) -> Result<()> {
        locked(self.own()?).run()
    }

    fn own(&self) -> Result<&Mutex<Own>> {
        self.own.as_ref().context("a server named by its DSN is not ours to end")
    }
}

impl Own {
    fn run(&mut self) -> Result<()> {
        if self.keeper.is_some() {
            bail!("PostgreSQL runs already");
        }
        let server = unprivileged(&self.binaries.join("postgres"));
        let folder = self.folder.to_string_lossy().into_owned();
        let mut child = Command::new("/bin/sh")
            .args(["-c", KEEPER, "keeper", &folder])
            .args(server)
            .args(["-D", &format!("{folder}/data"), "-p", &self.port.to_string(), "-k", &folder])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=300"])
            .args(["-c", "wal_level=minimal", "-c", "max_wal_senders=0", "-c", "jit=off"])
            .args(["-c", "checkpoint_timeout=1h", "-c", "max_wal_size=4GB"])
            .args(self.settings.iter().flat_map(|setting| ["-c", setting.as_str()]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("/bin/sh does not start")?;
        let orders = child.stdin.take().context("no pipe to the server's keeper")?;
        let answers = BufReader::new(child.stdout.take().context("no pipe from the keeper")?);
        self.keeper = Some(Keeper { child, orders, answers });
        self.wait_until_ready()
    }

    fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        let port = self.port.to_string();
        let ready =
            || Command::new(self.binaries.join("pg_isready")).args(["-q", "-h", "127.0.0.1", "-p", &port]).status();
        while !ready().context("pg_isready does not start")?.success() {
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                bail!("PostgreSQL is not ready after {START_WITHIN:?}; its log:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn end(&mut self, ending: Ending) -> Result<()> {
        let mut keeper = self.keeper.take().context("PostgreSQL does not run")?;
        // QUIT is the server's immediate shutdown: to the data it is a crash, but it waits for its backends, so that a
        // restart does not find the old ones still alive.
        let signal = match ending {
            Ending::Fast => "INT",
            Ending::Crash => "QUIT",
        };
        writeln!(keeper.orders, "{signal}")?;
        let mut answer = String::new();
        keeper.answers.read_line(&mut answer)?;
        keeper.child.wait()?;
        Ok(())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        match self.keeper.take() {
            // Closing its input is the order to stop the server and remove the folder.
            Some(Keeper { mut child, orders, .. }) => {
                drop(orders);
                let _ = child.wait();
            }
            None => {
                let _ = std::fs::remove_dir_all(&self.folder);
            }
        }
    }
}

/// One database of a server.
#[derive(Debug, Clone)]
pub struct Database {
    url: Url,
}

impl Database {
    /// Its DSN, straight to the server.
    #[must_use]
    pub fn dsn(&self) -> String {
        self.url.to_string()
    }

    /// Its DSN by way of a proxy on this machine, which could not read what is encrypted.
    #[must_use]
    pub fn dsn_through(&self, port: u16) -> String {
        let mut url = self.url.clone();
        let _ = url.set_ip_host(Ipv4Addr::LOCALHOST.into());
        let _ = url.set_port(Some(port));
        url.query_pairs_mut().append_pair("sslmode", "disable");
        url.to_string()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.url.path().trim_start_matches('/')
    }

    /// Connections for the test itself, straight to the server.
    pub async fn pool(&self) -> Result<PgPool> {
        Ok(PgPoolOptions::new().max_connections(4).connect(self.url.as_str()).await?)
    }
}

/// The newest server on this machine, else the one on the `PATH`.
fn find_binaries() -> Result<PathBuf> {
    let mut installed: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, folder)| folder.join("initdb").is_file())
        .collect();
    installed.sort();
    if let Some((_, newest)) = installed.pop() {
        return Ok(newest);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .find(|folder| folder.join("initdb").is_file())
        .with_context(|| format!("PostgreSQL is missing: install the package `postgresql`, or set {VARIABLE}"))
}

/// The user id to run the server as; none when we are not root ourselves.
fn postgres_user() -> Result<Option<u32>> {
    if !rustix::process::getuid().is_root() {
        return Ok(None);
    }
    let id = Command::new("id").args(["-u", "postgres"]).output()?;
    let id = String::from_utf8_lossy(&id.stdout);
    let id = id.trim().parse().context("there is no user `postgres` to run PostgreSQL as")?;
    Ok(Some(id))
}

/// The words that start `binary` without root's rights. `setpriv` becomes the server, where `runuser` would stay as its
/// parent: signals must reach the server itself.
fn unprivileged(binary: &Path) -> Vec<String> {
    let mut words = Vec::new();
    if rustix::process::getuid().is_root() {
        words.extend(["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"].map(str::to_owned));
    }
    words.push(binary.to_string_lossy().into_owned());
    words
}

fn init(binaries: &Path, folder: &Path) -> Result<()> {
    let words = unprivileged(&binaries.join("initdb"));
    let output = Command::new(&words[0])
        .args(&words[1..])
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync"])
        .current_dir("/")
        .output()
        .context("initdb does not start")?;
    if !output.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[tokio::test]
    async fn a_commit_survives_the_crash_of_its_server() {
        let postgres = Postgres::start().unwrap();
        let database = postgres.fresh_database().await.unwrap();
        let mut connection = PgConnection::connect(&database.dsn()).await.unwrap();
        sqlx::raw_sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").execute(&mut connection).await.unwrap();

        postgres.end(Ending::Crash).unwrap();
        assert!(PgConnection::connect(&database.dsn()).await.is_err());
        postgres.restart().unwrap();

        let pool = database.pool().await.unwrap();
        let kept: i32 = sqlx::query_scalar("SELECT n FROM kept").fetch_one(&pool).await.unwrap();
        assert_eq!(kept, 7);
    }

    #[tokio::test]
    async fn each_test_gets_a_database_of_its_own() {
        let postgres = Postgres::shared().unwrap();
        let one = postgres.fresh_database().await.unwrap();
        let two = postgres.fresh_database().await.unwrap();
        assert_ne!(one.name(), two.name());
        assert!(one.dsn_through(1).starts_with("postgres://postgres@127.0.0.1:1/"));
    }
}
