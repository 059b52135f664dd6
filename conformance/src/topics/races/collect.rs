//! P24: GC beside ADD and DEL, which runtimes are to keep apart and some do not.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::halt::{beside, halted};
use super::scene::{BOND, BRIDGE, Device, IPVLAN, MACVLAN, Scene, VLAN_SHARED, VXLAN, both};
use crate::runner::{Attachment, Case, Test, merged};
use crate::test;
use crate::topics::scale::at_once;

macro_rules! of_device {
    ($($device:ident $needs:ident => $spares:ident $waits:ident $both:ident,)*) => {
        pub(super) const TESTS: &[Test] = &[
            $(
                test!($spares, "an ADD that is halted at each request").needs($needs).ours().limit(300),
                test!($waits, "an ADD that comes while GC is halted at each request").needs($needs).ours().limit(300),
                test!($both, "a DEL that is halted at each request, of what GC is to remove").needs($needs).ours().limit(300),
            )*
            test!(p24_gc_of_another_network_beside_add, "which made the bridge and the rules' tables")
                .needs(BRIDGE)
                .ours()
                .limit(300),
            test!(p24_gc_spares_a_bond_add, "the links that it has borrowed").needs(BOND).ours().limit(300),
            test!(p24_gc_beside_del, "of pods that are in its list and of others").needs(BRIDGE).ours().limit(300),
            test!(p24_gc_does_not_ask_a_program_beside_add, "which cannot know what is in flight").needs(BRIDGE).ours(),
        ];
        $(
            fn $spares(case: &Case) -> Result<()> {
                gc_spares_what_is_added(case, &Scene::new(case, Device::$device)?)
            }
            fn $waits(case: &Case) -> Result<()> {
                add_waits_for_gc(case, &Scene::new(case, Device::$device)?)
            }
            fn $both(case: &Case) -> Result<()> {
                gc_removes_what_is_deleted(case, &Scene::new(case, Device::$device)?)
            }
        )*
    };
}

of_device! {
    Bridge BRIDGE => p24_gc_spares_a_bridge_add p24_bridge_add_waits_for_gc p24_gc_beside_a_bridge_del,
    Vxlan VXLAN => p24_gc_spares_a_vxlan_add p24_vxlan_add_waits_for_gc p24_gc_beside_a_vxlan_del,
    Macvlan MACVLAN
        => p24_gc_spares_a_macvlan_add p24_macvlan_add_waits_for_gc p24_gc_beside_a_macvlan_del,
    VlanShared VLAN_SHARED
        => p24_gc_spares_a_shared_vlan_add p24_shared_vlan_add_waits_for_gc p24_gc_beside_a_shared_vlan_del,
    Ipvlan IPVLAN => p24_gc_spares_an_ipvlan_add p24_ipvlan_add_waits_for_gc p24_gc_beside_an_ipvlan_del,
}

fn gc_spares_what_is_added(case: &Case, scene: &Scene) -> Result<()> {
    let (stays, comes, dead) = (scene.guest(1)?, scene.guest(2)?, scene.guest(3)?);
    let resident = stays.comes()?;
    let mut met = 0;
    for nth in (1..).step_by(scene.device.stride(9)) {
        dead.attachment.add()?;
        let (gc, add) = (scene.collect(&[&stays.attachment]), comes.attachment.call("ADD"));
        let (output, collected) = beside(&case.dir, add, nth, &gc)?;
        let context = || format!("GC after request {nth} of ADD");
        let result = output.success().with_context(context)?;
        comes.works(&result).with_context(context)?;
        stays.works(&resident).with_context(context)?;
        if let Some(collected) = &collected {
            collected.success().with_context(context)?;
            dead.attachment.check_call(&resident).fail_somehow().context("what is dead is still there")?;
            met += 1;
        }
        comes.attachment.del()?;
        dead.attachment.del()?;
        if collected.is_none() {
            break;
        }
    }
    ensure!(met >= 2, "ADD was halted {met} times");
    stays.attachment.del()?;
    scene.ensure_clean()
}

fn add_waits_for_gc(case: &Case, scene: &Scene) -> Result<()> {
    let (comes, dead) = (scene.guest(2)?, scene.guest(3)?);
    let mut met = 0;
    for nth in (1..).step_by(scene.device.stride(4)) {
        dead.attachment.add()?;
        let (output, added) = beside(&case.dir, scene.collect(&[]), nth, &comes.attachment.call("ADD"))?;
        let context = || format!("ADD after request {nth} of GC");
        output.success().with_context(context)?;
        let Some(added) = added else { break };
        let result = added.success().with_context(context)?;
        comes.works(&result).with_context(context)?;
        comes.attachment.del()?;
        dead.attachment.del()?;
        met += 1;
    }
    ensure!(met >= 2, "GC was halted {met} times");
    dead.attachment.del()?;
    scene.ensure_clean()
}

fn gc_removes_what_is_deleted(case: &Case, scene: &Scene) -> Result<()> {
    let (stays, goes) = (scene.guest(1)?, scene.guest(2)?);
    let resident = stays.comes()?;
    let before = case.snapshot(&[&scene.lan.node])?;
    let mut met = 0;
    // Few, so that each is tried on a slow kernel too.
    for nth in 1.. {
        goes.comes()?;
        let (gc, del) = (scene.collect(&[&stays.attachment]), goes.attachment.call("DEL"));
        let (output, collected) = beside(&case.dir, del, nth, &gc)?;
        let context = || format!("GC after request {nth} of DEL");
        output.success().with_context(context)?;
        let Some(collected) = collected else { break };
        collected.success().with_context(context)?;
        before.ensure_same(&case.snapshot(&[&scene.lan.node])?).with_context(context)?;
        stays.works(&resident).with_context(context)?;
        met += 1;
    }
    ensure!(met >= 2, "DEL was halted {met} times");
    stays.attachment.del()?;
    scene.ensure_clean()
}

fn p24_gc_of_another_network_beside_add(case: &Case) -> Result<()> {
    let scene = Scene::new(case, Device::Bridge)?;
    let comes = scene.guest(1)?;
    let other = scene.guest(2)?.attachment.with(json!({ "name": "other" }));
    let conf = merged(&other.conf, json!({ "cni.dev/valid-attachments": [] }));
    let gc = case.call(&other.node, "bridge", "GC").conf(&conf);
    for nth in 1.. {
        // It leaves the bridge, and the tables of the rules without a rule.
        other.add()?;
        other.del()?;
        let (output, collected) = beside(&case.dir, comes.attachment.call("ADD"), nth, &gc)?;
        let context = || format!("GC after request {nth} of ADD");
        let result = output.success().with_context(context)?;
        let Some(collected) = collected else { break };
        collected.success().with_context(context)?;
        comes.works(&result).with_context(context)?;
        comes.attachment.del()?;
        gc.succeed()?;
        scene.ensure_clean().with_context(context)?;
    }
    comes.attachment.del()
}

fn p24_gc_spares_a_bond_add(case: &Case) -> Result<()> {
    let scene = Scene::new(case, Device::Bond)?;
    let (comes, gc) = (scene.guest(1)?, scene.collect(&[]));
    let mut met = 0;
    for nth in (1..).step_by(scene.device.stride(20)) {
        let (output, collected) = beside(&case.dir, comes.attachment.call("ADD"), nth, &gc)?;
        let context = || format!("GC after request {nth} of ADD");
        let result = output.success().with_context(context)?;
        comes.works(&result).with_context(context)?;
        comes.attachment.del().with_context(context)?;
        scene.ensure_clean().with_context(context)?;
        let Some(collected) = collected else { break };
        collected.success().with_context(context)?;
        met += 1;
    }
    ensure!(met >= 2, "ADD was halted {met} times");
    Ok(())
}

fn p24_gc_beside_del(case: &Case) -> Result<()> {
    const ROUNDS: u32 = 8;
    let scene = Scene::new(case, Device::Bridge)?;
    let stays = scene.guest(0)?;
    let resident = stays.comes()?;
    let going = (1..=6).map(|n| Ok(scene.guest(n)?.attachment)).collect::<Result<Vec<_>>>()?;
    for round in 0..ROUNDS {
        at_once(&going, Attachment::add)?;
        // Half of them are in the list: their DEL began after it was made.
        let valid: Vec<_> = going.iter().step_by(2).chain([&stays.attachment]).collect();
        let gc = scene.collect(&valid);
        let lag = Duration::from_millis(2) * round;
        let dels = || at_once(&going, Attachment::del).map(drop);
        both((dels, Duration::from_millis(8)), (|| gc.succeed(), lag)).with_context(|| format!("round {round}"))?;
        stays.works(&resident).with_context(|| format!("round {round}"))?;
        let leases = case.lease_names("net")?;
        ensure!(leases.len() == 1, "round {round}: leases are left: {leases:?}");
    }
    stays.attachment.del()?;
    scene.ensure_clean()
}

fn p24_gc_does_not_ask_a_program_beside_add(case: &Case) -> Result<()> {
    let scene = Scene::new(case, Device::Bridge)?;
    let answer = "[ \"$CNI_COMMAND\" != GC ] || touch \"$(dirname \"$0\")/asked\"\n\
                  [ \"$CNI_COMMAND\" = ADD ] || exit 0\n\
                  echo '{\"cniVersion\":\"1.1.0\",\"ips\":[{\"address\":\"10.7.0.77/24\"}]}'";
    let path = case.fake_plugin("other-ipam", answer)?;
    let comes = scene.guest(1)?;
    let ipam = json!({ "ipam": null });
    let own = comes.attachment.clone().with(ipam).with(json!({ "ipam": { "type": "other-ipam" } }));
    let conf = merged(&own.conf, json!({ "cni.dev/valid-attachments": [] }));
    let gc = case.call(&own.node, "bridge", "GC").env("CNI_PATH", &path).conf(&conf);
    let add = own.call("ADD").env("CNI_PATH", &path);
    // Its port is there by then, so that it holds no lock that GC would wait for.
    let (output, collected) = halted(&case.dir, add, 8, || gc.run())?;
    let result = output.success()?;
    collected.context("ADD was not halted")?.failure(11)?.says(&["other-ipam", "in flight"])?;
    let asked = case.dir.join("plugins/asked");
    ensure!(!asked.exists(), "it was asked");
    own.check_call(&result).env("CNI_PATH", &path).succeed()?;
    gc.succeed()?;
    ensure!(asked.exists(), "it was not asked when nobody was in flight");
    Ok(())
}
