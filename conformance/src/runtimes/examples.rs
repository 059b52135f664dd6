//! The example networks, as an admin would install them: each attaches pods, is checked and leaves nothing.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use rtnetlink::LinkVlan;
use serde_json::Value;

use crate::conflist::{List, Member};
use crate::lab::{Lan, Space, cable};
use crate::packets::{isolated, reaches};
use crate::runner::{Case, Feature, Test};
use crate::test;

/// The text of an example; built in, so that the program needs no source tree where it runs.
macro_rules! example {
    ($name:literal) => {
        include_str!(concat!("../../../deploy/examples/", $name, ".conflist"))
    };
}

/// The network of the demo.
pub(crate) const BRIDGE: &str = example!("bridge");
/// The network of the demo of bond.
pub(crate) const BOND: &str = example!("bond");

/// The network of the demo of ipvlan.
pub(crate) const IPVLAN: &str = example!("ipvlan");

/// The network of the demo of macvlan.
pub(crate) const MACVLAN: &str = example!("macvlan");

/// The network of the demo of `vlan`.
pub(crate) const VLAN: &str = example!("vlan-device");

/// The network of the demo of vxlan.
pub(crate) const OVERLAY: &str = example!("overlay");

/// Tests with the example networks.
pub(super) const TESTS: &[Test] = &[
    test!(example_backend, "backend.conflist: pods that reach each other and no machine outside").ours(),
    test!(example_bond, "bond.conflist: a pod with two links of the node as one").needs(&[Feature::Bond]).ours(),
    test!(example_bridge, "bridge.conflist: pods behind the node's address").needs(&[Feature::NftInet]).ours(),
    test!(example_dual_stack, "dual-stack.conflist: the same with IPv6").needs(&[Feature::NftInet]).ours(),
    test!(
        example_ipvlan,
        "ipvlan.conflist: pods on the node's network under its MAC address, which the node reaches too"
    )
    .needs(&[Feature::Ipvlan])
    .ours(),
    test!(example_isolated, "isolated.conflist: tenants who reach the gateway but not each other")
        .needs(&[Feature::NftInet, Feature::NftBridge])
        .ours(),
    test!(example_kubernetes, "kubernetes.conflist: a node's pod network").needs(&[Feature::NftInet]).ours(),
    test!(example_layer2, "layer2.conflist: a bridge, and pods that bring their addresses").ours(),
    test!(example_macvlan, "macvlan.conflist: pods on the node's network, which the node reaches too")
        .needs(&[Feature::Macvlan])
        .ours(),
    test!(example_overlay, "overlay.conflist: pods of one of its nodes on the Ethernet")
        .needs(&[Feature::Vxlan])
        .ours(),
    test!(example_static, "static.conflist: addresses that are written down").ours(),
    test!(example_trunk, "trunk.conflist: pods that see some VLANs with their tags, and nothing else")
        .needs(&[Feature::BridgeVlan, Feature::Vlan])
        .ours(),
    test!(example_vlan, "vlan.conflist: pods on one VLAN").needs(&[Feature::BridgeVlan]).ours(),
    test!(example_vlan_device, "vlan-device.conflist: pods in a VLAN of the node's own link")
        .needs(&[Feature::Vlan, Feature::Macvlan])
        .ours(),
];

/// How the pods of an example get on with each other.
#[derive(Clone, Copy, PartialEq)]
enum Pods {
    /// Two that reach each other.
    Meet,
    /// Two that do not, although each reaches the gateway.
    Apart,
    /// Only one can be had.
    One,
}

fn example_backend(case: &Case) -> Result<()> {
    run_and(case, example!("backend"), Pods::Meet, |lan, web, _db| {
        let outside = Lan::OTHER[0].parse()?;
        reaches(&lan.node, outside).context("the node")?;
        isolated(web, outside)
    })
}

/// The node's links go into the pod, one pod a node, and come back.
fn example_bond(case: &Case) -> Result<()> {
    let list = List::parse(BOND, &case.cni_path)?.with_leases(&case.leases());
    let (node, pod, switch) = (case.node("node")?, case.pod("web")?, Space::switch("switch")?);
    for (link, port) in [("eth1", "p1"), ("eth2", "p2")] {
        cable(&node, link, &switch, port)?;
        switch.plug("sw0", port)?;
    }
    switch.address("sw0", "10.30.0.200/24")?;
    let member = Member { node: &node, pod: &pod, args: String::new() };
    case.unchanged(&[&node, &pod], || {
        let added = list.add(&member)?;
        list.check(&member, &added.result)?;
        reaches(&pod, "10.30.0.200".parse()?)?;
        list.del(&member, &added.result)?;
        list.del(&member, &added.result).context("the second time").map(drop)
    })
}

fn example_bridge(case: &Case) -> Result<()> {
    run(case, BRIDGE, Pods::Meet)
}

fn example_dual_stack(case: &Case) -> Result<()> {
    run(case, example!("dual-stack"), Pods::Meet)
}

fn example_ipvlan(case: &Case) -> Result<()> {
    run(case, IPVLAN, Pods::Meet)
}

fn example_isolated(case: &Case) -> Result<()> {
    run(case, example!("isolated"), Pods::Apart)
}

fn example_kubernetes(case: &Case) -> Result<()> {
    run(case, example!("kubernetes"), Pods::Meet)
}

fn example_layer2(case: &Case) -> Result<()> {
    run_and(case, example!("layer2"), Pods::Meet, |_lan, web, db| {
        web.address("eth0", "10.90.0.1/24")?;
        db.address("eth0", "10.90.0.2/24")?;
        reaches(web, "10.90.0.2".parse()?).map(drop)
    })
}

fn example_macvlan(case: &Case) -> Result<()> {
    run(case, MACVLAN, Pods::Meet)
}

fn example_overlay(case: &Case) -> Result<()> {
    run(case, OVERLAY, Pods::Meet)
}

fn example_static(case: &Case) -> Result<()> {
    run(case, example!("static"), Pods::One)
}

fn example_trunk(case: &Case) -> Result<()> {
    run_and(case, example!("trunk"), Pods::Meet, |_lan, web, db| {
        for (pod, host) in [(web, 1), (db, 2)] {
            pod.address("eth0", &format!("10.90.0.{host}/24"))?;
            for (id, net) in [(100, 1), (210, 2), (300, 3)] {
                let name = format!("eth0.{id}");
                pod.add(&name, LinkVlan::new(&name, pod.link("eth0")?.index, id).build())?;
                pod.up(&name)?;
                pod.address(&name, &format!("10.90.{net}.{host}/24"))?;
            }
        }
        for net in [1, 2] {
            reaches(web, format!("10.90.{net}.2").parse()?)?;
        }
        isolated(web, "10.90.3.2".parse()?).context("VLAN 300")?;
        isolated(web, "10.90.0.2".parse()?).context("without a tag")
    })
}

fn example_vlan(case: &Case) -> Result<()> {
    run(case, example!("vlan"), Pods::Meet)
}

fn example_vlan_device(case: &Case) -> Result<()> {
    run(case, VLAN, Pods::Meet)
}

fn run(case: &Case, text: &str, pods: Pods) -> Result<()> {
    run_and(case, text, pods, |_lan, _web, _db| Ok(()))
}

/// With more that is looked at while two pods are there.
fn run_and(case: &Case, text: &str, pods: Pods, look: impl Fn(&Lan, &Space, &Space) -> Result<()>) -> Result<()> {
    let list = List::parse(text, &case.cni_path)?.with_leases(&case.leases());
    let lan = Lan::new()?;
    let node = lan.node.clone();
    let links = node.links()?;
    let names: &[&str] = if pods == Pods::One { &["web"] } else { &["web", "db"] };
    let spaces = names.iter().map(|name| case.pod(name)).collect::<Result<Vec<_>>>()?;
    let members: Vec<_> = spaces.iter().map(|pod| Member { node: &node, pod, args: String::new() }).collect();

    let mut results = Vec::new();
    for member in &members {
        results.push(list.add(member)?.result);
    }
    for (member, result) in members.iter().zip(&results) {
        list.check(member, result)?;
        if list.first()["hostAccess"] == true {
            reaches(member.pod, Lan::NODE[0].parse()?).context("the node")?;
        }
        if has_gateway(&list) {
            for gateway in addresses(result, "gateway") {
                reaches(member.pod, gateway).context("the gateway")?;
            }
        }
    }
    if let [web, db] = spaces.as_slice() {
        for ip in addresses(&results[1], "address") {
            if pods == Pods::Meet {
                reaches(web, ip)?;
            } else {
                isolated(web, ip)?;
            }
        }
        look(&lan, web, db)?;
    }
    for (member, result) in members.iter().zip(&results) {
        list.del(member, result)?;
        list.del(member, result).context("the second time")?;
        ensure!(member.pod.find("eth0")?.is_none(), "pod \"{}\" still has its link", member.pod.name);
    }
    if let Some(bridge) = list.first()["bridge"].as_str() {
        // Where the bridge went with the last pod, so have its ports.
        if node.find(bridge)?.is_some() {
            ensure!(node.ports(bridge)?.is_empty(), "ports left on \"{bridge}\": {:?}", node.ports(bridge)?);
        }
    } else {
        ensure!(node.links()? == links, "links left: {:?}", node.links()?);
    }
    let leases = case.lease_names(list.name())?;
    ensure!(leases.is_empty(), "leases left: {leases:?}");
    Ok(())
}

/// Does the bridge have the gateway's address? Without it the gateway is somebody else's.
fn has_gateway(list: &List) -> bool {
    ["isGateway", "isDefaultGateway"].iter().any(|option| list.first()[option] == true)
}

/// The `ips` of a result, either their addresses without prefix length or their gateways.
fn addresses(result: &Value, key: &str) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().into_iter().flatten();
    ips.filter_map(|ip| ip[key].as_str()?.split('/').next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::TESTS;

    #[test]
    fn every_example_has_a_test() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples");
        let mut tested = 0;
        for entry in std::fs::read_dir(directory).expect("the examples are there") {
            let name = entry.expect("the examples can be listed").file_name().into_string().expect("names are text");
            let Some(stem) = name.strip_suffix(".conflist") else { continue };
            let test = format!("example_{}", stem.replace('-', "_"));
            assert!(TESTS.iter().any(|t| t.name == test), "{name}: no test {test}");
            tested += 1;
        }
        assert_eq!(tested, TESTS.len(), "a test without its example");
    }
}
