//! Locks of processes that have no part in it. On a namespace everybody who lives in it can hold one, without any privilege.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::scene::{BRIDGE, Device, Scene};
use crate::runner::{Case, Test};
use crate::test;
use crate::topics::node_lock;

pub(super) const TESTS: &[Test] =
    &[test!(p27_locks_on_the_nodes_namespace_keep_nobody_waiting, "ADD, DEL and GC beside every lock that there is")
        .needs(BRIDGE)
        .ours()];

/// A call that waits for a lock gives up after ten seconds.
const SOON: Duration = Duration::from_secs(5);

fn p27_locks_on_the_nodes_namespace_keep_nobody_waiting(case: &Case) -> Result<()> {
    let scene = Scene::new(case, Device::Bridge)?;
    let guest = scene.guest(1)?;
    let namespace = File::open(scene.lan.node.ns.path())?;
    namespace.lock()?;
    fcntl(&namespace, FcntlArg::F_OFD_SETLK(&everything()))?;
    let call = |command: &str| guest.attachment.call(command);
    for call in [call("ADD"), call("DEL"), scene.collect(&[])] {
        let output = call.run()?;
        output.success()?;
        ensure!(output.took < SOON, "{:?}", output.took);
    }
    // What they do wait for is out of reach.
    let lock = node_lock(&scene.lan.node)?;
    let mode = |path: &std::path::Path| anyhow::Ok(fs::symlink_metadata(path)?.permissions().mode() & 0o7777);
    let folder = lock.parent().unwrap_or(&lock);
    ensure!((mode(folder)?, mode(&lock)?) == (0o700, 0o600), "{:o} {:o}", mode(folder)?, mode(&lock)?);
    scene.ensure_clean()
}

/// A shared lock on all bytes of a file; an exclusive one is only for who can write to it.
fn everything() -> libc::flock {
    let l_type = i16::try_from(libc::F_RDLCK).unwrap_or_default();
    libc::flock { l_type, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 }
}
