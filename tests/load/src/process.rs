//! What the kernel knows of a process: memory, processor time, open files.

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::clock::{self, Nanos};

/// The unit of times in `/proc` (`USER_HZ`), the same on every architecture of Linux that has PostgreSQL packages.
const TICKS_A_SECOND: f64 = 100.0;

/// Memory of the process `id` that is in RAM, in bytes.
pub fn resident_bytes(id: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    resident_in(&status).with_context(|| format!("/proc/{id}/status tells no memory"))
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Processor time that the process `id` has used, all threads, in seconds.
fn cpu_seconds(id: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let ticks = ticks_in(&stat).with_context(|| format!("/proc/{id}/stat tells no times"))?;
    #[expect(clippy::cast_precision_loss, reason = "ticks stay far below 2^53")]
    let seconds = ticks as f64 / TICKS_A_SECOND;
    Ok(seconds)
}

/// User and system time of a line of `/proc/<id>/stat` (proc(5): fields 14 and 15; the name may contain anything).
fn ticks_in(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Raises the limit of open files of this process, and of those it starts, to at least `files`.
///
/// # Errors
/// When the system allows fewer.
pub fn allow_open_files(files: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= files) {
        return Ok(());
    }
    let most = limit.maximum.unwrap_or(files);
    ensure!(most >= files, "{files} open files are needed, and the system allows {most} (ulimit -Hn)");
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum })?;
    Ok(())
}

/// Cores that this process may use; 1 if nobody knows.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How the cores were shared out over a period.
#[derive(Debug)]
pub struct Shares {
    began: Nanos,
    ids: [u32; 2],
    cpu: [f64; 2],
}

impl Shares {
    /// Begins a period of this process and the server `id`.
    pub fn begin(id: u32) -> Result<Self> {
        let ids = [std::process::id(), id];
        Ok(Self { began: clock::now(), ids, cpu: [cpu_seconds(ids[0])?, cpu_seconds(ids[1])?] })
    }

    /// Ends it with a sentence about it.
    pub fn end(self) -> Result<String> {
        let seconds = clock::millis_between(self.began, clock::now()) / 1e3;
        let share = |place: usize| -> Result<f64> { Ok((cpu_seconds(self.ids[place])? - self.cpu[place]) / seconds) };
        Ok(format!(
            "processor time, on {} cores that everything here shares: load generator and model {:.2} cores, server {:.2} cores",
            cores(),
            share(0)?,
            share(1)?
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn memory_and_time_are_read_from_what_the_kernel_writes() {
        assert_eq!(resident_in("Name:\tx\nVmPeak:\t 9 kB\nVmRSS:\t    1500 kB\n"), Some(1500 * 1024));
        assert_eq!(resident_in("Name:\tx\n"), None);
        assert_eq!(ticks_in("7 (a b) c) S 1 1 1 0 -1 4194304 100 0 0 0 30 12 0 0 20 0 5 0 100"), Some(42));
        assert_eq!(ticks_in("7 (x"), None);
    }

    #[test]
    fn this_process_has_memory_and_time() {
        assert!(resident_bytes(std::process::id()).unwrap() > 1 << 20);
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
        assert!(Shares::begin(std::process::id()).unwrap().end().unwrap().contains("cores"));
    }

    #[test]
    fn more_files_than_the_system_allows_are_an_error() {
        allow_open_files(16).unwrap();
        if getrlimit(Resource::Nofile).maximum.is_some() {
            assert!(allow_open_files(u64::MAX - 1).unwrap_err().to_string().contains("ulimit"));
        }
    }
}
