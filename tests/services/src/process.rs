//! The built binary as a child process.
//!
//! The suite passes its path (`env!("CARGO_BIN_EXE_somaagent")`, which exists in integration tests only). The child sees no
//! variable of the test's own environment but `PATH`. Its log is kept and printed when a test fails.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::lock::locked;
use crate::port;
use crate::wait::within;

/// How to start the binary: its path, settings and data folder. Reused for every start of one test.
#[derive(Debug, Clone)]
pub struct Binary {
    path: PathBuf,
    arguments: Vec<String>,
    settings: BTreeMap<String, String>,
    home: Arc<TempDir>,
    user: Option<u32>,
}

impl Binary {
    /// The binary at `path` with a new data folder, any free port, no metrics listener and nothing else configured.
    pub fn new(path: impl AsRef<Path>) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("sa01-data-").tempdir()?;
        let binary = Self {
            path: path.as_ref().to_owned(),
            arguments: Vec::new(),
            settings: BTreeMap::new(),
            home: Arc::new(home),
            user: None,
        };
        let folder = binary.home.path().to_string_lossy().into_owned();
        Ok(binary
            .set("HOME", &folder)
            .set("SA01_DATA_DIR", &format!("{folder}/data"))
            .set("GATEWAY_PORT", "0")
            .set("GATEWAY_METRICS_PORT", "0")
            .set("LOG_LEVEL", "INFO"))
    }

    /// The same binary with a data folder of its own.
    pub fn elsewhere(&self) -> Result<Self> {
        let other = Self::new(&self.path)?;
        let own = ["HOME", "SA01_DATA_DIR", "GATEWAY_PORT"];
        let settings = self.settings.iter().filter(|(name, _)| !own.contains(&name.as_str()));
        Ok(settings.fold(other, |other, (name, value)| other.set(name, value)))
    }

    /// Sets a variable.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The value of a variable that was set.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// Without a variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    /// As another user of the system, who has no folder of this test; only root can do that.
    #[must_use]
    pub fn user(mut self, id: u32) -> Self {
        self.user = Some(id);
        self
    }

    /// On a port that stays the same over restarts.
    #[must_use]
    pub fn fixed_port(self) -> Self {
        self.free_port("GATEWAY_PORT")
    }

    /// Sets a variable to a port on which nobody listens.
    #[must_use]
    pub fn free_port(self, name: &str) -> Self {
        self.set(name, &port::free().to_string())
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// The folder named by `HOME`, unless the test sets another one.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The folder named by `SA01_DATA_DIR`.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.settings.get("SA01_DATA_DIR").map_or_else(|| self.home.path().join("data"), PathBuf::from)
    }

    /// Starts it and waits for the line with its URL.
    ///
    /// # Errors
    /// When it ends instead; the error holds its output.
    ///
    /// # Panics
    /// When neither happens.
    pub async fn start(&self) -> Result<Running> {
        let (mut child, output) = self.spawn()?;
        let mut url = output.url.subscribe();
        let ready = async {
            tokio::select! {
                found = url.wait_for(Option::is_some) => found.ok().and_then(|found| found.clone()),
                _ = child.wait() => None,
            }
        };
        let Some(url) = within("the line with the server's URL", ready).await else {
            let status = child.wait().await?;
            output.ended().await;
            bail!("the binary ended with {status} in place of starting; its output:\n{}", output.text());
        };
        let id = child.id().context("the child has no process id")?;
        Ok(Running { binary: self.clone(), child, id, url, output })
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn run(&self) -> Result<Ended> {
        let (child, output) = self.spawn()?;
        ended(child, &output).await
    }

    /// Runs it, sends it `signal` when `moment` has come, which may be before it is ready, and waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn run_until(&self, moment: impl Future<Output = ()>, signal: Signal) -> Result<Ended> {
        let (child, output) = self.spawn()?;
        moment.await;
        send(child.id(), signal)?;
        ended(child, &output).await
    }

    fn spawn(&self) -> Result<(Child, Arc<Output>)> {
        let mut command = Command::new(&self.path);
        match self.user {
            Some(id) => command.uid(id).gid(id).current_dir("/"),
            None => command.current_dir(self.home.path()),
        };
        let mut child = command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(&self.settings)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} does not start", self.path.display()))?;
        let output = Arc::new(Output::default());
        output.follow(child.stdout.take().context("no pipe from the child")?);
        output.follow(child.stderr.take().context("no pipe from the child")?);
        Ok((child, output))
    }
}

async fn ended(mut child: Child, output: &Output) -> Result<Ended> {
    let status = within("the binary to end", child.wait()).await?;
    output.ended().await;
    Ok(Ended { code: status.code(), signal: status.signal(), output: output.text() })
}

/// Sends a signal to the process with this id, unless it has ended.
fn send(id: Option<u32>, signal: Signal) -> io::Result<()> {
    let id = id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
    Ok(kill_process(id, signal)?)
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Everything it wrote.
    pub output: String,
}

/// What a child wrote, both streams in the order of their lines' arrival.
#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Vec<String>>,
    url: watch::Sender<Option<String>>,
    open: watch::Sender<usize>,
}

impl Output {
    fn follow(self: &Arc<Self>, stream: impl AsyncRead + Unpin + Send + 'static) {
        self.open.send_modify(|open| *open += 1);
        let output = self.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if output.url.borrow().is_none()
                    && let Some(url) = url_in(&line)
                {
                    output.url.send_replace(Some(url));
                }
                locked(&output.lines).push(line);
            }
            output.open.send_modify(|open| *open -= 1);
        });
    }

    async fn ended(&self) {
        let mut open = self.open.subscribe();
        let _ = within("the end of the binary's output", open.wait_for(|open| *open == 0)).await;
    }

    fn text(&self) -> String {
        locked(&self.lines).join("\n")
    }
}

/// The first `http://` URL with a port in a line, without its path.
fn url_in(line: &str) -> Option<String> {
    let start = line.find("http://")?;
    let rest = &line[start + "http://".len()..];
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || ".:-[]".contains(c))).unwrap_or(rest.len());
    let authority = rest[..end].trim_end_matches(['.', ':']);
    let port = authority.rsplit(':').next()?;
    port.parse::<u16>().ok()?;
    Some(format!("http://{authority}"))
}

/// A running child. Killed when dropped; its output is printed when a failing test drops it.
#[derive(Debug)]
pub struct Running {
    binary: Binary,
    child: Child,
    id: u32,
    url: String,
    output: Arc<Output>,
}

impl Running {
    /// Where it listens, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0)
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// How it was started.
    #[must_use]
    pub fn binary(&self) -> &Binary {
        &self.binary
    }

    /// Everything it has written so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        send(Some(self.id), signal)
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        Ok(within("the binary to end", self.child.wait()).await?)
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait().await?;
        Ok(())
    }

    /// `SIGTERM`, and waits for the exit code.
    pub async fn terminate(&mut self) -> Result<Option<i32>> {
        self.signal(Signal::TERM)?;
        Ok(self.wait().await?.code())
    }

    /// Starts it again after its end, with the same data and on the same port. The log of earlier runs is kept.
    pub async fn restart(&mut self) -> Result<()> {
        if self.is_running() {
            bail!("the binary still runs");
        }
        let binary = self.binary.clone().set("GATEWAY_PORT", &self.port().to_string());
        let next = binary.start().await?;
        locked(&next.output.lines).splice(0..0, locked(&self.output.lines).iter().cloned());
        *self = next;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- output of the binary, process {}\n{}\n---", self.id, self.output.text());
        }
    }
}

/// Signals for [`Running::signal`].
pub use rustix::process::Signal as ProcessSignal;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn shell(script: &str) -> Binary {
        Binary::new("/bin/sh").unwrap().argument("-c").argument(script)
    }

    #[test]
    fn the_url_of_the_ready_line_is_found() {
        for (line, url) in [
            ("open http://127.0.0.1:8010/ in a browser", Some("http://127.0.0.1:8010")),
            ("SomaAgent01 is ready: http://localhost:81.", Some("http://localhost:81")),
            ("{\"url\":\"http://127.0.0.1:8010\"}", Some("http://127.0.0.1:8010")),
            ("see http://example.org/help", None),
        ] {
            assert_eq!(url_in(line).as_deref(), url, "{line}");
        }
    }

    #[tokio::test]
    async fn a_child_is_ready_when_it_prints_its_url() {
        let mut child = shell("echo ready at http://127.0.0.1:4242/; sleep 1000").start().await.unwrap();
        assert_eq!((child.url(), child.port()), ("http://127.0.0.1:4242", 4242));
        child.kill().await.unwrap();
        assert!(!child.is_running());
    }

    #[tokio::test]
    async fn a_child_that_ends_first_is_an_error_with_its_output() {
        let error = shell("echo no luck >&2; exit 78").start().await.unwrap_err().to_string();
        assert!(error.contains("no luck") && error.contains("78"), "{error}");
    }

    #[tokio::test]
    async fn a_child_sees_only_what_was_set() {
        let ended = shell("env | cut -d= -f1 | sort | tr '\\n' ' '; exit 3").set("SOME", "thing").run().await.unwrap();
        assert_eq!(ended.code, Some(3));
        assert!(ended.output.contains("SOME") && !ended.output.contains("CARGO"), "{}", ended.output);
    }
}
