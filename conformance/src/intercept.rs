//! Every system call of a program and its children, before it is made: it goes on, fails, or is the last.
//!
//! The kernel asks (`seccomp_unotify(2)`) about all calls but those that concern nothing except the process itself. The
//! program runs at nearly full speed, and is counted as one whatever it starts; to trace it by strace takes longer than
//! its own work.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc::{self, c_long};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use podwire_net::intercept::{Filter, Listener};

use crate::sys;

/// A system call that is about to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The thread that makes it, which waits until it is answered.
    pub(crate) asker: u32,
    /// Which one.
    pub(crate) number: c_long,
    /// With what.
    pub(crate) args: [u64; 6],
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is made.
    Goes,
    /// It is not made, and gives this.
    Fails(Errno),
    /// It is not made, and the process is killed.
    Killed,
}

/// Memory, threads, signals, clocks and identity of the process itself; what puts it into the world and takes it out. A
/// descriptor is closed even where that fails, and a call that is not made would leave it open, which the kernel never does.
const OWN: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_futex,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrandom,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_uname,
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_close,
    libc::SYS_dup3,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
];

/// How long a program may go without a system call, and how long one that outlives the program that started it.
const PATIENCE: u16 = 30_000;
const LAST: u16 = 100;

/// Has `command` start so that it is asked about; [`decide`] has to answer.
pub(crate) fn prepare(command: &mut Command) {
    Filter::passing(OWN).lay_on(command);
}

/// Decides about each call of `child` and of what it starts, until all of them have ended.
pub(crate) fn decide(child: &mut Child, fate: impl FnMut(&Moment) -> Fate) -> Result<()> {
    let decided = fetch(child.id()).and_then(|(listener, process)| answer(&listener, &process, Some(child), fate));
    if decided.is_err() {
        // It would wait for an answer for ever.
        child.kill().ok();
    }
    decided
}

/// The same for a program that others wait for, until it has ended. It may do nothing for as long as it likes.
pub(crate) fn decide_beside(process: u32, fate: impl FnMut(&Moment) -> Fate) -> Result<()> {
    let (listener, process) = fetch(process)?;
    answer(&listener, &process, None, fate)
}

/// The listener, and a descriptor that tells when the process has ended.
fn fetch(process: u32) -> Result<(Listener, OwnedFd)> {
    let process = sys::process_handle(process).context("pidfd")?;
    Ok((Listener::of(process.as_fd()).context("seccomp: listener")?, process))
}

fn answer(
    listener: &Listener,
    process: &OwnedFd,
    mut child: Option<&mut Child>,
    mut fate: impl FnMut(&Moment) -> Fate,
) -> Result<()> {
    let (mut has_ended, mut askers) = (false, BTreeSet::new());
    loop {
        let mut ready = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if !has_ended {
            ready.push(PollFd::new(process.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut ready, if has_ended { LAST } else { PATIENCE }) {
            Err(Errno::EINTR) => continue,
            Ok(0) if !has_ended && child.is_none() => continue,
            Ok(0) if !has_ended => bail!("hangs: no system call for {PATIENCE} ms"),
            Ok(0) if askers.iter().all(|asker| is_gone(*asker)) => return Ok(()),
            other => other.context("seccomp: wait")?,
        };
        let events = ready[0].revents().unwrap_or(PollFlags::empty());
        if events.contains(PollFlags::POLLIN) {
            let Some(question) = listener.receive().context("seccomp: receive")? else { continue };
            let asker = Pid::from_raw(i32::try_from(question.asker)?);
            askers.insert(asker);
            let moment = Moment { asker: question.asker, number: question.number, args: question.args };
            let errno = match fate(&moment) {
                Fate::Goes => None,
                Fate::Fails(errno) => Some(errno),
                Fate::Killed => {
                    // It may have been killed by somebody else.
                    kill(asker, Signal::SIGKILL).ok();
                    continue;
                }
            };
            listener.answer(&question, errno).context("seccomp: answer")?;
        } else if events.contains(PollFlags::POLLHUP) {
            // Nobody is left who could ask. Kernels before 6.11 say so only once everybody has been waited for.
            return Ok(());
        } else if !has_ended && ready[1].revents().is_some_and(|events| !events.is_empty()) {
            let Some(child) = &mut child else { return Ok(()) };
            child.wait().context("wait")?;
            has_ended = true;
        }
    }
}

/// Whether a process or thread has ended. What outlives its parent is this process's to wait for, the first of a sandbox.
fn is_gone(asker: Pid) -> bool {
    match waitpid(asker, Some(WaitPidFlag::WNOHANG)) {
        Ok(status) => status != WaitStatus::StillAlive,
        Err(_) => true,
    }
}
