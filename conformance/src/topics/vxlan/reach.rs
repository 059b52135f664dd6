//! Who reaches whom, and what the packets look like.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{NEEDS, Pod, Underlay, network, pods};
use crate::packets::{Capture, Carried, isolated, reaches};
use crate::runner::{Case, Test, merged};
use crate::test;

const LIMIT: Duration = Duration::from_secs(2);

pub(super) const TESTS: &[Test] = &[
    test!(p28_vxlan_remote_joins_two_nodes, "both places, both IP versions, port and VNI captured").needs(NEEDS).ours(),
    test!(p28_vxlan_group_joins_three_nodes, "the packet goes to the multicast group").needs(NEEDS).ours(),
    test!(p28_vxlan_remotes_join_three_nodes, "one list for all nodes").needs(NEEDS).ours(),
    test!(p28_vxlan_ids_do_not_meet, "two VNIs with the same addresses").needs(NEEDS).ours(),
    test!(p28_vxlan_pods_of_one_node_meet, "without a packet on the underlay").needs(NEEDS).ours(),
    test!(p28_vxlan_places_can_be_mixed, "bridge on one node, direct on the other").needs(NEEDS).ours(),
    test!(p28_vxlan_on_a_bridge_with_a_gateway, "of the plugin bridge, which another node's pod reaches")
        .needs(NEEDS)
        .ours(),
    test!(vxlan_dstport_and_checksum_are_in_the_packet, "dstport 8472, udpCsum on and off").needs(NEEDS).ours(),
];

/// How the nodes find each other.
#[derive(Clone, Copy)]
enum Peers {
    Remote,
    Group,
    Remotes,
}

impl Peers {
    fn nodes(self) -> usize {
        if matches!(self, Self::Remote) { 2 } else { 3 }
    }

    /// The options of the `n`th node, and where a broadcast from it goes.
    fn options(self, underlay: &Underlay, n: usize) -> (Value, Vec<String>) {
        let group = if underlay.ipv6 { "ff05::42" } else { "239.1.1.42" };
        let others = || underlay.addresses().into_iter().filter(|address| *address != underlay.address(n)).collect();
        match self {
            Self::Remote => (json!({ "remote": underlay.address(3 - n) }), vec![underlay.address(3 - n)]),
            Self::Group => (json!({ "group": group, "dev": "eth0" }), vec![group.to_owned()]),
            Self::Remotes => (json!({ "remotes": underlay.addresses() }), others()),
        }
    }
}

/// Every pod reaches every other, by packets with the port and the VNI, for each IP version and place of the device.
fn joins(case: &Case, peers: Peers) -> Result<()> {
    for ipv6 in [false, true] {
        for attach in ["bridge", "direct"] {
            joins_so(case, peers, ipv6, attach).with_context(|| format!("attach {attach:?}, IPv6 {ipv6}"))?;
        }
    }
    Ok(())
}

fn joins_so(case: &Case, peers: Peers, ipv6: bool, attach: &str) -> Result<()> {
    let underlay = Underlay::new(peers.nodes(), ipv6)?;
    let mut pods = Vec::new();
    for (n, node) in (1..).zip(&underlay.nodes) {
        let conf = network(merged(&peers.options(&underlay, n).0, json!({ "attach": attach })));
        pods.push(Pod::new(case, node, &format!("p{n}"), &format!("10.42.0.{n}"), &conf)?);
    }
    let mut capture = Capture::on(&underlay.nodes[0], "eth0")?;
    for from in &pods {
        for to in pods.iter().filter(|to| to.ip != from.ip) {
            reaches(from.space(), to.ip)?;
        }
    }
    for end in peers.options(&underlay, 1).1 {
        let end: IpAddr = end.parse()?;
        let is_it = |inner: Carried| inner.to == end && inner.vni == 42 && inner.port == 4789;
        let what = format!("packet to \"{end}\", port 4789, VNI 42");
        capture.expect(LIMIT, &what, |frame| frame.carried().is_some_and(is_it))?;
    }
    pods.iter().try_for_each(|pod| pod.attachment.del())
}

fn p28_vxlan_remote_joins_two_nodes(case: &Case) -> Result<()> {
    joins(case, Peers::Remote)
}

fn p28_vxlan_group_joins_three_nodes(case: &Case) -> Result<()> {
    joins(case, Peers::Group)
}

fn p28_vxlan_remotes_join_three_nodes(case: &Case) -> Result<()> {
    joins(case, Peers::Remotes)
}

fn p28_vxlan_ids_do_not_meet(case: &Case) -> Result<()> {
    for attach in ["bridge", "direct"] {
        let underlay = Underlay::new(2, false)?;
        let [n1, n2] = &underlay.nodes[..] else { unreachable!("two nodes were made") };
        let conf = |name: &str, vni: u32| {
            network(json!({ "name": name, "vni": vni, "attach": attach, "remotes": underlay.addresses() }))
        };
        let (blue, green) = (conf("blue", 42), conf("green", 43));
        let b1 = Pod::new(case, n1, "b1", "10.42.0.1", &blue)?;
        let g1 = Pod::new(case, n1, "g1", "10.42.0.1", &green)?;
        let b2 = Pod::new(case, n2, "b2", "10.42.0.2", &blue)?;
        // The other network has the same address of the second pod, and one that the first has not.
        let g2 = Pod::new(case, n2, "g2", "10.42.0.2", &green)?;
        let mut g2_hears = Capture::on(g2.space(), "eth0")?;
        reaches(b1.space(), b2.ip)?;
        g2_hears.expect_none(Duration::from_millis(300), "an echo request of the other VNI", |frame| {
            frame.is_echo_request_from(b1.ip)
        })?;
        reaches(g1.space(), g2.ip)?;
        b2.attachment.del()?;
        isolated(b1.space(), b2.ip)?;
        reaches(g1.space(), g2.ip).context("the control, to the same address")?;
    }
    Ok(())
}

fn p28_vxlan_pods_of_one_node_meet(case: &Case) -> Result<()> {
    let underlay = Underlay::new(2, false)?;
    let conf = network(json!({ "remotes": underlay.addresses() }));
    let a = Pod::new(case, &underlay.nodes[0], "a", "10.42.0.1", &conf)?;
    let b = Pod::new(case, &underlay.nodes[0], "b", "10.42.0.2", &conf)?;
    reaches(a.space(), b.ip)?;
    let mut capture = Capture::on(&underlay.nodes[0], "eth0")?;
    reaches(a.space(), b.ip)?;
    let is_echo = |inner: Carried| inner.frame.is_echo_request_from(a.ip);
    let limit = Duration::from_millis(200);
    capture.expect_none(limit, "an echo request on the underlay", |frame| frame.carried().is_some_and(is_echo))
}

fn p28_vxlan_places_can_be_mixed(case: &Case) -> Result<()> {
    let underlay = Underlay::new(2, false)?;
    let conf = |attach: &str| network(json!({ "attach": attach, "remotes": underlay.addresses() }));
    let shared = Pod::new(case, &underlay.nodes[0], "a", "10.42.0.1", &conf("bridge"))?;
    let direct = Pod::new(case, &underlay.nodes[1], "b", "10.42.0.2", &conf("direct"))?;
    reaches(shared.space(), direct.ip)?;
    reaches(direct.space(), shared.ip).map(drop)
}

fn p28_vxlan_on_a_bridge_with_a_gateway(case: &Case) -> Result<()> {
    let underlay = Underlay::new(2, false)?;
    let gateway = case.bridge_with(json!({
        "cniVersion": "1.1.0", "name": "gateway",
        "ipam": { "type": "static", "addresses": [{ "address": "10.42.0.1/24", "gateway": "10.42.0.254" }] },
    }));
    let first = case.attachment(&underlay.nodes[0], &case.pod("first")?, &gateway);
    first.add()?;
    let conf = |bridge: &str| network(json!({ "bridge": bridge, "remotes": underlay.addresses() }));
    let near = Pod::new(case, &underlay.nodes[0], "near", "10.42.0.2", &conf("cni0"))?;
    let far = Pod::new(case, &underlay.nodes[1], "far", "10.42.0.3", &conf("br-vx42"))?;
    for pod in [&near, &far] {
        reaches(pod.space(), "10.42.0.254".parse()?)?;
    }
    near.attachment.del()?;
    reaches(far.space(), "10.42.0.1".parse()?).context("while the other network has a pod on the bridge")?;
    first.del()?;
    Ok(())
}

fn vxlan_dstport_and_checksum_are_in_the_packet(case: &Case) -> Result<()> {
    for (ipv6, checked) in [(false, true), (false, false), (true, true), (true, false)] {
        let underlay = Underlay::new(2, ipv6)?;
        let options = json!({ "remotes": underlay.addresses(), "dstport": 8472, "udpCsum": checked });
        let pods = pods(case, &underlay, &network(options))?;
        let mut capture = Capture::on(&underlay.nodes[0], "eth0")?;
        reaches(pods[0].space(), pods[1].ip)?;
        let echo = |inner: &Carried| inner.frame.is_echo_request_from(pods[0].ip);
        let frame = capture.expect(LIMIT, "echo request", |frame| frame.carried().as_ref().is_some_and(echo))?;
        let carried = frame.carried().context("a VXLAN packet")?;
        ensure!(carried.port == 8472, "port {}", carried.port);
        ensure!((carried.checksum != 0) == checked, "IPv6 {ipv6}, udpCsum {checked}: {:#06x}", carried.checksum);
    }
    Ok(())
}
