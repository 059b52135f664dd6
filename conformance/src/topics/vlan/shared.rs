//! Several pods on one VLAN of one parent.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use rtnetlink::LinkVlan;
use serde_json::{Value, json};

use super::{Added, SHARED, UPLINK, conf, nodes, q, shared, tags_of_ping};
use crate::cni::tool;
use crate::lab::{Space, cable};
use crate::packets::{Body, Capture, Frame, Tag, isolated, reaches};
use crate::runner::{Case, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p28_vlan_shared_pods_reach_each_other, "on the node and on another, tagged; the device goes with the last")
        .needs(SHARED)
        .ours(),
    test!(p28_vlan_shared_ids_do_not_hear_each_other, "and a control of the same id").needs(SHARED).ours(),
    test!(vlan_shared_networks_use_one_device, "two networks of one VLAN; a shared one of 802.1ad beside it")
        .needs(SHARED)
        .ours(),
    test!(vlan_shared_name_that_does_not_fit, "a parent of 14 bytes").needs(SHARED).ours(),
    test!(vlan_shared_uses_the_nodes_own_device, "whatever it is called; it is not changed and stays")
        .needs(SHARED)
        .ours()
        .limit(60),
    test!(p27_vlan_shared_device_that_differs, "code 101 with the difference, nothing changed").needs(SHARED).ours(),
    test!(p27_vlan_shared_name_of_another_device, "code 101").needs(SHARED).ours(),
    test!(vlan_shared_device_that_is_down, "the node's own: code 11, left alone").needs(SHARED).ours(),
    test!(vlan_shared_device_that_is_full, "496 names: code 11, and nothing is left; one fewer will do")
        .needs(SHARED)
        .ours(),
    test!(vlan_shared_gives_the_node_no_part, "no address, no answer to ARP for the node's others")
        .needs(SHARED)
        .ours(),
    test!(vlan_shared_qos_maps, "those of the device are every pod's").needs(SHARED).ours(),
    test!(p20_vlan_shared_add_that_fails_leaves_nothing, "as the first, and as the second user").needs(SHARED).ours(),
    test!(p22_vlan_shared_del_without_anything, "no netns, no pod; repeated").needs(SHARED).ours(),
    test!(p24_vlan_shared_gc_removes_dead_users, "of this network only, and the device with the last")
        .needs(SHARED)
        .ours(),
];

/// The users that a shared device has, by its altnames.
fn users(node: &Space, link: &str) -> Result<Vec<String>> {
    let mut users = node.link(link)?.altnames;
    users.sort();
    Ok(users)
}

fn p28_vlan_shared_pods_reach_each_other(case: &Case) -> Result<()> {
    let [n1, n2] = nodes(case)?;
    let conf = shared(case, json!({}));
    let before = n1.links()?;
    let a = Added::new(case, &n1, "a", &conf)?.checked()?;
    let b = Added::new(case, &n1, "b", &conf)?.checked()?;
    let far = Added::new(case, &n2, "far", &conf)?.checked()?;
    let device = n1.link("uplink.100")?;
    ensure!(device.kind == "vlan" && device.alias.as_deref() == Some("podwire:net::"), "{device:?}");
    ensure!(users(&n1, "uplink.100")? == [a.attachment.label(), b.attachment.label()], "{device:?}");
    ensure!(a.result["interfaces"][0]["name"] == "uplink.100", "{}", a.result);

    let mut capture = Capture::on(&n2, UPLINK)?;
    for (from, to) in [(&a, &b), (&b, &a), (&a, &far), (&far, &b)] {
        reaches(from.pod(), to.ip(0)?)?;
    }
    ensure!(tags_of_ping(&mut capture, &a)? == [q(100)], "a wrong tag");
    a.attachment.del()?;
    ensure!(users(&n1, "uplink.100")? == [b.attachment.label()], "{:?}", n1.link("uplink.100")?);
    reaches(b.pod(), far.ip(0)?)?;
    b.attachment.check(&b.result)?;
    b.attachment.del()?;
    ensure!(n1.links()? == before, "left on the node: {:?}", n1.links()?);
    Ok(())
}

fn p28_vlan_shared_ids_do_not_hear_each_other(case: &Case) -> Result<()> {
    let [n1, n2] = nodes(case)?;
    let [blue, green] = [100, 200].map(|id| shared(case, json!({ "vlanId": id })));
    let (blue1, green1) = (Added::new(case, &n1, "blue1", &blue)?, Added::new(case, &n1, "green1", &green)?);
    let (blue2, green2) = (Added::new(case, &n2, "blue2", &blue)?, Added::new(case, &n2, "green2", &green)?);
    reaches(blue1.pod(), blue2.ip(0)?)?;
    reaches(green1.pod(), green2.ip(0)?)?;
    isolated(blue1.pod(), green1.ip(0)?)?;
    isolated(blue1.pod(), green2.ip(0)?)
}

fn vlan_shared_networks_use_one_device(case: &Case) -> Result<()> {
    let [node, _far] = nodes(case)?;
    let a = Added::new(case, &node, "a", &shared(case, json!({})))?;
    let ipam = case.host_local(&["10.7.0.128/25"]);
    let b = Added::new(case, &node, "b", &shared(case, json!({ "name": "other", "mtu": 1400, "ipam": ipam })))?
        .checked()?;
    let service = Added::new(case, &node, "c", &shared(case, json!({ "protocol": "802.1ad" })))?.checked()?;
    ensure!(users(&node, "uplink.100")?.len() == 2, "{:?}", node.link("uplink.100")?);
    // The MTU is each pod's own.
    ensure!(a.pod().link("eth0")?.mtu == 1500 && b.pod().link("eth0")?.mtu == 1400, "wrong MTUs");
    for pod in [&a, &b, &service] {
        pod.attachment.del()?;
    }
    ensure!(node.links()?.len() == 2, "left on the node: {:?}", node.links()?);
    Ok(())
}

fn vlan_shared_name_that_does_not_fit(case: &Case) -> Result<()> {
    let (node, far) = (case.node("n1")?, case.node("n2")?);
    cable(&node, "enp175s0f0np01", &far, UPLINK)?;
    let conf = shared(case, json!({ "master": "enp175s0f0np01" }));
    let (a, b) = (Added::new(case, &node, "a", &conf)?.checked()?, Added::new(case, &node, "b", &conf)?.checked()?);
    let name = a.result["interfaces"][0]["name"].as_str().unwrap_or_default();
    ensure!(name.starts_with("vlan") && b.result["interfaces"][0]["name"] == name, "{}", b.result);
    reaches(a.pod(), b.ip(0)?)?;
    a.attachment.del()?;
    b.attachment.del()?;
    ensure!(node.find(name)?.is_none(), "left on the node: {:?}", node.links()?);
    Ok(())
}

/// Makes VLAN 100 of the uplink on the node, as an admin would.
fn make(node: &Space, name: &str) -> Result<()> {
    node.add(name, LinkVlan::new(name, node.link(UPLINK)?.index, 100).build())?;
    node.up(name)?;
    node.address(name, "10.7.0.250/24")
}

fn vlan_shared_uses_the_nodes_own_device(case: &Case) -> Result<()> {
    for name in ["uplink.100", "storage"] {
        let [n1, n2] = nodes(case)?;
        make(&n1, name)?;
        let conf = shared(case, json!({}));
        let before = case.snapshot(&[&n1])?;
        let (a, b) = (Added::new(case, &n1, "a", &conf)?.checked()?, Added::new(case, &n1, "b", &conf)?.checked()?);
        let far = Added::new(case, &n2, "far", &conf)?;
        ensure!(users(&n1, name)? == [a.attachment.label(), b.attachment.label()], "{:?}", n1.link(name)?);
        reaches(a.pod(), b.ip(0)?)?;
        reaches(far.pod(), a.ip(0)?)?;
        // It still is the node's link to this VLAN.
        reaches(far.pod(), "10.7.0.250".parse()?)?;
        for pod in [&a, &b, &far] {
            pod.attachment.del()?;
        }
        let none = json!({ "cni.dev/valid-attachments": [] });
        case.call(&n1, "vlan", "GC").conf(&merged(&conf, none)).succeed()?;
        before.ensure_same(&case.snapshot(&[&n1])?)?;
    }
    Ok(())
}

fn p27_vlan_shared_device_that_differs(case: &Case) -> Result<()> {
    let ([node, _far], pod) = (nodes(case)?, case.pod("b")?);
    let _a = Added::new(case, &node, "a", &shared(case, json!({ "egressQosMap": { "0": 3 } })))?.checked()?;
    for (map, words) in [(json!({ "0": 4 }), ["0:3", "0:4"]), (json!({}), ["0:3", "none"])] {
        let conf = shared(case, json!({ "egressQosMap": map }));
        let add = case.attachment(&node, &pod, &conf).call("ADD");
        let failure = case.unchanged(&[&node, &pod], || add.fail(101))?;
        failure.says(&["egressQosMap", "VLAN 100", UPLINK, "uplink.100"])?.says(&words)?;
    }
    Ok(())
}

fn p27_vlan_shared_name_of_another_device(case: &Case) -> Result<()> {
    let ([node, _far], pod) = (nodes(case)?, case.pod("a")?);
    node.add_bridge("uplink.100")?;
    let add = case.attachment(&node, &pod, &shared(case, json!({}))).call("ADD");
    case.unchanged(&[&node, &pod], || add.fail(101))?.says(&["\"uplink.100\"", "VLAN 100", "bridge"]).map(drop)
}

fn vlan_shared_device_that_is_down(case: &Case) -> Result<()> {
    let ([node, _far], pod) = (nodes(case)?, case.pod("a")?);
    make(&node, "storage")?;
    node.down("storage")?;
    let add = case.attachment(&node, &pod, &shared(case, json!({}))).call("ADD");
    case.unchanged(&[&node, &pod], || add.fail(11))?.says(&["\"storage\"", "down", "ip link set"]).map(drop)
}

fn vlan_shared_device_that_is_full(case: &Case) -> Result<()> {
    let ([node, _far], pod) = (nodes(case)?, case.pod("b")?);
    let conf = shared(case, json!({}));
    let resident = Added::new(case, &node, "a", &conf)?;
    let name = |n: u32| format!("name{n}");
    let line = |n: u32| format!("link property add dev uplink.100 altname {}\n", name(n));
    let batch = case.dir.join("names");
    std::fs::write(&batch, (1..496).map(line).collect::<String>())?;
    tool(&node, "ip", &["-batch", &batch.to_string_lossy()])?;
    let late = case.attachment(&node, &pod, &conf);
    case.unchanged(&[&node, &pod], || late.call("ADD").fail(11))?.says(&["\"uplink.100\"", "496 altnames"])?;
    tool(&node, "ip", &["link", "property", "del", "dev", "uplink.100", "altname", &name(1)])?;
    late.check(&late.add()?)?;
    late.del()?;
    resident.attachment.check(&resident.result)
}

/// Whether the node answers ARP requests of the pod for `ip`, and not only the pod's other packets.
fn answers_arp(far: &Space, pod: &Added, ip: Ipv4Addr) -> Result<bool> {
    let mut capture = Capture::on(far, UPLINK)?;
    isolated(pod.pod(), ip.into())?;
    let is_answer = |frame: &Frame| matches!(frame.body, Body::Arp { operation: 2, sender, .. } if sender == ip);
    Ok(capture.expect(Duration::from_millis(100), "ARP reply", is_answer).is_ok())
}

fn vlan_shared_gives_the_node_no_part(case: &Case) -> Result<()> {
    let [n1, n2] = nodes(case)?;
    let inside = Ipv4Addr::new(10, 7, 0, 250);
    n1.add_bridge("inside")?;
    n1.up("inside")?;
    n1.address("inside", &format!("{inside}/32"))?;
    let conf = shared(case, json!({}));
    let (a, far) = (Added::new(case, &n1, "a", &conf)?, Added::new(case, &n2, "far", &conf)?);
    ensure!(n1.addresses("uplink.100")?.is_empty(), "{:?}", n1.addresses("uplink.100")?);
    reaches(far.pod(), a.ip(0)?)?;
    ensure!(!answers_arp(&n2, &far, inside)?, "the node answers in the pods' VLAN");
    // The control: on a device of the node's own it answers for all of its addresses.
    n1.add("control", LinkVlan::new("control", n1.link(UPLINK)?.index, 300).build())?;
    n1.up("control")?;
    let control = Added::new(case, &n2, "control", &merged(&conf, json!({ "vlanId": 300 })))?;
    ensure!(answers_arp(&n2, &control, inside)?, "the control does not answer");
    Ok(())
}

fn vlan_shared_qos_maps(case: &Case) -> Result<()> {
    let [n1, n2] = nodes(case)?;
    let conf = shared(case, json!({ "egressQosMap": { "0": 3 } }));
    let (a, b) = (Added::new(case, &n1, "a", &conf)?.checked()?, Added::new(case, &n1, "b", &conf)?.checked()?);
    let far = Added::new(case, &n2, "far", &shared(case, json!({})))?;
    for pod in [&a, &b] {
        let mut capture = Capture::on(&n2, UPLINK)?;
        reaches(pod.pod(), far.ip(0)?)?;
        let tags = tags_of_ping(&mut capture, pod)?;
        ensure!(tags == [Tag { priority: 3, ..q(100) }], "{tags:?}");
    }
    Ok(())
}

fn p20_vlan_shared_add_that_fails_leaves_nothing(case: &Case) -> Result<()> {
    let [node, _far] = nodes(case)?;
    // Two addresses, of which the gateway takes one.
    let full = shared(case, json!({ "name": "full", "ipam": case.host_local(&["10.7.0.0/30"]) }));
    let first = Added::new(case, &node, "first", &merged(&full, json!({ "master": UPLINK, "vlanId": 7 })))?;
    let pod = case.pod("a")?;
    let add = case.attachment(&node, &pod, &full).call("ADD");
    case.unchanged(&[&node, &pod], || add.fail(100))?;
    let user = Added::new(case, &node, "user", &shared(case, json!({})))?;
    case.unchanged(&[&node, &pod], || add.fail(100))?;
    user.attachment.check(&user.result)?;
    first.attachment.check(&first.result)
}

fn p22_vlan_shared_del_without_anything(case: &Case) -> Result<()> {
    let [node, _far] = nodes(case)?;
    let before = case.snapshot(&[&node])?;
    let a = Added::new(case, &node, "a", &shared(case, json!({})))?;
    let del = a.attachment.call("DEL").without("CNI_NETNS");
    // The runtime has given the namespace back already, and the configuration has been changed since.
    drop(a);
    let conf = conf(case, json!({ "master": "gone" }));
    del.clone().conf(&conf).succeed()?;
    before.ensure_same(&case.snapshot(&[&node])?)?;
    del.succeed().map(drop)
}

fn p24_vlan_shared_gc_removes_dead_users(case: &Case) -> Result<()> {
    let [node, _far] = nodes(case)?;
    let conf = shared(case, json!({}));
    let (stays, dies) = (Added::new(case, &node, "a", &conf)?, Added::new(case, &node, "b", &conf)?);
    let ipam = case.host_local(&["10.7.0.128/25"]);
    let other = Added::new(case, &node, "c", &merged(&conf, json!({ "name": "other", "ipam": ipam })))?;
    let own = |pods: &[&Added]| -> Result<()> {
        let valid: Vec<Value> =
            pods.iter().map(|pod| json!({ "containerID": pod.attachment.container, "ifname": "eth0" })).collect();
        let conf = merged(&conf, json!({ "cni.dev/valid-attachments": valid }));
        case.call(&node, "vlan", "GC").conf(&conf).succeed().map(drop)
    };
    // Its namespace goes without a DEL, and the macvlan with it; what it was to the device stays.
    drop(dies);
    own(&[&stays])?;
    ensure!(users(&node, "uplink.100")? == [stays.attachment.label(), other.attachment.label()], "wrong users");
    ensure!(case.lease_names("net")? == ["10.7.0.2"], "leases: {:?}", case.lease_names("net")?);
    stays.attachment.check(&stays.result)?;
    drop(stays);
    own(&[])?;
    ensure!(users(&node, "uplink.100")? == [other.attachment.label()], "wrong users");
    other.attachment.check(&other.result)?;
    other.attachment.del()?;
    ensure!(node.find("uplink.100")?.is_none(), "the device is left");
    // A device that an ADD was killed over, before it had a user.
    make(&node, "uplink.100")?;
    crate::cni::tool(&node, "ip", &["link", "set", "dev", "uplink.100", "alias", "podwire:net::"])?;
    own(&[])?;
    ensure!(node.find("uplink.100")?.is_none(), "the device without users is left");
    Ok(())
}
