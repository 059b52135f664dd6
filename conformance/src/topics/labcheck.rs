//! The lab itself: what the other tests stand on must fail when it should.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::libc;

use crate::lab::{cable, mac_bytes};
use crate::packets::{Capture, Ping, arp_request, inject, isolated, peer_seen_by_tcp, peer_seen_by_udp, reaches};
use crate::runner::{Case, Feature, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(a_cable_carries_packets_until_it_is_cut, "cables, pings of both families, sockets"),
    test!(a_switch_joins_three_nodes, "switches; a ping that is too large is not answered"),
    test!(an_injected_frame_is_captured, "injection and capture see the same bytes"),
    test!(a_snapshot_sees_every_change, "links, addresses, routes, leases"),
    test!(a_snapshot_sees_rules, "nftables rules").needs(&[Feature::NftInet]),
    test!(a_bridge_keeps_vlans_apart, "a kernel that filters VLANs, here or in the guest")
        .needs(&[Feature::BridgeVlan]),
    test!(the_sandbox_is_not_the_machine, "mounts and processes are the test's own"),
];

fn a_cable_carries_packets_until_it_is_cut(case: &Case) -> Result<()> {
    let (a, b) = (case.node("a")?, case.node("b")?);
    cable(&a, "eth0", &b, "eth0")?;
    a.address("eth0", "10.0.0.1/24")?;
    b.address("eth0", "10.0.0.2/24")?;
    a.address("eth0", "fd00::1/64")?;
    b.address("eth0", "fd00::2/64")?;
    reaches(&a, "10.0.0.2".parse()?)?;
    reaches(&b, "fd00::1".parse()?)?;
    ensure!(peer_seen_by_tcp(&b, "10.0.0.2".parse()?, &a)?.to_string() == "10.0.0.1");
    ensure!(peer_seen_by_udp(&b, "fd00::2".parse()?, &a)?.to_string() == "fd00::1");
    b.down("eth0")?;
    isolated(&a, "10.0.0.2".parse()?)
}

fn a_switch_joins_three_nodes(case: &Case) -> Result<()> {
    let switch = crate::lab::Space::switch("switch")?;
    let mut nodes = Vec::new();
    for n in 1..=3 {
        let node = case.node(&format!("n{n}"))?;
        let port = format!("port{n}");
        cable(&node, "eth0", &switch, &port)?;
        switch.plug("sw0", &port)?;
        node.address("eth0", &format!("10.0.0.{n}/24"))?;
        nodes.push(node);
    }
    reaches(&nodes[0], "10.0.0.2".parse()?)?;
    reaches(&nodes[2], "10.0.0.1".parse()?)?;
    let large = Ping { size: 4000, dont_fragment: true, ..Ping::default() };
    ensure!(large.run(&nodes[0], "10.0.0.2".parse()?)?.times.is_empty(), "4000 bytes went over 1500");
    let whole = Ping { size: 4000, ..Ping::default() };
    ensure!(whole.run(&nodes[0], "10.0.0.2".parse()?)?.times.len() == 1, "fragments did not arrive");
    Ok(())
}

fn an_injected_frame_is_captured(case: &Case) -> Result<()> {
    let (a, b) = (case.node("a")?, case.node("b")?);
    cable(&a, "eth0", &b, "eth0")?;
    let mut capture = Capture::everywhere(&b)?;
    let ip = "10.9.9.9".parse()?;
    inject(&a, "eth0", &arp_request(mac_bytes("02:00:00:00:00:09")?, ip, ip))?;
    let frame = capture.expect(Duration::from_secs(2), "announcement", |frame| frame.announces_v4(ip))?;
    ensure!(frame.from == "02:00:00:00:00:09", "{frame:?}");
    let again = capture.expect_none(Duration::from_millis(100), "announcement", |frame| frame.announces_v4(ip));
    again?;
    ensure!(
        capture.expect(Duration::from_millis(10), "nothing", |_| false).is_err(),
        "a capture without the frame is no error"
    );
    Ok(())
}

fn a_snapshot_sees_every_change(case: &Case) -> Result<()> {
    let node = case.node("n")?;
    let changes: [(&str, &dyn Fn() -> Result<()>); 5] = [
        ("link", &|| node.add_bridge("br0")),
        ("link up", &|| node.up("br0")),
        ("address", &|| node.address("br0", "10.0.0.1/24")),
        ("route", &|| node.route("10.1.0.0/16", "10.0.0.9".parse()?)),
        ("lease", &|| {
            std::fs::create_dir_all(case.leases_of("net"))?;
            Ok(std::fs::write(case.leases_of("net").join("10.0.0.2"), "x")?)
        }),
    ];
    for (what, change) in changes {
        ensure!(case.unchanged(&[&node], change).is_err(), "a new {what} was not seen");
        case.unchanged(&[&node], || Ok(()))?;
    }
    Ok(())
}

fn a_snapshot_sees_rules(case: &Case) -> Result<()> {
    let node = case.node("n")?;
    let change = || node.load_ruleset("table inet t { set s { type ipv4_addr; elements = { 10.0.0.1 }; }; }");
    ensure!(case.unchanged(&[&node], change).is_err(), "a new set was not seen");
    Ok(())
}

fn a_bridge_keeps_vlans_apart(case: &Case) -> Result<()> {
    let node = case.node("n")?;
    node.add("br0", rtnetlink::LinkBridge::new("br0").vlan_filtering(true).build())?;
    ensure!(node.link("br0")?.vlan_filtering, "the bridge does not filter");
    let pod = case.pod("p")?;
    cable(&node, "port", &pod, "eth0")?;
    node.plug("br0", "port")?;
    let vlans = node.vlans("port")?;
    let first = crate::lab::Vlan { id: 1, pvid: true, untagged: true };
    ensure!(vlans == [first], "a new port is in {vlans:?}");
    Ok(())
}

fn the_sandbox_is_not_the_machine(case: &Case) -> Result<()> {
    ensure!(std::process::id() == 1, "process {} is not the first", std::process::id());
    ensure!(std::fs::read_dir("/run")?.next().is_none(), "/run is not empty");
    let names: Vec<String> = crate::lab::Space { name: "self".into(), ns: crate::lab::Netns::current()? }
        .links()?
        .into_iter()
        .map(|link| link.name)
        .collect();
    ensure!(names == ["lo"], "links of the machine are here: {names:?}");
    ensure!(case.dir.read_dir()?.next().is_none(), "the test's directory is not empty");
    // SAFETY-free check that the parent is out of sight: the first process has none.
    ensure!(nix::unistd::getppid().as_raw() == libc::pid_t::from(0), "the parent is in sight");
    Ok(())
}
