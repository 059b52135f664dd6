//! Gateways, default routes, MTUs.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Added;
use crate::lab::Route;
use crate::packets::{Ping, isolated, reaches};
use crate::runner::{Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p28_pods_reach_each_other_and_the_gateway, "dual stack, isGateway"),
    test!(p28_without_a_gateway_pods_reach_each_other_only, "isGateway off: no address on the bridge"),
    test!(p28_a_default_gateway_leads_out, "isDefaultGateway: a route of each family, and it works"),
    test!(a_route_without_a_gateway_takes_the_ranges, "ipam.routes"),
    test!(another_gateway_address_is_refused, "forceAddress off, code 101, the node unchanged"),
    test!(force_address_replaces_the_gateway_address, "forceAddress"),
    test!(an_mtu_is_set_on_all_three, "mtu, and a larger packet does not pass"),
    test!(the_mtu_is_the_bridges_by_default, "a second pod on a bridge of 1400 bytes").ours(),
    test!(an_mtu_above_the_bridges_is_refused, "where it has other ports, and the node is unchanged").ours(),
    test!(p27_a_bridge_that_is_there_is_kept, "its MAC, its addresses; DEL leaves it"),
    test!(p23_check_passes_when_other_ports_come, "also one with a lower MAC, which a bridge would take over"),
    test!(p27_a_link_that_is_no_bridge_is_refused, "code 101"),
    test!(the_bridge_is_cni0_by_default, "no option at all but ipam"),
];

fn default_route<'a>(routes: &'a [Route], to: &str) -> Option<&'a Route> {
    routes.iter().find(|route| route.to == to)
}

fn p28_pods_reach_each_other_and_the_gateway(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = case.bridge_with(json!({ "ipam": case.host_local(&["10.7.0.0/24", "fd07::/64"]) }));
    let (a, b) = (Added::new(case, &node, "a", &conf)?, Added::new(case, &node, "b", &conf)?);
    ensure!(node.ips("cni0")? == ["10.7.0.1/24", "fd07::1/64"], "the bridge has {:?}", node.ips("cni0")?);
    for n in 0..2 {
        reaches(a.pod(), b.ip(n)?)?;
        reaches(&node, a.ip(n)?)?;
    }
    for gateway in ["10.7.0.1", "fd07::1"] {
        reaches(b.pod(), gateway.parse()?)?;
    }
    ensure!(node.sysctl("net/ipv4/ip_forward")? == "1", "IPv4 is not forwarded");
    ensure!(node.sysctl("net/ipv6/conf/all/forwarding")? == "1", "IPv6 is not forwarded");
    let routes = a.pod().routes()?;
    ensure!(default_route(&routes, "0.0.0.0/0").is_none(), "a default route that nobody asked for: {routes:?}");
    Ok(())
}

fn p28_without_a_gateway_pods_reach_each_other_only(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = case.bridge_with(json!({ "isGateway": false }));
    let (a, b) = (Added::new(case, &node, "a", &conf)?, Added::new(case, &node, "b", &conf)?);
    ensure!(node.ips("cni0")?.is_empty(), "the bridge has {:?}", node.ips("cni0")?);
    reaches(a.pod(), b.ip(0)?)?;
    isolated(a.pod(), "10.7.0.1".parse()?)
}

fn p28_a_default_gateway_leads_out(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let ipam = case.host_local(&["10.7.0.0/24", "fd07::/64"]);
    let conf = case.bridge_with(json!({ "isGateway": null, "isDefaultGateway": true, "ipam": ipam }));
    let a = Added::new(case, &node, "a", &conf)?;
    let routes = a.pod().routes()?;
    for (to, via) in [("0.0.0.0/0", "10.7.0.1"), ("::/0", "fd07::1")] {
        let route = default_route(&routes, to).with_context(|| format!("no route to {to}: {routes:?}"))?;
        ensure!(route.via == Some(via.parse()?), "{route:?}");
    }
    // An address of the node that is not on the pod's network.
    node.add_bridge("other")?;
    node.up("other")?;
    node.address("other", "192.0.2.1/32")?;
    node.address("other", "2001:db8::1/128")?;
    reaches(a.pod(), "192.0.2.1".parse()?)?;
    reaches(a.pod(), "2001:db8::1".parse()?)?;
    let reported = a.result["routes"].to_string();
    ensure!(reported.contains("0.0.0.0/0") && reported.contains("::/0"), "not reported: {reported}");
    Ok(())
}

fn a_route_without_a_gateway_takes_the_ranges(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let mut ipam = case.host_local(&["10.7.0.0/24", "fd07::/64"]);
    ipam["routes"] = json!([{ "dst": "0.0.0.0/0" }, { "dst": "192.0.2.0/24", "gw": "10.7.0.9" }, { "dst": "::/0" }]);
    let a = Added::new(case, &node, "a", &case.bridge_with(json!({ "ipam": ipam })))?;
    let routes = a.pod().routes()?;
    for (to, via) in [("0.0.0.0/0", "10.7.0.1"), ("192.0.2.0/24", "10.7.0.9"), ("::/0", "fd07::1")] {
        let route = default_route(&routes, to).with_context(|| format!("no route to {to}: {routes:?}"))?;
        ensure!(route.via == Some(via.parse()?), "{route:?}");
    }
    a.attachment.check(&a.result)
}

fn another_gateway_address_is_refused(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let _a = Added::new(case, &node, "a", &case.bridge_conf())?;
    let other = case.bridge_with(json!({ "name": "other", "ipam": case.host_local(&["10.8.0.0/24"]) }));
    let pod = case.pod("b")?;
    let add = case.attachment(&node, &pod, &other).call("ADD");
    let failure = case.unchanged(&[&node, &pod], || add.fail(101))?;
    failure.says(&["cni0", "10.7.0.1", "10.8.0.1", "forceAddress"])?;
    Ok(())
}

fn force_address_replaces_the_gateway_address(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let _a = Added::new(case, &node, "a", &case.bridge_conf())?;
    let ipam = case.host_local(&["10.8.0.0/24"]);
    let other = case.bridge_with(json!({ "name": "other", "forceAddress": true, "ipam": ipam }));
    let b = Added::new(case, &node, "b", &other)?;
    ensure!(node.ips("cni0")? == ["10.8.0.1/24"], "the bridge has {:?}", node.ips("cni0")?);
    reaches(b.pod(), "10.8.0.1".parse()?).map(drop)
}

fn an_mtu_is_set_on_all_three(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = case.bridge_with(json!({ "mtu": 1400 }));
    let (a, b) = (Added::new(case, &node, "a", &conf)?, Added::new(case, &node, "b", &conf)?);
    for (space, link) in [(&node, "cni0"), (&node, &*a.host_link()), (a.pod(), "eth0")] {
        let mtu = space.link(link)?.mtu;
        ensure!(mtu == 1400, "{link} has an MTU of {mtu}");
    }
    reaches(a.pod(), b.ip(0)?)?;
    // 20 bytes of IP and 8 of ICMP go on top.
    let fits = Ping { size: 1372, dont_fragment: true, ..Ping::default() };
    ensure!(fits.run(a.pod(), b.ip(0)?)?.times.len() == 1, "1400 bytes do not pass");
    let large = Ping { size: 1373, ..fits };
    ensure!(large.run(a.pod(), b.ip(0)?)?.times.is_empty(), "1401 bytes pass");
    Ok(())
}

fn the_mtu_is_the_bridges_by_default(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let _first = Added::new(case, &node, "a", &case.bridge_with(json!({ "mtu": 1400 })))?;
    let second = Added::new(case, &node, "b", &case.bridge_conf())?;
    let mtu = second.pod().link("eth0")?.mtu;
    ensure!(mtu == 1400, "the pod has an MTU of {mtu}");
    Ok(())
}

fn an_mtu_above_the_bridges_is_refused(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("b")?);
    let _first = Added::new(case, &node, "a", &case.bridge_conf())?;
    let add = case.attachment(&node, &pod, &case.bridge_with(json!({ "mtu": 9000 }))).call("ADD");
    case.unchanged(&[&node, &pod], || add.fail(7))?.says(&["mtu", "9000", "1500", "cni0"]).map(drop)
}

fn p27_a_bridge_that_is_there_is_kept(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    node.add_bridge("cni0")?;
    let mac = "02:00:00:00:07:01";
    node.change("cni0", |link| link.address(crate::lab::mac_bytes(mac).unwrap_or_default().to_vec()).up())?;
    node.address("cni0", "192.0.2.1/24")?;
    let conf = case.bridge_with(json!({ "isGateway": false }));
    let a = Added::new(case, &node, "a", &conf)?;
    a.attachment.check(&a.result)?;
    a.attachment.del()?;
    ensure!(node.link("cni0")?.mac == mac, "its MAC was changed to {}", node.link("cni0")?.mac);
    ensure!(node.ips("cni0")? == ["192.0.2.1/24"], "its addresses were changed to {:?}", node.ips("cni0")?);
    Ok(())
}

fn p23_check_passes_when_other_ports_come(case: &Case) -> Result<()> {
    let (node, other) = (case.node("n1")?, case.node("n2")?);
    let a = Added::new(case, &node, "a", &case.bridge_conf())?;
    crate::lab::cable(&node, "port", &other, "eth0")?;
    let lowest = crate::lab::mac_bytes("02:00:00:00:00:01")?;
    node.change("port", |link| link.address(lowest.to_vec()))?;
    node.plug("cni0", "port")?;
    let _b = Added::new(case, &node, "b", &case.bridge_conf())?;
    a.attachment.check(&a.result)?;
    reaches(a.pod(), "10.7.0.1".parse()?).map(drop)
}

fn p27_a_link_that_is_no_bridge_is_refused(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let other = case.node("n2")?;
    crate::lab::cable(&node, "cni0", &other, "eth0")?;
    let add = case.attachment(&node, &pod, &case.bridge_conf()).call("ADD");
    let failure = case.unchanged(&[&node, &pod], || add.fail(101))?;
    failure.says(&["cni0", "veth", "bridge"]).map(drop)
}

fn the_bridge_is_cni0_by_default(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = case.bridge_with(json!({ "bridge": null, "isGateway": null }));
    let a = Added::new(case, &node, "a", &conf)?;
    ensure!(node.link("cni0")?.kind == "bridge", "cni0 is no bridge");
    a.attachment.check(&a.result)?;
    a.attachment.del()?;
    ensure!(node.find("cni0")?.is_some(), "DEL removed the bridge");
    Ok(())
}
