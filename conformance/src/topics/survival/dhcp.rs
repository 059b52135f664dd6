//! `dhcp`: the plugin is killed or spoilt while its daemon lives, and the daemon is killed while it serves a plugin.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use serde_json::json;

use super::calls;
use super::faults::says_what_failed;
use crate::intercept::{self, Fate};
use crate::lab::{Daemon, Lan, Offer, Server, Snapshot, Software, cable};
use crate::runner::{Attachment, Case, Feature, Test, merged};
use crate::test;

const SERVERS: &[Feature] = &[Feature::DhcpServers];

pub(super) const TESTS: &[Test] = &[
    test!(p22_kill_dhcp_add, "each system call of ADD; then DEL, ADD with DEL, and GC")
        .needs(SERVERS)
        .ours()
        .limit(300),
    test!(p22_kill_dhcp_del, "each system call of DEL; then DEL, ADD with DEL, and GC")
        .needs(SERVERS)
        .ours()
        .limit(300),
    test!(p22_kill_dhcp_daemon_in_add, "before each change while it serves ADD, and started again")
        .needs(SERVERS)
        .ours()
        .limit(300),
    test!(p22_kill_dhcp_daemon_in_del, "before each change while it serves DEL, and started again")
        .needs(SERVERS)
        .ours()
        .limit(300),
    test!(p20_fault_dhcp_daemon_in_add, "each system call while it serves ADD fails: an error, or nothing to be seen")
        .needs(SERVERS)
        .ours()
        .limit(300),
    test!(p22_fault_dhcp_daemon_in_del, "each system call while it serves DEL fails: it is done, or by a second DEL")
        .needs(SERVERS)
        .ours()
        .limit(300),
    test!(p20_fault_dhcp_add, "each system call of ADD fails: an error, or nothing to be seen")
        .needs(SERVERS)
        .ours()
        .limit(300),
    test!(p22_fault_dhcp_del, "each system call of DEL fails: it is done all the same, or by a second DEL")
        .needs(SERVERS)
        .ours()
        .limit(300),
];

/// More system calls than any call makes.
const ENOUGH: usize = 1000;

/// Ways to clean up after a call that was killed.
const WAYS: usize = 3;

/// A pod with a link on a network with a server, and a daemon on the pod's node.
struct Site {
    attachment: Attachment,
    /// Node and pod without a lease.
    before: Snapshot,
    _lan: Lan,
    _server: Server,
}

impl Site {
    fn new(case: &Case) -> Result<(Self, Daemon)> {
        let lan = Lan::new()?;
        let server = Server::start(Software::Dnsmasq, &lan.other, "eth0", &case.dir.join("server"), &Offer::v4())?;
        let daemon = Daemon::start(&case.cni_path, &lan.node, &case.dir.join("daemon"), &[])?;
        let pod = case.pod("pod")?;
        cable(&pod, "eth0", &lan.switch, "to-pod")?;
        lan.switch.plug("sw0", "to-pod")?;
        let conf = json!({
            "cniVersion": "1.1.0", "name": "net", "type": "dhcp",
            "ipam": { "type": "dhcp", "daemonSocketPath": daemon.socket() },
        });
        let attachment = case.attachment(&lan.node, &pod, &conf);
        let before = case.snapshot(&[&lan.node, &pod])?;
        Ok((Self { attachment, before, _lan: lan, _server: server }, daemon))
    }

    fn prepare(&self, command: &str) -> Result<()> {
        if command == "DEL" { self.attachment.add().map(drop) } else { Ok(()) }
    }

    /// All is as it was, and the daemon keeps no lease: it forgets one before it answers.
    fn is_clean(&self, daemon: &Daemon) -> Result<()> {
        let all = fs::read_dir(daemon.leases())?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let left: Vec<String> = all.filter(|name| name.contains("container-")).collect();
        ensure!(left.is_empty(), "leases are left: {left:?}");
        let Attachment { case, node, pod, .. } = &self.attachment;
        self.before.ensure_same(&case.snapshot(&[node, pod])?)
    }

    fn collect(&self) -> Result<()> {
        let Attachment { case, node, conf, .. } = &self.attachment;
        let conf = merged(conf, json!({ "cni.dev/valid-attachments": [] }));
        case.call(node, "dhcp", "GC").conf(&conf).succeed().map(drop)
    }

    /// One of the [`WAYS`].
    fn clean_up(&self, way: usize) -> Result<()> {
        match way {
            0 => self.attachment.del(),
            1 => self.collect(),
            _ => {
                let output = self.attachment.call("ADD").run()?;
                if output.status.success() {
                    self.attachment.check(&output.success()?)?;
                } else {
                    ensure!(output.any_failure()?.code == 105, "ADD again: {}", output.stdout);
                }
                self.attachment.del()
            }
        }
    }
}

fn p22_kill_dhcp_add(case: &Case) -> Result<()> {
    kill_plugin(case, "ADD")
}

fn p22_kill_dhcp_del(case: &Case) -> Result<()> {
    kill_plugin(case, "DEL")
}

fn p22_kill_dhcp_daemon_in_add(case: &Case) -> Result<()> {
    kill_daemon(case, "ADD")
}

fn p22_kill_dhcp_daemon_in_del(case: &Case) -> Result<()> {
    kill_daemon(case, "DEL")
}

fn p20_fault_dhcp_daemon_in_add(case: &Case) -> Result<()> {
    spoil_daemon(case, "ADD")
}

fn p22_fault_dhcp_daemon_in_del(case: &Case) -> Result<()> {
    spoil_daemon(case, "DEL")
}

fn p20_fault_dhcp_add(case: &Case) -> Result<()> {
    spoil(case, "ADD")
}

fn p22_fault_dhcp_del(case: &Case) -> Result<()> {
    spoil(case, "DEL")
}

/// Kills the plugin before each of its system calls.
fn kill_plugin(case: &Case, command: &str) -> Result<()> {
    let (site, daemon) = Site::new(case)?;
    let mut killed = 0;
    for way in 0..WAYS {
        for nth in 1.. {
            ensure!(nth < ENOUGH, "more than {ENOUGH} calls");
            site.prepare(command)?;
            let (mut seen, mut hit) = (0, None);
            let output = site.attachment.call(command).run_under(|moment| {
                seen += 1;
                if seen != nth {
                    return Fate::Goes;
                }
                hit = Some(*moment);
                Fate::Killed
            })?;
            let Some(moment) = hit else {
                output.success()?;
                site.attachment.del()?;
                break;
            };
            ensure!(output.status.signal() == Some(9), "{}: {}", output.status, output.stdout);
            let attempt = || site.clean_up(way).and_then(|()| site.is_clean(&daemon));
            attempt().with_context(|| format!("killed at call {nth}, {}", calls::name(&moment)))?;
            killed += 1;
        }
    }
    // What the daemon had begun for one that was killed would be here by now.
    site.is_clean(&daemon)?;
    ensure!(killed > 5, "only {killed} calls were killed");
    case.note(format!("killed {killed} times, each way of {WAYS} after each system call"));
    Ok(())
}

/// Kills the daemon before each call by which it changes something while it serves the plugin, which has to end.
fn kill_daemon(case: &Case, command: &str) -> Result<()> {
    let (site, mut daemon) = Site::new(case)?;
    let mut killed = 0;
    for way in 0..WAYS {
        for nth in 1.. {
            ensure!(nth < ENOUGH, "more than {ENOUGH} changes");
            site.prepare(command)?;
            daemon = daemon.restart_after(intercept::prepare)?;
            // Counts down from the moment when the call is made; nothing happens while it is at 0.
            let left = AtomicUsize::new(0);
            let process = daemon.log().pid();
            let fate = |moment: &intercept::Moment| {
                let counts = calls::changes(moment) && left.load(Ordering::SeqCst) > 0;
                if counts && left.fetch_sub(1, Ordering::SeqCst) == 1 { Fate::Killed } else { Fate::Goes }
            };
            let (output, is_hit) = thread::scope(|scope| {
                let watcher = scope.spawn(|| intercept::decide_beside(process, fate));
                // Whatever it does to begin with is done once it answers.
                let output = site.attachment.call("STATUS").succeed().and_then(|_| {
                    left.store(nth, Ordering::SeqCst);
                    site.attachment.call(command).run()
                });
                let is_hit = left.swap(0, Ordering::SeqCst) == 0;
                daemon.log().signal(Signal::SIGKILL)?;
                watcher.join().map_err(|_| anyhow!("the watcher panicked"))??;
                anyhow::Ok((output?, is_hit))
            })?;
            daemon = daemon.restart(Signal::SIGKILL)?;
            if !is_hit {
                output.success()?;
                site.attachment.del()?;
                break;
            }
            let attempt = || {
                if !output.status.success() {
                    output.any_failure()?;
                } else if command == "ADD" {
                    // It was killed after it had answered, and the next one has to know.
                    site.attachment.check(&output.success()?).context("CHECK")?;
                }
                site.clean_up(way)?;
                site.is_clean(&daemon)
            };
            attempt().with_context(|| format!("killed at change {nth}"))?;
            killed += 1;
        }
    }
    site.is_clean(&daemon)?;
    ensure!(killed > 2, "only {killed} changes were killed");
    case.note(format!("killed {killed} times, each way of {WAYS} after each change"));
    Ok(())
}

/// Spoils each system call of the daemon while it serves the plugin, which has to end; the daemon goes on.
fn spoil_daemon(case: &Case, command: &str) -> Result<()> {
    let (site, daemon) = Site::new(case)?;
    let daemon = daemon.restart_after(intercept::prepare)?;
    // Counts down from the moment when the call is made; nothing happens while it is at 0.
    let left = AtomicUsize::new(0);
    let hit = Mutex::new(None);
    let turn = AtomicUsize::new(0);
    let process = daemon.log().pid();
    let fate = |moment: &intercept::Moment| {
        let Some(errno) = calls::errnos(moment).get(turn.load(Ordering::SeqCst)).copied() else { return Fate::Goes };
        if left.load(Ordering::SeqCst) == 0 || left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return Fate::Goes;
        }
        *hit.lock().expect("nobody panics") = Some((*moment, errno));
        Fate::Fails(errno)
    };
    let attempt = |nth: usize, round: usize| {
        site.prepare(command)?;
        turn.store(round, Ordering::SeqCst);
        left.store(nth, Ordering::SeqCst);
        let output = site.attachment.call(command).run()?;
        left.store(0, Ordering::SeqCst);
        let Some((moment, errno)) = hit.lock().expect("nobody panics").take() else {
            output.success()?;
            return anyhow::Ok(false);
        };
        let judge = || {
            if !output.status.success() {
                output.any_failure()?;
            } else if command == "ADD" {
                site.attachment.check(&output.success()?).context("CHECK")?;
            } else {
                site.is_clean(&daemon).context("DEL succeeded")?;
            }
            site.attachment.del()?;
            site.is_clean(&daemon)
        };
        judge().with_context(|| format!("call {nth}, {}, gave {errno:?}: {}", calls::name(&moment), output.stdout))?;
        Ok(true)
    };
    let spoilt = thread::scope(|scope| {
        let watcher = scope.spawn(|| intercept::decide_beside(process, fate));
        let mut spoilt = 0;
        let outcome = site.attachment.call("STATUS").succeed().and_then(|_| {
            for round in 0..calls::MOST_ERRNOS {
                let mut nth = 1;
                while attempt(nth, round)? {
                    nth += 1;
                    ensure!(nth < ENOUGH, "more than {ENOUGH} calls");
                }
                spoilt += nth - 1;
            }
            site.attachment.del()
        });
        daemon.log().signal(Signal::SIGKILL)?;
        watcher.join().map_err(|_| anyhow!("the watcher panicked"))??;
        outcome.map(|()| spoilt)
    })?;
    ensure!(spoilt > 5, "only {spoilt} calls were spoilt");
    case.note(format!("{spoilt} faults"));
    Ok(())
}

/// Spoils each system call of the plugin. A lease that a failed ADD could not be told of is DEL's to release, which the
/// plugin that delegated calls.
fn spoil(case: &Case, command: &str) -> Result<()> {
    let (site, daemon) = Site::new(case)?;
    let mut points = 0;
    for round in 0..calls::MOST_ERRNOS {
        for nth in 1.. {
            ensure!(nth < ENOUGH, "more than {ENOUGH} calls");
            site.prepare(command)?;
            let (mut seen, mut hit) = (0, None);
            let output = site.attachment.call(command).run_under(|moment| {
                let Some(errno) = calls::errnos(moment).get(round).copied() else { return Fate::Goes };
                seen += 1;
                if seen != nth {
                    return Fate::Goes;
                }
                hit = Some((*moment, errno));
                Fate::Fails(errno)
            })?;
            let Some((moment, errno)) = hit else {
                output.success()?;
                site.attachment.del()?;
                break;
            };
            let attempt = || {
                if output.status.success() {
                    let result = output.success()?;
                    if command == "DEL" {
                        return site.is_clean(&daemon);
                    }
                    site.attachment.check(&result)?;
                } else {
                    ensure!(errno != Errno::EINTR, "was not repeated");
                    says_what_failed(&output.any_failure()?, errno)?;
                }
                site.attachment.del()?;
                site.is_clean(&daemon)
            };
            attempt().with_context(|| format!("call {nth}, {}, gave {errno:?}", calls::name(&moment)))?;
            points += 1;
        }
    }
    ensure!(points > 5, "only {points} calls were spoilt");
    case.note(format!("{points} faults"));
    Ok(())
}
