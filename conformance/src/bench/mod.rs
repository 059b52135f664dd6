//! How long ADD and DEL take, beside the least that the kernel takes for them and beside the reference plugins, on the same
//! machine in the same minutes.
//!
//! A time is that of a whole process, from before the spawn to after the exit, with its output read ([`launch`]). The floor
//! (`podwire-floor`), ours and the reference take turns ([`turns`]), so that whatever else the machine does meets all
//! three. Nodes, pods and lease directories are made beforehand and belong to the run alone. What is promised, and what is
//! only aimed at, is in [`cases`].
//!
//! The number of instructions is another matter ([`instructions`]): it hardly depends on the machine and its load, so
//! that it tells in any run whether a change has made a plugin slower.

mod cases;
mod crowd;
mod goal;
mod growth;
mod instructions;
mod launch;
mod machine;
mod picture;
mod report;
mod rig;
mod stats;
mod svg;
mod table;
mod turns;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::runner;
use cases::{CASES, Case};
use goal::{Goal, Measure};
use report::{Bar, Report, Row};
use turns::Plugins;

/// Rounds in a guest kernel, where each takes many times as long.
const GUEST_ROUNDS: usize = 20;
/// In milliseconds: what a plugin may need to start, say its versions and end.
const START_UP: Goal = Goal::aim(Measure::Milliseconds(1.0));
/// In kilobytes: each binary, and the memory of the largest process.
const BINARY: u64 = 3000;
const RESIDENT: u64 = 4000;

/// What `bench` was asked for.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Directory of the plugins under test
    #[arg(long, value_name = "DIR")]
    cni_path: PathBuf,
    /// Directory of the plugins to compare with
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/cni")]
    reference: PathBuf,
    /// How many times each call is measured
    #[arg(long, value_name = "N", default_value_t = 60)]
    rounds: usize,
    /// Write the figures, the machine and the versions there
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    json: PathBuf,
    /// Draw the figures there, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Measure these plugins only, and nothing but ADD and DEL
    #[arg(long, value_name = "PLUGIN", value_delimiter = ',')]
    only: Vec<String>,
    /// Measure nothing but how host-local grows with the number of leases
    #[arg(long)]
    growth: bool,
    /// Measure nothing, but count the instructions of each call (valgrind), and fail where one needs more than is recorded
    #[arg(long)]
    instructions: bool,
    /// With `--instructions`: write down what was counted
    #[arg(long, requires = "instructions")]
    update: bool,
    /// With `--instructions`: where they are written down
    #[arg(long, value_name = "FILE", default_value = "conformance/bench/instructions.json")]
    record: PathBuf,
    /// Do not start a guest kernel for what this one lacks
    #[arg(long)]
    no_guest: bool,
    /// Write the figures and print nothing of them
    #[arg(long, hide = true)]
    figures_only: bool,
    /// Fail if a figure misses what the project promises
    #[arg(long)]
    assert: bool,
    /// In the sandbox already
    #[arg(long, hide = true)]
    pub inside: bool,
}

impl Options {
    fn wants(&self, case: &Case) -> bool {
        !self.growth && (self.only.is_empty() || self.only.iter().any(|plugin| plugin == case.plugin))
    }

    fn wants_all(&self) -> bool {
        self.only.is_empty() && !self.growth
    }

    /// Where the run in a guest kernel leaves its figures for the run here.
    fn guests_figures(&self) -> PathBuf {
        self.json.with_extension("guest.json")
    }
}

/// Measures, prints the table, writes the figures.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.instructions {
        return instructions::run(options);
    }
    let plugins = Plugins { ours: &options.cni_path, reference: &options.reference };
    for directory in [plugins.ours, plugins.reference] {
        let bridge = directory.join("bridge");
        ensure!(bridge.is_file(), "plugin \"{}\": not there", bridge.display());
    }
    // A pod is an open file, and there are 2,000.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let mut report = Report::new(&options.reference)?;
    // 130,000 files, which some disks need a minute to forget: it is dropped when everything has been said.
    let leases = tempfile::Builder::new().prefix("podwire-bench-").tempdir()?;
    measure(&mut report, options, plugins, leases.path())?;
    report.add_guest(&options.guests_figures())?;
    if !options.figures_only {
        report.add_instructions(instructions::recorded(&options.record)?);
    }
    report.write(&options.json)?;
    if options.figures_only {
        return Ok(ExitCode::SUCCESS);
    }
    print!("{report}");
    if let Some(svg) = &options.svg {
        let drawn = picture::draw(&report);
        std::fs::write(svg, drawn).with_context(|| format!("picture \"{}\": not written", svg.display()))?;
    }
    for line in report.missed(false) {
        println!("short of the aim: {line}");
    }
    let broken = report.missed(true);
    for line in &broken {
        println!("promise not kept: {line}");
    }
    Ok(if options.assert && !broken.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn measure(report: &mut Report, options: &Options, plugins: Plugins<'_>, leases: &Path) -> Result<()> {
    let rounds = options.rounds;
    for case in CASES.iter().filter(|&case| options.wants(case)) {
        if runner::lacking_here(case.needs)?.is_empty() {
            report.rows.extend(turns::measure(case, plugins, leases, rounds)?);
        }
    }
    let peak = report.rows.iter().filter_map(|row| row.ours.peak_kb).max();
    let resident = peak.map(|peak| Bar::kilobytes("resident at its peak, kB (the largest)", peak, RESIDENT));
    if options.wants_all() {
        let times = turns::start_up(&CASES[0], plugins, leases, rounds)?;
        report.rows.push(Row::new("start-up alone", "VERSION", times.map(stats::Costs::figures)).held_to(&[START_UP]));
        report.rows.extend(crowd::bursts(plugins, leases)?);
        let (rows, bars) = crowd::crowd(plugins, leases, rounds)?;
        report.rows.extend(rows);
        report.bars.extend(bars);
        report.bars.extend(resident);
        report.bars.extend(binaries(plugins.ours)?);
    }
    if options.only.is_empty() {
        let (growth, bars) = growth::measure(plugins, leases, rounds)?;
        report.growth = growth;
        report.bars.extend(bars);
    }
    Ok(())
}

/// Measures in a guest kernel what this one has no devices for, in turns as here. [`run`] takes in what comes of it.
pub fn elsewhere(options: &Options) -> Result<ExitCode> {
    let figures = options.guests_figures();
    // What a run that did not end has left.
    std::fs::remove_file(&figures).ok();
    let mut plugins = Vec::new();
    for case in CASES.iter().filter(|case| options.wants(case)) {
        if !runner::lacking_here(case.needs)?.is_empty() {
            plugins.push(case.plugin);
        }
    }
    plugins.dedup();
    if plugins.is_empty() || options.no_guest {
        return Ok(ExitCode::SUCCESS);
    }
    let plugins = plugins.join(",");
    if cfg!(not(target_arch = "x86_64")) {
        eprintln!(
            "not measured: {plugins}; neither has this kernel such devices, nor is there a guest kernel for this processor"
        );
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("this kernel has no {plugins}: in a guest kernel (User-mode Linux) ...");
    let reference = options.reference.display().to_string();
    let rounds = options.rounds.min(GUEST_ROUNDS).to_string();
    // It has another working directory.
    let figures = std::path::absolute(figures)?.display().to_string();
    let mut args = vec!["bench", "--no-guest", "--figures-only", "--only", &plugins, "--json", &figures];
    args.extend(["--rounds", &rounds, "--reference", &reference]);
    args.extend(options.instructions.then_some("--instructions"));
    args.extend(options.update.then_some("--update"));
    runner::in_guest_to_see(&args, &options.cni_path)
}

/// Size of each binary under test.
fn binaries(directory: &Path) -> Result<Vec<Bar>> {
    let mut bars = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let title = format!("size of {}, kB", entry.file_name().to_string_lossy());
        bars.push(Bar::kilobytes(&title, entry.metadata()?.len().div_ceil(1000), BINARY));
    }
    bars.sort_by(|a, b| a.title.cmp(&b.title));
    Ok(bars)
}
