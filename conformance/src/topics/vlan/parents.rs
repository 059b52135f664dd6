//! Which link a VLAN is of.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Added, NEEDS, UPLINK, conf, nodes, q, tags_of_ping};
use crate::lab::{Space, cable};
use crate::packets::{Capture, reaches};
use crate::runner::{Case, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(vlan_master_is_the_default_routes_by_default, "of either IP version").needs(NEEDS).ours(),
    test!(vlan_master_that_is_not_there_is_named, "code 7 with the near name, nothing changed").ours(),
    test!(vlan_without_master_and_default_route, "code 7").ours(),
    test!(vlan_master_that_is_down_is_named, "code 11, nothing changed").needs(NEEDS).ours(),
    test!(vlan_link_in_container, "a VLAN of the pod's own link, tagged on the cable").needs(NEEDS).ours(),
    test!(vlan_chained_takes_the_previous_interface, "linkInContainer without master").needs(NEEDS).ours(),
    test!(vlan_name_of_a_link_of_the_node, "the pod's eth0 while the node has one").needs(NEEDS),
    test!(p07_vlan_ifname_that_is_taken, "code 105, the link that has it untouched").needs(NEEDS).ours(),
];

fn vlan_master_is_the_default_routes_by_default(case: &Case) -> Result<()> {
    for (address, to, via) in [("192.0.2.1/24", "0.0.0.0/0", "192.0.2.9"), ("2001:db8::1/64", "::/0", "2001:db8::9")] {
        let [n1, n2] = nodes(case)?;
        // A link beside it, so that there is a choice.
        cable(&n1, "aside", &case.node("n3")?, "aside")?;
        n1.address(UPLINK, address)?;
        n1.route(to, via.parse()?)?;
        let a = Added::new(case, &n1, "a", &conf(case, json!({ "master": null })))?.checked()?;
        let b = Added::new(case, &n2, "b", &conf(case, json!({})))?;
        reaches(a.pod(), b.ip(0)?).with_context(|| format!("default route {to}"))?;
        a.attachment.del()?;
        b.attachment.del()?;
    }
    Ok(())
}

fn vlan_master_that_is_not_there_is_named(case: &Case) -> Result<()> {
    let ([node, _far], pod) = (nodes(case)?, case.pod("a")?);
    let add = case.attachment(&node, &pod, &conf(case, json!({ "master": "uplnk" }))).call("ADD");
    case.unchanged(&[&node, &pod], || add.fail(7))?.says(&["master", "\"uplnk\"", "\"uplink\""])?;
    let in_pod = conf(case, json!({ "master": "eth7", "linkInContainer": true }));
    let add = case.attachment(&node, &pod, &in_pod).call("ADD");
    case.unchanged(&[&node, &pod], || add.fail(7))?.says(&["master", "\"eth7\"", "pod"]).map(drop)
}

fn vlan_without_master_and_default_route(case: &Case) -> Result<()> {
    let ([node, _far], pod) = (nodes(case)?, case.pod("a")?);
    let add = case.attachment(&node, &pod, &conf(case, json!({ "master": null }))).call("ADD");
    case.unchanged(&[&node, &pod], || add.fail(7))?.says(&["master", "default route"]).map(drop)
}

fn vlan_master_that_is_down_is_named(case: &Case) -> Result<()> {
    let ([node, _far], pod) = (nodes(case)?, case.pod("a")?);
    node.down(UPLINK)?;
    for shared in [false, true] {
        let add = case.attachment(&node, &pod, &conf(case, json!({ "shared": shared }))).call("ADD");
        case.unchanged(&[&node, &pod], || add.fail(11))?.says(&[UPLINK, "down", "ip link set"])?;
    }
    Ok(())
}

/// A pod with a link of its own, `eth0`, to a far node, which has the VLAN too.
fn pod_with_a_cable(case: &Case) -> Result<(Space, Space, Added)> {
    let (pod, far) = (case.pod("a")?, case.node("far")?);
    cable(&pod, "eth0", &far, UPLINK)?;
    let peer = Added::new(case, &far, "b", &conf(case, json!({})))?;
    Ok((pod, far, peer))
}

fn vlan_link_in_container(case: &Case) -> Result<()> {
    let (pod, far, peer) = pod_with_a_cable(case)?;
    let node = case.node("n1")?;
    let conf = conf(case, json!({ "master": "eth0", "linkInContainer": true }));
    let attachment = case.attachment(&node, &pod, &conf).ifname("net1");
    let links = node.links()?;
    let result = attachment.add()?;
    ensure!(node.links()? == links, "the node has other links: {:?}", node.links()?);
    let a = Added { attachment, result }.checked()?;
    let mut capture = Capture::on(&far, UPLINK)?;
    reaches(&pod, peer.ip(0)?)?;
    ensure!(tags_of_ping(&mut capture, &a)? == [q(100)], "a wrong tag");
    a.attachment.del()?;
    ensure!(pod.find("net1")?.is_none() && pod.find("eth0")?.is_some(), "{:?}", pod.links()?);
    Ok(())
}

fn vlan_chained_takes_the_previous_interface(case: &Case) -> Result<()> {
    let (pod, _far, peer) = pod_with_a_cable(case)?;
    let node = case.node("n1")?;
    let previous = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{ "name": "eth0", "sandbox": pod.ns.path() }],
        "ips": [{ "address": "10.9.0.2/24", "interface": 0 }],
    });
    let chained = conf(case, json!({ "master": null, "linkInContainer": true, "prevResult": previous }));
    let attachment = case.attachment(&node, &pod, &chained).ifname("net1");
    let result = attachment.add()?;
    let names: Vec<&Value> = result["interfaces"].as_array().into_iter().flatten().map(|one| &one["name"]).collect();
    ensure!(names == ["eth0", "net1"], "{result}");
    let ips: Vec<&Value> = result["ips"].as_array().into_iter().flatten().map(|one| &one["interface"]).collect();
    ensure!(ips == [&json!(0), &json!(1)], "{result}");
    reaches(&pod, peer.ip(0)?)?;
    attachment.del()
}

fn vlan_name_of_a_link_of_the_node(case: &Case) -> Result<()> {
    let (n1, n2) = (case.node("n1")?, case.node("n2")?);
    cable(&n1, "eth0", &n2, "eth0")?;
    let conf = conf(case, json!({ "master": "eth0" }));
    let before = n1.link("eth0")?;
    let (a, b) = (Added::new(case, &n1, "a", &conf)?.checked()?, Added::new(case, &n2, "b", &conf)?);
    reaches(a.pod(), b.ip(0)?)?;
    a.attachment.del()?;
    ensure!(n1.link("eth0")? == before, "the node's own was changed");
    Ok(())
}

fn p07_vlan_ifname_that_is_taken(case: &Case) -> Result<()> {
    let ([node, _far], pod) = (nodes(case)?, case.pod("a")?);
    pod.add_bridge("eth0")?;
    for shared in [false, true] {
        let conf = merged(&conf(case, json!({})), json!({ "shared": shared }));
        let add = case.attachment(&node, &pod, &conf).call("ADD");
        case.unchanged(&[&node, &pod], || add.fail(105))?.says(&["\"eth0\"", "exists already"])?;
    }
    Ok(())
}
