//! Another program gives links other MAC addresses while ADD works, as udev does.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::halt::halted;
use super::scene::{BRIDGE, Device, Guest, IPVLAN, MACVLAN, Scene, VLAN_SHARED, VXLAN};
use crate::lab::{Lan, Space, mac_bytes};
use crate::packets::Capture;
use crate::runner::{Attachment, Case, Test};
use crate::test;

macro_rules! of_device {
    ($($device:ident $needs:ident => $pod:ident $node:ident,)*) => {
        pub(super) const TESTS: &[Test] = &[
            test!(p12_mac_of_an_ipvlans_parent_rewritten, "which is the pod's too, after each request of ADD")
                .needs(IPVLAN)
                .ours()
                .limit(300),
            $(
            test!($pod, "the pod's, after each request of ADD").needs($needs).ours().limit(300),
            test!($node, "the node's, after each request of ADD").needs($needs).ours().limit(300),
        )*];
        $(
            fn $pod(case: &Case) -> Result<()> {
                rewritten(case, &Scene::new(case, Device::$device)?, &pods_link)
            }
            fn $node(case: &Case) -> Result<()> {
                rewritten(case, &Scene::new(case, Device::$device)?, &nodes_links)
            }
        )*
    };
}

of_device! {
    Bridge BRIDGE => p12_mac_of_a_bridges_pod_rewritten p12_mac_of_a_bridge_rewritten,
    Vxlan VXLAN => p12_mac_of_a_vxlans_pod_rewritten p12_mac_of_a_vxlan_rewritten,
    Macvlan MACVLAN => p12_mac_of_a_macvlan_rewritten p12_mac_of_a_shim_rewritten,
    VlanShared VLAN_SHARED => p12_mac_of_a_shared_vlans_pod_rewritten p12_mac_of_a_shared_vlan_rewritten,
}

/// An IPVLAN has no MAC address of its own that could be rewritten: the kernel refuses, and gives it its parent's.
fn p12_mac_of_an_ipvlans_parent_rewritten(case: &Case) -> Result<()> {
    let scene = Scene::new(case, Device::Ipvlan)?;
    let Guest { attachment, .. } = scene.guest(1)?;
    attachment.add()?;
    ensure!(pods_link(&attachment).is_err() && nodes_links(&attachment).is_err(), "the kernel lets it be rewritten");
    attachment.del()?;
    rewritten(case, &scene, &parents_link)
}

/// The node's port is read when it passes frames; then the pod's address is announced, and the other links are read.
const LAST_LOOKS: usize = 4;

/// What the links get.
const OTHER: &str = "02:0d:e7:00:00:0";

/// Gives the pod's link another MAC address, if it has one yet.
fn pods_link(attachment: &Attachment) -> Result<bool> {
    rewrite(&attachment.pod, |name| name == "eth0")
}

/// The same for what podwire made on the node.
fn nodes_links(attachment: &Attachment) -> Result<bool> {
    let parents = ["lo", "eth1"];
    rewrite(&attachment.node, |name| !parents.contains(&name))
}

/// The same for the parent.
fn parents_link(attachment: &Attachment) -> Result<bool> {
    rewrite(&attachment.node, |name| name == Lan::PARENT)
}

fn rewrite(space: &Space, is_meant: impl Fn(&str) -> bool) -> Result<bool> {
    let links: Vec<_> = space.links()?.into_iter().filter(|link| is_meant(&link.name)).collect();
    for (number, link) in links.iter().enumerate() {
        let mac = mac_bytes(&format!("{OTHER}{}", number + 1))?;
        space.change(&link.name, |change| change.address(mac.to_vec()))?;
    }
    Ok(!links.is_empty())
}

fn rewritten(case: &Case, scene: &Scene, rewrite: &dyn Fn(&Attachment) -> Result<bool>) -> Result<()> {
    let comes = scene.guest(1)?;
    let own = mac_bytes(&scene.lan.node.link(Lan::PARENT)?.mac)?;
    let (mut rewritten, mut last, mut stale) = (0, 0, Vec::new());
    for nth in (1..).step_by(scene.device.stride(4)) {
        let mut seen = Capture::everywhere(&scene.lan.node)?;
        let add = comes.attachment.call("ADD");
        let meanwhile = || rewrite(&comes.attachment);
        let (output, done) = halted(&case.dir, add, nth, meanwhile)?;
        let Some(done) = done else {
            output.success().context("undisturbed")?;
            comes.attachment.del()?;
            break;
        };
        last = nth;
        rewritten += usize::from(done);
        let context = || format!("after request {nth}");
        if output.status.success() {
            let result = output.success()?;
            match is_true(&comes.attachment, &result) {
                Ok(()) => {
                    comes.works(&result).with_context(context)?;
                    is_announced(&mut seen, &result).with_context(context)?;
                }
                Err(why) => stale.push((nth, why)),
            }
        } else {
            output.any_failure().with_context(context)?.says(&["MAC address"]).with_context(context)?;
        }
        comes.attachment.del()?;
        scene.lan.node.change(Lan::PARENT, |parent| parent.address(own.to_vec()))?;
        scene.ensure_clean().with_context(context)?;
    }
    ensure!(rewritten >= 1, "nothing was rewritten");
    // What comes after the last look is for CHECK to see.
    match stale.iter().find(|(nth, _)| nth + LAST_LOOKS < last) {
        Some((nth, why)) => bail!("after request {nth} of {last}: {why:#}"),
        None => Ok(()),
    }
}

/// Whether every MAC address of the result is its link's.
fn is_true(attachment: &Attachment, result: &Value) -> Result<()> {
    for interface in result["interfaces"].as_array().into_iter().flatten() {
        let space = if interface["sandbox"].is_string() { &attachment.pod } else { &attachment.node };
        let link = space.link(interface["name"].as_str().unwrap_or_default())?;
        ensure!(interface["mac"] == *link.mac, "{:?} has {}, reported is {}", link.name, link.mac, interface["mac"]);
    }
    Ok(())
}

/// Whether the pod's address was announced with the MAC address that was reported.
fn is_announced(seen: &mut Capture, result: &Value) -> Result<()> {
    let pods = result["interfaces"].as_array().and_then(|all| all.last()).context("no interface")?;
    let mac = pods["mac"].as_str().unwrap_or_default();
    let ip = result["ips"][0]["address"].as_str().and_then(|text| text.split('/').next()).unwrap_or_default();
    let ip: Ipv4Addr = ip.parse()?;
    let is_it = |frame: &crate::packets::Frame| frame.from == mac && frame.announces_v4(ip);
    seen.expect(Duration::from_secs(1), "announcement of the pod's address", is_it).map(drop)
}
