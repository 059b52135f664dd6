//! What goes wrong: names that are taken, links that are not there, failures late in ADD.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{LINKS, NEEDS, conf, node_at_switch};
use crate::runner::{Case, Feature, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p20_bond_add_that_fails_late_gives_links_back, "no address left, a route that cannot be").needs(NEEDS).ours(),
    test!(p07_bond_finds_a_name_taken_in_the_pod, "the bond's own, or a link's; code 105").needs(NEEDS).ours(),
    test!(p20_bond_link_that_is_not_there, "code 7, and the near name").needs(NEEDS).ours(),
    test!(p20_bond_link_that_is_a_port_already, "code 101, naming the bridge").needs(NEEDS).ours(),
    test!(p27_bond_link_that_is_lent_already, "code 101, naming who has it; STATUS is well").needs(NEEDS).ours(),
    test!(p25_bond_status_without_its_links, "code 50, and none when they are in the pod").needs(NEEDS).ours(),
    test!(p25_bond_status_without_a_capability, "code 50").needs(NEEDS).ours(),
    test!(p25_bond_status_names_what_is_missing, "the kernel's bonds, else the links; code 50").ours(),
    test!(p22_bond_del_of_nothing_succeeds, "before any ADD, and without a pod").ours(),
];

fn p20_bond_add_that_fails_late_gives_links_back(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    let pod = case.pod("a")?;
    node.address("eth1", "192.0.2.1/24")?;
    node.change("eth2", |link| link.mtu(1600))?;
    node.down("eth2")?;
    let mut off_link = case.host_local(&["10.7.0.0/24"]);
    off_link["routes"] = json!([{ "dst": "192.0.2.0/24", "gw": "172.31.0.1" }]);
    let one = json!([[{ "subnet": "10.8.0.0/30", "rangeStart": "10.8.0.2", "rangeEnd": "10.8.0.2" }]]);
    let mut full = case.host_local(&[]);
    full["ranges"] = one;
    case.attachment(&node, &case.pod("b")?, &case.bridge_with(json!({ "ipam": full }))).add()?;
    for (ipam, code) in [(off_link, None), (full, Some(100))] {
        let add = case.attachment(&node, &pod, &conf(case, json!({ "ipam": ipam }))).call("ADD");
        let failure = case.unchanged(&[&node, &pod], || add.fail_somehow()).with_context(|| ipam.to_string())?;
        ensure!(code.is_none_or(|code| code == failure.code), "code {}: {}", failure.code, failure.msg);
    }
    Ok(())
}

fn p07_bond_finds_a_name_taken_in_the_pod(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    for taken in ["eth0", "eth2"] {
        let pod = case.pod("a")?;
        pod.add_bridge(taken)?;
        let attachment = case.attachment(&node, &pod, &conf(case, json!({})));
        let failure = case.unchanged(&[&node, &pod], || attachment.call("ADD").fail(105))?;
        failure.says(&[taken])?;
        // A runtime calls DEL after a failed ADD: what is another's stays.
        case.unchanged(&[&node, &pod], || attachment.del())?;
    }
    Ok(())
}

fn p20_bond_link_that_is_not_there(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    let pod = case.pod("a")?;
    for (extra, place) in [(json!({}), "node"), (json!({ "linksInContainer": true }), "pod")] {
        let links = json!([{ "name": "eth1" }, { "name": "eth22" }]);
        let add = case.attachment(&node, &pod, &conf(case, extra)).with(json!({ "links": links })).call("ADD");
        let failure = case.unchanged(&[&node, &pod], || add.fail(7))?;
        failure.says(&["not found", place])?;
        if place == "node" {
            failure.says(&["eth22", "did you mean", "eth2"])?;
        }
    }
    Ok(())
}

fn p20_bond_link_that_is_a_port_already(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    let pod = case.pod("a")?;
    node.add_bridge("br7")?;
    node.plug("br7", "eth2")?;
    let add = case.attachment(&node, &pod, &conf(case, json!({}))).call("ADD");
    case.unchanged(&[&node, &pod], || add.fail(101))?.says(&["eth2", "br7"]).map(drop)
}

fn p27_bond_link_that_is_lent_already(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    let conf = conf(case, json!({}));
    let first = case.attachment(&node, &case.pod("a")?, &conf);
    let result = first.add()?;
    let second = case.attachment(&node, &case.pod("b")?, &conf);
    let failure = case.unchanged(&[&node, &first.pod, &second.pod], || second.call("ADD").fail(101))?;
    failure.says(&["eth1", &first.container])?;
    case.call(&node, "bond", "STATUS").conf(&conf).succeed()?;
    second.del()?;
    first.check(&result)?;
    first.del()?;
    second.add()?;
    second.del()
}

fn p25_bond_status_without_its_links(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    let status = |extra| case.call(&node, "bond", "STATUS").conf(&conf(case, extra));
    status(json!({})).succeed()?;
    node.delete(LINKS[1])?;
    status(json!({})).fail(50)?.says(&["eth2"])?;
    status(json!({ "linksInContainer": true })).succeed().map(drop)
}

fn p25_bond_status_without_a_capability(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    let wrapper = ["setpriv", "--bounding-set=-net_admin"].map(std::ffi::OsStr::new);
    let status = case.call(&node, "bond", "STATUS").conf(&conf(case, json!({})));
    status.succeed()?;
    status.under(&wrapper).fail(50)?.says(&["CAP_NET_ADMIN"]).map(drop)
}

fn p25_bond_status_names_what_is_missing(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    // Where the kernel has no bonds, STATUS says so; where it has, the links are missing.
    let status = case.call(&node, "bond", "STATUS").conf(&conf(case, json!({}))).fail(50)?;
    status.says(&[if Feature::Bond.is_here() { "eth1" } else { "EOPNOTSUPP" }]).map(drop)
}

fn p22_bond_del_of_nothing_succeeds(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("a")?);
    let attachment = case.attachment(&node, &pod, &conf(case, json!({})));
    case.unchanged(&[&node, &pod], || {
        attachment.del()?;
        attachment.call("DEL").without("CNI_NETNS").succeed().map(drop)
    })
}
