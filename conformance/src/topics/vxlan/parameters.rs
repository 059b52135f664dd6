//! The device's parameters: MTU, checksums, and a device that is there already.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{NEEDS, Pod, Underlay, flooded, network, pods};
use crate::cni::tool;
use crate::lab::Space;
use crate::packets::{Body, Capture, Carried, Ping, peer_seen_by_udp, reaches};
use crate::runner::{Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(vxlan_mtu_is_what_the_underlay_leaves, "50 or 70 less; full packets pass whole, larger ones do not")
        .needs(NEEDS)
        .ours(),
    test!(vxlan_mtu_above_the_underlay_is_refused, "code 7 naming both").needs(NEEDS).ours(),
    test!(vxlan_mtu_finds_the_underlay, "by dev, by a route, by local, by the default route").needs(NEEDS).ours(),
    test!(vxlan_tx_checksum_offload_is_switched_off, "right checksums inside, seen by CHECK").needs(NEEDS).ours(),
    test!(vxlan_that_differs_is_named, "a device with other parameters: code 101, nothing changed").needs(NEEDS).ours(),
    test!(vxlan_that_fits_is_used_and_left, "a device that somebody else made").needs(NEEDS).ours(),
    test!(vxlan_options_reach_the_kernel, "as ip link shows them, both places").needs(NEEDS).ours(),
    test!(vxlan_id_in_use_is_explained, "direct: a second pod; bridge: another device").needs(NEEDS).ours(),
];

fn vxlan_mtu_is_what_the_underlay_leaves(case: &Case) -> Result<()> {
    for (ipv6, underlying, expected) in [(false, 1500, 1450), (false, 1400, 1350), (true, 1500, 1430)] {
        for attach in ["bridge", "direct"] {
            let underlay = Underlay::new(2, ipv6)?;
            for node in &underlay.nodes {
                node.change("eth0", |link| link.mtu(underlying))?;
            }
            let conf = network(json!({ "attach": attach, "remotes": underlay.addresses() }));
            let pods = pods(case, &underlay, &conf)?;
            let mtu = pods[0].space().link("eth0")?.mtu;
            ensure!(mtu == expected, "{attach}, IPv6 {ipv6}, underlay {underlying}: MTU {mtu}, not {expected}");
            // A route's ten minutes of memory of a smaller MTU would spoil the largest one.
            reaches(pods[0].space(), pods[1].ip)?;
            let mut capture = Capture::on(&underlay.nodes[1], "eth0")?;
            let ping = |mtu: u32| -> Result<bool> {
                // Less the headers of IPv4 and ICMP.
                let ping = Ping { size: usize::try_from(mtu)? - 28, dont_fragment: true, ..Ping::default() };
                Ok(!ping.run(pods[0].space(), pods[1].ip)?.times.is_empty())
            };
            ensure!(ping(mtu)?, "{attach}: a packet of {mtu} bytes did not pass");
            ensure!(!ping(mtu + 1)?, "{attach}: a packet of {} bytes passed", mtu + 1);
            let whole = |inner: Carried| inner.frame.is_echo_request_from(pods[0].ip);
            let what = "an echo request in one packet of the underlay";
            let limit = Duration::from_secs(1);
            let frame = capture.expect(limit, what, |frame| frame.carried().is_some_and(whole))?;
            let Body::Ip { payload, .. } = frame.body else { unreachable!("it was taken apart") };
            let header = if ipv6 { 40 } else { 20 };
            ensure!(payload.len() + header == usize::try_from(underlying)?, "{} bytes of payload", payload.len());
        }
    }
    Ok(())
}

fn vxlan_mtu_above_the_underlay_is_refused(case: &Case) -> Result<()> {
    let underlay = Underlay::new(1, false)?;
    let node = &underlay.nodes[0];
    for attach in ["bridge", "direct"] {
        let conf = |mtu: u32| network(json!({ "attach": attach, "dev": "eth0", "mtu": mtu }));
        let refused = Pod::attachment(case, node, "a", "10.42.0.1", &conf(1451))?;
        let failure = case.unchanged(&[node, &refused.pod], || refused.call("ADD").fail(7))?;
        failure.says(&["mtu", "1451", "1450", "eth0", "1500"])?;
        let pod = Pod::new(case, node, "b", "10.42.0.2", &conf(1300))?;
        ensure!(pod.space().link("eth0")?.mtu == 1300, "{:?}", pod.space().link("eth0")?);
        pod.attachment.del()?;
    }
    Ok(())
}

fn vxlan_mtu_finds_the_underlay(case: &Case) -> Result<()> {
    let (node, far) = (case.node("n1")?, case.node("far")?);
    for (name, mtu, address) in
        [("by-dev", 1600, "192.0.2.1/25"), ("by-route", 1700, "198.51.100.1/24"), ("other", 1800, "203.0.113.1/24")]
    {
        crate::lab::cable(&node, name, &far, name)?;
        node.change(name, |link| link.mtu(mtu))?;
        node.address(name, address)?;
    }
    node.route("0.0.0.0/0", "203.0.113.2".parse()?)?;
    for (options, mtu) in [
        (json!({ "dev": "by-dev", "remotes": ["198.51.100.7"] }), 1550),
        (json!({ "remotes": ["198.51.100.1", "198.51.100.7"] }), 1650),
        (json!({ "remote": "198.51.100.7", "local": "192.0.2.1" }), 1650),
        (json!({ "fdb": [{ "mac": "02:00:00:00:00:07", "dst": "198.51.100.7" }] }), 1650),
        (json!({ "local": "192.0.2.1" }), 1550),
        (json!({}), 1750),
    ] {
        let pod = Pod::new(case, &node, "a", "10.42.0.1", &network(options.clone()))?;
        let found = pod.space().link("eth0")?.mtu;
        ensure!(found == mtu, "{options}: MTU {found}, not {mtu}");
        pod.attachment.del()?;
    }
    Ok(())
}

/// Whether the checksum of a UDP datagram over IPv4 is that of its bytes.
fn is_right(from: IpAddr, to: IpAddr, datagram: &[u8]) -> Result<bool> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else { anyhow::bail!("not IPv4") };
    let length = u16::try_from(datagram.len())?;
    let pseudo = [&from.octets()[..], &to.octets(), &[0, 17], &length.to_be_bytes(), datagram].concat();
    let words = pseudo.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    Ok(sum == 0xffff)
}

fn vxlan_tx_checksum_offload_is_switched_off(case: &Case) -> Result<()> {
    for attach in ["bridge", "direct"] {
        for offload in [Value::Null, json!(true), json!(false)] {
            let underlay = Underlay::new(2, false)?;
            let options = json!({ "attach": attach, "remotes": underlay.addresses() });
            let mut conf = network(options);
            conf["txChecksumOffload"] = offload.clone();
            let pods = pods(case, &underlay, &conf)?;
            reaches(pods[0].space(), pods[1].ip)?;
            let mut capture = Capture::on(&underlay.nodes[0], "eth0")?;
            peer_seen_by_udp(pods[1].space(), pods[1].ip, pods[0].space())?;
            let is_udp = |inner: &Carried| matches!(inner.frame.body, Body::Ip { protocol: 17, .. });
            let of_pods = |frame: &crate::packets::Frame| frame.carried().as_ref().is_some_and(is_udp);
            let frame = capture.expect(Duration::from_secs(1), "the datagram", of_pods)?;
            let inner = frame.carried().context("a VXLAN packet")?.frame.body;
            let Body::Ip { from, to, payload, .. } = inner else { unreachable!("it was taken apart") };
            // A packet that is left to the hardware below has half a checksum when it is captured, and no hardware here
            // would ever complete it.
            let right = is_right(from, to, &payload)?;
            ensure!(right == (offload == json!(false)), "{attach}, txChecksumOffload {offload}: right {right}");
            let other = pods[0].attachment.clone().with(json!({ "txChecksumOffload": offload == json!(false) }));
            other.check_call(&pods[0].result).fail(102)?.says(&["txChecksumOffload"])?;
        }
    }
    Ok(())
}

/// The parameters of a device as `ip` takes them, and as the configuration says them.
const ARGUMENTS: &str = "type vxlan id 42 dev eth0 local 192.0.2.1 remote 192.0.2.2 dstport 4789 ttl 16 tos 0x20 df set \
                         learning udpcsum";

fn all_options() -> Value {
    network(json!({
        "dev": "eth0", "local": "192.0.2.1", "remote": "192.0.2.2", "ttl": 16, "tos": 32, "df": "set", "mtu": 1400,
    }))
}

fn make(node: &Space, arguments: &str) -> Result<()> {
    let words = ["link", "add", "vx42", "mtu", "1400"].into_iter().chain(arguments.split_whitespace());
    tool(node, "ip", &words.collect::<Vec<_>>()).map(drop)
}

fn vxlan_that_differs_is_named(case: &Case) -> Result<()> {
    let underlay = Underlay::new(1, false)?;
    let node = &underlay.nodes[0];
    node.add_bridge("br-vx42")?;
    node.up("br-vx42")?;
    for (there, instead, option) in [
        ("id 42", "id 43", "vni"),
        ("dev eth0", "dev br-vx42", "dev"),
        ("local 192.0.2.1", "local 192.0.2.9", "local"),
        ("remote 192.0.2.2", "remote 192.0.2.9", "remote"),
        ("dstport 4789", "dstport 8472", "dstport"),
        ("ttl 16", "ttl inherit", "ttl"),
        ("tos 0x20", "tos inherit", "tos"),
        ("df set", "df unset", "df"),
        (" learning", " nolearning", "learning"),
        ("udpcsum", "noudpcsum", "udpCsum"),
        ("udpcsum", "udpcsum gbp", "gbp"),
        ("", "", "alias"),
        ("", "", "bridge"),
    ] {
        let attempt = || -> Result<()> {
            make(node, &ARGUMENTS.replace(there, instead))?;
            if option == "alias" {
                tool(node, "ip", &["link", "set", "vx42", "alias", "podwire:other::"])?;
            }
            let pod = Pod::attachment(case, node, "a", "10.42.0.1", &all_options())?;
            let failure = case.unchanged(&[node, &pod.pod], || pod.call("ADD").fail(101))?;
            failure.says(&["vx42", &format!("exists with {option} ")])?;
            case.call(node, "vxlan", "STATUS").conf(&all_options()).fail(50)?.says(&[option])?;
            node.delete("vx42")
        };
        attempt().with_context(|| format!("{option}: {instead}"))?;
    }
    tool(node, "ip", &["link", "add", "vx42", "type", "veth", "peer", "other"])?;
    let pod = Pod::attachment(case, node, "a", "10.42.0.1", &all_options())?;
    case.unchanged(&[node, &pod.pod], || pod.call("ADD").fail(101))?.says(&["vx42", "veth"]).map(drop)
}

fn vxlan_that_fits_is_used_and_left(case: &Case) -> Result<()> {
    let underlay = Underlay::new(1, false)?;
    let node = &underlay.nodes[0];
    node.add_bridge("br-vx42")?;
    node.change("br-vx42", |link| link.address(vec![2, 0, 0, 0, 7, 1]).mtu(1400).up())?;
    make(node, ARGUMENTS)?;
    node.plug("br-vx42", "vx42")?;
    let conf = crate::runner::merged(&all_options(), json!({ "remotes": ["192.0.2.3"] }));
    let before = case.snapshot(&[node])?;
    let pod = Pod::new(case, node, "a", "10.42.0.1", &conf)?;
    ensure!(flooded(node, "vx42")? == ["192.0.2.2", "192.0.2.3"], "{:?}", flooded(node, "vx42")?);
    pod.attachment.del()?;
    ensure!(flooded(node, "vx42")? == ["192.0.2.2"], "{:?}", flooded(node, "vx42")?);
    before.ensure_same(&case.snapshot(&[node])?)
}

fn vxlan_options_reach_the_kernel(case: &Case) -> Result<()> {
    for (extra, words) in [
        (
            json!({ "remote": "192.0.2.2", "local": "192.0.2.1", "dev": "eth0", "ttl": 16, "tos": 32, "df": "inherit" }),
            &["id 42", "remote 192.0.2.2", "local 192.0.2.1", "dstport 4789", "ttl 16", "tos 0x20", "df inherit"][..],
        ),
        (
            json!({ "ttl": "inherit", "tos": "inherit", "learning": false, "udpCsum": false, "gbp": true, "dstport": 1 }),
            &["dstport 1", "ttl inherit", "tos inherit", "nolearning", "noudpcsum", "gbp"],
        ),
        (json!({ "group": "239.1.1.1", "dev": "eth0" }), &["group 239.1.1.1 dev eth0", "ttl auto", " udpcsum"]),
        (
            json!({ "local": "2001:db8::1", "udpCsum": false }),
            &["local 2001:db8::1", " udp6zerocsumtx", " udp6zerocsumrx"],
        ),
    ] {
        let underlay = Underlay::new(1, false)?;
        let node = &underlay.nodes[0];
        node.address("eth0", "2001:db8::1/64")?;
        let shared = Pod::new(case, node, "a", "10.42.0.1", &network(extra.clone()))?;
        let text = tool(node, "ip", &["-d", "link", "show", "vx42"])?;
        let missing = words.iter().find(|word| !text.contains(**word));
        ensure!(missing.is_none(), "{extra}: {missing:?} is not in {text}");
        shared.attachment.del()?;
        let direct = network(crate::runner::merged(&extra, json!({ "attach": "direct" })));
        let pod = Pod::new(case, node, "b", "10.42.0.2", &direct)?;
        let text = tool(pod.space(), "ip", &["-d", "link", "show", "eth0"])?;
        // The link below is the node's, of which the pod sees a number at most.
        let missing = words.iter().find(|word| !text.contains(word.trim_end_matches("dev eth0")));
        ensure!(missing.is_none(), "{extra}, direct: {missing:?} is not in {text}");
    }
    Ok(())
}

fn vxlan_id_in_use_is_explained(case: &Case) -> Result<()> {
    let underlay = Underlay::new(1, false)?;
    let node = &underlay.nodes[0];
    let direct = network(json!({ "attach": "direct" }));
    let first = Pod::new(case, node, "a", "10.42.0.1", &direct)?;
    let second = Pod::attachment(case, node, "b", "10.42.0.2", &direct)?;
    let failure = case.unchanged(&[node, &second.pod], || second.call("ADD").fail(105))?;
    failure.says(&["VNI 42", "4789", "direct", "attach \"bridge\""])?;
    first.attachment.del()?;
    second.add().context("once the first is gone")?;
    second.del()?;
    tool(node, "ip", &["link", "add", "flannel.42", "type", "vxlan", "id", "42", "dstport", "4789"])?;
    let bridge = Pod::attachment(case, node, "c", "10.42.0.3", &network(json!({})))?;
    let failure = case.unchanged(&[node, &bridge.pod], || bridge.call("ADD").fail(105))?;
    failure.says(&["VNI 42", "4789", "flannel.42"]).map(drop)
}
