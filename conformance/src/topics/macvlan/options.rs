//! The other options, and where the parent comes from.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Added, NEEDS, NODE, OTHER, PARENT, conf, details};
use crate::lab::{Lan, Space, cable};
use crate::packets::reaches;
use crate::runner::{Attachment, Case, Feature, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(macvlan_mtu, "the parent's by default, less if asked, 0 as absent").needs(NEEDS),
    test!(macvlan_mtu_above_the_parents, "code 7 with both numbers, nothing changed").needs(NEEDS).ours(),
    test!(p09_macvlan_mac, "runtimeConfig, args.cni, CNI_ARGS, option").needs(NEEDS),
    test!(macvlan_bcqueuelen, "as the kernel has it").needs(NEEDS).ours(),
    test!(macvlan_link_in_container, "the parent is in the pod").needs(NEEDS).ours(),
    test!(macvlan_without_ipam, "up and without addresses").needs(NEEDS),
    test!(macvlan_parent_of_the_default_route, "of IPv4, and of IPv6 alone").needs(NEEDS).ours(),
    test!(macvlan_parent_of_the_previous_result, "in a chain").needs(NEEDS).ours(),
    test!(macvlan_parent_that_is_missing, "code 7, with the name that is near").needs(NEEDS).ours(),
    test!(macvlan_is_made_as_the_reference_makes_it, "result and ip -d link, option by option")
        .needs(&[Feature::Macvlan, Feature::Reference])
        .ours(),
];

fn macvlan_mtu(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    lan.node.change(PARENT, |link| link.mtu(1400))?;
    for (name, extra, expected) in
        [("a", json!({}), 1400), ("b", json!({ "mtu": 1300 }), 1300), ("c", json!({ "mtu": 0 }), 1400)]
    {
        let pod = Added::new(case, &lan.node, name, &conf(case, extra))?;
        let found = pod.pod().link("eth0")?.mtu;
        ensure!(found == expected, "pod {name:?} has {found}, expected {expected}");
        pod.attachment.check(&pod.result)?;
    }
    Ok(())
}

fn macvlan_mtu_above_the_parents(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let pod = case.pod("a")?;
    let add = case.attachment(&lan.node, &pod, &conf(case, json!({ "mtu": 1501 }))).call("ADD");
    case.unchanged(&[&lan.node, &pod], || add.fail(7))?.says(&["mtu", "1501", "1500", PARENT]).map(drop)
}

fn p09_macvlan_mac(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let macs = [1, 2, 3, 4].map(|last| format!("02:00:00:00:00:0{last}"));
    let [runtime, args, env, option] = &macs;
    let sources = [
        json!({ "runtimeConfig": { "mac": runtime }, "capabilities": { "mac": true } }),
        json!({ "args": { "cni": { "mac": args } } }),
        json!({}),
        json!({ "mac": option }),
    ];
    // All of them, then without the first, and so on.
    for (first, expected) in macs.iter().enumerate() {
        let extra = sources[first..].iter().fold(json!({}), |all, one| merged(&all, one.clone()));
        let pod = case.pod(&format!("p{first}"))?;
        let mut attachment = case.attachment(&lan.node, &pod, &conf(case, extra));
        if first <= 2 {
            attachment = attachment.args(&format!("IgnoreUnknown=1;MAC={env}"));
        }
        let result = attachment.add()?;
        let found = pod.link("eth0")?.mac;
        ensure!(
            found == *expected && result["interfaces"][0]["mac"] == found,
            "{found}, expected {expected}: {result}"
        );
        attachment.check(&result)?;
    }
    Ok(())
}

fn macvlan_bcqueuelen(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    for (name, extra, expected) in [("a", json!({}), 1000), ("b", json!({ "bcqueuelen": 2000 }), 2000)] {
        let pod = Added::new(case, &lan.node, name, &conf(case, extra))?;
        let options = details(pod.pod(), "eth0")?["linkinfo"]["info_data"].clone();
        ensure!(options["bcqueuelen"] == expected, "{options}");
        pod.attachment.check(&pod.result)?;
    }
    Ok(())
}

fn macvlan_link_in_container(case: &Case) -> Result<()> {
    let (node, pod, other) = (case.node("n1")?, case.pod("a")?, case.node("other")?);
    cable(&pod, "uplink", &other, "eth0")?;
    other.address("eth0", "192.168.7.200/24")?;
    let conf = conf(case, json!({ "master": "uplink", "linkInContainer": true }));
    let attachment = case.attachment(&node, &pod, &conf);
    case.unchanged(&[&node, &pod], || {
        let result = attachment.add()?;
        ensure!(pod.link("eth0")?.peer == Some(pod.link("uplink")?.index), "{:?}", pod.link("eth0")?);
        reaches(&pod, OTHER[0].parse()?)?;
        attachment.check(&result)?;
        attachment.del()
    })?;
    // The node has no link of that name: whoever looks there finds nothing.
    let elsewhere = attachment.with(json!({ "linkInContainer": null }));
    elsewhere.call("ADD").fail(7)?.says(&["uplink"]).map(drop)
}

fn macvlan_without_ipam(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    for ipam in [Value::Null, json!({})] {
        let pod = case.pod("a")?;
        let base = conf(case, json!({ "ipam": null }));
        let attachment = case.attachment(&lan.node, &pod, &merged(&base, json!({ "ipam": ipam })));
        let result = attachment.add()?;
        ensure!(result["ips"].as_array().is_none_or(Vec::is_empty), "{result}");
        ensure!(pod.link("eth0")?.up && pod.ips("eth0")?.is_empty(), "{:?}", pod.ips("eth0")?);
        attachment.check(&result)?;
        // It works for whoever gives it an address.
        pod.address("eth0", "192.168.7.9/24")?;
        reaches(&pod, OTHER[0].parse()?)?;
        attachment.del()?;
        ensure!(pod.find("eth0")?.is_none(), "eth0 is still there");
    }
    Ok(())
}

fn macvlan_parent_of_the_default_route(case: &Case) -> Result<()> {
    for (to, via) in [("0.0.0.0/0", "192.168.7.254"), ("::/0", "fd07::254")] {
        let lan = Lan::new()?;
        let attachment = case.attachment(&lan.node, &case.pod("a")?, &conf(case, json!({ "master": null })));
        let failure = case.unchanged(&[&lan.node], || attachment.call("ADD").fail(7))?;
        failure.says(&["master", "default route"])?;
        lan.node.route(to, via.parse()?)?;
        let result = attachment.add().with_context(|| to.to_owned())?;
        ensure!(attachment.pod.link("eth0")?.peer == Some(lan.node.link(PARENT)?.index), "another parent");
        attachment.check(&result)?;
        attachment.del()?;
    }
    Ok(())
}

fn macvlan_parent_of_the_previous_result(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    // The default route is by another link, which is not asked.
    cable(&lan.node, "eth0", &lan.other, "eth5")?;
    lan.node.address("eth0", "10.9.0.1/24")?;
    lan.node.route("0.0.0.0/0", "10.9.0.254".parse()?)?;
    let previous = json!({ "cniVersion": "1.0.0", "interfaces": [{ "name": PARENT }] });
    let conf = conf(case, json!({ "master": null, "prevResult": previous }));
    let attachment = case.attachment(&lan.node, &case.pod("a")?, &conf);
    let result = attachment.add()?;
    ensure!(attachment.pod.link("eth0")?.peer == Some(lan.node.link(PARENT)?.index), "another parent");
    ensure!(result["interfaces"][0]["name"] == PARENT && result["interfaces"][1]["name"] == "eth0", "{result}");
    ensure!(result["ips"][0]["interface"] == 1, "{result}");
    reaches(&attachment.pod, OTHER[0].parse()?)?;
    attachment.check(&result)?;
    attachment.del()
}

fn macvlan_parent_that_is_missing(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let pod = case.pod("a")?;
    let add = case.attachment(&lan.node, &pod, &conf(case, json!({ "master": "eht1" }))).call("ADD");
    case.unchanged(&[&lan.node, &pod], || add.fail(7))?.says(&["\"eht1\"", "\"eth1\""]).map(drop)
}

/// One attachment by the plugins in `case`: the result and what `ip -d link` says, with what differs each time left out.
fn made(case: &Case, extra: &Value) -> Result<(Value, Value)> {
    let lan = Lan::new()?;
    let pod = case.pod("a")?;
    let ipam = json!({ "type": "static", "addresses": [{ "address": "192.168.7.9/24" }, { "address": "fd07::9/64" }] });
    let conf = merged(&conf(case, json!({ "ipam": null })), merged(&json!({ "ipam": ipam }), extra.clone()));
    let attachment: Attachment = case.attachment(&lan.node, &pod, &conf);
    let mut result = attachment.add()?;
    reaches(&pod, OTHER[0].parse()?)?;
    result["interfaces"][0]["sandbox"] = Value::Null;
    let mut link = link_without_chance(&pod)?;
    if extra.get("mac").is_none() {
        result["interfaces"][0]["mac"] = Value::Null;
        link["address"] = Value::Null;
    }
    ensure!(lan.node.ips(PARENT)?.iter().any(|ip| ip.starts_with(NODE[0])), "the node lost its address");
    Ok((result, link))
}

fn link_without_chance(pod: &Space) -> Result<Value> {
    let mut link = details(pod, "eth0")?;
    // Of the queue's length, which a device without a queue has no use for, the reference asks for 0 by leaving it out;
    // and it does not say whose the device is.
    for key in ["ifindex", "link_index", "link_netnsid", "txqlen", "ifalias"] {
        link.as_object_mut().map(|link| link.remove(key));
    }
    Ok(link)
}

fn macvlan_is_made_as_the_reference_makes_it(case: &Case) -> Result<()> {
    let reference = Case { cni_path: "/usr/lib/cni".into(), ..case.clone() };
    let options = [
        json!({}),
        json!({ "mode": "private" }),
        json!({ "mode": "vepa" }),
        json!({ "mode": "passthru" }),
        json!({ "mtu": 1400, "mac": "02:00:00:00:00:07" }),
    ];
    for extra in options {
        let (ours, theirs) = (made(case, &extra)?, made(&reference, &extra).context("the reference")?);
        ensure!(ours.0 == theirs.0, "{extra}: result\nours   {}\ntheirs {}", ours.0, theirs.0);
        ensure!(ours.1 == theirs.1, "{extra}: ip -d link\nours   {}\ntheirs {}", ours.1, theirs.1);
    }
    Ok(())
}
