//! What a port of the bridge may do.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::Added;
use crate::lab::mac_bytes;
use crate::packets::{Capture, arp_request, inject, isolated, reaches};
use crate::runner::{Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(hairpin_sends_a_frame_back_to_its_port, "hairpinMode, and a control without"),
    test!(promisc_mode_makes_the_bridge_promiscuous, "promiscMode"),
    test!(p28_isolated_ports_reach_the_gateway_only, "portIsolation, and a control without"),
    test!(a_disabled_container_interface_stays_down, "disableContainerInterface"),
];

/// Whether a broadcast that the pod sends comes back to it.
fn echoes(a: &Added) -> Result<bool> {
    let mac = a.pod().link("eth0")?.mac;
    let mut capture = Capture::on(a.pod(), "eth0")?;
    let nobody = "10.7.0.200".parse()?;
    inject(a.pod(), "eth0", &arp_request(mac_bytes(&mac)?, "10.7.0.2".parse()?, nobody))?;
    let limit = Duration::from_millis(500);
    // Once on the way out; a second time only if the bridge sends it back.
    let is_ours = |frame: &crate::packets::Frame| frame.from == mac && frame.to == crate::packets::BROADCAST;
    capture.expect(limit, "frame on its way out", is_ours)?;
    Ok(capture.expect(limit, "frame on its way back", is_ours).is_ok())
}

fn hairpin_sends_a_frame_back_to_its_port(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let with = Added::new(case, &node, "a", &case.bridge_with(json!({ "hairpinMode": true })))?.checked()?;
    let without = Added::new(case, &node, "b", &case.bridge_conf())?;
    ensure!(node.link(&with.host_link())?.hairpin && !node.link(&without.host_link())?.hairpin, "wrong flags");
    // The first frames of a new port may be lost while the kernel starts its queue.
    reaches(with.pod(), without.ip(0)?)?;
    ensure!(echoes(&with)?, "the frame did not come back");
    ensure!(!echoes(&without)?, "the frame came back without hairpinMode");
    Ok(())
}

fn promisc_mode_makes_the_bridge_promiscuous(case: &Case) -> Result<()> {
    for (promisc, name) in [(true, "n1"), (false, "n2")] {
        let node = case.node(name)?;
        let a = Added::new(case, &node, "a", &case.bridge_with(json!({ "promiscMode": promisc })))?;
        ensure!(node.link("cni0")?.promisc == promisc, "promiscMode {promisc}: {:?}", node.link("cni0")?);
        a.attachment.check(&a.result)?;
        a.attachment.del()?;
    }
    Ok(())
}

fn p28_isolated_ports_reach_the_gateway_only(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = case.bridge_with(json!({ "portIsolation": true }));
    let (a, b) = (Added::new(case, &node, "a", &conf)?.checked()?, Added::new(case, &node, "b", &conf)?);
    let open = Added::new(case, &node, "c", &case.bridge_conf())?;
    ensure!(node.link(&a.host_link())?.isolated && !node.link(&open.host_link())?.isolated, "wrong flags");
    for pod in [&a, &b] {
        reaches(pod.pod(), "10.7.0.1".parse()?)?;
        // A port that is not isolated speaks with every other.
        reaches(pod.pod(), open.ip(0)?)?;
    }
    isolated(a.pod(), b.ip(0)?)?;
    isolated(b.pod(), a.ip(0)?)
}

fn a_disabled_container_interface_stays_down(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = case.bridge_with(json!({ "isGateway": null, "ipam": null, "disableContainerInterface": true }));
    let a = Added::new(case, &node, "a", &conf)?;
    ensure!(!a.pod().link("eth0")?.up, "eth0 is up");
    ensure!(a.pod().addresses("eth0")?.is_empty(), "eth0 has {:?}", a.pod().addresses("eth0")?);
    ensure!(a.result.get("ips").is_none_or(|ips| ips.as_array().is_some_and(Vec::is_empty)), "{}", a.result);
    a.attachment.check(&a.result)?;
    a.attachment.del()?;
    ensure!(a.pod().find("eth0")?.is_none(), "eth0 is still there");
    Ok(())
}
