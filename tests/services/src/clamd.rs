//! A real clamd for tests, with signatures of our own.
//!
//! The program is the one that `SA01_TEST_CLAMD` names, else that of this machine. Each that is started lives in a folder of its
//! own on a free port. It has no signatures but those of [`Clamd::sign`], of which [`eicar`] is the first: no database has to be
//! fetched.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::lock::locked;
use crate::port;

/// The variable that names the program.
const VARIABLE: &str = "SA01_TEST_CLAMD";

/// What a clamd started here calls EICAR's test string: signatures that are nobody's have an ending.
pub const EICAR: &str = "Eicar-Test-Signature.UNOFFICIAL";

/// Runs clamd and ends it when its own standard input ends, which happens at the latest with the test process. A line on the
/// input is a signal to send instead, and clamd's end, if that is one, is told.
const KEEPER: &str = r#"
folder=$1; shift
"$@" </dev/null >>"$folder/log" 2>&1 & server=$!
while read -r signal; do
    kill -"$signal" "$server"
    case $signal in KILL | TERM) wait "$server" 2>/dev/null; echo ended; exit 0 ;; *) echo sent ;; esac
done
kill -KILL "$server"; wait "$server" 2>/dev/null; rm -rf "$folder"
"#;

const START_WITHIN: Duration = Duration::from_mins(3);

/// A zip with one compressed file, `eicar.com`: the bytes of EICAR's test string are nowhere in it.
const ZIP: &str = concat!(
    "504b0304140000000800000021503ccf516846000000440000000900000065696361722e636f6d8b30f5570c5075700c88368909888a30",
    "35d10888d3347776d634af5571f574760cd20d0e71f473710c72d175f40bf10cf30c0a0dd60d710d0ed175f3f4715554f1d0f6d0020050",
    "4b01021403140000000800000021503ccf5168460000004400000009000000000000000000000080010000000065696361722e636f6d50",
    "4b05060000000001000100370000006d0000000000",
);

/// EICAR's test string from its end to its beginning: in its right order scanners would find it in this file.
const BACKWARDS: &[u8] = br"*H+H$!ELIF-TSET-SURIVITNA-DRADNATS-RACIE$}7)CC7)^P(45XZP\4[PA@%P!O5X";

/// EICAR's test string.
#[must_use]
pub fn eicar() -> Vec<u8> {
    BACKWARDS.iter().rev().copied().collect()
}

/// A zip file in which EICAR's test string is compressed.
#[must_use]
pub fn eicar_in_a_zip() -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0);
    ZIP.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// A clamd.
#[derive(Debug)]
pub struct Clamd {
    address: String,
    own: Mutex<Own>,
}

/// The process and its folder.
#[derive(Debug)]
struct Own {
    program: PathBuf,
    folder: PathBuf,
    address: String,
    keeper: Option<Keeper>,
}

#[derive(Debug)]
struct Keeper {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Clamd {
    /// The clamd all tests of this process share; started by the first that asks. Tests must not end it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Clamd>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[])).as_ref().map_err(|error| anyhow!("no clamd for this test: {error:#}"))
    }

    /// Starts one of one's own, with these lines in its configuration before the usual ones, such as `StreamMaxLength 1M`.
    ///
    /// # Errors
    /// When clamd is not installed or does not start; the error ends with its log.
    pub fn start(lines: &[&str]) -> Result<Self> {
        let program = find()?;
        let folder = tempfile::Builder::new().prefix("sa01-clamd-").tempdir()?.keep();
        let port = port::free();
        fs::create_dir(folder.join("db"))?;
        fs::write(folder.join("conf"), configuration(&folder, port, lines))?;
        let address = format!("127.0.0.1:{port}");
        let mut own = Own { program, folder, address: address.clone(), keeper: None };
        own.sign("Eicar-Test-Signature", &eicar())?;
        own.run()?;
        Ok(Self { address, own: Mutex::new(own) })
    }

    /// Where it listens, as `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where it listens.
    ///
    /// # Panics
    /// Never: it was started with a port.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the address was made here")]
    pub fn place(&self) -> (String, u16) {
        let (host, port) = self.address.rsplit_once(':').expect("host:port");
        (host.to_owned(), port.parse().expect("host:port"))
    }

    /// Has bytes found from now on wherever they are in a file, by this name with the ending `.UNOFFICIAL`.
    pub fn sign(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let own = locked(&self.own);
        own.sign(name, bytes)?;
        ask(&own.address, b"zRELOAD\0")?;
        // It goes on with the old signatures until it has read the new ones.
        let deadline = Instant::now() + START_WITHIN;
        while !scanned(&own.address, bytes)?.contains(name) {
            if Instant::now() > deadline {
                bail!("clamd does not know {name} after {START_WITHIN:?}; its log:\n{}", own.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// `kill -9`: open connections are cut. [`Self::restart`] starts it again.
    pub fn kill(&self) -> Result<()> {
        locked(&self.own).end("KILL")
    }

    /// Ends it in order. [`Self::restart`] starts it again.
    pub fn stop(&self) -> Result<()> {
        locked(&self.own).end("TERM")
    }

    /// Starts it again on the same port and with the same signatures.
    pub fn restart(&self) -> Result<()> {
        locked(&self.own).run()
    }

    /// Has it stand still: connections are accepted by the system, and nothing is answered.
    pub fn freeze(&self) -> Result<()> {
        locked(&self.own).signal("STOP")
    }

    /// Has it go on.
    pub fn thaw(&self) -> Result<()> {
        locked(&self.own).signal("CONT")
    }
}

impl Own {
    fn run(&mut self) -> Result<()> {
        if self.keeper.is_some() {
            bail!("clamd runs already");
        }
        let mut child = Command::new("/bin/sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&self.folder)
            .arg(&self.program)
            .arg("--config-file")
            .arg(self.folder.join("conf"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("/bin/sh does not start")?;
        let orders = child.stdin.take().context("no pipe to clamd's keeper")?;
        let answers = BufReader::new(child.stdout.take().context("no pipe from the keeper")?);
        self.keeper = Some(Keeper { child, orders, answers });
        let deadline = Instant::now() + START_WITHIN;
        while ask(&self.address, b"zPING\0").is_err() {
            if Instant::now() > deadline {
                bail!("clamd is not ready after {START_WITHIN:?}; its log:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Adds a signature, which is known after the next start or reload.
    fn sign(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let hex: String = digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect();
        let file = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("db/local.ndb"));
        // Of any kind of file, at any place in it.
        Ok(writeln!(file?, "{name}:0:*:{hex}")?)
    }

    fn signal(&mut self, signal: &str) -> Result<()> {
        let keeper = self.keeper.as_mut().context("clamd does not run")?;
        writeln!(keeper.orders, "{signal}")?;
        keeper.answers.read_line(&mut String::new())?;
        Ok(())
    }

    fn end(&mut self, signal: &str) -> Result<()> {
        self.signal(signal)?;
        if let Some(mut keeper) = self.keeper.take() {
            keeper.child.wait()?;
        }
        Ok(())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        match self.keeper.take() {
            // Closing its input is the order to stop clamd and remove the folder.
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

fn configuration(folder: &Path, port: u16, lines: &[&str]) -> String {
    let user = if rustix::process::getuid().is_root() { "User root\n" } else { "" };
    // Of an option that is given twice the first counts.
    format!(
        "{lines}\n{user}Foreground yes\nTCPSocket {port}\nTCPAddr 127.0.0.1\nDatabaseDirectory {folder}/db\n\
         TemporaryDirectory {folder}\nAlertExceedsMax yes\nStreamMaxLength 100M\n",
        lines = lines.join("\n"),
        folder = folder.display(),
    )
}

/// What clamd answers to a command.
fn ask(address: &str, command: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(START_WITHIN))?;
    stream.write_all(command)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn scanned(address: &str, bytes: &[u8]) -> Result<String> {
    let length = u32::try_from(bytes.len())?.to_be_bytes();
    ask(address, &[b"zINSTREAM\0", &length[..], bytes, &[0; 4]].concat())
}

fn find() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os(VARIABLE).map(PathBuf::from) {
        return if program.is_file() {
            Ok(program)
        } else {
            bail!("{VARIABLE} names no program: {}", program.display())
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let mut programs = folders.map(|folder| folder.join("clamd"));
    programs
        .find(|program| program.is_file())
        .with_context(|| format!("clamd is missing: install the package `clamav-daemon`, or set {VARIABLE}"))
}
