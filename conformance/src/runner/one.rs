//! One test in its sandbox: the processes behind the scheduler's.

use std::any::Any;
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};

use super::{Case, Feature, Outcome, Test, case, sandbox};
use crate::cni::last_calls;
use crate::lab::last_words;
use crate::topics::find;

/// How a test's process is told what to do.
#[derive(Clone, Debug, clap::Args)]
pub struct OneArgs {
    /// The test's name
    name: String,
    #[command(flatten)]
    subject: Subject,
    /// A directory for the test and what became of it
    #[arg(long)]
    dir: PathBuf,
}

/// What is tested, and how thoroughly.
#[derive(Clone, Debug, Serialize, Deserialize, clap::Args)]
pub(super) struct Subject {
    /// The plugins under test
    #[arg(long)]
    pub(super) cni_path: PathBuf,
    /// Whatever takes long too
    #[arg(long)]
    pub(super) exhaustive: bool,
}

impl Subject {
    /// As arguments of a process that is told of it.
    pub(super) fn args(&self) -> Vec<String> {
        let mut args = vec!["--cni-path".to_owned(), self.cni_path.to_string_lossy().into_owned()];
        args.extend(self.exhaustive.then(|| "--exhaustive".to_owned()));
        args
    }

    /// How long a test may take.
    pub(super) fn limit(&self, test: &Test) -> Duration {
        test.limit * if self.exhaustive { 12 } else { 1 }
    }
}

/// The file of a test's directory that says what became of it.
pub(super) const OUTCOME: &str = "outcome.json";
/// The file beside it with what the test noted.
pub(super) const NOTES: &str = "notes";

/// Makes the sandbox and runs [`run_inner`] in it.
pub fn run_one(args: &OneArgs) -> Result<ExitCode> {
    let (subject, dir) = (args.subject.args(), args.dir.to_string_lossy());
    let mut command = vec!["inner", &args.name, "--dir", &dir];
    command.extend(subject.iter().map(String::as_str));
    let status = sandbox::start(&command)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the test in this process, which is the first of the sandbox, and writes down what became of it.
pub fn run_inner(args: &OneArgs) -> Result<ExitCode> {
    let (_, test) = find(&args.name).ok_or_else(|| anyhow!("test {:?}: there is none of that name", args.name))?;
    let outcome = match attempt(test, args) {
        Ok(()) => Outcome::Passed,
        Err(e) => Outcome::Failed(describe(&e)),
    };
    fs::write(args.dir.join(NOTES), case::notes()).context("notes: write")?;
    let text = serde_json::to_string(&outcome)?;
    fs::write(args.dir.join(OUTCOME), &text).with_context(|| format!("outcome: write {text}"))?;
    Ok(ExitCode::SUCCESS)
}

fn attempt(test: &Test, args: &OneArgs) -> Result<()> {
    static PANIC: Mutex<Option<String>> = Mutex::new(None);
    sandbox::enter()?;
    ensure!(args.dir.is_dir(), "directory {:?}: hidden by the sandbox; set TMPDIR to one not below /run", args.dir);
    let Subject { cni_path, exhaustive } = args.subject.clone();
    let case = Case { cni_path, dir: args.dir.join("test"), exhaustive };
    fs::create_dir_all(&case.dir).with_context(|| format!("{:?}: make", case.dir))?;
    std::panic::set_hook(Box::new(|info| {
        if let Ok(mut text) = PANIC.lock() {
            // The first panic is the cause; threads that join the panicked one repeat it.
            text.get_or_insert_with(|| info.to_string());
        }
    }));
    catch_unwind(AssertUnwindSafe(|| (test.run)(&case))).unwrap_or_else(|_: Box<dyn Any + Send>| {
        let text = PANIC.lock().ok().and_then(|mut text| text.take());
        Err(anyhow!("panicked: {}", text.unwrap_or_default()))
    })
}

/// The whole chain of an error and the last calls of plugins.
fn describe(error: &anyhow::Error) -> String {
    let mut lines: Vec<String> = error.chain().map(|cause| format!("  {cause}")).collect();
    lines.push("last calls:".to_owned());
    lines.extend(last_calls());
    lines.extend(last_words());
    lines.join("\n")
}

/// Tries every feature in a sandbox and prints those that are here, as JSON.
pub fn probe(inside: bool) -> Result<ExitCode> {
    if !inside {
        let status = sandbox::start(&["probe", "--inside"])?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    sandbox::enter()?;
    let here: BTreeSet<Feature> = Feature::ALL.iter().copied().filter(|feature| feature.is_here()).collect();
    println!("{}", serde_json::to_string(&here)?);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Told {
        #[command(flatten)]
        subject: Subject,
    }

    #[test]
    fn a_process_is_told_what_to_test_and_how_thoroughly() {
        for exhaustive in [false, true] {
            let subject = Subject { cni_path: "/opt/cni/bin".into(), exhaustive };
            let args = ["one".to_owned()].into_iter().chain(subject.args());
            let told = Told::parse_from(args).subject;
            assert_eq!((told.cni_path, told.exhaustive), (subject.cni_path, exhaustive));
        }
    }
}
