//! Processes that have no part in it: the locks that everybody can hold who lives in a namespace, and messages to a
//! plugin that are not the kernel's.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::unistd::Pid;
use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rtnetlink::sys::{Socket, SocketAddr};
use serde_json::json;

use super::halt::halted_process;
use super::scene::{BRIDGE, Device, Scene};
use crate::runner::{Case, Test};
use crate::test;
use crate::topics::node_lock;

pub(super) const TESTS: &[Test] = &[
    test!(p27_locks_on_the_nodes_namespace_keep_nobody_waiting, "ADD, DEL and GC beside every lock that there is")
        .needs(BRIDGE)
        .ours(),
    test!(p27_answers_that_are_not_the_kernels_are_passed_over, "errors sent to the sockets of ADD and DEL")
        .needs(BRIDGE)
        .ours()
        .limit(120),
];

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

fn p27_answers_that_are_not_the_kernels_are_passed_over(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let attachment = case.attachment(&node, &case.pod("a")?, &case.bridge_with(json!({ "ipMasq": true })));
    for nth in 1.. {
        // The first socket of a process has its number for an address, in each namespace and for each protocol.
        let forge = |pid: Pid| {
            for space in [&node, &attachment.pod] {
                space.ns.run(|| {
                    [NETLINK_ROUTE, NETLINK_NETFILTER].into_iter().try_for_each(|to| forge_errors(to, pid))
                })??;
            }
            Ok(())
        };
        let context = || format!("errors after request {nth}");
        let (add, forged) = halted_process(&case.dir, attachment.call("ADD"), nth, forge)?;
        let result = add.success().with_context(context)?;
        attachment.check(&result).with_context(context)?;
        let (del, forged_too) = halted_process(&case.dir, attachment.call("DEL"), nth, forge)?;
        del.success().with_context(context)?;
        ensure!(!node.ruleset()?.contains("podwire:"), "rules are left: {}", context());
        if forged.or(forged_too).is_none() {
            ensure!(nth > 8, "halted {} times", nth - 1);
            break;
        }
    }
    Ok(())
}

/// Sends a process what looks like the kernel's refusal of each of its next requests, if it has a socket.
fn forge_errors(protocol: isize, pid: Pid) -> Result<()> {
    const NLMSG_ERROR: u16 = 2;
    let socket = Socket::new(protocol).context("netlink socket")?;
    for number in 0..64_u32 {
        let mut message = vec![];
        // Length, type and flags, number, port; the error, and the header that it answers.
        message.extend(36_u32.to_ne_bytes());
        message.extend([NLMSG_ERROR.to_ne_bytes(), [0; 2]].concat());
        message.extend(number.to_ne_bytes());
        message.extend([0; 4]);
        message.extend((-libc::EIO).to_ne_bytes());
        message.resize(36, 0);
        match socket.send_to(&message, &SocketAddr::new(pid.as_raw().cast_unsigned(), 0), 0) {
            // It has none of this protocol by now.
            Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => return Ok(()),
            other => other.context("send")?,
        };
    }
    Ok(())
}

/// A shared lock on all bytes of a file; an exclusive one is only for who can write to it.
fn everything() -> libc::flock {
    let l_type = i16::try_from(libc::F_RDLCK).unwrap_or_default();
    libc::flock { l_type, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 }
}
