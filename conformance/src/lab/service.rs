//! A program that runs beside a test, in one of its namespaces: a server or a daemon. What it says is kept, can be
//! waited for, and is in the report of a test that fails.

use std::io::{BufRead, BufReader, PipeReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Space;

/// What was started in this process, for [`last_words`].
static STARTED: Mutex<Vec<Arc<Log>>> = Mutex::new(Vec::new());

/// What every service of this process said last, a title and a few lines each.
pub fn last_words() -> Vec<String> {
    const ENOUGH: usize = 40;
    let started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    let words = started.iter().flat_map(|log| {
        let said = log.said();
        let last = said.lines[said.lines.len().saturating_sub(ENOUGH)..].iter().map(|line| format!("  {line}"));
        [format!("{} said:", log.name)].into_iter().chain(last).collect::<Vec<_>>()
    });
    words.collect()
}

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Service {
    child: Child,
    log: Arc<Log>,
}

/// The lines that a program has said, on either stream.
#[derive(Debug)]
struct Log {
    name: String,
    said: Mutex<Said>,
    /// Something was said, or the last writer has gone.
    news: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, from: PipeReader) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            self.said().lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
            self.news.notify_all();
            line.clear();
        }
        self.said().ended = true;
        self.news.notify_all();
    }
}

impl Service {
    /// Starts `command` on `node`; `name` is for messages.
    pub fn start(name: &str, node: &Space, mut command: Command) -> Result<Self> {
        let (reader, writer) = std::io::pipe().context("pipe")?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let child = node.ns.run(|| command.spawn())?;
        let child = child.with_context(|| format!("{name}: start {:?}", command.get_program()))?;
        // The command holds the pipe open too, and its end is to be seen.
        drop(command);
        let log = Log { name: name.to_owned(), said: Mutex::default(), news: Condvar::new() };
        let service = Self { child, log: Arc::new(log) };
        STARTED.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&service.log));
        let log = Arc::clone(&service.log);
        thread::Builder::new().spawn(move || log.follow(reader)).context("thread")?;
        Ok(service)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many lines it has said, to wait for what comes after them.
    pub fn lines(&self) -> usize {
        self.log.said().lines.len()
    }

    /// Everything that it has said.
    pub fn all(&self) -> Vec<String> {
        self.log.said().lines.clone()
    }

    /// Waits for a line that `wanted` accepts, one that was said already or one that comes; an error if none does within
    /// `limit`, or before it ends.
    pub fn await_line(&self, limit: Duration, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        self.await_after(0, limit, what, wanted)
    }

    /// The same among the lines after the first `seen`.
    pub fn await_after(
        &self,
        mut seen: usize,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let end = Instant::now() + limit;
        let mut said = self.log.said();
        loop {
            if let Some(line) = said.lines[seen.min(said.lines.len())..].iter().find(|line| wanted(line)) {
                return Ok(line.clone());
            }
            seen = said.lines.len();
            let left = end.saturating_duration_since(Instant::now());
            if said.ended || left.is_zero() {
                let why = if said.ended { "it has ended" } else { "it has not" };
                bail!("{}: to say {what} within {limit:?}: {why}", self.log.name);
            }
            said = self.log.news.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("{}: {signal}", self.log.name))
    }

    /// Sends it a signal that ends it, and waits for that.
    pub fn end(mut self, signal: Signal) -> Result<ExitStatus> {
        self.signal(signal)?;
        self.child.wait().with_context(|| format!("{}: wait", self.log.name))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Either fails only if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A command with nothing on its standard input.
pub(super) fn quiet(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}
