//! What becomes of leases: files that break, machines that boot, many calls at once, and networks where others have addresses.

mod boots;
mod files;
mod many;
mod probe;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use super::host_local::{addresses, attachment, conf, subnet};
use crate::runner::{Case, Test, merged};

pub(super) const TESTS: &[&[Test]] = &[boots::TESTS, files::TESTS, many::TESTS, probe::TESTS];

/// Writes leases as the reference does, of `count` containers whose names start with `who`, from `10.7.0.2` on.
fn write_leases(case: &Case, who: &str, count: u16) -> Result<()> {
    let directory = case.leases_of("net");
    std::fs::create_dir_all(&directory)?;
    for n in 0..count {
        let [high, low] = (n + 2).to_be_bytes();
        std::fs::write(directory.join(format!("10.7.{high}.{low}")), format!("{who}{n}\r\neth0"))?;
    }
    Ok(())
}

/// GC with these containers as the valid ones.
fn with_valid(conf: &Value, valid: impl Iterator<Item = String>) -> Value {
    let list: Vec<_> = valid.map(|id| json!({ "containerID": id, "ifname": "eth0" })).collect();
    merged(conf, json!({ "cniVersion": "1.1.0", "cni.dev/valid-attachments": list }))
}

/// Mounts a file system of `kind` where the leases go. The sandbox's mounts end with the test.
fn mount_leases(case: &Case, kind: &str, options: &str) -> Result<()> {
    std::fs::create_dir_all(case.leases())?;
    mount(Some(kind), &case.leases(), Some(kind), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options))
        .with_context(|| format!("{:?}: mount {kind}", case.leases()))
}
