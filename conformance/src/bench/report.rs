//! The table for people and the figures for programs.

use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::stats::Series;

/// The same of ours and of the reference.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Pair<T> {
    pub(super) ours: T,
    pub(super) reference: T,
}

/// A kind of call and its times, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    title: String,
    median_ms: Pair<f64>,
    /// Absent where there is one time only.
    p95_ms: Option<Pair<f64>>,
    /// How many times faster ours is, by medians.
    ratio: f64,
    /// The ratio that the project promises, where it promises one.
    at_least: Option<f64>,
}

impl Row {
    pub(super) fn times(title: &str, times: &Pair<Series>) -> Self {
        let median_ms = Pair { ours: times.ours.median(), reference: times.reference.median() };
        Self {
            title: title.to_owned(),
            ratio: median_ms.reference / median_ms.ours,
            median_ms,
            p95_ms: Some(Pair { ours: times.ours.p95(), reference: times.reference.p95() }),
            at_least: None,
        }
    }

    /// With a promised ratio.
    pub(super) fn at_least(mut self, ratio: f64) -> Self {
        self.at_least = Some(ratio);
        self
    }

    /// Measured once: there is no percentile.
    pub(super) fn once(mut self) -> Self {
        self.p95_ms = None;
        self
    }

    fn missed(&self) -> Option<String> {
        let bar = self.at_least.filter(|bar| self.ratio < *bar)?;
        Some(format!("{}: {:.1} times faster, {bar} promised", self.title, self.ratio))
    }
}

/// ADD and DEL where so many leases are, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Growth {
    title: String,
    add_ms: Times,
    del_ms: Times,
}

/// The middle one, and the one that 95 of 100 do not exceed.
#[derive(Clone, Debug, Serialize)]
struct Times {
    median: Pair<f64>,
    p95: Pair<f64>,
}

impl Growth {
    pub(super) fn new(title: &str, add: &Pair<&Series>, del: &Pair<&Series>) -> Self {
        let times = |both: &Pair<&Series>| {
            let of = |what: fn(&Series) -> f64| Pair { ours: what(both.ours), reference: what(both.reference) };
            Times { median: of(Series::median), p95: of(Series::p95) }
        };
        Self { title: title.to_owned(), add_ms: times(add), del_ms: times(del) }
    }
}

/// A number that is to stay below a limit.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Bar {
    pub(super) title: String,
    ours: f64,
    /// 0 where it was not measured.
    reference: f64,
    at_most: f64,
}

impl Bar {
    /// Of whole numbers: what is promised is to stay below `below`.
    #[expect(clippy::cast_precision_loss, reason = "kilobytes, of which there are no 2^52")]
    pub(super) fn below(title: &str, both: &Pair<u64>, below: u64) -> Self {
        let both = Pair { ours: both.ours as f64, reference: both.reference as f64 };
        Self::at_most(title, both, below as f64 - 1.0)
    }

    pub(super) fn at_most(title: &str, both: Pair<f64>, at_most: f64) -> Self {
        Self { title: title.to_owned(), ours: both.ours, reference: both.reference, at_most }
    }

    fn missed(&self) -> Option<String> {
        let Self { title, ours, at_most, .. } = self;
        (ours > at_most).then(|| format!("{title}: {}, at most {} promised", number(*ours), number(*at_most)))
    }
}

/// A count as it is, anything else with two digits behind the point.
fn number(number: f64) -> String {
    if number.fract() == 0.0 { format!("{number}") } else { format!("{number:.2}") }
}

/// What was measured with, and on what.
#[derive(Clone, Debug, Serialize)]
struct Machine {
    kernel: String,
    processor: String,
    processors: usize,
    /// Processes that want to run, on average over the last minute, before the first measurement.
    load: f64,
    podwire: &'static str,
    reference: String,
}

/// Everything that a run found out.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    machine: Machine,
    pub(super) rows: Vec<Row>,
    pub(super) growth: Vec<Growth>,
    pub(super) bars: Vec<Bar>,
}

impl Report {
    pub(super) fn new(reference: &Path) -> Result<Self> {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
        let processor = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let machine = Machine {
            kernel,
            processor: processor.map_or("unknown", |(_, name)| name).to_owned(),
            processors: std::thread::available_parallelism()?.get(),
            load: load.split(' ').next().unwrap_or_default().parse()?,
            podwire: env!("CARGO_PKG_VERSION"),
            reference: version_of(reference),
        };
        Ok(Self { machine, rows: Vec::new(), growth: Vec::new(), bars: Vec::new() })
    }

    /// What misses its promise, a line each.
    pub(super) fn missed(&self) -> Vec<String> {
        let rows = self.rows.iter().filter_map(Row::missed);
        rows.chain(self.bars.iter().filter_map(Bar::missed)).collect()
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        std::fs::write(path, json + "\n").with_context(|| format!("figures \"{}\": not written", path.display()))
    }
}

/// What the package manager or, where it knows nothing, the plugin itself says of the reference's version.
fn version_of(directory: &Path) -> String {
    let package =
        Command::new("dpkg-query").args(["--show", "--showformat=${Version}", "containernetworking-plugins"]).output();
    match package {
        Ok(output) if output.status.success() && directory == Path::new("/usr/lib/cni") => {
            format!("containernetworking-plugins {}", String::from_utf8_lossy(&output.stdout))
        }
        _ => directory.display().to_string(),
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Machine { kernel, processor, processors, load, podwire, reference } = &self.machine;
        writeln!(f, "\npodwire {podwire} and {reference}\nLinux {kernel} on {processors} x {processor}")?;
        writeln!(f, "load before the start {load:.1}: above {processors} the times are those of a busy machine\n")?;
        if !self.rows.is_empty() {
            writeln!(f, "{}", self.times())?;
            writeln!(f, "times in milliseconds, whole processes, ours and the reference in turns\n")?;
        }
        if !self.growth.is_empty() {
            writeln!(f, "{}", self.growth())?;
            writeln!(f, "host-local alone, times in milliseconds, all sizes and both sets of plugins in turns\n")?;
        }
        writeln!(f, "{}", self.numbers())
    }
}

impl Report {
    fn times(&self) -> Table {
        let header = ["", "ours, median", "p95", "reference, median", "p95", "ratio", "promised"];
        let mut table = table(&header);
        for row in &self.rows {
            let p95 =
                |of: fn(&Pair<f64>) -> f64| row.p95_ms.as_ref().map_or(String::new(), |p95| format!("{:.1}", of(p95)));
            table.add_row([
                row.title.clone(),
                format!("{:.1}", row.median_ms.ours),
                p95(|both| both.ours),
                format!("{:.1}", row.median_ms.reference),
                p95(|both| both.reference),
                format!("{:.1}", row.ratio),
                row.at_least.map_or(String::new(), |bar| format!("{bar:.1}")),
            ]);
        }
        table
    }

    fn growth(&self) -> Table {
        let mut table = table(&["", "ours: ADD", "p95", "DEL", "p95", "reference: ADD", "p95", "DEL", "p95"]);
        for Growth { title, add_ms, del_ms } in &self.growth {
            let mut cells = vec![title.clone()];
            for of in [|both: &Pair<f64>| both.ours, |both: &Pair<f64>| both.reference] {
                let times = [&add_ms.median, &add_ms.p95, &del_ms.median, &del_ms.p95];
                let text = |time: f64| if time == 0.0 { String::new() } else { format!("{time:.2}") };
                cells.extend(times.map(|both| text(of(both))));
            }
            table.add_row(cells);
        }
        table
    }

    fn numbers(&self) -> Table {
        let mut table = table(&["", "ours", "reference", "at most"]);
        for bar in &self.bars {
            let reference = if bar.reference == 0.0 { String::new() } else { number(bar.reference) };
            table.add_row([bar.title.clone(), number(bar.ours), reference, number(bar.at_most)]);
        }
        table
    }
}

/// A table whose first column is text and whose others are numbers.
fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(header.to_vec());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
