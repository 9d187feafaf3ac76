//! Real judges of who may do what: OPA and OpenFGA.
//!
//! Each is one program, found by a variable (`SA01_TEST_OPA`, `SA01_TEST_OPENFGA`: its path), else on the `PATH`, else built once
//! with Go into the build's target folder. A server lives on a free port and ends at the latest with the test process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::port;
use crate::wait::eventually;

/// Runs the server and ends it when its own standard input ends.
const KEEPER: &str = r#"
log=$1; shift
"$@" </dev/null >>"$log" 2>&1 & server=$!
read -r _; kill -KILL "$server"; wait "$server" 2>/dev/null
"#;

/// A program that is built with Go, by its version.
struct Program {
    name: &'static str,
    variable: &'static str,
    module: &'static str,
}

const OPA: Program =
    Program { name: "opa", variable: "SA01_TEST_OPA", module: "github.com/open-policy-agent/opa@v1.22.0" };

const OPENFGA: Program = Program {
    name: "openfga",
    variable: "SA01_TEST_OPENFGA",
    module: "github.com/openfga/openfga/cmd/openfga@v1.22.1",
};

/// The program `opa`, for its own tests and checks.
///
/// # Errors
/// It cannot be had.
pub fn opa() -> Result<PathBuf> {
    OPA.find()
}

/// A running judge.
#[derive(Debug)]
pub struct Judge {
    words: Vec<String>,
    url: String,
    health: &'static str,
    folder: TempDir,
    keeper: Option<(Child, ChildStdin)>,
}

impl Judge {
    /// An OPA with the policies at `paths`.
    ///
    /// # Errors
    /// It cannot be had, or does not start; the error ends with its log.
    pub async fn opa(paths: &[&Path]) -> Result<Self> {
        let address = format!("127.0.0.1:{}", port::free());
        let words = ["run", "--server", "--disable-telemetry", "--log-level", "error", "--addr", &address];
        let paths = paths.iter().map(|path| path.to_string_lossy().into_owned());
        let words = words.into_iter().map(str::to_owned).chain(paths);
        Self::new(&OPA, words, &address, "/health").await
    }

    /// An OpenFGA that keeps everything in its memory.
    ///
    /// # Errors
    /// As [`Self::opa`].
    pub async fn openfga() -> Result<Self> {
        let (address, grpc) = (format!("127.0.0.1:{}", port::free()), format!("127.0.0.1:{}", port::free()));
        let words = ["run", "--http-addr", &address, "--grpc-addr", &grpc, "--log-level", "warn"];
        let off = ["--playground-enabled=false", "--metrics-enabled=false", "--profiler-enabled=false"];
        let words = words.into_iter().chain(off).map(str::to_owned);
        Self::new(&OPENFGA, words, &address, "/healthz").await
    }

    async fn new(
        program: &Program,
        words: impl Iterator<Item = String>,
        address: &str,
        health: &'static str,
    ) -> Result<Self> {
        let words = std::iter::once(program.find()?.to_string_lossy().into_owned()).chain(words).collect();
        let folder = tempfile::Builder::new().prefix("sa01-judge-").tempdir()?;
        let mut judge = Self { words, url: format!("http://{address}"), health, folder, keeper: None };
        judge.start().await?;
        Ok(judge)
    }

    /// Where it listens, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Starts it again after its end, on the same port, and waits until it serves.
    ///
    /// # Errors
    /// It ends; the error ends with its log.
    pub async fn start(&mut self) -> Result<()> {
        let log = self.folder.path().join("log");
        let mut child = Command::new("/bin/sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&log)
            .args(&self.words)
            .stdin(Stdio::piped())
            .spawn()
            .context("/bin/sh does not start")?;
        let orders = child.stdin.take().context("no pipe to the judge's keeper")?;
        self.keeper = Some((child, orders));
        let (url, http) = (format!("{}{}", self.url, self.health), reqwest::Client::builder().no_proxy().build()?);
        let looked = eventually("the judge serves or says why not", async || {
            let answer = http.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(())
        });
        let serves = tokio::time::timeout(std::time::Duration::from_mins(2), looked).await;
        if serves.is_err() {
            bail!(
                "{} does not serve; its log:\n{}",
                self.words.join(" "),
                fs::read_to_string(&log).unwrap_or_default()
            );
        }
        Ok(())
    }

    /// Ends it at once, and waits until it is gone.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> Result<()> {
        let (mut child, orders) = self.keeper.take().context("the judge does not run")?;
        drop(orders);
        child.wait()?;
        Ok(())
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        if self.keeper.is_some() {
            let _ = self.kill();
        }
    }
}

impl Program {
    fn find(&self) -> Result<PathBuf> {
        if let Some(given) = std::env::var_os(self.variable) {
            return Ok(given.into());
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        if let Some(found) = std::env::split_paths(&path).map(|dir| dir.join(self.name)).find(|file| file.is_file()) {
            return Ok(found);
        }
        self.build()
    }

    /// Builds it once for all test processes.
    fn build(&self) -> Result<PathBuf> {
        let program = std::env::current_exe()?;
        // Cargo marks its target folder as a cache.
        let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
        let version = self.module.rsplit('@').next().unwrap_or_default();
        let folder = target.map_or_else(std::env::temp_dir, Path::to_owned).join("test-services/go").join(version);
        fs::create_dir_all(&folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;
        let built = folder.join(self.name);
        if !built.is_file() {
            let status = Command::new("go").args(["install", self.module]).env("GOBIN", &folder).status();
            let status = status.with_context(|| format!("Go is missing: install it, or set {}", self.variable))?;
            if !status.success() {
                bail!("go install {} failed: set {} to the program", self.module, self.variable);
            }
        }
        Ok(built)
    }
}
