//! The namespaces a test lives in: processes, mounts and network of its own, so that nothing it does can reach the
//! machine and nothing it starts can outlive it.

use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::sys;

/// Starts this very program with `args` as the first process of a new process namespace, and waits for it.
pub(super) fn start(args: &[&str]) -> Result<ExitStatus> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID)
        .context("sandbox: unshare")?;
    let mut command = Command::new("/proc/self/exe");
    sys::die_with_parent(&mut command).args(args);
    command.status().context("sandbox: start")
}

/// Runs `work` in a sandbox: starts the same command line again there, with `--inside` added to it.
pub fn in_sandbox(inside: bool, work: impl FnOnce() -> Result<ExitCode>) -> Result<ExitCode> {
    if inside {
        enter()?;
        return work();
    }
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    args.push("--inside".to_owned());
    let status = start(&args.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the first process does: its own `/proc`, and empty directories over those where the machine keeps state.
pub(super) fn enter() -> Result<()> {
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).context("/: make private")?;
    let secure = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("proc"), "/proc", Some("proc"), secure | MsFlags::MS_NOEXEC, nothing).context("/proc: mount")?;
    for directory in ["/run", "/var/lib/cni"] {
        if Path::new(directory).is_dir() {
            mount(Some("tmpfs"), directory, Some("tmpfs"), secure, nothing)
                .with_context(|| format!("{directory}: mount tmpfs"))?;
        }
    }
    Ok(())
}
