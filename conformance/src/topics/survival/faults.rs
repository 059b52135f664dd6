//! Each system call of ADD and of DEL that touches kernel or disk fails, one at a time, and what is undone afterwards is
//! not disturbed.
//!
//! A call that is interrupted (EINTR) is to be repeated, so that nothing is to be seen of it; others a plugin can do
//! without. Else there is an error that names the errno. A failed ADD has changed nothing, and a DEL that is repeated
//! leaves nothing.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;

use super::calls;
use super::scene::{Device, Scene};
use crate::cni::{Call, Output};
use crate::intercept::{Fate, Moment};
use crate::lab::Snapshot;
use crate::runner::{Case, Feature, Test};
use crate::test;

/// A test for ADD and one for DEL of one plugin; `$needs` is its kernel's part.
macro_rules! of_device {
    ($($device:ident $needs:expr => $add:ident $del:ident,)*) => {
        pub(super) const TESTS: &[Test] = &[$(
            test!($add, "each system call of ADD fails: an error, or nothing to be seen; the node as before")
                .needs($needs).ours().limit(600),
            test!($del, "each system call of DEL fails: it is done all the same, or by a second DEL")
                .needs($needs).ours().limit(600),
        )*];
        $(
            fn $add(case: &Case) -> Result<()> {
                everywhere(case, Device::$device, "ADD")
            }
            fn $del(case: &Case) -> Result<()> {
                everywhere(case, Device::$device, "DEL")
            }
        )*
    };
}

of_device! {
    Bridge &[Feature::NftInet, Feature::NftBridge] => p20_fault_bridge_add p22_fault_bridge_del,
    Macvlan &[Feature::Macvlan] => p20_fault_macvlan_add p22_fault_macvlan_del,
    Vxlan &[Feature::Vxlan] => p20_fault_vxlan_add p22_fault_vxlan_del,
    Ipvlan &[Feature::Ipvlan] => p20_fault_ipvlan_add p22_fault_ipvlan_del,
    Vlan &[Feature::Vlan] => p20_fault_vlan_add p22_fault_vlan_del,
    VlanShared &[Feature::Vlan, Feature::Macvlan] => p20_fault_shared_vlan_add p22_fault_shared_vlan_del,
    Bond &[Feature::Bond] => p20_fault_bond_add p22_fault_bond_del,
    HostLocal &[] => p20_fault_host_local_add p22_fault_host_local_del,
    Static &[] => p20_fault_static_add p22_fault_static_del,
    Loopback &[] => p20_fault_loopback_add p22_fault_loopback_del,
}

/// More system calls than a plugin can have a use for.
const ENOUGH: usize = 2000;

/// As many failures as are told of in one report.
const TOLD: usize = 12;

/// What was done to a call.
struct Fault {
    nth: usize,
    moment: Moment,
    errno: Errno,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "call {}, {}, gave {:?}", self.nth, calls::name(&self.moment), self.errno)
    }
}

/// Spoils each system call of `command`, first of all on a node where the network has another pod, then on one without.
fn everywhere(case: &Case, device: Device, command: &str) -> Result<()> {
    let (mut points, mut errors) = (0, 0);
    // An emulated kernel is slow; there, the others' tests have to do for the first ADD on a node.
    let nodes: &[bool] = if device.is_rare() || command == "DEL" { &[true] } else { &[true, false] };
    for &inhabited in nodes {
        let case = case.below(if inhabited { "shared" } else { "first" });
        std::fs::create_dir_all(&case.dir)?;
        let scene = Scene::new(&case, device, inhabited)?;
        let (tried, failed) = Spoiler::new(&scene, command)?.all()?;
        points += tried;
        errors += failed;
    }
    ensure!(points > 2, "only {points} calls were spoilt");
    case.note(format!("{points} system calls failed, {errors} with an error, the others unnoticed"));
    Ok(())
}

struct Spoiler<'a> {
    scene: &'a Scene,
    command: &'a str,
    /// Everything before, to be compared with.
    before: Snapshot,
    /// How often a call of each name has been spoilt: the next one gets the next errno.
    turns: HashMap<i64, usize>,
}

impl<'a> Spoiler<'a> {
    fn new(scene: &'a Scene, command: &'a str) -> Result<Self> {
        // Once for what stays behind by design, such as the folder of leases or a loopback's address.
        scene.prepare(command)?;
        scene.attachment.call(command).succeed()?;
        clean(scene)?;
        Ok(Self { scene, command, before: scene.everything()?, turns: HashMap::new() })
    }

    /// Gives how many calls were spoilt, and how many of those were answered by an error.
    fn all(mut self) -> Result<(usize, usize)> {
        let (mut points, mut errors, mut failures) = (0, 0, Vec::new());
        for nth in 1.. {
            ensure!(nth < ENOUGH, "more than {ENOUGH} calls");
            self.scene.prepare(self.command)?;
            let (output, fault) = self.spoil(&self.scene.attachment.call(self.command), nth)?;
            let Some(fault) = fault else {
                output.success()?;
                clean(self.scene)?;
                break;
            };
            points += 1;
            match self.judge(&output, fault.errno).with_context(|| fault.to_string()) {
                Ok(is_error) => errors += usize::from(is_error),
                Err(failure) => {
                    failures.push(format!("{failure:#}\n  it said {} {}", output.stdout.trim(), output.stderr.trim()));
                    // What is left would be found after the next ones too.
                    clean(self.scene)?;
                    if self.before.ensure_same(&self.scene.everything()?).is_err() {
                        break;
                    }
                }
            }
        }
        if !failures.is_empty() {
            let count = failures.len();
            failures.truncate(TOLD);
            bail!("{count} faults of {points}:\n{}", failures.join("\n"));
        }
        Ok((points, errors))
    }

    /// Makes the call, the `nth` of its system calls spoilt; tells by what. Of rare devices only those are that are about
    /// links: the others are made by code that all plugins share, and an emulated kernel is slow.
    fn spoil(&mut self, call: &Call, nth: usize) -> Result<(Output, Option<Fault>)> {
        let only_links = self.scene.device.is_rare();
        let (mut seen, mut fault) = (0, None);
        let output = call.run_under(|moment| {
            let errnos = if only_links && !calls::is_about_links(moment) { &[] } else { calls::errnos(moment) };
            seen += usize::from(!errnos.is_empty());
            if errnos.is_empty() || seen != nth || fault.is_some() {
                return Fate::Goes;
            }
            let turn = self.turns.entry(moment.number).or_default();
            let errno = errnos[*turn % errnos.len()];
            *turn += 1;
            fault = Some(Fault { nth, moment: *moment, errno });
            Fate::Fails(errno)
        })?;
        Ok((output, fault))
    }

    /// Looks at what a spoilt call has done; tells whether it ended with an error.
    fn judge(&self, output: &Output, errno: Errno) -> Result<bool> {
        let attachment = &self.scene.attachment;
        let is_error = !output.status.success();
        if is_error {
            ensure!(errno != Errno::EINTR, "was not repeated");
            // By name, as is promised of every error of the kernel's.
            output.any_failure()?.says(&[&format!("{errno:?}")])?;
        }
        match (self.command, is_error) {
            ("ADD", false) => {
                attachment.check(&output.success()?).context("CHECK after it")?;
                clean(self.scene)?;
            }
            ("ADD", true) => {}
            (_, true) => attachment.del().context("DEL again")?,
            (_, false) => drop(output.success()?),
        }
        self.before.ensure_same(&self.scene.everything()?)?;
        Ok(is_error)
    }
}

/// Removes the attachment, and what the network as a whole has where nobody else uses it.
fn clean(scene: &Scene) -> Result<()> {
    scene.attachment.del()?;
    scene.collect()
}
