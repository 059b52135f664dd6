//! ipMasq: what leaves the node bears the node's address.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Added, rules};
use crate::lab::{Space, cable};
use crate::packets::{Capture, Ping, peer_seen_by_tcp, peer_seen_by_udp, reaches};
use crate::runner::{Case, Feature, Test, merged};
use crate::test;

const NEEDS: &[Feature] = &[Feature::NftInet];

pub(super) const TESTS: &[Test] = &[
    test!(p28_a_far_node_sees_the_nodes_address, "ipMasq with both families; ping, TCP, UDP").needs(NEEDS),
    test!(p28_a_far_node_sees_the_pods_address, "the control without ipMasq").needs(NEEDS),
    test!(pods_see_each_others_addresses, "ipMasq leaves the network itself alone").needs(NEEDS),
    test!(masquerade_goes_with_del, "the ruleset is as if the pod had never been").needs(NEEDS),
    test!(masquerade_is_ours_and_labelled, "table inet podwire, comment, one rule for many pods").needs(NEEDS).ours(),
    test!(p22_del_without_anything_finds_the_rules, "no netns, no prevResult").needs(NEEDS),
    test!(p23_check_sees_that_masquerade_is_gone, "code 102").needs(NEEDS),
    test!(p24_gc_removes_the_rules_of_no_attachment, "by container and interface").needs(NEEDS),
    test!(the_backend_may_be_named, "ipMasqBackend nftables").needs(NEEDS),
    test!(the_other_backend_is_warned_about, "ipMasqBackend iptables: done by nftables, and said").needs(NEEDS).ours(),
    test!(p24_gc_of_everything_removes_the_tables, "once nobody has an element in them").needs(NEEDS).ours(),
    test!(a_thousand_masqueraded_pods_hold_nobody_up, "ADD and DEL beside them take less than ten times as long")
        .needs(NEEDS)
        .ours(),
    test!(p24_gc_removes_thousands_of_rules, "of 4,000 attachments, in one call").needs(NEEDS).ours(),
    test!(foreign_rules_are_left_alone, "a table of somebody else's").needs(NEEDS).ours(),
];

fn conf(case: &Case, masquerade: bool) -> Value {
    let ipam = case.host_local(&["10.7.0.0/24", "fd07::/64"]);
    case.bridge_with(json!({ "isDefaultGateway": true, "ipMasq": masquerade, "ipam": ipam }))
}

/// A node with an uplink to another that knows nothing of the pods.
fn two_nodes(case: &Case) -> Result<(Space, Space)> {
    let (node, far) = (case.node("n1")?, case.node("far")?);
    cable(&node, "up0", &far, "eth0")?;
    for (space, link, cidr) in [
        (&node, "up0", "192.0.2.1/24"),
        (&far, "eth0", "192.0.2.2/24"),
        (&node, "up0", "2001:db8::1/64"),
        (&far, "eth0", "2001:db8::2/64"),
    ] {
        space.address(link, cidr)?;
    }
    reaches(&node, "192.0.2.2".parse()?)?;
    reaches(&node, "2001:db8::2".parse()?)?;
    Ok((node, far))
}

fn p28_a_far_node_sees_the_nodes_address(case: &Case) -> Result<()> {
    let (node, far) = two_nodes(case)?;
    let a = Added::new(case, &node, "a", &conf(case, true))?;
    for (to, seen) in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
        let (to, seen): (IpAddr, IpAddr) = (to.parse()?, seen.parse()?);
        // It has no route to the pod, so that an answer alone shows it.
        reaches(a.pod(), to)?;
        let tcp = peer_seen_by_tcp(&far, to, a.pod())?;
        let udp = peer_seen_by_udp(&far, to, a.pod())?;
        ensure!(tcp == seen && udp == seen, "seen by TCP: {tcp}, by UDP: {udp}");
    }
    a.attachment.check(&a.result)
}

fn p28_a_far_node_sees_the_pods_address(case: &Case) -> Result<()> {
    let (node, far) = two_nodes(case)?;
    let a = Added::new(case, &node, "a", &conf(case, false))?;
    reaches(a.pod(), "10.7.0.1".parse()?)?;
    let mut capture = Capture::on(&far, "eth0")?;
    let pings = Ping::default().run(a.pod(), "192.0.2.2".parse()?)?;
    ensure!(pings.times.is_empty(), "answered, and the far node has no route to the pod");
    let own = a.ip(0)?;
    capture.expect(Duration::from_secs(1), "ping of the pod", |frame| frame.is_echo_request_from(own)).map(drop)
}

fn pods_see_each_others_addresses(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let (a, b) = (Added::new(case, &node, "a", &conf(case, true))?, Added::new(case, &node, "b", &conf(case, true))?);
    for n in 0..2 {
        reaches(a.pod(), b.ip(n)?)?;
        let seen = peer_seen_by_tcp(b.pod(), b.ip(n)?, a.pod())?;
        ensure!(seen == a.ip(n)?, "b sees {seen}, a is {}", a.ip(n)?);
        let gateway = if n == 0 { "10.7.0.1" } else { "fd07::1" }.parse()?;
        reaches(a.pod(), gateway)?;
        let seen = peer_seen_by_tcp(&node, gateway, a.pod())?;
        ensure!(seen == a.ip(n)?, "the node sees {seen}, a is {}", a.ip(n)?);
    }
    Ok(())
}

fn masquerade_goes_with_del(case: &Case) -> Result<()> {
    rules::go_with_del(case, &conf(case, true))
}

fn masquerade_is_ours_and_labelled(case: &Case) -> Result<()> {
    rules::are_shared_and_labelled(case, &conf(case, true), "inet podwire", "masquerade")
}

fn p22_del_without_anything_finds_the_rules(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let _first = Added::new(case, &node, "a", &conf(case, true))?;
    let before = node.ruleset()?;
    let second = Added::new(case, &node, "b", &conf(case, true))?;
    second.attachment.call("DEL").without("CNI_NETNS").succeed()?;
    ensure!(node.ruleset()? == before, "left after DEL:\n{}", node.ruleset()?);
    Ok(())
}

fn p23_check_sees_that_masquerade_is_gone(case: &Case) -> Result<()> {
    rules::are_missed(case, &conf(case, true))
}

fn p24_gc_removes_the_rules_of_no_attachment(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = merged(&conf(case, true), json!({ "cniVersion": "1.1.0" }));
    let a = Added::new(case, &node, "a", &conf)?;
    let before = node.ruleset()?;
    let _b = Added::new(case, &node, "b", &conf)?;
    let valid = json!({ "cni.dev/valid-attachments": [{ "containerID": a.attachment.container, "ifname": "eth0" }] });
    case.call(&node, "bridge", "GC").conf(&merged(&conf, valid)).succeed()?;
    ensure!(node.ruleset()? == before, "left after GC:\n{}", node.ruleset()?);
    a.attachment.check(&a.result)
}

fn the_backend_may_be_named(case: &Case) -> Result<()> {
    let (node, _far) = two_nodes(case)?;
    let conf = merged(&conf(case, true), json!({ "ipMasqBackend": "nftables" }));
    let a = Added::new(case, &node, "a", &conf)?;
    reaches(a.pod(), "192.0.2.2".parse()?)?;
    ensure!(node.ruleset()?.contains("masquerade"), "no nftables rule");
    a.attachment.del()
}

/// Rules of so many attachments that there is nothing else of, beside those of a pod.
fn masquerade_many(node: &Space, count: u32) -> Result<()> {
    let element = |n: u32| {
        let address = IpAddr::from((0x0a08_0000 + n).to_be_bytes());
        format!(r#"{address} comment "podwire:net:crowd{n}:eth0" : goto leaving_10.7.0.0/24"#)
    };
    let all: Vec<_> = (1..=count).map(element).collect();
    // As much as one argument may have.
    for some in all.chunks(1000) {
        node.load_ruleset(&format!("add element inet podwire pods4 {{ {} }}", some.join(", ")))?;
    }
    Ok(())
}

fn p24_gc_removes_thousands_of_rules(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = merged(&conf(case, true), json!({ "cniVersion": "1.1.0" }));
    let resident = Added::new(case, &node, "resident", &conf)?;
    masquerade_many(&node, 4000)?;
    let valid = [json!({ "containerID": resident.attachment.container, "ifname": "eth0" })];
    case.call(&node, "bridge", "GC").conf(&merged(&conf, json!({ "cni.dev/valid-attachments": valid }))).succeed()?;
    let labels = node.ruleset()?.matches("podwire:net:").count();
    ensure!(labels == 2, "{labels} elements are left, expected those of the pod");
    resident.attachment.check(&resident.result)
}

fn a_thousand_masqueraded_pods_hold_nobody_up(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let resident = Added::new(case, &node, "resident", &conf(case, true))?;
    let one = case.attachment(&node, &case.pod("a")?, &conf(case, true));
    // The quickest of some, which a busy machine changes least.
    let quickest = || -> Result<Duration> {
        let mut times = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            one.add()?;
            one.del()?;
            times.push(start.elapsed());
        }
        times.into_iter().min().context("no time")
    };
    let alone = quickest()?;
    masquerade_many(&node, 1000)?;
    let beside = quickest()?;
    case.note(format!("ADD and DEL: {alone:?} alone, {beside:?} beside 1000"));
    ensure!(beside < alone * 10, "ADD and DEL take {beside:?} beside 1000 pods, {alone:?} without");
    resident.attachment.check(&resident.result)
}

fn foreign_rules_are_left_alone(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    node.load_ruleset("table inet mine { set s { type ipv4_addr; elements = { 10.7.0.2 }; }; }")?;
    let own = node.ruleset()?;
    let a = Added::new(case, &node, "a", &conf(case, true))?;
    ensure!(node.ruleset()?.contains(own.trim()), "changed by ADD");
    a.attachment.del()?;
    ensure!(node.ruleset()?.contains(own.trim()), "changed by DEL");
    Ok(())
}

fn the_other_backend_is_warned_about(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let conf = merged(&conf(case, true), json!({ "ipMasqBackend": "iptables" }));
    let output = case.attachment(&node, &pod, &conf).call("ADD").run()?;
    output.success()?;
    ensure!(output.stderr.contains("ipMasqBackend") && output.stderr.contains("nftables"), "{:?}", output.stderr);
    ensure!(node.ruleset()?.contains("masquerade"), "no nftables rule");
    Ok(())
}

fn p24_gc_of_everything_removes_the_tables(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = merged(&conf(case, true), json!({ "cniVersion": "1.1.0", "macspoofchk": true }));
    let _pod = Added::new(case, &node, "a", &conf)?;
    ensure!(node.ruleset()?.contains("masquerade"), "no rule was made");
    let none = json!({ "cni.dev/valid-attachments": [] });
    case.call(&node, "bridge", "GC").conf(&merged(&conf, none)).succeed()?;
    ensure!(node.ruleset()?.is_empty(), "left after GC:\n{}", node.ruleset()?);
    Ok(())
}
