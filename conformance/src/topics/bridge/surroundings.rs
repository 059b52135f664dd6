//! Nodes, pods and configurations that are not as usual.

use std::fs;

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::libc;
use serde_json::json;

use super::Added;
use crate::cni::{Call, tool};
use crate::intercept::{Fate, Moment};
use crate::runner::{Case, Feature, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(an_option_counts_in_any_case, "isgateway, as plugins read it that are written in Go"),
    test!(a_pod_with_an_ipv6_address_has_ipv6_on_its_loopback, "in a namespace where it is off for all links"),
    test!(p20_forwarding_is_switched_on_last_and_for_good, "by an ADD that can fail no more; DEL and GC leave it")
        .ours(),
    test!(p20_what_a_failed_add_has_switched_on_stays, "a bridge that was there: up, promiscuous, VLANs filtered")
        .needs(&[Feature::BridgeVlan])
        .ours(),
    test!(p22_a_bridge_that_a_kill_left_down_listens_to_no_router, "accept_ra, before it is up").ours(),
    test!(p24_gc_takes_a_vlans_gateway_that_a_kill_left_unplugged, "both ends").ours(),
    test!(a_probe_leaves_duplicate_detection_on, "ipam.probe and enabledad").ours(),
    test!(p22_del_and_gc_without_nftables, "no netfilter, and one without nftables").ours(),
];

fn an_option_counts_in_any_case(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = case.bridge_with(json!({ "isGateway": null, "isgateway": true }));
    let _a = Added::new(case, &node, "a", &conf)?;
    ensure!(node.ips("cni0")? == ["10.7.0.1/24"], "the bridge has {:?}", node.ips("cni0")?);
    Ok(())
}

fn a_pod_with_an_ipv6_address_has_ipv6_on_its_loopback(case: &Case) -> Result<()> {
    const LOOPBACK: &str = "net/ipv6/conf/lo/disable_ipv6";
    let node = case.node("n1")?;
    for (name, subnet, expected) in [("a", "10.7.0.0/24", "1"), ("b", "fd07::/64", "0")] {
        let pod = case.pod(name)?;
        pod.set_sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        let conf = case.bridge_with(json!({ "isGateway": false, "name": name, "ipam": case.host_local(&[subnet]) }));
        case.attachment(&node, &pod, &conf).add()?;
        let found = pod.sysctl(LOOPBACK)?;
        ensure!(found == expected, "{LOOPBACK} = {found} in a pod of {subnet}");
    }
    Ok(())
}

fn p20_forwarding_is_switched_on_last_and_for_good(case: &Case) -> Result<()> {
    const KEYS: [&str; 2] = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];
    let node = case.node("n1")?;
    let expect = |values: [&str; 2]| {
        for (key, value) in KEYS.iter().zip(values) {
            let found = node.sysctl(key)?;
            ensure!(found == value, "{key} = {found}, expected {value}");
        }
        anyhow::Ok(())
    };
    for key in KEYS {
        node.set_sysctl(key, "0")?;
    }
    let conf = case.bridge_with(json!({ "cniVersion": "1.1.0", "ipMasq": true }));
    let doomed = case.attachment(&node, &case.pod("a")?, &conf);
    let output = doomed.call("ADD").run_under(|moment| no_netfilter(moment).map_or(Fate::Goes, Fate::Fails))?;
    output.failure(104)?;
    expect(["0", "0"])?;
    let a = Added::new(case, &node, "b", &conf)?;
    expect(["1", "0"])?;
    a.attachment.del()?;
    let gc_conf = merged(&conf, json!({ "cni.dev/valid-attachments": [] }));
    case.call(&node, "bridge", "GC").conf(&gc_conf).succeed()?;
    expect(["1", "0"])
}

fn p20_what_a_failed_add_has_switched_on_stays(case: &Case) -> Result<()> {
    let mut ipam = case.host_local(&["10.7.0.0/24"]);
    ipam["routes"] = json!([{ "dst": "192.0.2.0/24", "gw": "172.31.0.1" }]);
    for (extra, expected) in [
        (json!({}), [true, false, false]),
        (json!({ "promiscMode": true }), [true, true, false]),
        (json!({ "vlan": 100 }), [true, false, true]),
    ] {
        let (node, pod) = (case.node("n1")?, case.pod("a")?);
        node.add_bridge("cni0")?;
        tool(&node, "ip", &["link", "set", "cni0", "down", "alias", "podwire:net::"])?;
        let conf = merged(&case.bridge_with(json!({ "isGateway": false, "ipam": ipam })), extra);
        let add = case.attachment(&node, &pod, &conf).call("ADD");
        add.fail_somehow()?.says(&["172.31.0.1"])?;
        let found = node.link("cni0")?;
        let found = [found.up, found.promisc, found.vlan_filtering];
        ensure!(found == expected, "{conf}: up, promiscuous, filtering: {found:?}, expected {expected:?}");
        // There is no more to be left, by another either.
        case.unchanged(&[&node, &pod], || add.fail_somehow())?;
    }
    Ok(())
}

fn p22_a_bridge_that_a_kill_left_down_listens_to_no_router(case: &Case) -> Result<()> {
    const KEY: &str = "net/ipv6/conf/cni0/accept_ra";
    let node = case.node("n1")?;
    node.add_bridge("cni0")?;
    tool(&node, "ip", &["link", "set", "cni0", "down", "alias", "podwire:net::"])?;
    node.set_sysctl(KEY, "1")?;
    let _a = Added::new(case, &node, "a", &case.bridge_conf())?;
    ensure!(node.link("cni0")?.up && node.sysctl(KEY)? == "0", "{KEY} = {}", node.sysctl(KEY)?);
    Ok(())
}

fn p24_gc_takes_a_vlans_gateway_that_a_kill_left_unplugged(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let before = case.snapshot(&[&node])?;
    tool(&node, "ip", &["link", "add", "cni0.100", "type", "veth", "peer", "name", "vethcni0x100"])?;
    tool(&node, "ip", &["link", "set", "cni0.100", "alias", "podwire:net::"])?;
    let conf = case.bridge_with(json!({ "cniVersion": "1.1.0", "vlan": 100 }));
    let gc =
        |valid| case.call(&node, "bridge", "GC").conf(&merged(&conf, json!({ "cni.dev/valid-attachments": valid })));
    gc(json!([])).succeed()?;
    before.ensure_same(&case.snapshot(&[&node])?)
}

fn a_probe_leaves_duplicate_detection_on(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let ipam = merged(&case.host_local(&["fd07::/64"]), json!({ "probe": true, "probeWait": 10 }));
    let a = Added::new(case, &node, "a", &case.bridge_with(json!({ "enabledad": true, "ipam": ipam })))?;
    let found = a.pod().sysctl("net/ipv6/conf/eth0/accept_dad")?;
    ensure!(found == "1", "accept_dad = {found}");
    Ok(())
}

fn p22_del_and_gc_without_nftables(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let before = case.snapshot(&[&node])?;
    let conf = case.bridge_with(json!({ "cniVersion": "1.1.0", "isGateway": false }));
    let gc_conf = merged(&conf, json!({ "cni.dev/valid-attachments": [] }));
    for is_lacking in [no_netfilter, no_nftables] {
        let a = Added::new(case, &node, "a", &conf)?;
        let mut lacked = 0;
        let mut under = |call: Call| -> Result<()> {
            let output = call.run_under(|moment| match is_lacking(moment) {
                Some(errno) => {
                    lacked += 1;
                    Fate::Fails(errno)
                }
                None => Fate::Goes,
            })?;
            output.success().map(drop)
        };
        under(a.attachment.call("DEL"))?;
        under(case.call(&node, "bridge", "GC").conf(&gc_conf))?;
        ensure!(lacked >= 2, "nftables was asked for {lacked} times");
        before.ensure_same(&case.snapshot(&[&node])?)?;
    }
    Ok(())
}

/// What a kernel without netfilter's netlink says to this call.
fn no_netfilter(moment: &Moment) -> Option<Errno> {
    let [family, _, protocol, ..] = moment.args;
    let is_netfilter = family == libc::AF_NETLINK as u64 && protocol == libc::NETLINK_NETFILTER as u64;
    (moment.number == libc::SYS_socket && is_netfilter).then_some(Errno::EPROTONOSUPPORT)
}

/// What a kernel with netfilter's netlink and no nftables says to this call: elsewhere than here, where it is not heard
/// until the answer is received.
fn no_nftables(moment: &Moment) -> Option<Errno> {
    let is_netfilter = || {
        let socket = fs::read_link(format!("/proc/{}/fd/{}", moment.asker, moment.args[0])).ok()?;
        let inode = socket.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned();
        // sk, protocol, and behind others, last, the inode.
        let sockets = fs::read_to_string(format!("/proc/{}/net/netlink", moment.asker)).ok()?;
        let fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut fields = fields.filter(|fields| fields.last() == Some(&inode.as_str()));
        Some(*fields.next()?.get(1)? == libc::NETLINK_NETFILTER.to_string())
    };
    (moment.number == libc::SYS_sendto && is_netfilter() == Some(true)).then_some(Errno::EINVAL)
}
