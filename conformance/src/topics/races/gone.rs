//! The pod's namespace, or what a device is on, goes while a call works.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::halt::halted;
use super::scene::{BOND, BRIDGE, Device, IPVLAN, MACVLAN, Scene, VLAN, VLAN_SHARED, VXLAN, soon};
use crate::lab::{Lan, Snapshot, Space};
use crate::runner::{Case, Test};
use crate::test;

macro_rules! of_device {
    ($($device:ident $needs:ident => $add:ident $del:ident $parent:ident,)*) => {
        pub(super) const TESTS: &[Test] = &[$(
            test!($add, "after each request of ADD: an error that leaves nothing").needs($needs).ours().limit(300),
            test!($del, "after each request of DEL: success, and nothing is left").needs($needs).ours().limit(300),
            test!($parent, "after each request of ADD: an error that leaves nothing").needs($needs).ours().limit(300),
        )*];
        $(
            fn $add(case: &Case) -> Result<()> {
                namespace_goes(case, &Scene::new(case, Device::$device)?, "ADD")
            }
            fn $del(case: &Case) -> Result<()> {
                namespace_goes(case, &Scene::new(case, Device::$device)?, "DEL")
            }
            fn $parent(case: &Case) -> Result<()> {
                parent_goes(case, &Scene::new(case, Device::$device)?)
            }
        )*
    };
}

of_device! {
    Bridge BRIDGE => p20_netns_goes_during_bridge_add p22_netns_goes_during_bridge_del p20_bridge_goes_during_add,
    Vxlan VXLAN => p20_netns_goes_during_vxlan_add p22_netns_goes_during_vxlan_del p20_dev_goes_during_vxlan_add,
    Macvlan MACVLAN
        => p20_netns_goes_during_macvlan_add p22_netns_goes_during_macvlan_del p20_parent_goes_during_macvlan_add,
    Vlan VLAN => p20_netns_goes_during_vlan_add p22_netns_goes_during_vlan_del p20_parent_goes_during_vlan_add,
    VlanShared VLAN_SHARED => p20_netns_goes_during_shared_vlan_add p22_netns_goes_during_shared_vlan_del
        p20_parent_goes_during_shared_vlan_add,
    Ipvlan IPVLAN
        => p20_netns_goes_during_ipvlan_add p22_netns_goes_during_ipvlan_del p20_parent_goes_during_ipvlan_add,
    Bond BOND => p20_netns_goes_during_bond_add p22_netns_goes_during_bond_del p20_link_goes_during_bond_add,
}

/// The link that is taken away, where it is not the bridge.
const PARENT: &str = "uplink";

/// The pod's link and the node's are read in requests that follow each other; after that ADD looks no more. Of a bond its
/// links are read, the pod's address is announced, and the bond is read.
const LAST_LOOKS: usize = 3;

/// Fails unless the node soon is as it was: what a namespace held goes when the kernel has the time.
fn ensure_soon_same(case: &Case, node: &Space, before: &Snapshot) -> Result<()> {
    soon(|| before.ensure_same(&case.snapshot(&[node])?))
}

fn namespace_goes(case: &Case, scene: &Scene, command: &str) -> Result<()> {
    let node = &scene.lan.node;
    // What all share stays.
    let stays = scene.guest(1)?;
    let resident = if scene.device == Device::Bond { None } else { Some(stays.comes()?) };
    let before = case.snapshot(&[node])?;
    let mut met = 0;
    for nth in (1..).step_by(scene.device.stride(if command == "ADD" { 9 } else { 3 })) {
        let guest = scene.guest(2)?;
        let mounted = guest.attachment.pod.ns.mount(&case.dir.join("netns"))?;
        let [add, del] = ["ADD", "DEL"].map(|name| guest.attachment.call(name).env("CNI_NETNS", mounted.path()));
        let (call, _) = if command == "ADD" { (add, Value::Null) } else { (del.clone(), add.succeed()?) };
        let mut pod = Some((mounted, guest));
        let (output, gone) = halted(&case.dir, call, nth, || {
            drop(pod.take());
            Ok(())
        })?;
        if gone.is_none() {
            output.success().context("undisturbed")?;
            del.succeed()?;
            break;
        }
        if command == "ADD" {
            let failure = output.failure(3).with_context(|| format!("after request {nth}"))?;
            failure.says(&["CNI_NETNS"])?;
        } else {
            output.success().with_context(|| format!("after request {nth}"))?;
        }
        ensure_soon_same(case, node, &before).with_context(|| format!("after request {nth}"))?;
        del.succeed().with_context(|| format!("after request {nth}"))?;
        met += 1;
    }
    ensure!(met >= 1, "{command} was not halted");
    if let Some(resident) = &resident {
        stays.works(resident)?;
    }
    ensure_soon_same(case, node, &before)?;
    stays.attachment.del()?;
    scene.ensure_clean()
}

/// Makes what a device is on, where ADD does not: a bridge that can be the parent, or the links of a bond.
fn bring_parent(scene: &Scene) -> Result<()> {
    let node = &scene.lan.node;
    match scene.device {
        Device::Bridge => Ok(()),
        Device::Bond => scene.lan.add_spare(),
        _ => {
            node.add_bridge(PARENT)?;
            node.up(PARENT)?;
            node.address(PARENT, "192.168.9.1/24")
        }
    }
}

fn parent_goes(case: &Case, scene: &Scene) -> Result<()> {
    let node = &scene.lan.node;
    let guest = scene.guest(1)?;
    let (own, parent, stride) = match scene.device {
        Device::Bridge => (json!({}), "cni0", 9),
        Device::Vxlan => (json!({ "dev": PARENT }), PARENT, 9),
        Device::Bond => (json!({}), Lan::SPARE[0], 4),
        _ => (json!({ "master": PARENT }), PARENT, 9),
    };
    // Wherever it is: a link that is lent is in the pod.
    let go = || {
        let mut spaces = [node, &guest.attachment.pod].into_iter();
        spaces.try_for_each(|space| if space.find(parent)?.is_some() { space.delete(parent) } else { Ok(()) })
    };
    if scene.device == Device::Bridge {
        // The skeleton of the rules is made once.
        guest.comes()?;
        guest.attachment.del()?;
    }
    go()?;
    let (before, comes) = (case.snapshot(&[node])?, guest.attachment.clone().with(own));
    let (mut met, mut succeeded) = (0, Vec::new());
    for nth in (1..).step_by(scene.device.stride(stride)) {
        bring_parent(scene)?;
        let context = || format!("after request {nth}");
        let (output, gone) = halted(&case.dir, comes.call("ADD"), nth, go)?;
        if gone.is_none() {
            output.success().context("undisturbed")?;
            comes.del()?;
            go()?;
            break;
        }
        met = nth;
        if output.status.success() {
            let result = output.success()?;
            // A bridge is made anew.
            if comes.check_call(&result).run()?.status.success() {
                guest.works(&result).with_context(context)?;
            } else {
                succeeded.push(nth);
            }
        } else {
            let failure = output.any_failure().with_context(context)?;
            if scene.device == Device::Bond {
                failure.says(&[parent]).with_context(context)?;
            }
            ensure_soon_same(case, node, &before).with_context(context)?;
        }
        comes.del().with_context(context)?;
        go()?;
        ensure_soon_same(case, node, &before).with_context(|| format!("DEL after request {nth}"))?;
    }
    ensure!(met >= 3, "ADD was halted {met} times");
    ensure!(
        succeeded.iter().all(|nth| nth + LAST_LOOKS > met),
        "ADD succeeded after the parent had gone: {succeeded:?} of {met}"
    );
    scene.collect(&[]).succeed()?;
    // It takes along what of the rules is made once.
    if scene.device == Device::Bridge { Ok(()) } else { ensure_soon_same(case, node, &before).context("GC") }
}
