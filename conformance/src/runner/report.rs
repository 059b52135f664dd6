//! What a person reads: a line a test, the failures in full, and the count.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::known::Known;
use super::schedule::{kernel, write_line};
use super::{Outcome, Record};

/// Collects and prints.
#[derive(Debug)]
pub(super) struct Report {
    records: Vec<Record>,
    known: Option<Known>,
    left_out: usize,
    file: Option<File>,
}

impl Report {
    /// An empty one that also writes to `file`, if given.
    pub(super) fn new(file: Option<&Path>, known: Option<Known>, left_out: usize) -> Result<Self> {
        let create = |path: &Path| File::create(path).with_context(|| format!("{path:?}: create"));
        Ok(Self { records: Vec::new(), known, left_out, file: file.map(create).transpose()? })
    }

    /// Takes and prints one.
    pub(super) fn add(&mut self, record: Record) {
        let record = match &self.known {
            Some(known) => known.judge(record),
            None => record,
        };
        print(&record);
        if let Some(file) = &mut self.file
            && let Err(e) = write_line(file, &record)
        {
            eprintln!("{e:#}");
        }
        self.records.push(record);
    }

    /// Prints the summary.
    pub(super) fn finish(self) -> ExitCode {
        if self.left_out > 0 {
            println!("\n{} left out: they are about what only this suite's plugins promise", self.left_out);
        }
        summary(&self.records)
    }
}

fn print(record: &Record) {
    let word = match &record.outcome {
        Outcome::Passed => "ok",
        Outcome::KnownFailure => "known",
        Outcome::Failed(_) => "FAILED",
        Outcome::NotRun(_) => "NOT RUN",
    };
    println!("{word:<8}{:<11} {:<70} {:>6} ms  {}", record.topic, record.name, record.ms, record.kernel);
    if !record.note.is_empty() {
        println!("        {}", record.note);
    }
    if let Outcome::Failed(why) | Outcome::NotRun(why) = &record.outcome {
        println!("{why}\n");
    }
}

/// Prints one summary of several `--results` files.
pub fn summarise(files: &[PathBuf]) -> Result<ExitCode> {
    let mut records = Vec::new();
    for path in files {
        let text = fs::read_to_string(path).with_context(|| format!("{path:?}: read"))?;
        for line in text.lines() {
            records.push(serde_json::from_str(line).with_context(|| format!("{path:?}: read {line:?}"))?);
        }
    }
    Ok(summary(&records))
}

/// Prints the count; success if all that was wanted ran and passed.
fn summary(records: &[Record]) -> ExitCode {
    let mut passed: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut failed, mut nowhere, mut known) = (Vec::new(), Vec::new(), 0);
    for record in records {
        match &record.outcome {
            Outcome::Passed => *passed.entry(&record.kernel).or_default() += 1,
            Outcome::KnownFailure => known += 1,
            Outcome::Failed(_) => failed.push(record.name.as_str()),
            Outcome::NotRun(_) => nowhere.push(record.name.as_str()),
        }
    }
    println!();
    let host = kernel();
    for (kernel, count) in &passed {
        let place = if *kernel == host { "this machine" } else { "the guest" };
        println!("{count} passed on {kernel} ({place})");
    }
    if known > 0 {
        println!("{known} failed as they are known to");
    }
    for (count, names, word) in [(failed.len(), &failed, "failed"), (nowhere.len(), &nowhere, "ran nowhere")] {
        let list = if count == 0 { String::new() } else { format!(": {}", names.join(", ")) };
        println!("{count} {word}{list}");
    }
    let passed: usize = passed.values().sum();
    // A test that ran nowhere has shown nothing, so it is no success.
    let bad = failed.len() + nowhere.len();
    println!("{passed} passed, {bad} failed");
    if bad == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
