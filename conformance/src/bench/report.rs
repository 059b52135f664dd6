//! The figures, for programs; [`super::table`] and [`super::picture`] show them to people.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::goal::{Goal, Medians};
use super::machine::Machine;
use super::stats::{Figures, Series};
use super::turns::Each;

/// The same of ours and, where there is one, of the reference.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Pair<T> {
    pub(super) ours: T,
    pub(super) reference: Option<T>,
}

/// A kind of call and what it cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) case: String,
    pub(super) call: String,
    /// The guest kernel that it was measured on, if it was: such times are to be compared with each other only.
    pub(super) guest: Option<String>,
    pub(super) floor: Option<Figures>,
    pub(super) ours: Figures,
    pub(super) reference: Option<Figures>,
    /// How many instructions ours needs, as recorded in the tree.
    pub(super) instructions: Option<u64>,
    pub(super) goals: Vec<Goal>,
}

impl Row {
    pub(super) fn new(case: &str, call: &str, figures: Each<Figures>) -> Self {
        let Each { floor, ours, reference } = figures;
        let (case, call) = (case.to_owned(), call.to_owned());
        Self { case, call, guest: None, floor, ours, reference, instructions: None, goals: Vec::new() }
    }

    pub(super) fn held_to(mut self, goals: &[Goal]) -> Self {
        self.goals = goals.to_vec();
        self
    }

    pub(super) fn title(&self) -> String {
        let guest = if self.guest.is_some() { " (guest)" } else { "" };
        format!("{}: {}{guest}", self.case, self.call)
    }

    /// How many times as long as the floor.
    pub(super) fn of_floor(&self) -> Option<f64> {
        self.floor.as_ref().map(|floor| self.ours.median_ms / floor.median_ms)
    }

    /// How many times as fast as the reference.
    pub(super) fn faster(&self) -> Option<f64> {
        self.reference.as_ref().map(|reference| reference.median_ms / self.ours.median_ms)
    }

    fn missed(&self, promised: bool) -> Vec<String> {
        let median = |figures: &Option<Figures>| figures.as_ref().map(|figures| figures.median_ms);
        let medians =
            Medians { floor: median(&self.floor), ours: self.ours.median_ms, reference: median(&self.reference) };
        let goals = self.goals.iter().filter(|goal| goal.promised == promised);
        let missed = goals.filter_map(|goal| Some((goal, goal.missed(&medians)?)));
        missed.map(|(goal, is)| format!("{}: {is}, not {}", self.title(), goal.measure)).collect()
    }
}

/// ADD and DEL where so many leases are, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Growth {
    pub(super) title: String,
    pub(super) add: Pair<Figures>,
    pub(super) del: Pair<Figures>,
}

impl Growth {
    pub(super) fn new(title: &str, add: &Pair<&Series>, del: &Pair<&Series>) -> Self {
        let figures =
            |both: &Pair<&Series>| Pair { ours: Figures::of(both.ours), reference: both.reference.map(Figures::of) };
        Self { title: title.to_owned(), add: figures(add), del: figures(del) }
    }
}

/// A number that is to stay below a limit.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Bar {
    pub(super) title: String,
    pub(super) figures: Pair<f64>,
    pub(super) at_most: Option<f64>,
    /// Whether the limit is a promise or an aim.
    pub(super) promised: bool,
}

impl Bar {
    pub(super) fn new(title: &str, figures: Pair<f64>) -> Self {
        Self { title: title.to_owned(), figures, at_most: None, promised: false }
    }

    pub(super) fn aim(self, at_most: f64) -> Self {
        Self { at_most: Some(at_most), promised: false, ..self }
    }

    pub(super) fn promise(self, at_most: f64) -> Self {
        Self { at_most: Some(at_most), promised: true, ..self }
    }

    /// Of kilobytes: what is promised is to stay below `below`.
    #[expect(clippy::cast_precision_loss, reason = "kilobytes, of which there are no 2^52")]
    pub(super) fn kilobytes(title: &str, ours: u64, below: u64) -> Self {
        Self::new(title, Pair { ours: ours as f64, reference: None }).promise(below as f64 - 1.0)
    }

    fn missed(&self, promised: bool) -> Option<String> {
        let ours = self.figures.ours;
        let at_most = self.at_most.filter(|most| ours > *most && self.promised == promised)?;
        Some(format!("{}: {}, not at most {}", self.title, number(ours), number(at_most)))
    }
}

/// A count as it is, anything else with two digits behind the point.
pub(super) fn number(number: f64) -> String {
    if number.fract() == 0.0 { format!("{number}") } else { format!("{number:.2}") }
}

impl<T> Each<T> {
    pub(super) fn ours_and_reference<U>(&self, what: impl Fn(&T) -> U) -> Pair<U> {
        Pair { ours: what(&self.ours), reference: self.reference.as_ref().map(what) }
    }
}

/// Everything that a run found out.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) rows: Vec<Row>,
    pub(super) growth: Vec<Growth>,
    pub(super) bars: Vec<Bar>,
}

/// What is read of a run in a guest kernel.
#[derive(Debug, Deserialize)]
struct Guest {
    machine: Kernel,
    rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Kernel {
    kernel: String,
}

impl Report {
    pub(super) fn new(reference: &Path) -> Result<Self> {
        Ok(Self { machine: Machine::look(reference)?, rows: Vec::new(), growth: Vec::new(), bars: Vec::new() })
    }

    /// Takes in what the run in a guest kernel wrote to `path`, if there was one.
    pub(super) fn add_guest(&mut self, path: &Path) -> Result<()> {
        let Ok(text) = std::fs::read_to_string(path) else { return Ok(()) };
        std::fs::remove_file(path)?;
        let guest: Guest = serde_json::from_str(&text).with_context(|| format!("figures {path:?}: read"))?;
        let rows = guest.rows.into_iter().map(|row| Row { guest: Some(guest.machine.kernel.clone()), ..row });
        self.rows.extend(rows);
        Ok(())
    }

    /// Puts the recorded instructions beside the times of the same call.
    pub(super) fn add_instructions(&mut self, of: impl Fn(&str) -> Option<u64>) {
        for row in &mut self.rows {
            row.instructions = of(&row.title());
        }
    }

    /// What misses a promise, or an aim, a line each.
    pub(super) fn missed(&self, promised: bool) -> Vec<String> {
        let rows = self.rows.iter().flat_map(|row| row.missed(promised));
        rows.chain(self.bars.iter().filter_map(|bar| bar.missed(promised))).collect()
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        std::fs::write(path, json + "\n").with_context(|| format!("figures \"{}\": not written", path.display()))
    }
}
