//! The parent: which link it is, and what on it is in the way.

use anyhow::{Context, Result, ensure};
use netlink_packet_route::link::{IpVlanMode, MacVlanMode};
use rtnetlink::{LinkIpVlan, LinkMacVlan};
use serde_json::{Value, json};

use super::{Lan, NODE, OUTSIDE, conf};
use crate::lab::{Snapshot, Space, cable};
use crate::packets::{Ping, reaches};
use crate::runner::{Attachment, Case, Feature, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(ipvlan_of_another_mode_is_refused, "naming the pod that has it, which goes on as before")
        .needs(&[Feature::Ipvlan])
        .ours(),
    test!(ipvlan_sees_devices_that_others_made, "on the node, and in a pod that is joined to it")
        .needs(&[Feature::Ipvlan])
        .ours(),
    test!(ipvlan_of_two_modes_at_once_gets_one, "eight ADDs at the same time").needs(&[Feature::Ipvlan]).ours(),
    test!(ipvlan_is_refused_beside_macvlan, "naming it, on the node and in a pod")
        .needs(&[Feature::Ipvlan, Feature::Macvlan])
        .ours(),
    test!(ipvlan_names_why_a_parent_will_not_do, "a bridge's port, the loopback, one that is not there")
        .needs(&[Feature::Ipvlan])
        .ours(),
    test!(ipvlan_has_the_parents_mtu_or_less, "above it is refused").needs(&[Feature::Ipvlan]).ours(),
    test!(ipvlan_finds_its_parent_by_the_default_route, "of IPv4, or of IPv6").needs(&[Feature::Ipvlan]),
    test!(ipvlan_on_a_link_of_the_pod, "linkInContainer, named or by the pod's default route")
        .needs(&[Feature::Ipvlan])
        .ours(),
    test!(ipvlan_in_a_chain_takes_link_and_addresses, "of the plugin before, and adds to its result")
        .needs(&[Feature::Ipvlan]),
    test!(ipvlan_in_a_chain_with_addresses_of_its_own, "keeps those of others").needs(&[Feature::Ipvlan]).ours(),
    test!(ipvlan_on_an_ipvlan_is_one_of_its_parent, "of the same mode only").needs(&[Feature::Ipvlan]).ours(),
];

fn ipvlan_of_another_mode_is_refused(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let first = lan.pod(case, "a", &conf(case, "l2"))?;
    let pod = case.pod("b")?;
    for (mode, flag, said) in [("l3", "bridge", "l3"), ("l3s", "bridge", "l3s"), ("l2", "private", "l2 private")] {
        let other = merged(&conf(case, mode), json!({ "name": "other", "flag": flag }));
        let add = case.attachment(&lan.node, &pod, &other).call("ADD");
        let failure = case.unchanged(&[&lan.node, &pod, first.space()], || add.fail(101))?;
        failure.says(&["eth1", "l2", said, "podwire:net:container-a:eth0"])?;
        first.check()?;
    }
    reaches(first.space(), OUTSIDE[0].parse()?)?;
    // The last to go leaves the parent to any mode.
    first.attachment.del()?;
    case.attachment(&lan.node, &pod, &merged(&conf(case, "l3"), json!({ "name": "other" }))).add().map(drop)
}

fn add_ipvlan(node: &Space, name: &str, mode: IpVlanMode, pod: Option<&Space>) -> Result<()> {
    let builder = LinkIpVlan::new(name, node.link("eth1")?.index, mode);
    node.add(
        name,
        match pod {
            Some(pod) => builder.setns_by_fd(pod.ns.fd()).build(),
            None => builder.build(),
        },
    )
}

fn ipvlan_sees_devices_that_others_made(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let pod = case.pod("a")?;
    let add = case.attachment(&lan.node, &pod, &conf(case, "l2")).call("ADD");
    add_ipvlan(&lan.node, "mine", IpVlanMode::L3, None)?;
    case.unchanged(&[&lan.node, &pod], || add.fail(101))?.says(&["eth1", "\"mine\"", "l3"])?;
    lan.node.delete("mine")?;
    // Another plugin's pod, with an ordinary network beside.
    let foreign = case.pod("foreign")?;
    cable(&lan.node, "veth", &foreign, "eth0")?;
    add_ipvlan(&lan.node, "net1", IpVlanMode::L3, Some(&foreign))?;
    case.unchanged(&[&lan.node, &pod, &foreign], || add.fail(101))?.says(&["eth1", "\"net1\"", "l3"])?;
    foreign.delete("net1")?;
    add.succeed().map(drop)
}

fn ipvlan_of_two_modes_at_once_gets_one(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let pods: Vec<Space> = (0..8).map(|n| case.pod(&format!("p{n}"))).collect::<Result<_>>()?;
    let attachments: Vec<Attachment> = (pods.iter().enumerate())
        .map(|(n, pod)| {
            let mode = ["l2", "l3"][n % 2];
            case.attachment(&lan.node, pod, &merged(&conf(case, mode), json!({ "name": mode })))
        })
        .collect();
    let outputs = std::thread::scope(|scope| {
        let calls: Vec<_> = attachments.iter().map(|one| scope.spawn(|| one.call("ADD").run())).collect();
        calls.into_iter().map(|call| call.join().expect("a call does not panic")).collect::<Result<Vec<_>>>()
    })?;
    let added: Vec<_> = attachments.iter().zip(&outputs).filter(|(_, output)| output.status.success()).collect();
    ensure!(added.len() == 4, "{} of 8 were added, expected those of one mode", added.len());
    for (attachment, output) in &added {
        ensure!(attachment.conf["mode"] == added[0].0.conf["mode"], "both modes were added");
        attachment.check(&output.success()?)?;
    }
    for output in outputs.iter().filter(|output| !output.status.success()) {
        output.failure(101)?.says(&["eth1", "podwire:"])?;
    }
    Ok(())
}

fn ipvlan_is_refused_beside_macvlan(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let pod = case.pod("a")?;
    let add = case.attachment(&lan.node, &pod, &conf(case, "l2")).call("ADD");
    let parent = lan.node.link("eth1")?.index;
    let macvlan = || LinkMacVlan::new("mac7", parent, MacVlanMode::Bridge);
    lan.node.add("mac7", macvlan().build())?;
    case.unchanged(&[&lan.node, &pod], || add.fail(101))?.says(&["eth1", "macvlan", "mac7"])?;
    lan.node.delete("mac7")?;
    let foreign = case.pod("foreign")?;
    lan.node.add("mac7", macvlan().setns_by_fd(foreign.ns.fd()).build())?;
    // One that cannot be seen from the node is a reason all the same, only without its name.
    case.unchanged(&[&lan.node, &pod], || add.fail(101))?.says(&["eth1"])?;
    cable(&lan.node, "veth", &foreign, "eth0")?;
    case.unchanged(&[&lan.node, &pod], || add.fail(101))?.says(&["eth1", "macvlan", "mac7"])?;
    foreign.delete("mac7")?;
    add.succeed().map(drop)
}

fn ipvlan_names_why_a_parent_will_not_do(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let pod = case.pod("a")?;
    lan.node.add_bridge("br7")?;
    lan.plug_in(&lan.node, "eth2", "port3")?;
    lan.node.plug("br7", "eth2")?;
    for (master, code, words) in
        [("eth2", 101, ["eth2", "br7"]), ("lo", 101, ["lo", "Ethernet"]), ("eth3", 7, ["eth3", "did you mean"])]
    {
        let add = case.attachment(&lan.node, &pod, &conf(case, "l2")).with(json!({ "master": master })).call("ADD");
        case.unchanged(&[&lan.node, &pod], || add.fail(code))?.says(&words)?;
    }
    Ok(())
}

fn ipvlan_has_the_parents_mtu_or_less(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    lan.node.change("eth1", |link| link.mtu(1450))?;
    let with = |mtu: Value| merged(&conf(case, "l2"), json!({ "cniVersion": "1.1.0", "mtu": mtu }));
    for (name, mtu, expected) in [("a", json!(null), 1450), ("b", json!(0), 1450), ("c", json!(1400), 1400)] {
        let pod = lan.pod(case, name, &with(mtu))?;
        ensure!(pod.space().link("eth0")?.mtu == expected, "{:?}", pod.space().link("eth0")?);
        ensure!(pod.result["interfaces"][0]["mtu"] == expected, "{}", pod.result);
        pod.check()?;
    }
    let pod = case.pod("d")?;
    let add = case.attachment(&lan.node, &pod, &with(json!(1500))).call("ADD");
    case.unchanged(&[&lan.node, &pod], || add.fail(7))?.says(&["1500", "1450", "eth1"]).map(drop)
}

fn ipvlan_finds_its_parent_by_the_default_route(case: &Case) -> Result<()> {
    for (to, by) in [("0.0.0.0/0", OUTSIDE[0]), ("::/0", OUTSIDE[1])] {
        let lan = Lan::new(case)?;
        // Another link, which has no default route.
        lan.plug_in(&lan.node, "eth0", "port3")?;
        lan.node.route(to, by.parse()?)?;
        let conf =
            merged(&conf(case, "l2"), json!({ "master": null, "name": if by == OUTSIDE[0] { "v4" } else { "v6" } }));
        let pod = lan.pod(case, "a", &conf).with_context(|| to.to_owned())?;
        let parent = lan.node.link("eth1")?;
        ensure!(pod.space().link("eth0")?.peer == Some(parent.index), "{to}: {:?}", pod.space().link("eth0")?);
        reaches(pod.space(), OUTSIDE[0].parse()?)?;
        pod.check()?;
    }
    Ok(())
}

fn ipvlan_on_a_link_of_the_pod(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    for (name, master) in [("named", json!("net1")), ("found", json!(null))] {
        let pod = case.pod(name)?;
        pod.up("lo")?;
        lan.plug_in(&pod, "net1", &format!("to{name}"))?;
        pod.address("net1", &format!("10.6.0.{}/24", name.len()))?;
        pod.route("0.0.0.0/0", "10.6.0.1".parse()?)?;
        let extra = json!({ "master": master, "linkInContainer": true, "ipam": { "routes": null } });
        let attachment = case.attachment(&lan.node, &pod, &merged(&conf(case, "l2"), extra));
        let links = || Snapshot::take(&[&lan.node], &case.dir.join("no leases"));
        let before = links()?;
        let result = attachment.add()?;
        before.ensure_same(&links()?)?;
        ensure!(pod.link("eth0")?.peer == Some(pod.link("net1")?.index), "{:?}", pod.link("eth0")?);
        reaches(&pod, OUTSIDE[0].parse()?)?;
        ensure!(pod.link("eth0")?.kind == "ipvlan" && result["interfaces"][0]["name"] == "eth0", "{result}");
        attachment.del()?;
        ensure!(pod.find("eth0")?.is_none() && pod.find("net1")?.is_some(), "{:?}", pod.links()?);
    }
    Ok(())
}

/// What a plugin before says that made the node's `eth1`, with an address for whoever comes.
fn previous() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "interfaces": [{ "name": "eth1", "mac": "0a:00:00:00:00:01" }],
        "ips": [{ "address": "10.7.0.66/24", "gateway": NODE[0] }],
        "routes": [{ "dst": "192.0.2.0/24", "gw": NODE[0] }],
        "dns": { "nameservers": ["10.7.0.53"] },
    })
}

fn ipvlan_in_a_chain_takes_link_and_addresses(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let extra = json!({ "master": null, "ipam": null, "prevResult": previous() });
    let pod = lan.pod(case, "a", &merged(&conf(case, "l2"), extra))?;
    ensure!(pod.space().ips("eth0")? == ["10.7.0.66/24"], "{:?}", pod.space().ips("eth0")?);
    ensure!(pod.space().routes()?.iter().any(|route| route.to == "192.0.2.0/24"), "{:?}", pod.space().routes()?);
    reaches(pod.space(), OUTSIDE[0].parse()?)?;
    // The pod's interface, wherever it stands in the list, and the address that points at it.
    let interfaces = pod.result["interfaces"].as_array().context("interfaces")?;
    let own = interfaces.iter().position(|interface| interface["name"] == "eth0").context("no eth0")?;
    let ips = pod.result["ips"].as_array().context("ips")?;
    ensure!(ips.len() == 1 && ips[0]["interface"] == own && ips[0]["address"] == "10.7.0.66/24", "{}", pod.result);
    pod.check()
}

fn ipvlan_in_a_chain_with_addresses_of_its_own(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let mut earlier = previous();
    earlier["interfaces"] = json!([{ "name": "eth1" }, { "name": "net7", "sandbox": "/run/netns/elsewhere" }]);
    earlier["ips"] = json!([{ "address": "192.0.2.7/24", "interface": 1 }]);
    earlier["routes"] = json!([]);
    let pod = lan.pod(case, "a", &merged(&conf(case, "l2"), json!({ "master": null, "prevResult": earlier })))?;
    let interfaces = pod.result["interfaces"].as_array().context("interfaces")?;
    let names: Vec<_> = interfaces.iter().filter_map(|interface| interface["name"].as_str()).collect();
    ensure!(names == ["eth1", "net7", "eth0"], "{}", pod.result);
    let ips = pod.result["ips"].as_array().context("ips")?;
    let owners: Vec<_> = ips.iter().map(|ip| ip["interface"].as_u64()).collect();
    ensure!(owners == [Some(1), Some(2), Some(2)], "{}", pod.result);
    ensure!(pod.result["dns"]["nameservers"][0] == "10.7.0.53", "{}", pod.result);
    ensure!(pod.space().ips("eth0")?.len() == 2, "{:?}", pod.space().ips("eth0")?);
    pod.check()
}

fn ipvlan_on_an_ipvlan_is_one_of_its_parent(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    add_ipvlan(&lan.node, "above", IpVlanMode::L2, None)?;
    let on_it = merged(&conf(case, "l2"), json!({ "master": "above" }));
    let pod = lan.pod(case, "a", &on_it)?;
    ensure!(pod.space().link("eth0")?.peer == Some(lan.node.link("eth1")?.index), "{:?}", pod.space().link("eth0")?);
    ensure!(!Ping::default().run(pod.space(), OUTSIDE[0].parse()?)?.times.is_empty(), "outside does not answer");
    pod.check()?;
    let other = case.pod("b")?;
    let add = case.attachment(&lan.node, &other, &merged(&on_it, json!({ "mode": "l3" }))).call("ADD");
    case.unchanged(&[&lan.node, &other], || add.fail(101))?.says(&["above", "l2", "l3"]).map(drop)
}
