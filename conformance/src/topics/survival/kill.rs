//! SIGKILL at each system call of ADD and of DEL in turn, and what puts everything back: DEL, GC, or ADD and DEL.

use std::os::unix::process::ExitStatusExt;

use anyhow::{Context, Result, ensure};

use super::calls;
use super::scene::{Device, Scene};
use crate::cni::Call;
use crate::intercept::{Fate, Moment};
use crate::lab::Snapshot;
use crate::runner::{Case, Feature, Test};
use crate::test;

/// A test for each way of one plugin; `$needs` is its kernel's part.
macro_rules! of_device {
    ($($device:ident $needs:expr => $add:ident $del:ident $first:ident,)*) => {
        pub(super) const TESTS: &[Test] = &[$(
            test!($add, "each system call of ADD; then DEL, GC, and ADD with DEL").needs($needs).ours().limit(600),
            test!($del, "each system call of DEL; then DEL, GC, and ADD with DEL").needs($needs).ours().limit(600),
            test!($first, "each system call of the first ADD on a node; then GC").needs($needs).ours().limit(600),
        )*];
        $(
            fn $add(case: &Case) -> Result<()> {
                everywhere(case, Device::$device, true, "ADD", &[After::Del, After::AddAndDel, After::Gc])
            }
            fn $del(case: &Case) -> Result<()> {
                everywhere(case, Device::$device, true, "DEL", &[After::Del, After::AddAndDel, After::Gc])
            }
            fn $first(case: &Case) -> Result<()> {
                everywhere(case, Device::$device, false, "ADD", &[After::DelAndGc])
            }
        )*
    };
}

of_device! {
    Bridge &[Feature::NftInet, Feature::NftBridge]
        => p22_kill_bridge_add p22_kill_bridge_del p22_kill_bridge_first_add,
    Macvlan &[Feature::Macvlan] => p22_kill_macvlan_add p22_kill_macvlan_del p22_kill_macvlan_first_add,
    Vxlan &[Feature::Vxlan] => p22_kill_vxlan_add p22_kill_vxlan_del p22_kill_vxlan_first_add,
    Ipvlan &[Feature::Ipvlan] => p22_kill_ipvlan_add p22_kill_ipvlan_del p22_kill_ipvlan_first_add,
    Vlan &[Feature::Vlan] => p22_kill_vlan_add p22_kill_vlan_del p22_kill_vlan_first_add,
    VlanShared &[Feature::Vlan, Feature::Macvlan]
        => p22_kill_shared_vlan_add p22_kill_shared_vlan_del p22_kill_shared_vlan_first_add,
    Bond &[Feature::Bond] => p22_kill_bond_add p22_kill_bond_del p22_kill_bond_first_add,
    HostLocal &[] => p22_kill_host_local_add p22_kill_host_local_del p22_kill_host_local_first_add,
    Static &[] => p22_kill_static_add p22_kill_static_del p22_kill_static_first_add,
    Loopback &[] => p22_kill_loopback_add p22_kill_loopback_del p22_kill_loopback_first_add,
}

/// More system calls than a plugin can have a use for.
const ENOUGH: usize = 2000;

/// What is done about the attachment whose call was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Del,
    Gc,
    /// By a runtime that tries again without a DEL. Where something is in the way, it has to say so.
    AddAndDel,
    /// What the network as a whole has is GC's to remove.
    DelAndGc,
}

impl After {
    fn run(self, scene: &Scene, around: &Snapshot) -> Result<()> {
        let attachment = &scene.attachment;
        match self {
            Self::Del => attachment.del(),
            Self::Gc => {
                scene.collect()?;
                // What is in the pod goes with the pod.
                around.ensure_same(&scene.around()?)?;
                attachment.del()
            }
            Self::AddAndDel => {
                let output = attachment.call("ADD").run()?;
                if output.status.success() {
                    attachment.check(&output.success()?)?;
                } else {
                    ensure!(output.any_failure()?.code == 105, "ADD again: {}", output.stdout);
                }
                attachment.del()
            }
            Self::DelAndGc => {
                attachment.del()?;
                scene.collect()
            }
        }
    }
}

/// Kills `command` at each of its system calls, and sees that what is done afterwards leaves all as it was, each way of it.
///
/// What a killed process leaves does not depend on the calls that only look: of rare devices only the others are tried, if
/// the run is not to be exhaustive.
fn everywhere(case: &Case, device: Device, inhabited: bool, command: &str, ways: &[After]) -> Result<()> {
    let scene = Scene::new(case, device, inhabited)?;
    // Links that a bond borrowed are in the pod, which GC cannot enter: it waits for the kernel to return them, and takes
    // those that software made, which end with a pod, for gone.
    let ways: Vec<_> = ways.iter().copied().filter(|way| device != Device::Bond || *way != After::Gc).collect();
    // Once for what stays behind by design, such as the folder of leases or a loopback's address.
    scene.prepare(command)?;
    scene.attachment.call(command).succeed()?;
    scene.attachment.del()?;
    scene.collect()?;
    let (around, everything) = (scene.around()?, scene.everything()?);
    let only_changes = device.is_rare() && !case.exhaustive;
    let attempt = |nth: usize, way: After| {
        scene.prepare(command)?;
        let Some(moment) = kill_at(&scene.attachment.call(command), nth, only_changes)? else {
            scene.attachment.del()?;
            return anyhow::Ok(false);
        };
        let at = || format!("killed at call {nth}, {}, then {way:?}", calls::name(&moment));
        way.run(&scene, &around).with_context(at)?;
        everything.ensure_same(&scene.everything()?).with_context(at)?;
        Ok(true)
    };
    let (mut points, mut attempts) = (0, 0);
    for nth in 1.. {
        ensure!(nth < ENOUGH, "more than {ENOUGH} calls");
        let before = attempts;
        for way in &ways {
            // How many calls there are differs from run to run: one has to wait longer, say.
            attempts += usize::from(attempt(nth, *way)?);
        }
        if attempts == before {
            break;
        }
        points += 1;
    }
    ensure!(points > 2, "only {points} calls were killed");
    case.note(format!("killed at {points} system calls, {attempts} times"));
    Ok(())
}

/// Makes the call, killed before its `nth` system call, or the `nth` of those that change something; gives which that was.
fn kill_at(call: &Call, nth: usize, only_changes: bool) -> Result<Option<Moment>> {
    let (mut seen, mut hit) = (0, None);
    let output = call.run_under(|moment| {
        seen += usize::from(!only_changes || calls::changes(moment));
        if seen < nth || hit.is_some() {
            return Fate::Goes;
        }
        hit = Some(*moment);
        Fate::Killed
    })?;
    match hit {
        None => output.success().map(drop)?,
        // A child can be the one that was killed; then its parent goes on without it, or says what was wrong.
        Some(_) if output.status.signal() == Some(9) || output.status.success() => {}
        Some(_) => drop(output.any_failure()?),
    }
    Ok(hit)
}
