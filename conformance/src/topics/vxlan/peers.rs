//! Who is where: learning, forwarding entries, answers for others, and what becomes of entries when the list changes.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{NEEDS, Pod, Underlay, collect, fdb, flooded, network, pods};
use crate::cni::tool;
use crate::packets::{Capture, Carried, Frame, reaches};
use crate::runner::{Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(vxlan_learning_remembers_the_sender, "on and off").needs(NEEDS).ours(),
    test!(p28_vxlan_fdb_sends_to_one_node_only, "and without the entry to all, as the control").needs(NEEDS).ours(),
    test!(p28_vxlan_fdb_has_a_port_of_its_own, "fdb with vni and port, captured").needs(NEEDS).ours(),
    test!(p28_vxlan_arp_suppress_keeps_arp_off_the_underlay, "IPv4 and IPv6, and a control").needs(NEEDS).ours(),
    test!(vxlan_changed_remotes_are_reconciled_by_add, "foreign entries stay").needs(NEEDS).ours(),
    test!(vxlan_changed_fdb_is_reconciled_by_gc, "entries and neighbours; foreign ones stay").needs(NEEDS).ours(),
    test!(vxlan_a_foreign_entry_in_the_way_is_named, "code 101, nothing changed").needs(NEEDS).ours(),
];

const MACS: [&str; 3] = ["02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"];

fn with_mac(conf: &Value, n: usize) -> Value {
    crate::runner::merged(conf, json!({ "runtimeConfig": { "mac": MACS[n] }, "capabilities": { "mac": true } }))
}

/// A pod with a MAC address that is known beforehand on every node.
fn known_pods(case: &Case, underlay: &Underlay, conf: &Value) -> Result<Vec<Pod>> {
    let nodes = underlay.nodes.iter().enumerate();
    nodes.map(|(n, node)| Pod::new(case, node, &format!("p{n}"), &format!("10.42.0.{n}"), &with_mac(conf, n))).collect()
}

fn vxlan_learning_remembers_the_sender(case: &Case) -> Result<()> {
    for learning in [true, false] {
        let underlay = Underlay::new(2, false)?;
        let conf = network(json!({ "remotes": underlay.addresses(), "learning": learning }));
        let pods = pods(case, &underlay, &conf)?;
        reaches(pods[0].space(), pods[1].ip)?;
        let entries = fdb(&underlay.nodes[0], "vx42")?;
        let learnt = format!("{} dst {}", pods[1].space().link("eth0")?.mac, underlay.address(2));
        let is_there = entries.iter().any(|entry| entry.starts_with(&learnt));
        ensure!(is_there == learning, "learning {learning}: {entries:?}");
    }
    Ok(())
}

/// Whether the third node hears what the first pod says to the second.
fn third_hears(case: &Case, with_entry: bool) -> Result<bool> {
    let underlay = Underlay::new(3, false)?;
    let entries = if with_entry {
        json!([{ "mac": MACS[0], "dst": underlay.address(1) }, { "mac": MACS[1], "dst": underlay.address(2) }])
    } else {
        json!([])
    };
    let conf = network(json!({ "remotes": underlay.addresses(), "learning": false, "fdb": entries }));
    let pods = known_pods(case, &underlay, &conf)?;
    reaches(pods[0].space(), pods[1].ip)?;
    let mut capture = Capture::on(&underlay.nodes[2], "eth0")?;
    reaches(pods[0].space(), pods[1].ip)?;
    let is_echo = |inner: Carried| inner.frame.is_echo_request_from(pods[0].ip);
    let heard = capture.expect(Duration::from_millis(300), "echo", |frame| frame.carried().is_some_and(is_echo));
    Ok(heard.is_ok())
}

fn p28_vxlan_fdb_sends_to_one_node_only(case: &Case) -> Result<()> {
    ensure!(!third_hears(case, true)?, "the third node hears frames to the second, in spite of the entry");
    ensure!(third_hears(case, false)?, "the control: without an entry frames go to all");
    Ok(())
}

fn p28_vxlan_fdb_has_a_port_of_its_own(case: &Case) -> Result<()> {
    let underlay = Underlay::new(2, false)?;
    let entry = json!({ "mac": MACS[1], "dst": underlay.address(2), "vni": 77, "port": 5555 });
    let conf = network(json!({ "fdb": [entry] }));
    let pod = Pod::new(case, &underlay.nodes[0], "p0", "10.42.0.1", &conf)?;
    tool(pod.space(), "ip", &["neigh", "add", "10.42.0.2", "lladdr", MACS[1], "dev", "eth0"])?;
    let mut capture = Capture::on(&underlay.nodes[0], "eth0")?;
    crate::packets::isolated(pod.space(), "10.42.0.2".parse()?)?;
    let is_it = |inner: Carried| (inner.vni, inner.port) == (77, 5555) && inner.frame.is_echo_request_from(pod.ip);
    let limit = Duration::from_secs(1);
    capture.expect(limit, "packet to port 5555 with VNI 77", |frame| frame.carried().is_some_and(is_it)).map(drop)
}

fn p28_vxlan_arp_suppress_keeps_arp_off_the_underlay(case: &Case) -> Result<()> {
    for suppressed in [true, false] {
        let underlay = Underlay::new(2, false)?;
        let entry = |n: usize| json!({ "mac": MACS[n], "dst": underlay.address(n + 1), "ips": [format!("10.42.0.{n}"), format!("fd42::{n}")] });
        let options =
            json!({ "remotes": underlay.addresses(), "arpSuppress": suppressed, "fdb": [entry(0), entry(1)] });
        let pods = known_pods(case, &underlay, &network(options))?;
        for (n, pod) in pods.iter().enumerate() {
            pod.space().set_sysctl("net/ipv6/conf/eth0/disable_ipv6", "0")?;
            pod.space().address("eth0", &format!("fd42::{n}/64"))?;
        }
        let mut capture = Capture::on(&underlay.nodes[0], "eth0")?;
        reaches(pods[0].space(), pods[1].ip)?;
        reaches(pods[0].space(), "fd42::1".parse()?)?;
        let between = |frame: &Frame| {
            let of_pods = |inner: &Carried| MACS.contains(&inner.frame.from.as_str());
            frame.carries_a_question() && frame.carried().as_ref().is_some_and(of_pods)
        };
        let limit = Duration::from_millis(300);
        if suppressed {
            capture.expect_none(limit, "a question on the underlay", between)?;
        } else {
            capture.expect(limit, "question on the underlay, as the control", between)?;
        }
    }
    Ok(())
}

fn vxlan_changed_remotes_are_reconciled_by_add(case: &Case) -> Result<()> {
    let node = &Underlay::new(1, false)?.nodes[0];
    let first = Pod::new(case, node, "a", "10.42.0.1", &network(json!({ "remotes": ["192.0.2.2", "192.0.2.3"] })))?;
    ensure!(flooded(node, "vx42")? == ["192.0.2.2", "192.0.2.3"], "{:?}", fdb(node, "vx42")?);
    tool(node, "bridge", &["fdb", "append", "00:00:00:00:00:00", "dev", "vx42", "dst", "192.0.2.99"])?;
    let conf = network(json!({ "remotes": ["192.0.2.3", "192.0.2.4"] }));
    let second = Pod::new(case, node, "b", "10.42.0.2", &conf)?;
    ensure!(flooded(node, "vx42")? == ["192.0.2.3", "192.0.2.4", "192.0.2.99"], "{:?}", fdb(node, "vx42")?);
    // One that somebody else put there is not podwire's because the list has it for a while.
    let with_foreign = network(json!({ "remotes": ["192.0.2.99"] }));
    collect(case, node, &with_foreign, &[&first.attachment, &second.attachment]).succeed()?;
    ensure!(flooded(node, "vx42")? == ["192.0.2.99"], "{:?}", fdb(node, "vx42")?);
    collect(case, node, &conf, &[&first.attachment, &second.attachment]).succeed()?;
    ensure!(flooded(node, "vx42")? == ["192.0.2.3", "192.0.2.4", "192.0.2.99"], "{:?}", fdb(node, "vx42")?);
    Ok(())
}

fn vxlan_changed_fdb_is_reconciled_by_gc(case: &Case) -> Result<()> {
    let node = &Underlay::new(1, false)?.nodes[0];
    let conf = |list: Value| network(json!({ "arpSuppress": true, "fdb": list }));
    let before = conf(json!([
        { "mac": MACS[0], "dst": "192.0.2.2", "ips": ["10.42.0.2"] },
        { "mac": MACS[1], "dst": "192.0.2.2", "ips": ["10.42.0.3"] },
    ]));
    let pod = Pod::new(case, node, "a", "10.42.0.1", &before)?;
    tool(node, "bridge", &["fdb", "add", MACS[2], "dev", "vx42", "dst", "192.0.2.9", "self", "permanent"])?;
    tool(node, "ip", &["neigh", "add", "10.42.0.9", "lladdr", MACS[2], "dev", "br-vx42", "nud", "permanent"])?;
    let after = conf(json!([{ "mac": MACS[0], "dst": "192.0.2.5", "ips": ["10.42.0.7"] }]));
    collect(case, node, &after, &[&pod.attachment]).succeed()?;
    let entries = fdb(node, "vx42")?;
    let has = |text: String| entries.iter().any(|entry| entry.starts_with(&text));
    ensure!(has(format!("{} dst 192.0.2.5", MACS[0])), "not moved: {entries:?}");
    ensure!(!entries.iter().any(|entry| entry.starts_with(MACS[1])), "not removed: {entries:?}");
    ensure!(has(format!("{} dst 192.0.2.9", MACS[2])), "the foreign entry is gone: {entries:?}");
    let neighbours = tool(node, "ip", &["neigh", "show", "dev", "br-vx42", "nud", "permanent"])?;
    let mut known: Vec<_> = neighbours.lines().filter_map(|line| line.split(' ').next()).collect();
    known.retain(|address| address.starts_with("10."));
    known.sort_unstable();
    ensure!(known == ["10.42.0.7", "10.42.0.9"], "{neighbours}");
    let altnames = node.link("vx42")?.altnames;
    ensure!(altnames == [format!("podwire-fdb:vx42:{}>192.0.2.5", MACS[0])], "{altnames:?}");
    Ok(())
}

fn vxlan_a_foreign_entry_in_the_way_is_named(case: &Case) -> Result<()> {
    let node = &Underlay::new(1, false)?.nodes[0];
    let _first = Pod::new(case, node, "a", "10.42.0.1", &network(json!({})))?;
    tool(node, "bridge", &["fdb", "add", MACS[1], "dev", "vx42", "dst", "192.0.2.9", "self", "permanent"])?;
    let conf = network(json!({ "fdb": [{ "mac": MACS[1], "dst": "192.0.2.2" }] }));
    let second = Pod::attachment(case, node, "b", "10.42.0.2", &conf)?;
    let failure = case.unchanged(&[node, &second.pod], || second.call("ADD").fail(101))?;
    failure.says(&[MACS[1], "192.0.2.9", "bridge fdb del"])?;
    let entries = fdb(node, "vx42")?;
    ensure!(entries.iter().any(|entry| entry.starts_with(&format!("{} dst 192.0.2.9", MACS[1]))), "{entries:?}");
    Ok(())
}
