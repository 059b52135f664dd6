//! `logLevel`, `logFile` and `PODWIRE_LOG`: what a plugin says about what it did, and where.

mod devices;
mod files;
mod lines;
mod many;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cni::Call;
use crate::runner::{Attachment, Case, Test};

pub(super) const TESTS: &[&[Test]] = &[lines::TESTS, devices::TESTS, files::TESTS, many::TESTS];

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The folder where logs of this test may be.
fn folder(case: &Case) -> Result<PathBuf> {
    let folder = case.dir.join("log");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The file that [`logged`] names.
fn file(case: &Case) -> PathBuf {
    case.dir.join("log/pods.log")
}

/// With a log at `level`.
fn logged(attachment: &Attachment, level: &str) -> Result<Attachment> {
    folder(&attachment.case)?;
    Ok(attachment.clone().with(json!({ "logLevel": level, "logFile": file(&attachment.case) })))
}

/// The call, where the node's admin lets logs be in this test's folder.
fn call(attachment: &Attachment, command: &str) -> Call {
    attachment.call(command).env("PODWIRE_LOG_DIR", attachment.case.dir.join("log"))
}

/// The lines of a log, each of which must be one whole JSON object.
fn lines(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| format!("{path:?}: read"))?;
    ensure!(text.is_empty() || text.ends_with('\n'), "{path:?}: the last line is cut off");
    let line = |text: &str| serde_json::from_str(text).with_context(|| format!("{path:?}: not JSON: {text:?}"));
    text.lines().map(line).collect()
}

/// The line that ends a call: steps are told at `debug`, and warnings are no operations.
fn is_end(line: &Value) -> bool {
    line["operation"] == line["command"] && (line["level"] == "info" || line["level"] == "error")
}

/// A step of a call, as against its beginning, its end and what is said in between.
fn is_step(line: &Value) -> bool {
    line["operation"].is_string() && !is_end(line) && line["object"] != "call"
}
