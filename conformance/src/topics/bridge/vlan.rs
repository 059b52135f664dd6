//! VLANs on the ports of the bridge.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::Added;
use crate::cni::tool;
use crate::lab::{Vlan, mac_bytes};
use crate::packets::{Capture, arp_request, inject, isolated, reaches};
use crate::runner::{Case, Feature, Test};
use crate::test;

const NEEDS: &[Feature] = &[Feature::BridgeVlan];

pub(super) const TESTS: &[Test] = &[
    test!(p28_an_access_port_is_in_its_vlan_only, "vlan: pings inside, none across").needs(NEEDS),
    test!(the_default_vlan_is_kept_unless_told, "preserveDefaultVlan").needs(NEEDS),
    test!(a_trunk_carries_its_vlans_tagged, "vlanTrunk: id, minID to maxID, and a tagged frame").needs(NEEDS),
    test!(p28_the_gateway_answers_in_its_vlan, "vlan with isGateway").needs(NEEDS),
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

fn p23_check_compares_the_vlans_of_the_port(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let a = Added::new(case, &node, "a", &case.bridge_with(json!({ "isGateway": false, "vlan": 100 })))?;
    a.attachment.check(&a.result)?;
    tool(&node, "bridge", &["vlan", "del", "vid", "100", "dev", &a.host_link()])?;
    let failure = a.attachment.check_call(&a.result).fail(102)?;
    failure.says(&[&a.host_link(), "100"]).map(drop)
}
