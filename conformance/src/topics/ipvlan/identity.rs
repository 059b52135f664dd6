//! What all devices of a parent share, its MAC address, and what they must not: addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Lan, OUTSIDE, Pod, conf};
use crate::lab::{Address, Space, mac_bytes};
use crate::packets::{Capture, inject, reaches, router_advertisement};
use crate::runner::{Case, Feature, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(ipvlan_devices_have_their_parents_mac, "in the pods and on the wire").needs(&[Feature::Ipvlan]),
    test!(ipvlan_link_local_addresses_differ, "on one parent, after DEL and ADD, and on another parent")
        .needs(&[Feature::Ipvlan]),
    test!(ipvlan_slaac_addresses_differ, "of what a router offers, without ipam").needs(&[Feature::Ipvlan]).ours(),
    test!(ipvlan_addresses_are_announced, "gratuitous ARP and unsolicited neighbour advertisement")
        .needs(&[Feature::Ipvlan]),
    test!(ipvlan_refuses_an_address_that_another_pod_has, "in the kernel's words, and leaves nothing")
        .needs(&[Feature::Ipvlan])
        .ours(),
    test!(ipvlan_has_no_mac_of_its_own, "asked for by runtimeConfig it is an error, by others a warning")
        .needs(&[Feature::Ipvlan])
        .ours(),
];

const SOON: Duration = Duration::from_secs(2);

fn ipvlan_devices_have_their_parents_mac(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let mac = lan.node.link("eth1")?.mac;
    for name in ["a", "b"] {
        let pod = lan.pod(case, name, &conf(case, "l2"))?;
        ensure!(pod.space().link("eth0")?.mac == mac, "pod {name:?}: {:?}", pod.space().link("eth0")?);
        let reported = pod.result["interfaces"][0]["mac"].as_str().unwrap_or_default();
        ensure!(reported == mac, "reported: {}", pod.result);
        let mut capture = Capture::on(&lan.outside, "eth0")?;
        reaches(pod.space(), OUTSIDE[0].parse()?)?;
        let ip = pod.ip()?;
        let frame = capture.expect(SOON, "echo request", |frame| frame.is_echo_request_from(ip))?;
        ensure!(frame.from == mac, "{frame:?}, the parent has {mac}");
    }
    Ok(())
}

/// The addresses of a link that begin so, once there is one.
fn beginning(space: &Space, link: &str, start: &str) -> Result<Vec<IpAddr>> {
    let index = space.link(link)?.index;
    let fits =
        |address: &Address| address.index == index && address.ip.to_string().starts_with(start) && !address.tentative;
    ensure!(space.await_address(Duration::from_secs(5), fits)?, "{:?}: no address {start}", space.name);
    Ok(space.addresses(link)?.into_iter().filter(fits).map(|address| address.ip).collect())
}

fn all_differ(links: &[(&Space, &str)], start: &str) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (space, link) in links {
        for ip in beginning(space, link, start)? {
            ensure!(seen.insert(ip), "{ip} of {:?} is another's too", space.name);
        }
    }
    ensure!(seen.len() >= links.len(), "{seen:?}");
    Ok(())
}

fn ipvlan_link_local_addresses_differ(case: &Case) -> Result<()> {
    for mode in ["l2", "l3"] {
        let lan = Lan::new(case)?;
        lan.plug_in(&lan.node, "eth2", "port3")?;
        let conf = merged(&conf(case, mode), json!({ "name": mode }));
        let pods: Vec<Pod> = ["a", "b", "c"].iter().map(|name| lan.pod(case, name, &conf)).collect::<Result<_>>()?;
        // The kernel tells devices of one MAC address apart by a number; those that are given back are given again.
        pods[0].attachment.del()?;
        pods[1].attachment.del()?;
        let again: Vec<Pod> = ["d", "e", "f"].iter().map(|name| lan.pod(case, name, &conf)).collect::<Result<_>>()?;
        let other = lan.pod(case, "other", &merged(&conf, json!({ "master": "eth2" })))?;
        let mut links = vec![(&lan.node, "eth1"), (&lan.node, "eth2"), (&lan.outside, "eth0")];
        links.extend([&pods[2], &again[0], &again[1], &again[2], &other].map(|pod| (pod.space(), "eth0")));
        all_differ(&links, "fe80:").context(mode)?;
    }
    Ok(())
}

fn ipvlan_slaac_addresses_differ(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let conf = merged(&conf(case, "l2"), json!({ "ipam": null }));
    let pods: Vec<Pod> = ["a", "b", "c"].iter().map(|name| lan.pod(case, name, &conf)).collect::<Result<_>>()?;
    let router = mac_bytes(&lan.outside.link("eth0")?.mac)?;
    let offered = |address: &Address| address.ip.to_string().starts_with("2001:db8:") && !address.tentative;
    for pod in &pods {
        // A host takes advertisements only once its own link-local address is settled.
        let mut taken = false;
        for _ in 0..10 {
            inject(&lan.outside, "eth0", &router_advertisement(router, "2001:db8:7::".parse()?))?;
            taken = pod.space().await_address(Duration::from_millis(500), offered)?;
            if taken {
                break;
            }
        }
        ensure!(taken, "pod {:?} took no address", pod.space().name);
    }
    let links: Vec<_> = pods.iter().map(|pod| (pod.space(), "eth0")).collect();
    all_differ(&links, "2001:db8:7:")?;
    all_differ(&links, "fe80:")
}

fn ipvlan_addresses_are_announced(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let mut capture = Capture::on(&lan.outside, "eth0")?;
    let pod = lan.pod(case, "a", &conf(case, "l2"))?;
    let mut missing = pod.ips()?;
    while !missing.is_empty() {
        let announces = |frame: &crate::packets::Frame, ip: &IpAddr| match *ip {
            IpAddr::V4(ip) => frame.announces_v4(ip),
            IpAddr::V6(ip) => frame.announces_v6(ip),
        };
        let what = format!("announcement of {missing:?}");
        let frame = capture.expect(SOON, &what, |frame| missing.iter().any(|ip| announces(frame, ip)))?;
        missing.retain(|ip| !announces(&frame, ip));
    }
    Ok(())
}

fn ipvlan_refuses_an_address_that_another_pod_has(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    for address in ["10.7.0.77/24", "fd07::77/64"] {
        let extra = json!({ "ipam": { "type": "static", "addresses": [{ "address": address }] } });
        let conf = merged(&merged(&conf(case, "l2"), json!({ "ipam": null })), extra);
        let first = lan.pod(case, "a", &conf)?;
        let pod = case.pod("b")?;
        let add = case.attachment(&lan.node, &pod, &conf).call("ADD");
        case.unchanged(&[&lan.node, &pod], || add.fail_somehow())?.says(&[address, "EADDRINUSE"])?;
        first.attachment.del()?;
        add.succeed()?;
        case.attachment(&lan.node, &pod, &conf).del()?;
    }
    Ok(())
}

fn ipvlan_has_no_mac_of_its_own(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let pod = case.pod("a")?;
    let mac = "0a:00:00:00:00:07";
    let attachment = case.attachment(&lan.node, &pod, &conf(case, "l2"));
    let asked = attachment.clone().with(json!({ "capabilities": { "mac": true }, "runtimeConfig": { "mac": mac } }));
    case.unchanged(&[&lan.node, &pod], || asked.call("ADD").fail(7))?.says(&["runtimeConfig.mac"])?;
    let output = attachment.args(&format!("IgnoreUnknown=1;MAC={mac}")).call("ADD").run()?;
    let result = output.success()?;
    ensure!(output.stderr.contains(mac), "no warning: {:?}", output.stderr);
    ensure!(result["interfaces"][0]["mac"] == lan.node.link("eth1")?.mac, "{result}");
    Ok(())
}
