//! What goes over the cable.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Added, LIMIT, NEEDS, UPLINK, conf, nodes, q, tags_of_ping};
use crate::lab::{Space, mac_bytes};
use crate::packets::{Capture, Ping, Tag, arp_request, inject, isolated, reaches};
use crate::runner::{Case, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p28_vlan_tags_what_a_pod_sends, "ids 1, 100 and 4094 in captured frames").needs(NEEDS),
    test!(p28_vlan_ids_do_not_hear_each_other, "two ids on one parent, and a control of the same id on another node")
        .needs(NEEDS),
    test!(p28_vlan_id_0_tags_with_a_priority_only, "vlanId 0").needs(NEEDS),
    test!(p28_vlan_802_1ad_has_its_own_tag, "protocol, which does not hear 802.1Q of the same id").needs(NEEDS).ours(),
    test!(p28_vlan_802_1q_inside_802_1ad, "a vlan on a vlan in the pod: both tags in captured frames")
        .needs(NEEDS)
        .ours(),
    test!(p28_vlan_egress_qos_map, "the tag's priority by the packet's").needs(NEEDS).ours(),
    test!(p28_vlan_ingress_qos_map, "the packet's priority by the tag's, seen as it leaves another VLAN")
        .needs(NEEDS)
        .ours(),
    test!(vlan_reorder_header_hides_the_tag_in_the_pod, "reorderHeader on and off").needs(NEEDS).ours(),
    test!(vlan_addresses_are_announced_with_the_tag, "gratuitous ARP and neighbour advertisement").needs(NEEDS).ours(),
];

/// The pods `a` and `b` on either node, reaching each other, and the tags of an echo request of `a`.
fn tags_between(case: &Case, extra: Value) -> Result<Vec<Tag>> {
    let [n1, n2] = nodes(case)?;
    let conf = conf(case, extra);
    let a = Added::new(case, &n1, "a", &conf)?.checked()?;
    let b = Added::new(case, &n2, "b", &conf)?;
    let mut capture = Capture::on(&n2, UPLINK)?;
    reaches(a.pod(), b.ip(0)?)?;
    let tags = tags_of_ping(&mut capture, &a)?;
    a.attachment.del()?;
    b.attachment.del()?;
    ensure!(a.pod().find("eth0")?.is_none(), "DEL left the pod's link");
    Ok(tags)
}

fn p28_vlan_tags_what_a_pod_sends(case: &Case) -> Result<()> {
    for id in [1, 100, 4094] {
        let tags = tags_between(case, json!({ "vlanId": id })).with_context(|| format!("vlanId {id}"))?;
        ensure!(tags == [q(id)], "vlanId {id}: {tags:?}");
    }
    Ok(())
}

fn p28_vlan_ids_do_not_hear_each_other(case: &Case) -> Result<()> {
    let [n1, n2] = nodes(case)?;
    let [blue, green] = [100, 200].map(|id| conf(case, json!({ "vlanId": id })));
    let (blue1, green1) = (Added::new(case, &n1, "blue1", &blue)?, Added::new(case, &n1, "green1", &green)?);
    let (blue2, green2) = (Added::new(case, &n2, "blue2", &blue)?, Added::new(case, &n2, "green2", &green)?);
    // All are of one subnet, so that nothing but the id is between them.
    reaches(blue1.pod(), blue2.ip(0)?)?;
    reaches(green1.pod(), green2.ip(0)?)?;
    isolated(blue1.pod(), green1.ip(0)?)?;
    isolated(blue1.pod(), green2.ip(0)?)?;
    isolated(green2.pod(), blue1.ip(0)?)
}

fn p28_vlan_id_0_tags_with_a_priority_only(case: &Case) -> Result<()> {
    let tags = tags_between(case, json!({ "vlanId": 0 }))?;
    ensure!(tags == [q(0)], "{tags:?}");
    Ok(())
}

fn p28_vlan_802_1ad_has_its_own_tag(case: &Case) -> Result<()> {
    let tags = tags_between(case, json!({ "protocol": "802.1ad" }))?;
    ensure!(tags == [Tag { protocol: Tag::AD, ..q(100) }], "{tags:?}");

    let [n1, n2] = nodes(case)?;
    let [customer, service] = ["802.1q", "802.1ad"].map(|protocol| conf(case, json!({ "protocol": protocol })));
    // The id is free for each protocol.
    let (a, b) = (Added::new(case, &n1, "a", &customer)?, Added::new(case, &n1, "b", &service)?);
    let (c, d) = (Added::new(case, &n2, "c", &customer)?, Added::new(case, &n2, "d", &service)?);
    reaches(a.pod(), c.ip(0)?)?;
    reaches(b.pod(), d.ip(0)?)?;
    isolated(a.pod(), d.ip(0)?)
}

fn p28_vlan_802_1q_inside_802_1ad(case: &Case) -> Result<()> {
    let [n1, n2] = nodes(case)?;
    let outer = conf(case, json!({ "protocol": "802.1ad", "vlanId": 10 }));
    let ipam = case.host_local(&["10.8.0.0/24"]);
    let inner =
        conf(case, json!({ "name": "inner", "master": "eth0", "linkInContainer": true, "vlanId": 20, "ipam": ipam }));
    let stacked = |node: &Space, name: &str| -> Result<Added> {
        let pod = Added::new(case, node, name, &outer)?;
        let attachment = case.attachment(node, pod.pod(), &inner).ifname("net1");
        let result = attachment.add()?;
        Added { attachment, result }.checked()
    };
    let (a, b) = (stacked(&n1, "a")?, stacked(&n2, "b")?);
    let mut capture = Capture::on(&n2, UPLINK)?;
    reaches(a.pod(), b.ip(0)?)?;
    let tags = tags_of_ping(&mut capture, &a)?;
    ensure!(tags == [Tag { protocol: Tag::AD, ..q(10) }, q(20)], "{tags:?}");
    // Two tags, and still all of the MTU.
    let largest = Ping { size: 1472, dont_fragment: true, ..Ping::default() };
    ensure!(largest.run(a.pod(), b.ip(0)?)?.times.len() == 1, "1500 bytes do not pass");
    a.attachment.del()
}

/// The priority in the tag of an echo request that the pod sends with this one of its own.
fn priority_sent(capture: &mut Capture, pod: &Added, to: IpAddr, priority: i32) -> Result<u8> {
    let ping = Ping { priority, ..Ping::default() };
    ensure!(ping.run(pod.pod(), to)?.times.len() == 1, "no answer with priority {priority}");
    let tags = tags_of_ping(capture, pod)?;
    ensure!(tags.len() == 1, "{tags:?}");
    Ok(tags[0].priority)
}

fn p28_vlan_egress_qos_map(case: &Case) -> Result<()> {
    let [n1, n2] = nodes(case)?;
    let map = json!({ "0": 3, "1": 7, "6": 5, "100": 2 });
    let a = Added::new(case, &n1, "a", &conf(case, json!({ "egressQosMap": map })))?.checked()?;
    let plain = Added::new(case, &n2, "b", &conf(case, json!({})))?;
    reaches(a.pod(), plain.ip(0)?)?;
    for (priority, wanted) in [(0, 3), (1, 7), (6, 5), (100, 2), (2, 0)] {
        let mut capture = Capture::on(&n2, UPLINK)?;
        let sent = priority_sent(&mut capture, &a, plain.ip(0)?, priority)?;
        ensure!(sent == wanted, "priority {priority}: {sent} in the tag, not {wanted}");
    }
    // The control: without a map it is 0 whatever the packet's is.
    let mut capture = Capture::on(&n1, UPLINK)?;
    ensure!(priority_sent(&mut capture, &plain, a.ip(0)?, 6)? == 0, "a priority that nobody asked for");
    Ok(())
}

/// A packet's own priority is not to be seen from outside. So a bridge in the pod, which keeps it, takes frames from one
/// VLAN to another whose egress map shows each in the tag.
fn p28_vlan_ingress_qos_map(case: &Case) -> Result<()> {
    let [n1, n2] = nodes(case)?;
    let pod = case.pod("a")?;
    pod.add_bridge("br0")?;
    pod.up("br0")?;
    let ports = [
        ("eth0", json!({ "vlanId": 10, "ipam": null, "ingressQosMap": { "3": 5, "4": 6 } })),
        ("net1", json!({ "name": "out", "vlanId": 20, "ipam": null, "egressQosMap": { "0": 1, "5": 7, "6": 2 } })),
    ];
    for (ifname, extra) in ports {
        let attachment = case.attachment(&n1, &pod, &conf(case, extra)).ifname(ifname);
        let result = attachment.add()?;
        attachment.check(&result)?;
        pod.plug("br0", ifname)?;
    }
    let mac = "02:00:00:00:07:07";
    let frame = |priority: u16| -> Result<Vec<u8>> {
        let mut frame = arp_request(mac_bytes(mac)?, "10.7.0.2".parse()?, "10.7.0.250".parse()?);
        let [high, low] = (priority << 13 | 10).to_be_bytes();
        frame.splice(12..12, [0x81, 0x00, high, low]);
        Ok(frame)
    };
    for (received, wanted) in [(3, 7), (4, 2), (0, 1), (7, 1)] {
        let mut capture = Capture::on(&n2, UPLINK)?;
        inject(&n2, UPLINK, &frame(received)?)?;
        let out = capture.expect(LIMIT, "frame of VLAN 20", |frame| frame.from == mac && frame.vlan == Some(20))?;
        let sent = out.tags[0].priority;
        ensure!(sent == wanted, "priority {received} came, {sent} left, not {wanted}");
    }
    Ok(())
}

fn vlan_reorder_header_hides_the_tag_in_the_pod(case: &Case) -> Result<()> {
    for (reorder, tags) in [(true, vec![]), (false, vec![q(100)])] {
        let [n1, n2] = nodes(case)?;
        let a = Added::new(case, &n1, "a", &conf(case, json!({ "reorderHeader": reorder })))?.checked()?;
        let b = Added::new(case, &n2, "b", &conf(case, json!({})))?;
        let mut capture = Capture::on(a.pod(), "eth0")?;
        reaches(b.pod(), a.ip(0)?)?;
        let seen = tags_of_ping(&mut capture, &b)?;
        ensure!(seen == tags, "reorderHeader {reorder}: the pod sees {seen:?}");
        a.attachment.del()?;
        b.attachment.del()?;
    }
    Ok(())
}

fn vlan_addresses_are_announced_with_the_tag(case: &Case) -> Result<()> {
    let [n1, n2] = nodes(case)?;
    let mut capture = Capture::on(&n2, UPLINK)?;
    let conf = merged(&conf(case, json!({})), json!({ "ipam": case.host_local(&["10.7.0.0/24", "fd07::/64"]) }));
    let a = Added::new(case, &n1, "a", &conf)?;
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = (a.ip(0)?, a.ip(1)?) else {
        anyhow::bail!("one address of each family expected: {}", a.result);
    };
    let arp = capture.expect(LIMIT, "gratuitous ARP", |frame| frame.announces_v4(v4))?;
    ensure!(arp.tags == [q(100)], "{arp:?}");
    let mut capture = Capture::on(&n2, UPLINK)?;
    let b = Added::new(case, &n1, "b", &merged(&conf, json!({ "vlanId": 101 })))?;
    let IpAddr::V6(other) = b.ip(1)? else { anyhow::bail!("an IPv6 address expected") };
    let limit = Duration::from_secs(4);
    let advertisement = capture.expect(limit, "neighbour advertisement", |frame| frame.announces_v6(other))?;
    ensure!(advertisement.tags == [q(101)] && other != v6, "{advertisement:?}");
    Ok(())
}
