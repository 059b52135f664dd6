//! hostAccess: node and pod reach each other.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Added, NEEDS, NODE, OTHER, PARENT, conf, parsed};
use crate::lab::{Lan, Link, Space, cable, mac_bytes};
use crate::packets::{Body, Capture, Frame, arp_request, inject, isolated, peer_seen_by_udp, reaches};
use crate::runner::{Attachment, Case, Feature, Test, merged};
use crate::test;
use crate::topics::behaviour::faults::{Scene, every_refusal_of_add};
use crate::topics::scale::at_once;

pub(super) const TESTS: &[Test] = &[
    test!(p28_macvlan_host_access, "both ways, both IP versions; a control without").needs(NEEDS).ours(),
    test!(p28_macvlan_host_access_on_a_parent_without_addresses, "by the node's address elsewhere").needs(NEEDS).ours(),
    test!(p28_macvlan_host_access_with_strict_sysctls, "rp_filter 1, arp_ignore 1, arp_announce 2").needs(NEEDS).ours(),
    test!(p28_macvlan_host_access_after_the_parent_was_down, "both ways again").needs(NEEDS).ours(),
    test!(macvlan_shim_answers_nobody_else, "the network learns the parent's MAC alone").needs(NEEDS).ours(),
    test!(macvlan_shim_is_shared_by_fifty_pods, "one shim; GC of some; the last DEL takes all away")
        .needs(NEEDS)
        .ours()
        .limit(60),
    test!(macvlan_shim_of_two_networks, "GC of one leaves the other's; the last user takes it away")
        .needs(NEEDS)
        .ours(),
    test!(p20_macvlan_host_access_that_is_refused, "each request of ADD in turn, with and without a pod beside it")
        .needs(&[Feature::Macvlan, Feature::Strace])
        .ours()
        .limit(120),
    test!(p23_macvlan_check_of_host_access, "shim and routes: gone, down").needs(NEEDS).ours(),
    test!(p05_macvlan_host_access_that_cannot_be, "other modes, in the pod, without addresses: code 7")
        .needs(NEEDS)
        .ours(),
    test!(p27_macvlan_shim_name_is_taken, "code 101, and the link stays").needs(NEEDS).ours(),
];

fn access(case: &Case, extra: Value) -> Value {
    merged(&conf(case, json!({ "hostAccess": true, "cniVersion": "1.1.0" })), extra)
}

fn shims(node: &Space) -> Result<Vec<Link>> {
    let mut links = node.links()?;
    links.retain(|link| link.name.starts_with("shim"));
    Ok(links)
}

/// Node and pod ping each other at all of these addresses.
fn both_ways(node: &Space, node_ips: &[IpAddr], pod: &Added) -> Result<()> {
    for &ip in node_ips {
        reaches(pod.pod(), ip).context("from the pod")?;
    }
    for ip in pod.ips()? {
        reaches(node, ip).context("from the node")?;
    }
    Ok(())
}

fn p28_macvlan_host_access(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    case.unchanged(&[&lan.node], || {
        // Each is the first to speak in turn: nobody has learnt of the other before.
        let a = Added::new(case, &lan.node, "a", &access(case, json!({})))?;
        for ip in a.ips()? {
            reaches(&lan.node, ip).context("from the node")?;
        }
        let b = Added::new(case, &lan.node, "b", &access(case, json!({})))?;
        both_ways(&lan.node, &parsed(&NODE)?, &b)?;
        let control = Added::new(case, &lan.node, "control", &conf(case, json!({})))?;
        isolated(control.pod(), NODE[0].parse()?)?;
        isolated(&lan.node, control.ips()?[0])?;
        // Nothing else has changed: pods reach each other and the other node.
        reaches(a.pod(), b.ips()?[1])?;
        reaches(a.pod(), control.ips()?[0])?;
        reaches(b.pod(), OTHER[0].parse()?)?;
        for ip in 0..2 {
            let seen = peer_seen_by_udp(a.pod(), a.ips()?[ip], &lan.node)?;
            ensure!(seen == NODE[ip].parse::<IpAddr>()?, "the node speaks as {seen}");
        }
        [a, b, control].iter().try_for_each(|pod| pod.attachment.del())
    })
}

fn p28_macvlan_host_access_on_a_parent_without_addresses(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    for ip in parsed(&NODE)? {
        lan.node.remove_address(PARENT, ip)?;
    }
    let elsewhere = ["10.9.0.5", "fd09::5"];
    // Before, there is none to reach the node by.
    let pod = case.pod("none")?;
    let add = case.attachment(&lan.node, &pod, &access(case, json!({}))).call("ADD");
    case.unchanged(&[&lan.node, &pod], || add.fail(7))?.says(&["hostAccess", "no address"])?;
    cable(&lan.node, "eth0", &lan.other, "eth9")?;
    for (ip, prefix, to, via) in [("10.9.0.5", 24, "0.0.0.0/0", "10.9.0.254"), ("fd09::5", 64, "::/0", "fd09::254")] {
        lan.node.address("eth0", &format!("{ip}/{prefix}"))?;
        lan.node.route(to, via.parse()?)?;
    }
    let a = Added::new(case, &lan.node, "a", &access(case, json!({})))?;
    both_ways(&lan.node, &parsed(&elsewhere)?, &a)?;
    a.attachment.check(&a.result)
}

fn p28_macvlan_host_access_with_strict_sysctls(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    for (key, value) in [("rp_filter", "1"), ("arp_ignore", "1"), ("arp_announce", "2")] {
        for link in ["all", "default"] {
            lan.node.set_sysctl(&format!("net/ipv4/conf/{link}/{key}"), value)?;
        }
    }
    let pod = case.pod("a")?;
    for key in ["rp_filter", "arp_ignore"] {
        pod.set_sysctl(&format!("net/ipv4/conf/all/{key}"), "1")?;
    }
    let attachment = case.attachment(&lan.node, &pod, &access(case, json!({})));
    let result = attachment.add()?;
    both_ways(&lan.node, &parsed(&NODE)?, &Added { attachment, result })
}

fn p28_macvlan_host_access_after_the_parent_was_down(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let a = Added::new(case, &lan.node, "a", &access(case, json!({ "ipam": case.host_local(&["192.168.7.0/24"]) })))?;
    both_ways(&lan.node, &parsed(&NODE[..1])?, &a)?;
    lan.node.down(PARENT)?;
    lan.node.up(PARENT)?;
    both_ways(&lan.node, &parsed(&NODE[..1])?, &a)?;
    a.attachment.check(&a.result)
}

fn macvlan_shim_answers_nobody_else(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let a = Added::new(case, &lan.node, "a", &access(case, json!({})))?;
    let [shim] = shims(&lan.node)?.try_into().map_err(|all| anyhow::anyhow!("{all:?}"))?;
    let parent = lan.node.link(PARENT)?.mac;
    ensure!(shim.mac != parent, "no MAC of its own");
    let mut capture = Capture::on(&lan.other, "eth0")?;
    let asks = arp_request(mac_bytes(&lan.other.link("eth0")?.mac)?, OTHER[0].parse()?, NODE[0].parse()?);
    inject(&lan.other, "eth0", &asks)?;
    let is_reply = |frame: &Frame| matches!(frame.body, Body::Arp { operation: 2, .. });
    let reply = capture.expect(Duration::from_secs(2), "ARP reply", is_reply)?;
    ensure!(reply.from == parent, "{reply:?} is not by the parent, {parent}");
    reaches(&lan.other, NODE[1].parse()?)?;
    // Also while it talks with the pod.
    both_ways(&lan.node, &parsed(&NODE)?, &a)?;
    let by_shim = |frame: &Frame| frame.from == shim.mac && (is_reply(frame) || frame.is_icmpv6(136));
    capture.expect_none(Duration::from_millis(300), "an answer of the shim's", by_shim)
}

/// GC of a network with these attachments as the valid ones.
fn collect(case: &Case, node: &Space, conf: &Value, valid: &[Attachment]) -> Result<()> {
    let list: Vec<Value> = valid.iter().map(|a| json!({ "containerID": a.container, "ifname": a.ifname })).collect();
    let conf = merged(conf, json!({ "cni.dev/valid-attachments": list }));
    case.call(node, "macvlan", "GC").conf(&conf).succeed().map(drop)
}

/// The routes by shims to single addresses.
fn host_routes(node: &Space) -> Result<usize> {
    let shims: Vec<_> = shims(node)?.iter().map(|shim| Some(shim.index)).collect();
    let is_host = |to: &str| to.ends_with("/32") || to.ends_with("/128");
    Ok(node.routes()?.iter().filter(|route| shims.contains(&route.link) && is_host(&route.to)).count())
}

fn macvlan_shim_is_shared_by_fifty_pods(case: &Case) -> Result<()> {
    const PODS: usize = 50;
    let lan = Lan::new()?;
    let conf = access(case, json!({}));
    case.unchanged(&[&lan.node], || {
        let pods = (0..PODS)
            .map(|n| Ok(case.attachment(&lan.node, &case.pod(&format!("p{n}"))?, &conf)))
            .collect::<Result<Vec<_>>>()?;
        let results = at_once(&pods, Attachment::add)?;
        let [shim] = shims(&lan.node)?.try_into().map_err(|all| anyhow::anyhow!("not one shim: {all:?}"))?;
        ensure!(shim.alias.as_deref() == Some("podwire:lan::") && shim.altnames.len() == PODS, "{shim:?}");
        ensure!(host_routes(&lan.node)? == 2 * PODS, "{} routes", host_routes(&lan.node)?);
        for (pod, result) in pods.iter().zip(&results).step_by(10) {
            reaches(&pod.pod, NODE[0].parse()?)?;
            pod.check(result)?;
        }
        // Twenty are gone without a DEL.
        let (dead, alive) = pods.split_at(20);
        dead.iter().try_for_each(|pod| pod.pod.delete("eth0"))?;
        collect(case, &lan.node, &conf, alive)?;
        ensure!(host_routes(&lan.node)? == 2 * alive.len(), "{} routes after GC", host_routes(&lan.node)?);
        ensure!(shims(&lan.node)?[0].altnames.len() == alive.len(), "{:?}", shims(&lan.node)?);
        for (pod, result) in pods.iter().zip(&results).skip(dead.len()).step_by(10) {
            reaches(&pod.pod, NODE[1].parse()?)?;
            pod.check(result)?;
        }
        let (last, others) = alive.split_last().context("some are alive")?;
        at_once(others, Attachment::del)?;
        ensure!(host_routes(&lan.node)? == 2 && shims(&lan.node)?.len() == 1, "the last one's are gone");
        last.del()
    })
}

fn macvlan_shim_of_two_networks(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let other = access(case, json!({ "name": "other", "ipam": case.host_local(&["192.168.8.0/24"]) }));
    case.unchanged(&[&lan.node], || {
        let a = Added::new(case, &lan.node, "a", &access(case, json!({})))?;
        let b = Added::new(case, &lan.node, "b", &other)?;
        ensure!(shims(&lan.node)?.len() == 1, "{:?}", shims(&lan.node)?);
        // Its network is another than the parent's, and it reaches the node all the same.
        reaches(b.pod(), NODE[0].parse()?)?;
        a.pod().delete("eth0")?;
        collect(case, &lan.node, &a.attachment.conf, &[])?;
        ensure!(shims(&lan.node)?[0].altnames == [b.attachment.label()], "{:?}", shims(&lan.node)?);
        b.attachment.check(&b.result)?;
        reaches(&lan.node, b.ips()?[0])?;
        b.pod().delete("eth0")?;
        collect(case, &lan.node, &other, &[])
    })
}

fn p20_macvlan_host_access_that_is_refused(case: &Case) -> Result<()> {
    // Once with the shim to be made, once with one that another pod has.
    for others in [&[][..], &["first"]] {
        let seen = every_refusal_of_add(case, |case| {
            let lan = Lan::new()?;
            let others = others
                .iter()
                .map(|name| Added::new(case, &lan.node, name, &access(case, json!({}))))
                .collect::<Result<Vec<_>>>()?;
            let attachment = case.attachment(&lan.node, &case.pod("a")?, &access(case, json!({})));
            Ok(Scene { attachment, _keeps: (lan, others) })
        })?;
        ensure!(seen > 10, "only {seen} requests were seen");
        std::fs::remove_dir_all(case.leases())?;
    }
    Ok(())
}

fn p23_macvlan_check_of_host_access(case: &Case) -> Result<()> {
    type Damage = (&'static str, fn(&Lan, &Space) -> Result<()>, &'static [&'static str]);
    let damages: [Damage; 4] = [
        (
            "route",
            |lan, pod| lan.node.remove_route(&format!("{}/32", first_ip(pod)?)),
            &["route", "shim", "192.168.7."],
        ),
        ("shim down", |lan, _| lan.node.down(&shims(&lan.node)?[0].name), &["shim", "up", "down"]),
        ("shim gone", |lan, _| lan.node.delete(&shims(&lan.node)?[0].name), &["shim", "none"]),
        ("pod's route", |_, pod| pod.remove_route(&format!("{}/128", NODE[1])), &["pod's route", NODE[1]]),
    ];
    for (what, damage, words) in damages {
        let lan = Lan::new()?;
        let a = Added::new(case, &lan.node, "a", &access(case, json!({})))?;
        a.attachment.check(&a.result).context(what)?;
        damage(&lan, a.pod()).context(what)?;
        a.attachment.check_call(&a.result).fail(102).context(what)?.says(words)?;
        a.attachment.del()?;
    }
    Ok(())
}

fn first_ip(pod: &Space) -> Result<String> {
    let ips = pod.ips("eth0")?;
    let first = ips.first().context("an address")?;
    Ok(first.split('/').next().unwrap_or_default().to_owned())
}

fn p05_macvlan_host_access_that_cannot_be(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    for extra in [
        json!({ "mode": "private" }),
        json!({ "mode": "vepa" }),
        json!({ "mode": "passthru" }),
        json!({ "mode": "source", "sourceMacs": ["02:00:00:00:00:77"] }),
        json!({ "linkInContainer": true }),
        json!({ "ipam": null }),
    ] {
        let pod = case.pod("a")?;
        let add = case.attachment(&lan.node, &pod, &access(case, extra.clone())).call("ADD");
        let failure = case.unchanged(&[&lan.node, &pod], || add.fail(7)).with_context(|| extra.to_string())?;
        failure.says(&["hostAccess"])?;
    }
    Ok(())
}

fn p27_macvlan_shim_name_is_taken(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let name = format!("shim{}", lan.node.link(PARENT)?.index);
    lan.node.add_bridge(&name)?;
    let pod = case.pod("a")?;
    let add = case.attachment(&lan.node, &pod, &access(case, json!({}))).call("ADD");
    case.unchanged(&[&lan.node, &pod], || add.fail(101))?.says(&[&name, "bridge"]).map(drop)
}
