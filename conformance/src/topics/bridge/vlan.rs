//! VLANs on the ports of the bridge.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Added;
use crate::cni::tool;
use crate::lab::{Vlan, mac_bytes};
use crate::packets::{Capture, arp_request, inject, isolated, reaches};
use crate::runner::{Case, Feature, Test, merged};
use crate::test;

/// The attachments that GC is to keep.
const VALID: &str = "cni.dev/valid-attachments";

const NEEDS: &[Feature] = &[Feature::BridgeVlan];

pub(super) const TESTS: &[Test] = &[
    test!(p28_an_access_port_is_in_its_vlan_only, "vlan: pings inside, none across").needs(NEEDS),
    test!(the_default_vlan_is_kept_unless_told, "preserveDefaultVlan").needs(NEEDS),
    test!(a_trunk_carries_its_vlans_tagged, "vlanTrunk: id, minID to maxID, and a tagged frame").needs(NEEDS),
    test!(p28_the_gateway_answers_in_its_vlan, "vlan with isGateway").needs(NEEDS),
    test!(p24_gc_takes_a_vlans_gateway, "with the network's last pod gone, and the bridge with it").needs(NEEDS).ours(),
    test!(a_vlans_gateway_cut_off_is_plugged_in_again, "as a call that was killed half-way leaves it")
        .needs(NEEDS)
        .ours(),
    test!(p20_a_failed_add_takes_a_vlans_gateway_away, "unless another pod has it by now").needs(NEEDS).ours(),
    test!(enabledad_asks_when_a_vlans_gateway_hears_it, "its port is in service too").needs(NEEDS).ours(),
    test!(p23_check_compares_the_vlans_of_the_port, "code 102").needs(NEEDS),
];

fn tagged(id: u16) -> Vlan {
    Vlan { id, pvid: false, untagged: false }
}

fn access(id: u16) -> Vlan {
    Vlan { id, pvid: true, untagged: true }
}

fn p28_an_access_port_is_in_its_vlan_only(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = |vlan: u16| case.bridge_with(json!({ "isGateway": false, "vlan": vlan }));
    let a = Added::new(case, &node, "a", &conf(100))?.checked()?;
    let b = Added::new(case, &node, "b", &conf(100))?;
    let c = Added::new(case, &node, "c", &conf(200))?;
    ensure!(node.link("cni0")?.vlan_filtering, "the bridge does not filter VLANs");
    let vlans = node.vlans(&a.host_link())?;
    ensure!(vlans.contains(&access(100)), "{vlans:?}");
    reaches(a.pod(), b.ip(0)?)?;
    isolated(a.pod(), c.ip(0)?)
}

fn the_default_vlan_is_kept_unless_told(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let kept =
        Added::new(case, &node, "a", &case.bridge_with(json!({ "isGateway": false, "vlan": 100 })))?.checked()?;
    let vlans = node.vlans(&kept.host_link())?;
    ensure!(vlans.iter().map(|vlan| vlan.id).eq([1, 100]), "kept: {vlans:?}");
    let conf = case.bridge_with(json!({ "isGateway": false, "vlan": 100, "preserveDefaultVlan": false }));
    let gone = Added::new(case, &node, "b", &conf)?.checked()?;
    let vlans = node.vlans(&gone.host_link())?;
    ensure!(vlans == [access(100)], "not kept: {vlans:?}");
    Ok(())
}

fn a_trunk_carries_its_vlans_tagged(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let trunk = json!([{ "id": 101 }, { "minID": 200, "maxID": 202 }]);
    let conf = case.bridge_with(json!({ "isGateway": false, "vlanTrunk": trunk }));
    let (a, b) = (Added::new(case, &node, "a", &conf)?.checked()?, Added::new(case, &node, "b", &conf)?);
    let mut vlans = node.vlans(&a.host_link())?;
    vlans.retain(|vlan| vlan.id != 1);
    ensure!(vlans == [101, 200, 201, 202].map(tagged), "{vlans:?}");
    // Frames without a tag are in the default VLAN, and so the ports have started once this passes.
    reaches(a.pod(), b.ip(0)?)?;
    let mut capture = Capture::on(b.pod(), "eth0")?;
    let mac = mac_bytes(&a.pod().link("eth0")?.mac)?;
    for (vlan, passes) in [(300_u16, false), (201, true)] {
        let mut frame = arp_request(mac, "10.7.0.2".parse()?, "10.7.0.250".parse()?);
        let [high, low] = vlan.to_be_bytes();
        frame.splice(12..12, [0x81, 0x00, high, low]);
        inject(a.pod(), "eth0", &frame)?;
        if passes {
            let limit = Duration::from_secs(2);
            capture.expect(limit, "frame of VLAN 201", |frame| frame.vlan == Some(vlan))?;
        } else {
            let limit = Duration::from_millis(300);
            capture.expect_none(limit, "a frame of VLAN 300", |frame| frame.vlan == Some(vlan))?;
        }
    }
    Ok(())
}

fn p28_the_gateway_answers_in_its_vlan(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let a = Added::new(case, &node, "a", &case.bridge_with(json!({ "vlan": 100 })))?.checked()?;
    let ipam = case.host_local(&["10.8.0.0/24"]);
    let b = Added::new(case, &node, "b", &case.bridge_with(json!({ "name": "blue", "vlan": 200, "ipam": ipam })))?;
    reaches(a.pod(), "10.7.0.1".parse()?)?;
    reaches(b.pod(), "10.8.0.1".parse()?)?;
    b.attachment.del()
}

fn p24_gc_takes_a_vlans_gateway(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let before = case.snapshot(&[&node])?;
    let conf = case.bridge_with(json!({ "cniVersion": "1.1.0", "vlan": 100 }));
    let (a, b) = (Added::new(case, &node, "a", &conf)?, Added::new(case, &node, "b", &conf)?);
    let valid = json!([{ "containerID": b.attachment.container, "ifname": "eth0" }]);
    let gc = |valid: Value| case.call(&node, "bridge", "GC").conf(&merged(&conf, json!({ VALID: valid }))).succeed();
    gc(valid)?;
    reaches(b.pod(), "10.7.0.1".parse()?)?;
    ensure!(a.pod().find("eth0")?.is_none(), "the dead pod has its link still");
    gc(json!([]))?;
    before.ensure_same(&case.snapshot(&[&node])?)
}

fn a_vlans_gateway_cut_off_is_plugged_in_again(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = case.bridge_with(json!({ "vlan": 100 }));
    let a = Added::new(case, &node, "a", &conf)?;
    let port = node.ports("cni0")?.into_iter().find(|port| port.name != a.host_link());
    let port = port.context("the gateway has no port")?.name;
    tool(&node, "ip", &["link", "set", &port, "nomaster", "down"])?;
    isolated(a.pod(), "10.7.0.1".parse()?)?;
    let b = Added::new(case, &node, "b", &conf)?;
    [&a, &b].iter().try_for_each(|pod| reaches(pod.pod(), "10.7.0.1".parse()?).map(drop))
}

fn p20_a_failed_add_takes_a_vlans_gateway_away(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    // The pod asks for the gateway's own address, which duplicate-address detection finds out when all else is done.
    let ipam = json!({ "type": "static", "addresses": [{ "address": "fd00:7::1/64", "gateway": "fd00:7::1" }] });
    let conf = case.bridge_with(json!({ "vlan": 100, "enabledad": true, "ipam": ipam }));
    let pod = case.pod("a")?;
    let fails = || case.attachment(&node, &pod, &conf).call("ADD").fail_somehow();
    case.unchanged(&[&node, &pod], fails)?.says(&["fd00:7::1"])?;
    let good = Added::new(case, &node, "b", &case.bridge_with(json!({ "vlan": 100 })))?;
    fails()?;
    reaches(good.pod(), "10.7.0.1".parse()?).map(drop)
}

fn enabledad_asks_when_a_vlans_gateway_hears_it(case: &Case) -> Result<()> {
    let ipam = case.host_local(&["fd07::/64"]);
    super::ipv6::asks_when_it_is_heard(case, &case.bridge_with(json!({ "vlan": 100, "enabledad": true, "ipam": ipam })))
}

fn p23_check_compares_the_vlans_of_the_port(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let a = Added::new(case, &node, "a", &case.bridge_with(json!({ "isGateway": false, "vlan": 100 })))?;
    a.attachment.check(&a.result)?;
    tool(&node, "bridge", &["vlan", "del", "vid", "100", "dev", &a.host_link()])?;
    let failure = a.attachment.check_call(&a.result).fail(102)?;
    failure.says(&[&a.host_link(), "100"]).map(drop)
}
