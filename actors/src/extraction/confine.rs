//! Gives up what a process could do harm with, for good.
//!
//! Limits of the system first (memory, processor time, files, processes, dumps), which every Unix has; on Linux then a list of
//! the few system calls that computing needs. Whatever is not on it — to open, connect, start, look at another process —
//! fails with `EPERM`. The list says more than Landlock could, which speaks of files and of some sockets only, and is in every
//! kernel. Where anything of this cannot be had, nothing is read.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::child::Bounds;

/// Confines this process, which must have no other thread.
pub(super) fn confine(bounds: Bounds) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    limit(Resource::As, linux::address_space()?.saturating_add(bounds.memory_mib.saturating_mul(1024 * 1024)), 0)?;
    // One second more until the end without a word: the first tells that it was the time.
    limit(Resource::Cpu, bounds.cpu_seconds, 1)?;
    limit(Resource::Fsize, 0, 0)?;
    limit(Resource::Nproc, 0, 0)?;
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Nofile, 0, 0)?;
    #[cfg(target_os = "linux")]
    linux::confine()?;
    Ok(())
}

fn limit(resource: Resource, soft: u64, grace: u64) -> io::Result<()> {
    // Whoever started the server may hold it to less, which nobody but the superuser can raise.
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let (soft, hard) = (soft.min(most), soft.saturating_add(grace).min(most));
    Ok(setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) })?)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::io;

    use rustix::param::page_size;
    use rustix::process::{DumpableBehavior, getpid, set_dumpable_behavior};
    use rustix::thread::set_no_new_privs;
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
        TargetArch, apply_filter,
    };

    #[cfg(target_arch = "x86_64")]
    const ARCH: TargetArch = TargetArch::x86_64;
    #[cfg(target_arch = "aarch64")]
    const ARCH: TargetArch = TargetArch::aarch64;

    /// Memory, the two open streams, signals of its own, randomness and time, and the end.
    const ALLOWED: &[i64] = &[
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_mmap,
        libc::SYS_mremap,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_getrandom,
        libc::SYS_clock_gettime,
        libc::SYS_sched_yield,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];

    /// Bytes of address space this process has now: mostly the program itself.
    pub(super) fn address_space() -> io::Result<u64> {
        let pages = std::fs::read_to_string("/proc/self/statm")?;
        let pages: u64 = pages.split(' ').next().and_then(|pages| pages.parse().ok()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "/proc/self/statm does not tell the size of the process")
        })?;
        Ok(pages.saturating_mul(page_size() as u64))
    }

    pub(super) fn confine() -> io::Result<()> {
        // No debugger of the same user, and no dump to a program that collects them.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        set_no_new_privs(true)?;
        apply_filter(&filter().map_err(io::Error::other)?).map_err(io::Error::other)
    }

    fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
        // How a process ends itself when it is out of memory; it may signal no other.
        let me = u64::try_from(getpid().as_raw_nonzero().get()).unwrap_or_default();
        let to_me = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, me)?;
        rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![to_me])?]);
        let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        SeccompFilter::new(rules, refused, SeccompAction::Allow, ARCH)?.try_into()
    }
}
