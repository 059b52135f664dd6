//! Mode passthru: the parent for one pod alone. And what a parent that is taken says.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Added, NEEDS, NODE, OTHER, PARENT, conf, parsed};
use crate::cni::tool;
use crate::lab::Lan;
use crate::packets::{isolated, reaches};
use crate::runner::{Case, Feature, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p28_macvlan_passthru_mode, "to another node with the parent's MAC, not to its own node").needs(NEEDS),
    test!(p28_macvlan_passthru_survives_a_change_of_mac, "by the pod; DEL gives the parent its own back").needs(NEEDS),
    test!(macvlan_passthru_with_a_mac, "the pod and the parent get it, until DEL").needs(NEEDS).ours(),
    test!(macvlan_passthru_is_for_one_pod, "a second is refused with the name of the first").needs(NEEDS).ours(),
    test!(macvlan_passthru_after_other_modes, "is refused with the name of the pod that is there").needs(NEEDS).ours(),
    test!(macvlan_on_a_port_of_a_bridge, "is refused with the name of the bridge").needs(NEEDS).ours(),
    test!(macvlan_on_a_parent_of_ipvlan, "is refused with the name of the ipvlan")
        .needs(&[Feature::Macvlan, Feature::Ipvlan])
        .ours(),
];

fn p28_macvlan_passthru_mode(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let a = Added::new(case, &lan.node, "a", &conf(case, json!({ "mode": "passthru" })))?;
    ensure!(a.mac()? == lan.node.link(PARENT)?.mac, "not the parent's MAC address: {}", a.mac()?);
    a.attachment.check(&a.result)?;
    for ip in parsed(&OTHER)? {
        reaches(a.pod(), ip)?;
    }
    for ip in a.ips()? {
        reaches(&lan.other, ip)?;
    }
    parsed(&NODE)?.into_iter().try_for_each(|ip| isolated(a.pod(), ip))
}

fn p28_macvlan_passthru_survives_a_change_of_mac(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let before = lan.node.link(PARENT)?.mac;
    let a = Added::new(case, &lan.node, "a", &conf(case, json!({ "mode": "passthru" })))?;
    for ip in a.ips()? {
        reaches(&lan.other, ip)?;
    }
    a.pod().change("eth0", |link| link.address(vec![2, 0, 0, 0, 0, 0x55]))?;
    ensure!(
        lan.node.link(PARENT)?.mac == "02:00:00:00:00:55",
        "the parent did not follow: {:?}",
        lan.node.link(PARENT)?
    );
    for ip in a.ips()? {
        reaches(&lan.other, ip).context("after the change")?;
    }
    a.attachment.del()?;
    ensure!(lan.node.link(PARENT)?.mac == before, "the parent has {}, had {before}", lan.node.link(PARENT)?.mac);
    Ok(())
}

fn macvlan_passthru_with_a_mac(case: &Case) -> Result<()> {
    let mac = "02:00:00:00:00:66";
    let lan = Lan::new()?;
    let conf = conf(case, json!({ "mode": "passthru", "mac": mac }));
    let a = case.attachment(&lan.node, &case.pod("a")?, &conf);
    case.unchanged(&[&lan.node, &a.pod], || {
        let result = a.add()?;
        ensure!(result["interfaces"][0]["mac"] == mac && a.pod.link("eth0")?.mac == mac, "{result}");
        ensure!(lan.node.link(PARENT)?.mac == mac, "the parent has {}", lan.node.link(PARENT)?.mac);
        a.check(&result)?;
        reaches(&a.pod, OTHER[0].parse()?)?;
        a.del()
    })
}

fn macvlan_passthru_is_for_one_pod(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let conf = conf(case, json!({ "mode": "passthru" }));
    let a = Added::new(case, &lan.node, "a", &conf)?;
    for extra in [json!({}), json!({ "mode": "bridge" })] {
        let pod = case.pod("b")?;
        let second = case.attachment(&lan.node, &pod, &conf).with(extra);
        let failure = case.unchanged(&[&lan.node, &pod], || second.call("ADD").fail(101))?;
        failure.says(&[PARENT, &a.attachment.label(), "EINVAL"])?;
    }
    reaches(a.pod(), OTHER[0].parse()?)?;
    a.attachment.del()?;
    Added::new(case, &lan.node, "b", &conf).context("after the first has gone")?.attachment.del()
}

fn macvlan_passthru_after_other_modes(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let first = Added::new(case, &lan.node, "a", &conf(case, json!({})))?;
    let pod = case.pod("b")?;
    let second = case.attachment(&lan.node, &pod, &conf(case, json!({ "mode": "passthru" })));
    let failure = case.unchanged(&[&lan.node, &pod], || second.call("ADD").fail(101))?;
    failure.says(&[PARENT, &first.attachment.label(), "EINVAL"])?;
    // On the node a device can be seen, and is named.
    tool(&lan.node, "ip", &["link", "add", "mine", "link", PARENT, "type", "macvlan", "mode", "bridge"])?;
    second.call("ADD").fail(101)?.says(&["macvlan \"mine\""])?;
    first.attachment.del()
}

fn macvlan_on_a_port_of_a_bridge(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    lan.node.add_bridge("br0")?;
    lan.node.plug("br0", PARENT)?;
    let pod = case.pod("a")?;
    let add = case.attachment(&lan.node, &pod, &conf(case, json!({}))).call("ADD");
    let failure = case.unchanged(&[&lan.node, &pod], || add.fail(101))?;
    failure.says(&[PARENT, "port of bridge \"br0\"", "EBUSY"]).map(drop)
}

fn macvlan_on_a_parent_of_ipvlan(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    tool(&lan.node, "ip", &["link", "add", "mine", "link", PARENT, "type", "ipvlan", "mode", "l2"])?;
    let pod = case.pod("a")?;
    let add = case.attachment(&lan.node, &pod, &conf(case, json!({}))).call("ADD");
    let failure = case.unchanged(&[&lan.node, &pod], || add.fail(101))?;
    failure.says(&[PARENT, "ipvlan \"mine\""]).map(drop)
}
