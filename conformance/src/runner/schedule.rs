//! Which tests run where, and several at a time.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::one::{NOTES, OUTCOME, Subject};
use super::report::Report;
use super::{Feature, Options, Outcome, Record, Test, case, guest, known};
use crate::sys;
use crate::topics::TOPICS;

/// A test with its topic's name.
pub(super) type Chosen = (&'static str, &'static Test);

/// Runs what `options` ask for and reports it.
pub fn run(options: &Options) -> Result<ExitCode> {
    let subject = Subject { cni_path: plugins(options.cni_path.as_deref())?, exhaustive: options.exhaustive };
    let known = options.known_failures.as_deref().map(known::Known::read).transpose()?;
    let (chosen, left_out) = choose(options, known.is_some());
    if chosen.is_empty() {
        bail!("no test matches; see the subcommand `list`");
    }
    let here = features_here()?;
    let (local, elsewhere): (Vec<_>, Vec<_>) =
        chosen.into_iter().partition(|(_, test)| lacking(test, &here).is_empty());
    let report = Mutex::new(Report::new(options.results.as_deref(), known, left_out)?);
    let add = |record| report.lock().map_or((), |mut report| report.add(record));
    std::thread::scope(|scope| {
        // Beside the others: the guest has a processor of its own and takes as long as they do.
        scope.spawn(|| guest::run_elsewhere(&elsewhere, &here, &subject, options, &add));
        run_here(&local, &subject, options.jobs, &add);
    });
    let report = report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(report.finish())
}

fn plugins(given: Option<&Path>) -> Result<PathBuf> {
    let directory = match given {
        Some(directory) => directory.to_owned(),
        None => std::env::current_exe()?.parent().context("this program is in no directory")?.to_owned(),
    };
    case::ensure_plugins(&directory)?;
    directory.canonicalize().with_context(|| format!("{directory:?}: resolve"))
}

/// The tests that are wanted, and how many were left out because they are about this suite's plugins only.
fn choose(options: &Options, foreign: bool) -> (Vec<Chosen>, usize) {
    let all = TOPICS
        .iter()
        .filter(|topic| options.topic.as_deref().is_none_or(|name| name == topic.name))
        .flat_map(|topic| topic.tests.iter().copied().flatten().map(|test| (topic.name, test)))
        .filter(|(_, test)| options.filter.as_deref().is_none_or(|part| test.name.contains(part)));
    let (chosen, left_out): (Vec<_>, Vec<_>) = all.partition(|(_, test)| !(foreign && test.ours));
    (chosen, left_out.len())
}

/// What the machine and its kernel have.
pub(super) fn features_here() -> Result<BTreeSet<Feature>> {
    let output =
        Command::new("/proc/self/exe").arg("probe").stderr(Stdio::inherit()).output().context("probe: start")?;
    if !output.status.success() {
        bail!("probe of the machine's features: {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("probe: read")
}

/// Which of these this machine and its kernel do not have.
pub fn lacking_here(needs: &[Feature]) -> Result<Vec<Feature>> {
    if needs.is_empty() {
        return Ok(Vec::new());
    }
    let here = features_here()?;
    Ok(needs.iter().copied().filter(|need| !here.contains(need)).collect())
}

/// What a test needs and `here` does not have.
pub(super) fn lacking(test: &Test, here: &BTreeSet<Feature>) -> Vec<Feature> {
    test.needs.iter().copied().filter(|need| !here.contains(need)).collect()
}

/// Runs tests on this kernel, several at a time, the longest first.
pub(super) fn run_here(tests: &[Chosen], subject: &Subject, jobs: Option<usize>, add: &(impl Fn(Record) + Sync)) {
    let mut queue: Vec<Chosen> = tests.to_vec();
    queue.sort_by_key(|(_, test)| std::cmp::Reverse(test.limit));
    let queue = Mutex::new(VecDeque::from(queue));
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..jobs.unwrap_or(2 * processors).max(1) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
                    let Some((topic, test)) = next else { break };
                    add(run_test(topic, test, subject));
                }
            });
        }
    });
}

fn run_test(topic: &str, test: &Test, subject: &Subject) -> Record {
    let start = Instant::now();
    let (outcome, note) =
        in_a_process(test, subject).unwrap_or_else(|e| (Outcome::Failed(format!("  {e:#}")), String::new()));
    Record {
        name: test.name.to_owned(),
        topic: topic.to_owned(),
        kernel: kernel(),
        ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        outcome,
        note,
    }
}

/// `uname -r`.
pub(super) fn kernel() -> String {
    nix::sys::utsname::uname().map_or_else(|_| "unknown".into(), |name| name.release().to_string_lossy().into_owned())
}

/// What became of a test, and what it noted.
fn in_a_process(test: &Test, subject: &Subject) -> Result<(Outcome, String)> {
    let dir = tempfile::Builder::new().prefix("podwire-").tempdir().context("temporary directory")?;
    let said = dir.path().join("said");
    let output = File::create(&said).context("output file")?;
    let mut command = Command::new("/proc/self/exe");
    sys::die_with_parent(&mut command)
        .args(["one", test.name])
        .args(subject.args())
        .arg("--dir")
        .arg(dir.path())
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let mut child = command.spawn().context("test: start")?;
    let limit = subject.limit(test);
    let status = wait(&mut child, limit)?;
    let said = String::from_utf8_lossy(&fs::read(&said)?).into_owned();
    let Some(status) = status else {
        let late = format!("  not done within {limit:?}; it said: {said}");
        return Ok((Outcome::Failed(late), String::new()));
    };
    // A test that died has noted nothing.
    let note = fs::read_to_string(dir.path().join(NOTES)).unwrap_or_default();
    let outcome = match fs::read_to_string(dir.path().join(OUTCOME)) {
        Ok(text) => match serde_json::from_str(&text).context("outcome: read")? {
            Outcome::Failed(why) if !said.is_empty() => Outcome::Failed(format!("{why}\nit said: {said}")),
            outcome => outcome,
        },
        Err(_) => Outcome::Failed(format!("  died: {status}; it said: {said}")),
    };
    Ok((outcome, note))
}

/// Waits for the end of a child without polling; kills it after `limit`, and then gives nothing.
pub(super) fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    use std::os::fd::AsFd;
    let ended = sys::process_handle(child.id()).context("pidfd")?;
    let mut fds = [PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    let in_time = loop {
        match poll(&mut fds, timeout) {
            Ok(ready) => break ready > 0,
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e).context("wait"),
        }
    };
    if !in_time {
        child.kill().context("kill")?;
    }
    let status = child.wait().context("wait")?;
    Ok(in_time.then_some(status))
}

/// Writes a line at once, so that what is known survives whatever comes next.
pub(super) fn write_line(file: &mut File, record: &Record) -> Result<()> {
    let mut line = serde_json::to_string(record)?;
    line.push('\n');
    file.write_all(line.as_bytes()).context("results: write")
}
