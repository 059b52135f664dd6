//! P22: DEL ends when the link is gone; a child that asked for it waits for the kernel to free it.

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read, Write};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::runner::{Attachment, Case, Feature, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p22_del_without_room_for_a_child, "the process limit is reached").needs(&[Feature::Strace]).ours(),
    test!(p22_del_whose_child_is_killed, "before it sent anything").needs(&[Feature::Strace]).ours(),
    test!(p22_a_child_keeps_no_pipe_open, "the runtime reads to the end at once").ours(),
];

/// What a forked process of musl's calls before anything else, and no plugin beside.
const FIRST_OF_A_CHILD: &str = "gettid";

fn added(case: &Case) -> Result<Attachment> {
    let attachment = case.attachment(&case.node("n1")?, &case.pod("p1")?, &case.bridge_conf());
    attachment.add()?;
    Ok(attachment)
}

fn nothing_is_left(case: &Case, attachment: &Attachment) -> Result<()> {
    let Attachment { node, pod, .. } = attachment;
    ensure!(pod.find("eth0")?.is_none() && node.ports("cni0")?.is_empty(), "links are left");
    ensure!(case.lease_names("net")?.is_empty(), "a lease is left");
    Ok(())
}

/// DEL with one system call spoilt; `seen` has to be in the trace, so that it was.
fn del_with(case: &Case, attachment: &Attachment, inject: &str, seen: &str) -> Result<()> {
    let trace = case.dir.join("trace");
    let mut wrapper: Vec<&OsStr> = ["strace", "-f", "-e", inject, "-o"].map(OsStr::new).to_vec();
    wrapper.push(trace.as_os_str());
    attachment.call("DEL").under(&wrapper).succeed()?;
    let text = fs::read_to_string(&trace)?;
    ensure!(text.contains(seen), "{seen:?} is not in the trace:\n{text}");
    nothing_is_left(case, attachment)
}

fn p22_del_without_room_for_a_child(case: &Case) -> Result<()> {
    let attachment = added(case)?;
    del_with(
        case,
        &attachment,
        "inject=fork,vfork,clone,clone3:error=EAGAIN",
        "EAGAIN (Resource temporarily unavailable) (INJECTED)",
    )
}

fn p22_del_whose_child_is_killed(case: &Case) -> Result<()> {
    let attachment = added(case)?;
    let inject = format!("inject={FIRST_OF_A_CHILD}:signal=SIGKILL");
    del_with(case, &attachment, &inject, "+++ killed by SIGKILL +++")
}

fn p22_a_child_keeps_no_pipe_open(case: &Case) -> Result<()> {
    for _ in 0..10 {
        let attachment = added(case)?;
        let mut plugin = attachment.call("DEL").spawn()?;
        let (stdin, stdout) = (plugin.stdin.take(), plugin.stdout.take());
        let (mut stdin, mut stdout) = stdin.zip(stdout).context("both are piped")?;
        stdin.write_all(attachment.conf.to_string().as_bytes())?;
        drop(stdin);
        let status = plugin.wait()?;
        ensure!(status.success(), "DEL: {status}");
        fcntl(&stdout, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        match stdout.read(&mut [0; 1]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => bail!("the plugin has ended, and stdout is open"),
            other => bail!("stdout: {other:?}"),
        }
        nothing_is_left(case, &attachment)?;
    }
    Ok(())
}
