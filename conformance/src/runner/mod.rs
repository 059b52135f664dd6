//! Registers, schedules and reports the tests.
//!
//! Every test is a process of its own in namespaces of its own ([`sandbox`]), so that a hang, a panic or a forgotten
//! child ends with it and the machine stays as it was. A test says what it needs of the kernel and the machine
//! ([`Feature`]); what this kernel lacks is looked for in a guest kernel ([`guest`]), and a test that ran nowhere fails
//! the run.

mod case;
mod feature;
mod guest;
mod known;
mod modules;
mod one;
mod report;
mod sandbox;
mod schedule;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use case::{Attachment, Case, merged};
pub use feature::Feature;
pub use feature::cnitool;
pub use guest::{guest_init, guest_run, in_guest_to_see};
pub use one::{OneArgs, probe, run_inner, run_one};
pub use report::summarise;
pub use sandbox::in_sandbox;
pub use schedule::{lacking_here, run};

/// One test.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// The function's own name; starts with the ids of the protocol that it proves, if any.
    pub name: &'static str,
    /// What it shows, in a few words.
    pub purpose: &'static str,
    /// What it cannot run without.
    pub needs: &'static [Feature],
    /// About something that only this suite's plugins promise; not run on others.
    pub ours: bool,
    /// How long it may take.
    pub limit: Duration,
    /// The test itself.
    pub run: fn(&Case) -> anyhow::Result<()>,
}

impl Test {
    /// A test that needs nothing special and is done within 30 seconds.
    pub const fn new(name: &'static str, purpose: &'static str, run: fn(&Case) -> anyhow::Result<()>) -> Self {
        Self { name, purpose, needs: &[], ours: false, limit: Duration::from_secs(30), run }
    }

    /// With features that it cannot run without.
    #[must_use]
    pub const fn needs(mut self, needs: &'static [Feature]) -> Self {
        self.needs = needs;
        self
    }

    /// About something that only this suite's plugins promise.
    #[must_use]
    pub const fn ours(mut self) -> Self {
        self.ours = true;
        self
    }

    /// With another time limit, in seconds.
    #[must_use]
    pub const fn limit(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }
}

/// A group of tests about one thing, in one file or folder.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    /// What `--topic` takes.
    pub name: &'static str,
    /// Its tests, by file.
    pub tests: &'static [&'static [Test]],
}

/// Names a test after its function.
#[macro_export]
macro_rules! test {
    ($function:ident, $purpose:literal) => {
        $crate::runner::Test::new(stringify!($function), $purpose, $function)
    };
}

/// What `run` was asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Directory of the plugins under test [default: where this program is]
    #[arg(long, value_name = "DIR")]
    pub cni_path: Option<PathBuf>,
    /// Only tests whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Only tests of this topic (see `list`)
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// How many tests at a time [default: two for each processor]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Write what became of each test there, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub results: Option<PathBuf>,
    /// Do not start a guest kernel for what this one lacks
    #[arg(long)]
    pub no_guest: bool,
    /// Kill and spoil calls at each of their system calls also of plugins whose devices most kernels lack: in a guest that
    /// takes half an hour, so only what changes something is tried of them else
    #[arg(long)]
    pub exhaustive: bool,
    /// The plugins are not this suite's: leave out the tests of what only ours promise, and compare what fails with the
    /// names in this file; a difference either way fails the run
    #[arg(long, value_name = "FILE")]
    pub known_failures: Option<PathBuf>,
}

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed; the text says all there is to say.
    Failed(String),
    /// It failed, as it is known to on plugins that are not this suite's.
    KnownFailure,
    /// It ran nowhere; the text says what was missing.
    NotRun(String),
}

/// What became of a test, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The test's name.
    pub name: String,
    /// Its topic.
    pub topic: String,
    /// `uname -r` of the kernel it ran on.
    pub kernel: String,
    /// Whole milliseconds, the start of its process included.
    pub ms: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// What it has to tell beside.
    #[serde(default)]
    pub note: String,
}
