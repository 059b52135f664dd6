//! One call as a process of its own, and what it cost.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::fcntl::OFlag;
use serde::Deserialize;

/// The small program that starts what is measured.
pub(super) const LAUNCHER: &str = "podwire-launch";

/// What a call took, as `podwire-launch` counts it (see there).
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Cost {
    took_us: u64,
    settled_us: u64,
    cpu_us: u64,
    /// Resident memory of the largest process.
    pub(super) peak_kb: u64,
}

impl Cost {
    /// Until it had ended and its output was read.
    pub(super) fn took(&self) -> Duration {
        Duration::from_micros(self.took_us)
    }

    /// Until no process of it was left.
    pub(super) fn settled(&self) -> Duration {
        Duration::from_micros(self.settled_us)
    }

    /// Processor time of all its processes.
    pub(super) fn cpu(&self) -> Duration {
        Duration::from_micros(self.cpu_us)
    }
}

/// A program that was built with this one.
pub(super) fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.is_file(), "program \"{}\": not there; it is built with this one", path.display());
    Ok(path)
}

/// Runs `command` with `stdin` to read, under the launcher. Gives what it cost and what it printed; an error unless it
/// succeeds.
pub(super) fn launch(command: &Command, stdin: &str) -> Result<(Cost, Vec<u8>)> {
    let mut launcher = Command::new(beside(LAUNCHER)?);
    launcher.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            launcher.env(name, value);
        }
    }
    let (_, output) = feed(&mut launcher, stdin).context("launcher: start")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let (figures, rest) = printed.split_once('\n').unwrap_or_default();
    ensure!(
        output.status.success(),
        "{:?}: {}: {} {}",
        command.get_program(),
        output.status,
        rest.trim(),
        String::from_utf8_lossy(&output.stderr).trim(),
    );
    let cost = serde_json::from_str(figures).with_context(|| format!("launcher said {figures:?}"))?;
    Ok((cost, rest.as_bytes().to_vec()))
}

/// Runs `command` with `stdin` to read. Gives its process id and what it printed.
pub(super) fn feed(command: &mut Command, stdin: &str) -> Result<(u32, Output)> {
    command.stdin(full_pipe(stdin)?).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn()?;
    Ok((child.id(), child.wait_with_output()?))
}

/// A pipe that all of `text` is in already, so that nobody who reads it waits for this process.
fn full_pipe(text: &str) -> Result<Stdio> {
    /// What a pipe of Linux holds.
    const ROOM: usize = 65_536;
    ensure!(text.len() <= ROOM, "{} bytes: more than a pipe holds", text.len());
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    std::fs::File::from(write).write_all(text.as_bytes())?;
    Ok(read.into())
}
