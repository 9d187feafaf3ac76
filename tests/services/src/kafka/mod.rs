//! A real Apache Kafka for tests: one node that is broker and controller at once.
//!
//! Found by `SA01_TEST_KAFKA` (its address; topics must be allowed to be made), else started here from jars that Maven
//! fetches once into the build's target folder. A broker started here lives in a folder of its own on free ports; what it
//! acknowledged survives its `kill -9`, because it is in the system's page cache by then.

mod guarded;
mod records;
mod writer;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rdkafka::ClientConfig;

use self::guarded::Guarded;
pub use self::guarded::{GUEST, GUEST_PASSWORD, Guard, WRITER, WRITER_PASSWORD};
pub use self::records::Kept;
pub use self::writer::Writer;
use crate::lock::locked;
use crate::papers::Papers;
use crate::port;

/// The variable that names a broker to use instead of starting one.
pub const VARIABLE: &str = "SA01_TEST_KAFKA";

/// What the broker is made of.
const PARTS: &str = include_str!("../../pom.xml");

/// Any id will do for a cluster of one.
const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qk";

/// The line of its log with which a broker says that it serves.
const READY: &str = "Kafka Server started";

/// Runs the broker and ends it when its own standard input ends, which happens at the latest with the test process, however
/// that ends. A line on the input is a signal to send instead: the folder then stays, for a restart.
const KEEPER: &str = r#"
folder=$1; shift
"$@" </dev/null >>"$folder/log" 2>&1 & broker=$!
if read -r signal; then
    kill -"$signal" "$broker"; wait "$broker" 2>/dev/null; echo ended; exit 0
fi
kill -KILL "$broker"; wait "$broker" 2>/dev/null; rm -rf "$folder"
"#;

/// Generous: many things start at once on a small machine.
const START_WITHIN: Duration = Duration::from_mins(5);

/// A Kafka broker.
#[derive(Debug)]
pub struct Kafka {
    address: String,
    own: Option<Mutex<Own>>,
}

/// What is known of a broker that was started here.
#[derive(Debug)]
struct Own {
    jars: PathBuf,
    folder: PathBuf,
    guarded: Guarded,
    keeper: Option<Keeper>,
}

/// A second way to a broker, by a port that is not its own.
#[derive(Debug, Clone, Copy)]
pub struct Detour {
    /// The port where the broker itself listens for it.
    pub listens: u16,
    /// The port that clients are told, such as that of a [`crate::proxy::Proxy`] in front of the other.
    pub told: u16,
}

#[derive(Debug)]
struct Keeper {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Kafka {
    /// The broker all tests of this process share; started by the first that asks. Tests must not end it.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Kafka>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| match std::env::var(VARIABLE) {
            Ok(address) => Ok(Self { address, own: None }),
            Err(_) => Self::start(),
        });
        shared.as_ref().map_err(|error| anyhow!("no Kafka for this test: {error:#}"))
    }

    /// Starts a broker of one's own.
    ///
    /// # Errors
    /// When Java or the jars cannot be had, or it does not start; the error ends with its log.
    pub fn start() -> Result<Self> {
        Self::start_with(None, None)
    }

    /// Starts a broker of one's own that is reached on a detour too. Whoever begins there stays on it, because it is what
    /// the broker calls itself there.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_behind(detour: Detour) -> Result<Self> {
        Self::start_with(Some(detour), None)
    }

    /// Starts a broker of one's own that also listens for TLS.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_tls() -> Result<Self> {
        Self::start_with(None, Some(Papers::new()?))
    }

    fn start_with(detour: Option<Detour>, papers: Option<Papers>) -> Result<Self> {
        let jars = jars()?;
        let folder = tempfile::Builder::new().prefix("sa01-kafka-").tempdir()?.keep();
        let (port, guarded) = (port::free(), Guarded::new(papers));
        fs::write(folder.join("properties"), properties(&folder, port, &guarded, detour))?;
        let mut own = Own { jars, folder, guarded, keeper: None };
        own.format()?;
        own.run()?;
        Ok(Self { address: format!("127.0.0.1:{port}"), own: Some(Mutex::new(own)) })
    }

    /// Where clients begin, as `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where clients begin that must say who they are, such as [`GUEST`].
    pub fn guarded_address(&self, guard: Guard) -> Result<String> {
        let port = locked(self.own()?).guarded.port(guard).context("this broker does not listen for TLS")?;
        Ok(format!("127.0.0.1:{port}"))
    }

    /// The PEM file `ca`, `cert` or `key` of a client of a broker that listens for TLS.
    pub fn paper(&self, name: &str) -> Result<PathBuf> {
        let own = locked(self.own()?);
        Ok(own.guarded.papers().context("this broker does not listen for TLS")?.file(name))
    }

    /// `kill -9`, and waits until it is gone. Its data stay for [`Self::restart`].
    pub fn kill9(&self) -> Result<()> {
        locked(self.own()?).kill9()
    }

    /// Starts the killed broker again, on the same port and data, and waits until it serves.
    pub fn restart(&self) -> Result<()> {
        locked(self.own()?).run()
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }

    fn own(&self) -> Result<&Mutex<Own>> {
        self.own.as_ref().context("a broker named by its address is not ours to end")
    }
}

impl Own {
    fn java(&self) -> Vec<String> {
        let jars = format!("{}/*", self.jars.display());
        // Small: many suites run beside it.
        let words = ["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=INFO", "-cp"];
        words.into_iter().map(str::to_owned).chain([jars]).collect()
    }

    fn format(&self) -> Result<()> {
        let words = self.java();
        let output = Command::new(&words[0])
            .args(&words[1..])
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"])
            .arg(self.folder.join("properties"))
            .args(Guarded::users())
            .output()
            .with_context(|| format!("java is missing: install a Java runtime, or set {VARIABLE}"))?;
        if !output.status.success() {
            bail!("the broker's folder cannot be made: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        if self.keeper.is_some() {
            bail!("the broker runs already");
        }
        let earlier = self.log().len();
        let folder = self.folder.to_string_lossy().into_owned();
        let mut child = Command::new("/bin/sh")
            .args(["-c", KEEPER, "keeper", &folder])
            .args(self.java())
            .args(["kafka.Kafka", &format!("{folder}/properties")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("/bin/sh does not start")?;
        let orders = child.stdin.take().context("no pipe to the broker's keeper")?;
        let answers = BufReader::new(child.stdout.take().context("no pipe from the keeper")?);
        self.keeper = Some(Keeper { child, orders, answers });
        let deadline = Instant::now() + START_WITHIN;
        while !self.log().get(earlier..).is_some_and(|log| log.contains(READY)) {
            if Instant::now() > deadline {
                bail!("the broker is not ready after {START_WITHIN:?}; its log:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn log(&self) -> String {
        fs::read(self.folder.join("log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    fn kill9(&mut self) -> Result<()> {
        let mut keeper = self.keeper.take().context("the broker does not run")?;
        writeln!(keeper.orders, "KILL")?;
        let mut answer = String::new();
        keeper.answers.read_line(&mut answer)?;
        keeper.child.wait()?;
        Ok(())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        match self.keeper.take() {
            // Closing its input is the order to end the broker and remove the folder.
            Some(Keeper { mut child, orders, .. }) => {
                drop(orders);
                let _ = child.wait();
            }
            None => {
                let _ = fs::remove_dir_all(&self.folder);
            }
        }
    }
}

fn properties(folder: &Path, port: u16, guarded: &Guarded, detour: Option<Detour>) -> String {
    let controller = port::free();
    let data = folder.join("data");
    let around = |to: fn(Detour) -> u16| detour.map(|detour| format!(",DETOUR://127.0.0.1:{}", to(detour)));
    let (listens, told) = (around(|detour| detour.listens), around(|detour| detour.told));
    let (listens, told) = (listens.unwrap_or_default(), told.unwrap_or_default());
    let doors = guarded.listeners();
    let mut lines = vec![
        "process.roles=broker,controller".to_owned(),
        "node.id=1".to_owned(),
        format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
        format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{doors}{listens}"),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}{doors}{told}"),
        format!(
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,DETOUR:PLAINTEXT,CONTROLLER:PLAINTEXT{}",
            guarded.protocols()
        ),
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
        Guarded::super_users(),
        "controller.listener.names=CONTROLLER".to_owned(),
        "inter.broker.listener.name=PLAINTEXT".to_owned(),
        format!("log.dirs={}", data.display()),
        "num.partitions=3".to_owned(),
        "offsets.topic.num.partitions=4".to_owned(),
        "offsets.topic.replication.factor=1".to_owned(),
        "transaction.state.log.replication.factor=1".to_owned(),
        "transaction.state.log.min.isr=1".to_owned(),
        "group.initial.rebalance.delay.ms=0".to_owned(),
        "group.min.session.timeout.ms=1000".to_owned(),
        "auto.create.topics.enable=false".to_owned(),
        // A broker that comes back is let in only when its earlier life counts as over.
        "broker.session.timeout.ms=1500".to_owned(),
        "broker.heartbeat.interval.ms=300".to_owned(),
    ];
    lines.extend(guarded.properties());
    lines.join("\n")
}

/// The folder of the jars, filled once for all test processes.
fn jars() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    // Cargo marks its target folder as a cache.
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    let cache = target.map_or_else(std::env::temp_dir, Path::to_owned).join("test-services/kafka");
    let jars = cache.join("jars");
    fs::create_dir_all(&cache)?;
    let lock = File::create(cache.join("lock"))?;
    lock.lock()?;
    let kept = fs::read_to_string(cache.join("pom.xml")).is_ok_and(|kept| kept == PARTS);
    if kept && jars.is_dir() {
        return Ok(jars);
    }
    let fetched = cache.join("fetched");
    for folder in [&jars, &fetched] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
    }
    fs::write(cache.join("pom.xml"), PARTS)?;
    let output = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(cache.join("pom.xml"))
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", fetched.display()))
        .output()
        .with_context(|| format!("mvn is missing: install the package `maven`, or set {VARIABLE}"))?;
    if !output.status.success() {
        bail!("the broker's jars cannot be fetched: {}", String::from_utf8_lossy(&output.stdout));
    }
    fs::rename(&fetched, &jars)?;
    Ok(jars)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_killed_broker_comes_back_on_its_port() {
        let kafka = Kafka::start().unwrap();
        TcpStream::connect(kafka.address()).unwrap();
        kafka.kill9().unwrap();
        assert!(TcpStream::connect(kafka.address()).is_err());
        kafka.restart().unwrap();
        TcpStream::connect(kafka.address()).unwrap();
    }
}
