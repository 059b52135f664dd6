//! One device for each parent, protocol and id: who has it is told to whoever comes second.

use anyhow::{Result, ensure};
use rtnetlink::LinkVlan;
use serde_json::json;

use super::{Added, NEEDS, SHARED, UPLINK, conf, nodes, shared};
use crate::lab::Space;
use crate::packets::reaches;
use crate::runner::{Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(
        p27_vlan_that_a_pod_has_is_refused_with_its_name,
        "code 105: attachment, link, and how to share; DEL frees it"
    )
    .needs(NEEDS)
    .ours(),
    test!(p27_vlan_that_the_node_has_is_refused_with_its_name, "code 105, the node's link untouched")
        .needs(NEEDS)
        .ours(),
    test!(p27_vlan_that_a_pod_has_inside_is_refused, "linkInContainer twice").needs(NEEDS).ours(),
    test!(p27_vlan_of_a_foreign_plugins_pod, "no label, and a namespace that the node has no number for")
        .needs(NEEDS)
        .ours(),
    test!(p27_vlan_holder_that_calls_itself_names, "an alias of a pod's own making is quoted, and no more")
        .needs(NEEDS)
        .ours(),
    test!(p27_vlan_shared_is_refused_while_one_pod_has_it_alone, "code 105, and works when that one is gone")
        .needs(SHARED)
        .ours(),
    test!(p27_vlan_alone_is_refused_while_pods_share_it, "code 105 with the users, who stay").needs(SHARED).ours(),
];

fn p27_vlan_that_a_pod_has_is_refused_with_its_name(case: &Case) -> Result<()> {
    let ([n1, n2], pod) = (nodes(case)?, case.pod("second")?);
    let far = Added::new(case, &n2, "far", &conf(case, json!({})))?;
    let first = Added::new(case, &n1, "first", &conf(case, json!({})))?;
    // Another network, which nobody but the parent and the id joins to the first.
    let ipam = case.host_local(&["10.7.0.128/25"]);
    let second = case.attachment(&n1, &pod, &conf(case, json!({ "name": "other", "ipam": ipam })));
    let failure = case.unchanged(&[&n1, &pod, first.pod()], || second.call("ADD").fail(105))?;
    let label = first.attachment.label();
    failure.says(&["VLAN 100", UPLINK, "\"eth0\"", &label, "\"shared\": true"])?;
    reaches(first.pod(), far.ip(0)?)?;
    // Another id, and the same with another protocol, are free.
    for (name, extra) in [("c", json!({ "vlanId": 101 })), ("d", json!({ "protocol": "802.1ad" }))] {
        Added::new(case, &n1, name, &conf(case, extra))?;
    }
    first.attachment.del()?;
    second.add()?;
    reaches(&pod, far.ip(0)?).map(drop)
}

/// Makes a VLAN device by other means: on a node's uplink, in the namespace of `space`.
fn make(node: &Space, name: &str, id: u16, space: Option<&Space>) -> Result<()> {
    let mut link = LinkVlan::new(name, node.link(UPLINK)?.index, id);
    if let Some(space) = space {
        link = link.setns_by_fd(space.ns.fd());
    }
    node.add(name, link.build())
}

fn p27_vlan_that_the_node_has_is_refused_with_its_name(case: &Case) -> Result<()> {
    let ([node, _far], pod) = (nodes(case)?, case.pod("a")?);
    make(&node, "storage", 100, None)?;
    let add = case.attachment(&node, &pod, &conf(case, json!({}))).call("ADD");
    let failure = case.unchanged(&[&node, &pod], || add.fail(105))?;
    failure.says(&["VLAN 100", UPLINK, "\"storage\"", "on the node"]).map(drop)
}

fn p27_vlan_that_a_pod_has_inside_is_refused(case: &Case) -> Result<()> {
    let ([node, _far], pod) = (nodes(case)?, case.pod("a")?);
    pod.add_bridge("eth0")?;
    pod.up("eth0")?;
    let conf = conf(case, json!({ "master": "eth0", "linkInContainer": true }));
    let first = case.attachment(&node, &pod, &conf).ifname("net1");
    first.add()?;
    let second = first.clone().ifname("net2").with(json!({ "name": "other" }));
    let failure = case.unchanged(&[&node, &pod], || second.call("ADD").fail(105))?;
    failure.says(&["VLAN 100", "\"eth0\"", "\"net1\"", &first.label()]).map(drop)
}

fn p27_vlan_of_a_foreign_plugins_pod(case: &Case) -> Result<()> {
    let ([node, _far], pod, foreign) = (nodes(case)?, case.pod("a")?, case.pod("b")?);
    make(&node, "v100", 100, Some(&foreign))?;
    let add = case.attachment(&node, &pod, &conf(case, json!({}))).call("ADD");
    case.unchanged(&[&node, &pod], || add.fail(105))?.says(&["VLAN 100", "cannot be seen", "\"shared\": true"])?;
    // A veth between both gives the pod a number on the node, as most networks do.
    crate::lab::cable(&foreign, "eth0", &node, "port")?;
    case.unchanged(&[&node, &pod], || add.fail(105))?.says(&["VLAN 100", "\"v100\"", "namespace number"]).map(drop)
}

fn p27_vlan_holder_that_calls_itself_names(case: &Case) -> Result<()> {
    let ([node, _far], pod) = (nodes(case)?, case.pod("second")?);
    let first = Added::new(case, &node, "first", &conf(case, json!({})))?;
    let alias = format!("\u{1b}[2J\"}}\n{}", "x".repeat(240));
    crate::cni::tool(first.pod(), "ip", &["link", "set", "dev", "eth0", "alias", &alias])?;
    // A device that only looks the same: of a link of its own, with the same index as the node's uplink or not.
    first.pod().add_bridge("lookalike")?;
    let index = first.pod().link("lookalike")?.index;
    first.pod().add("net7", LinkVlan::new("net7", index, 100).build())?;
    let add = case.attachment(&node, &pod, &conf(case, json!({}))).call("ADD");
    let failure = case.unchanged(&[&node, &pod, first.pod()], || add.fail(105))?;
    failure.says(&["\"eth0\"", "\\u{1b}[2J"])?;
    let said = format!("{}{}", failure.msg, failure.details);
    ensure!(!said.contains('\u{1b}') && !said.contains('\n') && said.len() < 1500, "{said:?}");
    ensure!(!said.contains("net7"), "{said}");
    Ok(())
}

fn p27_vlan_shared_is_refused_while_one_pod_has_it_alone(case: &Case) -> Result<()> {
    let ([node, _far], pod) = (nodes(case)?, case.pod("second")?);
    let first = Added::new(case, &node, "first", &conf(case, json!({})))?;
    let second = case.attachment(&node, &pod, &shared(case, json!({ "name": "other" })));
    let failure = case.unchanged(&[&node, &pod, first.pod()], || second.call("ADD").fail(105))?;
    failure.says(&["VLAN 100", UPLINK, &first.attachment.label(), "\"shared\": true"])?;
    first.attachment.del()?;
    second.add().map(drop)
}

fn p27_vlan_alone_is_refused_while_pods_share_it(case: &Case) -> Result<()> {
    let ([node, _far], pod) = (nodes(case)?, case.pod("third")?);
    let conf = conf(case, json!({ "name": "other" }));
    let [a, b] = ["a", "b"].map(|name| Added::new(case, &node, name, &shared(case, json!({}))));
    let (a, b) = (a?, b?);
    let add = case.attachment(&node, &pod, &conf).call("ADD");
    let failure = case.unchanged(&[&node, &pod], || add.fail(105))?;
    failure.says(&["VLAN 100", "uplink.100", &a.attachment.label(), &b.attachment.label(), "\"shared\": true"])?;
    reaches(a.pod(), b.ip(0)?).map(drop)
}
