//! What was measured with, and on what.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde::Serialize;

/// A machine and the versions of what ran on it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) kernel: String,
    pub(super) processor: String,
    pub(super) processors: usize,
    /// Processes that want to run, on average over the last minute, before the first measurement.
    pub(super) load: f64,
    pub(super) podwire: &'static str,
    pub(super) reference: String,
}

impl Machine {
    /// This one.
    pub(super) fn look(reference: &Path) -> Result<Self> {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
        let processor = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Self {
            kernel,
            processor: processor.map_or("unknown", |(_, name)| name).to_owned(),
            processors: std::thread::available_parallelism()?.get(),
            load: load.split(' ').next().unwrap_or_default().parse()?,
            podwire: env!("CARGO_PKG_VERSION"),
            reference: version_of(reference),
        })
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
