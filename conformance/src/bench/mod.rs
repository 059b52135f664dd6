//! How long ADD and DEL take, beside the reference plugins on the same machine in the same minutes.
//!
//! A time is that of a whole process, from before the spawn to after the exit, with its output read. Ours and the
//! reference take turns, so that whatever else the machine does meets both. Nodes, pods and lease directories are made
//! beforehand and belong to the run alone.

mod growth;
mod report;
mod rig;
mod stats;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

use crate::lab::Space;
use crate::runner::{self, Feature};
use report::{Bar, Pair, Report, Row};
use rig::{PARENT, Rig};
use stats::Series;

/// Rounds before the measured ones: the first ADD makes the bridge, the first start reads the disk.
const WARM_UP: usize = 3;

/// Rounds in a guest kernel, where each takes many times as long.
const GUEST_ROUNDS: usize = 20;

/// Pods of the burst, and how many calls are under way at a time.
const BURST: (usize, usize) = (200, 16);

/// A kind of network, and how many times faster than the reference ours is promised to be on it.
struct Case {
    title: &'static str,
    plugin: &'static str,
    /// What the configuration says beside.
    extra: fn() -> Value,
    needs: &'static [Feature],
    add: f64,
    /// None where the kernel's own work is nearly all of it.
    del: Option<f64>,
}

const CASES: [Case; 5] = [
    Case {
        title: "bridge + host-local",
        plugin: "bridge",
        extra: || bridge(false),
        needs: &[],
        add: 5.0,
        del: Some(1.5),
    },
    Case {
        title: "the same with ipMasq",
        plugin: "bridge",
        extra: || bridge(true),
        needs: &[],
        add: 10.0,
        del: Some(3.0),
    },
    Case {
        title: "macvlan + host-local",
        plugin: "macvlan",
        extra: || json!({ "master": PARENT }),
        needs: &[Feature::Macvlan],
        add: 4.0,
        del: None,
    },
    Case {
        title: "ipvlan + host-local",
        plugin: "ipvlan",
        extra: || json!({ "master": PARENT }),
        needs: &[Feature::Ipvlan],
        add: 4.0,
        del: None,
    },
    Case {
        title: "vlan + host-local",
        plugin: "vlan",
        extra: || json!({ "master": PARENT, "vlanId": 100 }),
        needs: &[Feature::Vlan],
        add: 4.0,
        del: None,
    },
];

fn bridge(masquerade: bool) -> Value {
    json!({ "bridge": "cni0", "isDefaultGateway": true, "ipMasq": masquerade })
}

/// What `bench` was asked for.
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
    /// Measure these plugins only, and nothing but ADD and DEL
    #[arg(long, value_name = "PLUGIN", value_delimiter = ',')]
    only: Vec<String>,
    /// Measure nothing but how host-local grows with the number of leases
    #[arg(long)]
    growth: bool,
    /// Do not start a guest kernel for what this one lacks
    #[arg(long)]
    no_guest: bool,
    /// Fail if a figure misses what the project promises
    #[arg(long)]
    assert: bool,
    /// In the sandbox already
    #[arg(long, hide = true)]
    pub inside: bool,
}

impl Options {
    fn wants(&self, case: &Case) -> bool {
        self.only.is_empty() || self.only.iter().any(|plugin| plugin == case.plugin)
    }
}

/// Measures, prints the table, writes the figures.
pub fn run(options: &Options) -> Result<ExitCode> {
    for directory in [&options.cni_path, &options.reference] {
        let bridge = directory.join("bridge");
        ensure!(bridge.is_file(), "plugin \"{}\": not there", bridge.display());
    }
    let leases = tempfile::Builder::new().prefix("podwire-bench-").tempdir()?;
    let mut report = Report::new(&options.reference)?;
    let bench = Bench { options, leases: leases.path() };
    let wanted = |case: &Case| options.wants(case) && !options.growth;
    for case in CASES.iter().filter(|&case| wanted(case)) {
        if !runner::lacking_here(case.needs)?.is_empty() {
            continue;
        }
        let title = case.title;
        let rigs = bench.rigs(title, case.plugin, &(case.extra)())?;
        let (add, del) = bench.in_turns(title, &rigs)?;
        report.rows.push(Row::times(&format!("{title}: ADD"), &add).at_least(case.add));
        let del = Row::times(&format!("{title}: DEL"), &del);
        report.rows.push(match case.del {
            Some(ratio) => del.at_least(ratio),
            None => del,
        });
    }
    if options.only.is_empty() && !options.growth {
        report.rows.extend(bench.burst()?);
        report.rows.push(bench.start_up()?);
        report.bars.push(bench.resident()?);
        report.bars.extend(binaries(&options.cni_path)?);
    }
    if options.only.is_empty() {
        let plugins = Pair { ours: options.cni_path.as_path(), reference: options.reference.as_path() };
        let (growth, bars) = growth::measure(&plugins, leases.path(), options.rounds)?;
        report.growth = growth;
        report.bars.extend(bars);
    }

    print!("{report}");
    report.write(&options.json)?;
    let missed = report.missed();
    for line in &missed {
        println!("missed: {line}");
    }
    Ok(if options.assert && !missed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Measures in a guest kernel what this one has no devices for, each plugin beside the reference's as here.
pub fn elsewhere(options: &Options) -> Result<ExitCode> {
    let mut plugins = Vec::new();
    for case in CASES.iter().filter(|case| options.wants(case) && !options.growth) {
        if !runner::lacking_here(case.needs)?.is_empty() {
            plugins.push(case.plugin);
        }
    }
    if plugins.is_empty() || options.no_guest {
        return Ok(ExitCode::SUCCESS);
    }
    let plugins = plugins.join(",");
    println!("This kernel has no {plugins}; they are measured in a guest kernel (User-mode Linux):");
    let reference = options.reference.display().to_string();
    let rounds = options.rounds.min(GUEST_ROUNDS).to_string();
    let mut args = vec!["bench", "--no-guest", "--only", &plugins, "--rounds", &rounds, "--reference", &reference];
    args.extend(["--json", "/dev/null"]);
    args.extend(options.assert.then_some("--assert"));
    runner::in_guest_to_see(&args, &options.cni_path)
}

/// Runs a plugin as the only child and prints its peak resident memory, in kilobytes, as the last line on stderr.
///
/// What Linux counts for a process starts with what its parent had when it was started; so it is started by a process
/// that has next to nothing, this one, rather than by the bench.
pub fn resident(plugin: &Path) -> Result<ExitCode> {
    let status =
        Command::new(plugin).status().with_context(|| format!("plugin \"{}\": not started", plugin.display()))?;
    eprintln!("{}", getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss());
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Bench<'a> {
    options: &'a Options,
    leases: &'a Path,
}

impl Bench<'_> {
    /// A rig for ours and one for the reference.
    fn rigs(&self, title: &str, plugin: &'static str, extra: &Value) -> Result<Pair<Rig>> {
        let leases = self.leases.join(title);
        Ok(Pair {
            ours: Rig::new(&self.options.cni_path, &leases.join("ours"), plugin, extra.clone())?,
            reference: Rig::new(&self.options.reference, &leases.join("reference"), plugin, extra.clone())?,
        })
    }

    /// ADD and DEL of one pod on each rig, in turns.
    fn in_turns(&self, title: &str, rigs: &Pair<Rig>) -> Result<(Pair<Series>, Pair<Series>)> {
        eprintln!("{title}: {} rounds ...", self.options.rounds);
        let pods = Pair { ours: Space::pod("ours")?, reference: Space::pod("reference")? };
        let (mut add, mut del) = (Pair::<Series>::default(), Pair::<Series>::default());
        for round in 0..WARM_UP + self.options.rounds {
            // Each goes first in every other round: whoever comes second meets what the first one's DEL left to do.
            let (ours, reference) = if round % 2 == 0 {
                let ours = rigs.ours.add_and_del(&pods.ours)?;
                (ours, rigs.reference.add_and_del(&pods.reference)?)
            } else {
                let reference = rigs.reference.add_and_del(&pods.reference)?;
                (rigs.ours.add_and_del(&pods.ours)?, reference)
            };
            if round >= WARM_UP {
                add.ours.push(ours.0);
                add.reference.push(reference.0);
                del.ours.push(ours.1);
                del.reference.push(reference.1);
            }
        }
        Ok((add, del))
    }

    /// Many pods at once: ADD for all, then DEL for all, first with the one set of plugins and then with the other.
    fn burst(&self) -> Result<Vec<Row>> {
        let (count, width) = BURST;
        eprintln!("{count} pods, {width} at a time ...");
        let pods = (0..count).map(|i| Space::pod(&format!("pod-{i}"))).collect::<Result<Vec<_>>>()?;
        let rigs = self.rigs("burst", "bridge", &bridge(false))?;
        let one = |rig: &Rig| {
            let add = rig.burst("ADD", &pods, &[], width)?;
            let del = rig.burst("DEL", &pods, &add.results, width)?;
            anyhow::Ok((add, del))
        };
        let (ours, reference) = (one(&rigs.ours)?, one(&rigs.reference)?);
        let mut rows = Vec::new();
        for (verb, ours, reference) in [("ADD", ours.0, reference.0), ("DEL", ours.1, reference.1)] {
            let title = format!("{count} x {verb}, {width} at a time");
            let wall = Pair { ours: Series::from_iter([ours.wall]), reference: Series::from_iter([reference.wall]) };
            rows.push(Row::times(&format!("{title}: all"), &wall).once());
            let calls = Pair { ours: ours.calls, reference: reference.calls };
            rows.push(Row::times(&format!("{title}: each"), &calls));
        }
        Ok(rows)
    }

    /// VERSION, which does nothing but start, print and end.
    fn start_up(&self) -> Result<Row> {
        eprintln!("start-up ...");
        let rigs = self.rigs("start-up", "bridge", &bridge(false))?;
        let mut times = Pair::<Series>::default();
        for round in 0..WARM_UP + self.options.rounds {
            let (ours, reference) = (rigs.ours.version("bridge")?, rigs.reference.version("bridge")?);
            if round >= WARM_UP {
                times.ours.push(ours);
                times.reference.push(reference);
            }
        }
        Ok(Row::times("start-up alone: VERSION", &times))
    }

    /// Peak resident memory of an ADD with masquerade, the larger of the two networks.
    fn resident(&self) -> Result<Bar> {
        let rigs = self.rigs("resident", "bridge", &bridge(true))?;
        let pod = Space::pod("resident")?;
        let both = Pair { ours: rigs.ours.resident(&pod)?, reference: rigs.reference.resident(&pod)? };
        Ok(Bar::below("resident at its peak, kB (ADD with ipMasq)", &both, 4000))
    }
}

/// Size of each binary under test.
fn binaries(directory: &Path) -> Result<Vec<Bar>> {
    let mut bars = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let title = format!("size of {}, kB", entry.file_name().to_string_lossy());
        let both = Pair { ours: entry.metadata()?.len().div_ceil(1000), reference: 0 };
        bars.push(Bar::below(&title, &both, 3000));
    }
    bars.sort_by(|a, b| a.title.cmp(&b.title));
    Ok(bars)
}
