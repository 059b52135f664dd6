//! P22: DEL ends when the link is gone; a child that asked for it waits for the kernel to free it.

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::runner::{Attachment, Case, Feature, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p22_del_without_room_for_a_child, "the process limit is reached").needs(&[Feature::Strace]).ours(),
    test!(p22_del_whose_child_is_killed, "before it sent anything").needs(&[Feature::Strace]).ours(),
    test!(p22_a_child_keeps_no_pipe_open, "the runtime reads to the end at once").ours(),
];

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

fn p22_del_without_room_for_a_child(case: &Case) -> Result<()> {
    let (attachment, trace) = (added(case)?, case.dir.join("trace"));
    let inject = "inject=fork,vfork,clone,clone3:error=EAGAIN";
    let mut wrapper: Vec<&OsStr> = ["strace", "-f", "-e", inject, "-o"].map(OsStr::new).to_vec();
    wrapper.push(trace.as_os_str());
    attachment.call("DEL").under(&wrapper).succeed()?;
    ensure!(fs::read_to_string(&trace)?.contains("(INJECTED)"), "no child was to be started");
    nothing_is_left(case, &attachment)
}

fn p22_del_whose_child_is_killed(case: &Case) -> Result<()> {
    let attachment = added(case)?;
    // Every process is held up by what it does first of all.
    let wrapper = ["strace", "-f", "-qq", "-e", "inject=set_tid_address:delay_exit=400000", "-o", "/dev/null"];
    let mut strace = attachment.call("DEL").under(&wrapper.map(OsStr::new)).spawn()?;
    strace.stdin.take().context("stdin is piped")?.write_all(attachment.conf.to_string().as_bytes())?;
    // Strace has short-lived children of its own, to find out what it can do.
    let child = within("the plugin's child", || child_of(child_of(strace.id())?))?;
    kill(Pid::from_raw(child.cast_signed()), Signal::SIGKILL)?;
    let status = strace.wait()?;
    ensure!(status.success(), "DEL: {status}");
    nothing_is_left(case, &attachment)
}

/// A process that the process with this number has started.
fn child_of(parent: u32) -> Option<u32> {
    let has_parent = |stat: &str| {
        // "PID (NAME) STATE PPID ...", with anything in the name.
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok()) == Some(parent)
    };
    let numbers = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .into_iter()
        .find(|number: &u32| fs::read_to_string(format!("/proc/{number}/stat")).is_ok_and(|stat| has_parent(&stat)))
}

/// Waits for what comes soon.
fn within<T>(what: &str, look: impl Fn() -> Option<T>) -> Result<T> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        ensure!(Instant::now() < end, "{what} has not come");
        thread::sleep(Duration::from_millis(5));
    }
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
