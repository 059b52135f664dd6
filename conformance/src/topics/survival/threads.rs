//! Somebody has a lock, and there is no room for the thread that would wait for it.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::libc;

use super::scene::{Device, Scene};
use crate::intercept::{Fate, Moment};
use crate::runner::{Case, Test};
use crate::test;
use crate::topics::node_lock;

pub(super) const TESTS: &[Test] = &[
    test!(p20_no_thread_to_wait_for_the_node_is_an_error, "the lock of the node; nothing is left").ours(),
    test!(p20_no_thread_to_wait_for_leases_is_an_error, "the lock of the lease folder; nothing is left").ours(),
];

fn p20_no_thread_to_wait_for_the_node_is_an_error(case: &Case) -> Result<()> {
    add_without_threads(case, Device::Bridge, |scene| node_lock(&scene.attachment.node))
}

fn p20_no_thread_to_wait_for_leases_is_an_error(case: &Case) -> Result<()> {
    add_without_threads(case, Device::HostLocal, |scene| {
        let network = scene.attachment.conf["name"].as_str().unwrap_or_default();
        Ok(scene.attachment.case.leases().join(network).join("lock"))
    })
}

/// An ADD that meets a lock, and may not start a thread.
fn add_without_threads(case: &Case, device: Device, lock: impl Fn(&Scene) -> Result<PathBuf>) -> Result<()> {
    let scene = Scene::new(case, device, true)?;
    let before = scene.everything()?;
    let lock = File::open(lock(&scene)?)?;
    lock.lock()?;
    let mut refused = 0;
    let output = scene.attachment.call("ADD").run_under(|moment| {
        if starts_a_thread(moment) {
            refused += 1;
            Fate::Fails(Errno::ENOMEM)
        } else {
            Fate::Goes
        }
    })?;
    ensure!(refused > 0, "it started no thread");
    // Of a thread the C library says so, whatever the kernel said.
    output.any_failure()?.says(&["start a thread", "EAGAIN"])?;
    before.ensure_same(&scene.everything()?)?;
    lock.unlock()?;
    scene.attachment.add()?;
    scene.attachment.del()
}

fn starts_a_thread(moment: &Moment) -> bool {
    [libc::SYS_clone, libc::SYS_clone3].contains(&moment.number)
}
