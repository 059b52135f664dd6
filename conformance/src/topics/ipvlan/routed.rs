//! l3 and l3s: packets instead of frames. No next hop, no ARP, no TTL lost, no multicast; and what netfilter sees.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::{Claim, Lan, NODE, OUTSIDE, Pod, addresses, conf, prove};
use crate::cni::tool;
use crate::lab::{cable, mac_bytes};
use crate::packets::{Body, Capture, Frame, Ping, arp_request, ethernet, inject, isolated, reaches};
use crate::runner::{Case, Feature, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(ipvlan_l3_routes_have_no_next_hop, "of both IP versions, and they lead out").needs(&[Feature::Ipvlan]).ours(),
    test!(ipvlan_l3_has_no_arp, "nobody asks, nobody answers; a control in l2").needs(&[Feature::IpvlanL3s]),
    test!(ipvlan_l3_lowers_no_ttl, "a TTL of 1 arrives; a control behind a router").needs(&[Feature::IpvlanL3s]),
    test!(ipvlan_l3_has_no_multicast, "neither in nor out; a control in l2").needs(&[Feature::IpvlanL3s]),
    test!(ipvlan_l3s_is_seen_by_netfilter, "what comes in passes INPUT of the node; in l3 it does not")
        .needs(&[Feature::IpvlanL3s, Feature::Iptables]),
];

const SOON: Duration = Duration::from_secs(2);
const A_WHILE: Duration = Duration::from_millis(500);

fn ipvlan_l3_routes_have_no_next_hop(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let pod = lan.pod(case, "a", &conf(case, "l3"))?;
    let link = pod.space().link("eth0")?.index;
    for to in ["0.0.0.0/0", "::/0"] {
        let route = pod.space().routes()?.into_iter().find(|route| route.to == to);
        let route = route.with_context(|| format!("no route to {to}"))?;
        ensure!(route.via.is_none() && route.link == Some(link), "{route:?}");
    }
    for outside in addresses(OUTSIDE)? {
        reaches(pod.space(), outside)?;
    }
    pod.check()?;
    // One that is named is the user's own wish.
    let extra = json!({ "ipam": { "routes": [{ "dst": "192.0.2.0/24", "gw": "10.8.0.9" }] } });
    let other = lan.pod(case, "b", &merged(&conf(case, "l3"), extra))?;
    let route = other.space().routes()?.into_iter().find(|route| route.to == "192.0.2.0/24");
    ensure!(route.is_some_and(|route| route.via == "10.8.0.9".parse().ok()), "{:?}", other.space().routes()?);
    other.check()
}

fn sender_or_target(frame: &Frame, ip: IpAddr) -> bool {
    matches!(&frame.body, Body::Arp { sender, target, .. } if [IpAddr::V4(*sender), IpAddr::V4(*target)].contains(&ip))
}

/// Asks from outside who has the pod's address.
fn answers_arp(lan: &Lan, pod: &Pod) -> Result<bool> {
    let (IpAddr::V4(own), IpAddr::V4(target)) = (OUTSIDE[0].parse()?, pod.ip()?) else { bail!("IPv4 expected") };
    let mac = mac_bytes(&lan.outside.link("eth0")?.mac)?;
    let mut capture = Capture::on(&lan.outside, "eth0")?;
    inject(&lan.outside, "eth0", &arp_request(mac, own, target))?;
    let reply = |frame: &Frame| matches!(&frame.body, Body::Arp { operation: 2, sender, .. } if *sender == target);
    Ok(capture.expect(A_WHILE, "reply", reply).is_ok())
}

fn ipvlan_l3_has_no_arp(case: &Case) -> Result<()> {
    for (mode, has_arp) in [("l2", true), ("l3", false), ("l3s", false)] {
        let lan = Lan::new(case)?;
        let pod = lan.pod(case, "a", &merged(&conf(case, mode), json!({ "name": mode })))?;
        let mut capture = Capture::on(&lan.outside, "eth0")?;
        reaches(pod.space(), OUTSIDE[0].parse()?)?;
        let ip = pod.ip()?;
        let seen = capture.expect(A_WHILE, "ARP", |frame| sender_or_target(frame, ip)).is_ok();
        ensure!(seen == has_arp, "mode {mode}: ARP of the pod on the wire: {seen}");
        ensure!(answers_arp(&lan, &pod)? == has_arp, "mode {mode}: who asks for the pod is answered: {}", !has_arp);
    }
    Ok(())
}

fn ipvlan_l3_lowers_no_ttl(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    // A control behind the same node, which is a router to it.
    let behind = case.pod("behind")?;
    cable(&lan.node, "veth", &behind, "eth0")?;
    lan.node.address("veth", "10.9.0.1/24")?;
    behind.address("eth0", "10.9.0.2/24")?;
    behind.route("0.0.0.0/0", "10.9.0.1".parse()?)?;
    lan.node.set_sysctl("net/ipv4/ip_forward", "1")?;
    lan.outside.route("10.9.0.0/24", NODE[0].parse()?)?;
    let control = "10.9.0.2".parse()?;
    reaches(&lan.outside, control)?;
    let once = Ping { ttl: Some(1), ..Ping::default() };
    ensure!(once.run(&lan.outside, control)?.times.is_empty(), "the control is not behind a router");
    for mode in ["l3", "l3s"] {
        let pod = lan.pod(case, mode, &merged(&conf(case, mode), json!({ "name": mode })))?;
        for (from, to) in [(&lan.outside, pod.ip()?), (pod.space(), OUTSIDE[0].parse()?)] {
            reaches(from, to)?;
            ensure!(!once.run(from, to)?.times.is_empty(), "mode {mode}: a TTL of 1 from {:?} is lost", from.name);
        }
        pod.attachment.del()?;
    }
    Ok(())
}

/// All hosts of a network, which every one listens to.
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
const ALL_HOSTS_MAC: [u8; 6] = [0x01, 0x00, 0x5e, 0, 0, 1];

/// Whether a frame to all hosts comes from outside into the pod.
fn multicast_gets_in(lan: &Lan, pod: &Pod) -> Result<bool> {
    /// IEEE's "local experimental", which no stack takes for its own.
    const EXPERIMENT: u16 = 0x88b5;
    let mac = mac_bytes(&lan.outside.link("eth0")?.mac)?;
    let mut capture = Capture::on(pod.space(), "eth0")?;
    inject(&lan.outside, "eth0", &ethernet(ALL_HOSTS_MAC, mac, EXPERIMENT, &[0; 46]))?;
    Ok(capture.expect(A_WHILE, "frame", |frame| frame.body == Body::Other(EXPERIMENT)).is_ok())
}

/// Whether what the pod says to all hosts gets out.
fn multicast_gets_out(lan: &Lan, pod: &Pod) -> Result<bool> {
    let mut capture = Capture::on(&lan.outside, "eth0")?;
    let sent = pod.space().ns.run(|| UdpSocket::bind("0.0.0.0:0")?.send_to(b"all", (ALL_HOSTS, 9)))?;
    sent.context("send to all hosts")?;
    let is_it =
        |frame: &Frame| matches!(&frame.body, Body::Ip { to, protocol: 17, .. } if *to == IpAddr::V4(ALL_HOSTS));
    Ok(capture.expect(A_WHILE, "datagram", is_it).is_ok())
}

fn ipvlan_l3_has_no_multicast(case: &Case) -> Result<()> {
    for (mode, has_multicast) in [("l2", true), ("l3", false), ("l3s", false)] {
        let lan = Lan::new(case)?;
        let pod = lan.pod(case, "a", &merged(&conf(case, mode), json!({ "name": mode })))?;
        reaches(pod.space(), OUTSIDE[0].parse()?)?;
        let (gets_in, gets_out) = (multicast_gets_in(&lan, &pod)?, multicast_gets_out(&lan, &pod)?);
        ensure!(gets_in == has_multicast, "mode {mode}: multicast gets in: {gets_in}");
        ensure!(gets_out == has_multicast, "mode {mode}: multicast gets out: {gets_out}");
    }
    Ok(())
}

fn ipvlan_l3s_is_seen_by_netfilter(case: &Case) -> Result<()> {
    for (mode, is_seen) in [("l3", false), ("l3s", true)] {
        let lan = Lan::new(case)?;
        let pod = lan.pod(case, "a", &merged(&conf(case, mode), json!({ "name": mode })))?;
        let ip = pod.ip()?;
        reaches(&lan.outside, ip)?;
        let (outside, inside) = (OUTSIDE[0].to_owned(), ip.to_string());
        let rule = ["-s", &outside, "-d", &inside, "-j", "DROP"];
        tool(&lan.node, "iptables-legacy", &[&["-I", "INPUT"][..], &rule].concat())?;
        // What leaves passes the node's own OUTPUT in both modes.
        tool(&lan.node, "iptables-legacy", &["-I", "OUTPUT", "-s", &inside, "-p", "udp", "-j", "DROP"])?;
        if is_seen {
            isolated(&lan.outside, ip).with_context(|| mode.to_owned())?;
        } else {
            reaches(&lan.outside, ip).with_context(|| mode.to_owned())?;
        }
        let mut capture = Capture::on(&lan.outside, "eth0")?;
        pod.space().ns.run(|| UdpSocket::bind("0.0.0.0:0")?.send_to(b"out", (outside.as_str(), 9)))?.ok();
        let is_udp = |frame: &Frame| matches!(&frame.body, Body::Ip { protocol: 17, .. });
        capture.expect_none(A_WHILE, "a datagram that OUTPUT drops", is_udp)?;
        tool(&lan.node, "iptables-legacy", &["-F"])?;
        reaches(&lan.outside, ip)?;
        pod.space().ns.run(|| UdpSocket::bind("0.0.0.0:0")?.send_to(b"out", (outside.as_str(), 9)))??;
        capture.expect(SOON, "datagram", is_udp)?;
        prove(&[Claim { from: pod.space(), to: outside.parse()?, reaches: true }])?;
    }
    Ok(())
}
