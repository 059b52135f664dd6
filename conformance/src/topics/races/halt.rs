//! A call that is halted at one of its steps, so that something can happen meanwhile.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cni::{Call, Output};
use crate::lab::Space;
use crate::topics::{in_proc_locks, node_lock};

/// How long a call may take to come to a step.
const LIMIT: Duration = Duration::from_secs(10);
/// How long somebody else has while a call is halted: long enough for all that does not wait for that call.
const MEANWHILE: Duration = Duration::from_millis(200);
/// How often is looked what has happened.
const PAUSE: Duration = Duration::from_millis(1);

/// Makes the call, halts it when it has sent its `nth` request to the kernel, does `meanwhile`, and lets it go on. Gives how
/// it ended, and what came of `meanwhile`: nothing where the call did not get that far.
pub(super) fn halted<T>(
    dir: &Path,
    call: Call,
    nth: usize,
    meanwhile: impl FnOnce() -> Result<T>,
) -> Result<(Output, Option<T>)> {
    halted_process(dir, call, nth, |_| meanwhile())
}

/// As [`halted`], with the process that is halted.
pub(super) fn halted_process<T>(
    dir: &Path,
    call: Call,
    nth: usize,
    meanwhile: impl FnOnce(Pid) -> Result<T>,
) -> Result<(Output, Option<T>)> {
    let trace = dir.join("halted");
    fs::write(&trace, "").context("trace: empty")?;
    let inject = format!("inject=sendto:signal=SIGSTOP:when={nth}");
    let words = ["strace", "-f", "-qq", "-e", &inject, "-e", "trace=sendto", "-o"].map(OsStr::new);
    let mut done = None;
    let output = call.under(&[&words[..], &[trace.as_os_str()]].concat()).run_beside(|child| {
        let stopped = await_halt(child, &trace)?;
        if let Some(pid) = stopped {
            done = Some(meanwhile(pid));
            kill(pid, Signal::SIGCONT).context("go on")?;
        }
        release_others(child, &trace, stopped)
    })?;
    Ok((output, done.transpose()?))
}

/// Makes `call`, and `other` while it is halted after its `nth` request. An `other` that waits for the halted call goes on
/// after it. Gives how both ended: nothing of the other where the call did not get that far.
pub(super) fn beside(dir: &Path, call: Call, nth: usize, other: &Call) -> Result<(Output, Option<Output>)> {
    thread::scope(|scope| {
        let (output, other) = halted(dir, call, nth, || {
            // The halted call's own, of which a bond has two.
            let before = marks(other.node())?;
            let (running, start) = (scope.spawn(|| other.run()), Instant::now());
            // A DEL leaves none.
            while !other.is("DEL") && !running.is_finished() && start.elapsed() < LIMIT {
                if !marks(other.node())?.is_subset(&before) {
                    break;
                }
                thread::sleep(PAUSE);
            }
            let start = Instant::now();
            while !running.is_finished() && start.elapsed() < MEANWHILE {
                thread::sleep(PAUSE);
            }
            Ok(running)
        })?;
        let other = other.map(|other| other.join().map_err(|_| anyhow!("a thread panicked"))?);
        Ok((output, other.transpose()?))
    })
}

/// The marks of calls on the node, by which ADD and GC know of each other: where each of them is.
///
/// The kernel writes its list of locks page by page, between which it changes: one may be in it twice, or not be in it.
fn marks(node: &Space) -> Result<BTreeSet<String>> {
    // Who comes first makes the file.
    let Ok(file) = fs::metadata(node_lock(node)?) else { return Ok(BTreeSet::new()) };
    let file = in_proc_locks(&file);
    let locks = fs::read_to_string("/proc/locks").context("locks: read")?;
    let marks = locks.lines().filter(|line| line.contains("OFDLCK")).filter_map(|line| line.split_once(&file));
    Ok(marks.map(|(_, place)| place.to_owned()).collect())
}

/// Lets those go on that are halted at their own `nth` request, as a child may be, until all has ended.
fn release_others(child: &mut Child, trace: &Path, first: Option<Pid>) -> Result<()> {
    let mut going: Vec<_> = first.into_iter().collect();
    while child.try_wait()?.is_none() {
        let text = fs::read_to_string(trace).context("trace: read")?;
        for pid in text.lines().filter_map(halted_by) {
            if !going.contains(&pid) {
                // It may have been killed since.
                let _ = kill(pid, Signal::SIGCONT);
                going.push(pid);
            }
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// The process that a line of the trace says is halted.
fn halted_by(line: &str) -> Option<Pid> {
    let (pid, _) = line.split_once(' ').filter(|(_, rest)| rest.contains("--- stopped by SIGSTOP ---"))?;
    pid.parse().ok().map(Pid::from_raw)
}

/// The process that was halted; none if all has ended.
fn await_halt(child: &mut Child, trace: &Path) -> Result<Option<Pid>> {
    let start = Instant::now();
    loop {
        // Before the look, so that the last line is there.
        let ended = child.try_wait()?.is_some();
        let text = fs::read_to_string(trace).context("trace: read")?;
        if let Some(pid) = text.lines().find_map(halted_by) {
            return Ok(Some(pid));
        }
        if ended {
            return Ok(None);
        }
        if start.elapsed() > LIMIT {
            child.kill()?;
            bail!("neither halted nor ended after {LIMIT:?}; its requests:\n{text}");
        }
        thread::sleep(PAUSE);
    }
}
