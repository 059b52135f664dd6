//! CHECK names what was changed behind its back; STATUS says what an ADD would meet; DEL and GC leave nothing.

use anyhow::{Context, Result, ensure};
use netlink_packet_route::link::VlanProtocol;
use rtnetlink::LinkVlan;
use serde_json::{Value, json};

use super::{Added, NEEDS, SHARED, UPLINK, conf, nodes, shared};
use crate::cni::tool;
use crate::lab::Space;
use crate::runner::{Case, Feature, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p23_vlan_check_passes_for_every_option, "right after ADD, and changes nothing")
        .needs(SHARED)
        .ours()
        .limit(120),
    test!(p23_vlan_check_names_what_differs, "id, protocol, parent, flags, both maps, MTU, MAC, type")
        .needs(NEEDS)
        .ours()
        .limit(120),
    test!(p23_vlan_shared_check_names_what_differs, "the device, its users, its options, what is below the pod's link")
        .needs(SHARED)
        .ours()
        .limit(120),
    test!(p22_vlan_del_is_repeatable, "without a netns, without the parent, twice").needs(NEEDS),
    test!(p20_vlan_add_that_fails_leaves_nothing, "no address left, code 100").needs(NEEDS),
    test!(p24_vlan_gc_frees_what_vanished_pods_had, "leases; the id is free again").needs(NEEDS).ours(),
    test!(p25_vlan_status, "50 without the parent, with one that is down; silent otherwise").needs(SHARED).ours(),
    test!(p25_vlan_status_knows_the_kernel, "50 naming the type where the kernel lacks it").ours(),
];

fn p23_vlan_check_passes_for_every_option(case: &Case) -> Result<()> {
    let options = [
        json!({}),
        json!({ "vlanId": 0 }),
        json!({ "mtu": 1400 }),
        json!({ "protocol": "802.1AD" }),
        json!({ "ingressQosMap": { "1": 2, "3": 4, "5": 0 }, "egressQosMap": { "0": 1, "7": 7, "8": 0, "4294967295": 3 } }),
        json!({ "reorderHeader": false }),
        json!({ "ipam": null }),
        json!({ "ipam": null, "cniVersion": "0.4.0" }),
        json!({ "shared": true }),
        json!({ "shared": true, "mtu": 1400, "egressQosMap": { "0": 1, "7": 7 } }),
        json!({ "shared": true, "master": null }),
        json!({ "master": null }),
    ];
    for extra in options {
        let [node, _far] = nodes(case)?;
        node.address(UPLINK, "192.0.2.1/24")?;
        node.route("0.0.0.0/0", "192.0.2.9".parse()?)?;
        let conf = merged(&conf(case, json!({ "cniVersion": "1.1.0" })), extra.clone());
        let a = Added::new(case, &node, "a", &conf)?;
        case.unchanged(&[&node, a.pod()], || a.attachment.check(&a.result)).with_context(|| extra.to_string())?;
        a.attachment.del()?;
    }
    Ok(())
}

/// Something done behind the plugin's back: what it is called, what is done on the node and in the pod, what CHECK says.
type Damage<'a> = (&'a str, &'a dyn Fn(&Space, &Space) -> Result<()>, &'a [&'a str]);

/// For each, a fresh pod: ADD, CHECK, the damage, CHECK with code 102 and the words.
fn each(case: &Case, conf: &Value, damages: &[Damage]) -> Result<()> {
    for (what, damage, words) in damages {
        let attempt = || -> Result<()> {
            let [node, _far] = nodes(case)?;
            node.change(UPLINK, |link| link.address(vec![2, 0, 0, 0, 7, 1]))?;
            let a = Added::new(case, &node, "a", conf)?.checked()?;
            damage(&node, a.pod())?;
            let check = a.attachment.check_call(&a.result);
            case.unchanged(&[&node, a.pod()], || check.fail(102))?.says(words)?;
            a.attachment.del()
        };
        attempt().with_context(|| (*what).to_owned())?;
    }
    Ok(())
}

/// Puts another link in the place of the pod's, with its MAC address and MTU.
fn replace(pod: &Space, make: impl FnOnce() -> Result<()>) -> Result<()> {
    pod.delete("eth0")?;
    make()?;
    pod.change("eth0", |link| link.address(vec![2, 0, 0, 0, 7, 1]).mtu(1400).up())
}

/// The same with a VLAN device.
fn replace_by_vlan(node: &Space, pod: &Space, parent: &str, id: u16, ad: bool) -> Result<()> {
    let protocol = if ad { VlanProtocol::Ieee8021Ad } else { VlanProtocol::Ieee8021Q };
    let link = LinkVlan::new("eth0", node.link(parent)?.index, id).protocol(protocol).setns_by_fd(pod.ns.fd());
    replace(pod, || node.add("eth0", link.build()))
}

fn set(space: &Space, link: &str, words: &[&str]) -> Result<()> {
    let words: Vec<&str> = ["link", "set", "dev", link, "type", "vlan"].iter().chain(words).copied().collect();
    tool(space, "ip", &words).map(drop)
}

fn p23_vlan_check_names_what_differs(case: &Case) -> Result<()> {
    let maps = json!({ "ingressQosMap": { "3": 5 }, "egressQosMap": { "0": 3 } });
    let conf = merged(&conf(case, maps), json!({ "cniVersion": "1.1.0", "ipam": null, "mtu": 1400 }));
    each(
        case,
        &conf,
        &[
            ("the id", &|node, pod| replace_by_vlan(node, pod, UPLINK, 101, false), &["eth0", "vlanId", "100", "101"]),
            (
                "the protocol",
                &|node, pod| replace_by_vlan(node, pod, UPLINK, 100, true),
                &["eth0", "protocol", "802.1ad"],
            ),
            (
                "the header",
                &|_, pod| set(pod, "eth0", &["reorder_hdr", "off"]),
                &["eth0", "reorderHeader", "true", "false"],
            ),
            (
                "egress",
                &|_, pod| set(pod, "eth0", &["egress-qos-map", "0:4", "6:1"]),
                &["egressQosMap", "0:3", "0:4 6:1"],
            ),
            ("ingress", &|_, pod| set(pod, "eth0", &["ingress-qos-map", "3:0"]), &["ingressQosMap", "3:5", "none"]),
            ("the MTU", &|_, pod| pod.change("eth0", |link| link.mtu(1300)), &["eth0", "MTU", "1400", "1300"]),
            ("the MAC", &|_, pod| pod.change("eth0", |link| link.address(vec![2, 0, 0, 0, 7, 2])), &["eth0", "MAC"]),
            ("down", &|_, pod| pod.down("eth0"), &["eth0", "up", "down"]),
            ("gone", &|_, pod| pod.delete("eth0"), &["eth0", "none"]),
            ("another type", &|_, pod| replace(pod, || pod.add_bridge("eth0")), &["eth0", "a vlan", "bridge"]),
        ],
    )?;
    // The parent: another link of the node, whose VLAN is the same in all else.
    let [node, _far] = nodes(case)?;
    node.add_bridge("other")?;
    node.up("other")?;
    node.change(UPLINK, |link| link.address(vec![2, 0, 0, 0, 7, 1]))?;
    let conf = merged(&conf, json!({ "ingressQosMap": null, "egressQosMap": null }));
    let a = Added::new(case, &node, "a", &conf)?.checked()?;
    replace_by_vlan(&node, a.pod(), "other", 100, false)?;
    a.attachment.check_call(&a.result).fail(102)?.says(&["eth0", "parent", UPLINK]).map(drop)
}

fn p23_vlan_shared_check_names_what_differs(case: &Case) -> Result<()> {
    let conf = shared(case, json!({ "ipam": null, "egressQosMap": { "0": 3 } }));
    let user = "podwire:net:container-a:eth0";
    each(
        case,
        &conf,
        &[
            ("its user", &|node, _| altname(node, "del", "uplink.100", user), &[user]),
            (
                "egress",
                &|node, _| set(node, "uplink.100", &["egress-qos-map", "0:4"]),
                &["uplink.100", "egressQosMap", "0:4"],
            ),
            ("down", &|node, _| node.down("uplink.100"), &["uplink.100", "up", "down"]),
            ("gone", &|node, _| node.delete("uplink.100"), &["eth0", "none"]),
            (
                "another device",
                &|node, _| {
                    altname(node, "del", "uplink.100", user)?;
                    node.add_bridge("other")?;
                    altname(node, "add", "other", user)
                },
                &["eth0", "parent", "other"],
            ),
        ],
    )
}

fn altname(node: &Space, verb: &str, link: &str, name: &str) -> Result<()> {
    tool(node, "ip", &["link", "property", verb, "dev", link, "altname", name]).map(drop)
}

fn p22_vlan_del_is_repeatable(case: &Case) -> Result<()> {
    let [node, _far] = nodes(case)?;
    let before = case.snapshot(&[&node])?;
    for step in ["plain", "again", "without a netns", "without the parent"] {
        let a = Added::new(case, &node, "a", &conf(case, json!({}))).context(step)?;
        let del = a.attachment.call("DEL");
        if step == "without the parent" {
            node.delete(UPLINK)?;
            a.attachment.del()?;
            let leases = case.lease_names("net")?;
            ensure!(leases.is_empty(), "leases left: {leases:?}");
            break;
        }
        if step == "without a netns" {
            del.without("CNI_NETNS").succeed()?
        } else {
            del.succeed()?
        };
        if step == "again" {
            a.attachment.del()?;
        }
        drop(a);
        before.ensure_same(&case.snapshot(&[&node])?).context(step)?;
    }
    Ok(())
}

fn p20_vlan_add_that_fails_leaves_nothing(case: &Case) -> Result<()> {
    let [node, _far] = nodes(case)?;
    let full = conf(case, json!({ "ipam": case.host_local(&["10.7.0.0/30"]) }));
    let first = Added::new(case, &node, "first", &full)?.checked()?;
    let pod = case.pod("a")?;
    let second = case.attachment(&node, &pod, &merged(&full, json!({ "vlanId": 101 })));
    case.unchanged(&[&node, &pod], || second.call("ADD").fail_somehow())?;
    first.attachment.check(&first.result)
}

fn p24_vlan_gc_frees_what_vanished_pods_had(case: &Case) -> Result<()> {
    let [node, _far] = nodes(case)?;
    let conf = conf(case, json!({ "cniVersion": "1.1.0" }));
    let gone = Added::new(case, &node, "gone", &conf)?;
    let stays = Added::new(case, &node, "stays", &merged(&conf, json!({ "vlanId": 101 })))?;
    drop(gone);
    let valid = json!([{ "containerID": stays.attachment.container, "ifname": "eth0" }]);
    let gc = merged(&conf, json!({ "cni.dev/valid-attachments": valid }));
    case.call(&node, "vlan", "GC").conf(&gc).succeed()?;
    ensure!(case.lease_names("net")? == ["10.7.0.3"], "leases: {:?}", case.lease_names("net")?);
    stays.attachment.check(&stays.result)?;
    Added::new(case, &node, "next", &conf)?.checked().map(drop)
}

fn p25_vlan_status(case: &Case) -> Result<()> {
    let [node, _far] = nodes(case)?;
    let status = |extra: Value| case.call(&node, "vlan", "STATUS").conf(&shared(case, extra));
    case.unchanged(&[&node], || status(json!({})).succeed())?;
    status(json!({ "shared": false, "linkInContainer": true, "master": "eth0" })).succeed()?;
    status(json!({ "master": "eth7" })).fail(50)?.says(&["master", "\"eth7\""])?;
    status(json!({ "master": null })).fail(50)?.says(&["master", "default route"])?;
    node.down(UPLINK)?;
    status(json!({})).fail(50)?.says(&[UPLINK, "down"]).map(drop)
}

fn p25_vlan_status_knows_the_kernel(case: &Case) -> Result<()> {
    let [node, _far] = nodes(case)?;
    let conf = conf(case, json!({ "cniVersion": "1.1.0" }));
    let status = case.call(&node, "vlan", "STATUS").conf(&conf);
    if Feature::Vlan.is_here() {
        return status.succeed().map(drop);
    }
    status.fail(50)?.says(&["\"vlan\"", "EOPNOTSUPP", "module"])?;
    let pod = case.pod("a")?;
    let add = case.attachment(&node, &pod, &conf).call("ADD");
    case.unchanged(&[&node, &pod], || add.fail(104))?.says(&["EOPNOTSUPP", "module"]).map(drop)
}
