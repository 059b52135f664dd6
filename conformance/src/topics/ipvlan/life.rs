//! All six commands on ipvlan: what CHECK sees, what DEL and GC leave, what a failed ADD leaves, what STATUS says.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use netlink_packet_route::link::IpVlanMode;
use rtnetlink::{LinkIpVlan, LinkMessageBuilder, LinkUnspec};
use serde_json::{Value, json};

use super::{Lan, OUTSIDE, Pod, conf};
use crate::cni::{Call, tool};
use crate::lab::{Space, cable};
use crate::packets::reaches;
use crate::runner::{Case, Feature, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p23_ipvlan_check_passes_for_every_option, "right after ADD, and changes nothing")
        .needs(&[Feature::IpvlanL3s])
        .limit(60),
    test!(p23_ipvlan_check_names_what_differs, "mode, flag, MTU, parent, type, address, route, link")
        .needs(&[Feature::Ipvlan])
        .ours()
        .limit(120),
    test!(p22_ipvlan_del_is_content_with_little, "twice, without pod, without parent, without everything")
        .needs(&[Feature::Ipvlan]),
    test!(p24_ipvlan_gc_removes_what_has_no_attachment, "the leases of pods that vanished; the others stay")
        .needs(&[Feature::Ipvlan])
        .ours(),
    test!(p20_ipvlan_that_fails_late_leaves_nothing, "no address left, a route that cannot be")
        .needs(&[Feature::Ipvlan]),
    test!(p07_ipvlan_takes_no_name_that_is_taken, "code 105, and the link that was there is untouched")
        .needs(&[Feature::Ipvlan])
        .ours(),
    test!(p25_ipvlan_status_knows_its_parent, "one that is not there, too small, of another mode")
        .needs(&[Feature::Ipvlan])
        .ours(),
    test!(p25_ipvlan_status_knows_the_kernel, "50 where it has no such links, and ADD says 104").ours(),
    test!(p05_ipvlan_refuses_what_cannot_be, "modes, flags, and what contradicts itself").ours(),
    test!(ipvlan_is_what_the_reference_makes, "the same result, the same link")
        .needs(&[Feature::Ipvlan, Feature::Reference])
        .ours()
        // The reference waits for duplicate-address detection.
        .limit(120),
];

fn p23_ipvlan_check_passes_for_every_option(case: &Case) -> Result<()> {
    let options = [
        json!({}),
        json!({ "mode": "" }),
        json!({ "mode": "l3" }),
        json!({ "mode": "l3s" }),
        json!({ "mtu": 1400 }),
        json!({ "flag": "bridge", "mode": "l3" }),
        json!({ "ipam": case.host_local(&["10.7.0.0/24"]) }),
    ];
    let lan = Lan::new(case)?;
    for extra in options {
        let pod = lan.pod(case, "a", &merged(&conf(case, "l2"), extra.clone()))?;
        let check = || case.unchanged(&[&lan.node, pod.space()], || pod.check());
        check().with_context(|| extra.to_string())?;
        pod.attachment.del()?;
    }
    Ok(())
}

/// Something done behind the plugin's back: what it is called, what is done, what CHECK has to say.
type Damage<'a> = (&'a str, &'a dyn Fn(&Lan, &Pod) -> Result<()>, &'a [&'a str]);

fn add_beside(lan: &Lan, mode: IpVlanMode) -> Result<()> {
    lan.node.add("beside", LinkIpVlan::new("beside", lan.node.link("eth1")?.index, mode).build())
}

fn p23_ipvlan_check_names_what_differs(case: &Case) -> Result<()> {
    let damages: &[Damage] = &[
        ("mode", &|lan, _| add_beside(lan, IpVlanMode::L3), &["eth0", "mode", "l2", "l3"]),
        (
            "flag",
            &|lan, _| {
                let args = ["link", "add", "link", "eth1", "name", "beside", "type", "ipvlan", "mode", "l2", "private"];
                tool(&lan.node, "ip", &args).map(drop)
            },
            &["eth0", "mode", "l2 private"],
        ),
        ("MTU", &|_, pod| pod.space().change("eth0", |link| link.mtu(1300)), &["eth0", "MTU", "1400", "1300"]),
        (
            "parent",
            &|lan, _| {
                lan.node.down("eth1")?;
                lan.node.change("eth1", |link| link.name("old".to_owned()))?;
                lan.plug_in(&lan.node, "eth1", "port3")
            },
            &["eth0", "parent", "eth1", "old"],
        ),
        (
            "no parent of that name",
            &|lan, _| {
                lan.node.down("eth1")?;
                lan.node.change("eth1", |link| link.name("old".to_owned()))
            },
            &["eth0", "parent", "eth1"],
        ),
        ("link", &|_, pod| pod.space().delete("eth0"), &["eth0"]),
        ("link down", &|_, pod| pod.space().down("eth0"), &["eth0"]),
        ("address", &|_, pod| pod.space().remove_address("eth0", pod.ip()?), &["address", "10.7.0."]),
        ("route", &|_, pod| pod.space().remove_route("0.0.0.0/0"), &["0.0.0.0/0"]),
    ];
    for (what, damage, words) in damages {
        let attempt = || -> Result<()> {
            let lan = Lan::new(case)?;
            let pod = lan.pod(case, "a", &merged(&conf(case, "l2"), json!({ "mtu": 1400 })))?;
            pod.check()?;
            damage(&lan, &pod)?;
            let check = pod.attachment.check_call(&pod.result);
            case.unchanged(&[&lan.node, pod.space()], || check.fail(102))?.says(words)?;
            pod.attachment.del()
        };
        attempt().with_context(|| (*what).to_owned())?;
    }
    type_differs(case)
}

/// Another device under the pod's name, with all that belongs to it.
fn type_differs(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let pod = lan.pod(case, "a", &merged(&conf(case, "l2"), json!({ "ipam": null })))?;
    let mac = crate::lab::mac_bytes(&pod.space().link("eth0")?.mac)?;
    pod.space().delete("eth0")?;
    pod.space().add_bridge("eth0")?;
    pod.space().change("eth0", |link: LinkMessageBuilder<LinkUnspec>| link.address(mac.to_vec()).up())?;
    pod.attachment.check_call(&pod.result).fail(102)?.says(&["eth0", "ipvlan", "bridge"]).map(drop)
}

fn p22_ipvlan_del_is_content_with_little(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let before = case.snapshot(&[&lan.node])?;
    let pod = lan.pod(case, "a", &conf(case, "l2"))?;
    pod.attachment.del()?;
    ensure!(pod.space().find("eth0")?.is_none(), "eth0 is left");
    pod.attachment.del()?;
    let gone = lan.pod(case, "gone", &conf(case, "l2"))?;
    gone.attachment.call("DEL").env("CNI_NETNS", "/run/netns/gone").succeed()?;
    let unnamed = lan.pod(case, "unnamed", &conf(case, "l2"))?;
    unnamed.attachment.call("DEL").without("CNI_NETNS").succeed()?;
    ensure!(case.lease_names("net")?.is_empty(), "leases: {:?}", case.lease_names("net")?);
    before.ensure_same(&case.snapshot(&[&lan.node])?)?;
    // With the parent the kernel takes away what sits on it.
    let orphan = lan.pod(case, "orphan", &conf(case, "l2"))?;
    lan.node.delete("eth1")?;
    ensure!(orphan.space().find("eth0")?.is_none(), "eth0 has outlived its parent");
    orphan.attachment.del()?;
    ensure!(case.lease_names("net")?.is_empty(), "leases: {:?}", case.lease_names("net")?);
    Ok(())
}

fn p24_ipvlan_gc_removes_what_has_no_attachment(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let conf = merged(&conf(case, "l2"), json!({ "cniVersion": "1.1.0" }));
    let stays = lan.pod(case, "stays", &conf)?;
    let goes = lan.pod(case, "goes", &conf)?;
    ensure!(case.lease_names("net")?.len() == 4, "leases: {:?}", case.lease_names("net")?);
    drop(goes);
    let valid = json!([{ "containerID": stays.attachment.container, "ifname": "eth0" }]);
    let gc = case.call(&lan.node, "ipvlan", "GC").conf(&merged(&conf, json!({ "cni.dev/valid-attachments": valid })));
    gc.succeed()?;
    stays.check()?;
    let left: Vec<String> = stays.ips()?.iter().map(ToString::to_string).collect();
    ensure!(case.lease_names("net")? == left, "leases: {:?}, expected {left:?}", case.lease_names("net")?);
    reaches(stays.space(), OUTSIDE[0].parse()?)?;
    gc.succeed().map(drop)
}

fn p20_ipvlan_that_fails_late_leaves_nothing(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let small = case.host_local(&["10.7.0.0/30"]);
    let full = merged(&conf(case, "l2"), json!({ "name": "full", "ipam": small }));
    let first = lan.pod(case, "first", &full)?;
    let pod = case.pod("a")?;
    let add = case.attachment(&lan.node, &pod, &full).call("ADD");
    case.unchanged(&[&lan.node, &pod], || add.fail_somehow())?;
    let nowhere = json!({ "ipam": { "routes": [{ "dst": "192.0.2.0/24", "gw": "172.31.0.1" }] } });
    let add = case.attachment(&lan.node, &pod, &merged(&conf(case, "l2"), nowhere)).call("ADD");
    case.unchanged(&[&lan.node, &pod], || add.fail_somehow())?;
    first.check()
}

fn p07_ipvlan_takes_no_name_that_is_taken(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let pod = case.pod("a")?;
    cable(&lan.outside, "veth", &pod, "eth0")?;
    let add = case.attachment(&lan.node, &pod, &conf(case, "l2")).call("ADD");
    case.unchanged(&[&lan.node, &pod], || add.fail(105))?.says(&["eth0"])?;
    // A name that the node has too is nobody's there.
    let other = case.attachment(&lan.node, &pod, &conf(case, "l2")).ifname("eth1");
    other.add()?;
    ensure!(pod.link("eth1")?.kind == "ipvlan" && lan.node.link("eth1")?.kind == "veth", "{:?}", pod.links()?);
    other.del()
}

fn status(case: &Case, node: &Space, conf: &Value) -> Call {
    case.call(node, "ipvlan", "STATUS").conf(&merged(conf, json!({ "cniVersion": "1.1.0" })))
}

fn p25_ipvlan_status_knows_its_parent(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let conf = conf(case, "l2");
    let output = case.unchanged(&[&lan.node], || status(case, &lan.node, &conf).run())?;
    output.success()?;
    ensure!(output.stdout.trim().is_empty(), "it printed {}", output.stdout);
    let with = |extra: Value| status(case, &lan.node, &merged(&conf, extra));
    with(json!({ "master": "eth9" })).fail(50)?.says(&["eth9"])?;
    with(json!({ "master": null })).fail(50)?.says(&["default route"])?;
    with(json!({ "mtu": 9000 })).fail(50)?.says(&["9000", "eth1"])?;
    // A parent in a pod is there when the pod is.
    with(json!({ "master": "eth9", "linkInContainer": true })).succeed()?;
    let _pod = lan.pod(case, "a", &conf)?;
    with(json!({})).succeed()?;
    with(json!({ "mode": "l3" })).fail(50)?.says(&["eth1", "l2", "l3", "container-a"]).map(drop)
}

fn p25_ipvlan_status_knows_the_kernel(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let (conf, pod) = (conf(case, "l2"), case.pod("a")?);
    let (status, add) = (status(case, &lan.node, &conf), case.attachment(&lan.node, &pod, &conf).call("ADD"));
    if Feature::Ipvlan.is_here() {
        status.succeed()?;
        return add.succeed().map(drop);
    }
    case.unchanged(&[&lan.node], || status.fail(50))?.says(&["ipvlan", "EOPNOTSUPP", "kernel lacks"])?;
    case.unchanged(&[&lan.node, &pod], || add.fail(104))?.says(&["EOPNOTSUPP", "kernel lacks"]).map(drop)
}

fn p05_ipvlan_refuses_what_cannot_be(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let pod = case.pod("a")?;
    let rows: [(Value, u64, &[&str]); 7] = [
        (json!({ "mode": "l4" }), 7, &["mode", "l4", "l3s"]),
        (json!({ "mode": 3 }), 6, &["mode"]),
        (json!({ "flag": "public" }), 7, &["flag", "public", "private"]),
        (json!({ "mtu": "large" }), 6, &["mtu"]),
        (json!({ "hostAccess": true, "linkInContainer": true }), 7, &["hostAccess", "linkInContainer"]),
        (json!({ "hostAccess": true, "flag": "vepa" }), 7, &["hostAccess", "flag"]),
        (json!({ "hostAccess": true, "ipam": null }), 7, &["hostAccess", "ipam"]),
    ];
    for (extra, code, words) in rows {
        let add = case.attachment(&lan.node, &pod, &conf(case, "l2")).with(extra.clone()).call("ADD");
        let failure = case.unchanged(&[&lan.node, &pod], || add.fail(code));
        failure.and_then(|failure| failure.says(words).map(drop)).with_context(|| extra.to_string())?;
    }
    Ok(())
}

/// What `ip -d link` says of the pod's link, without what is each link's own: its number, that of the parent's
/// namespace, and the alias by which ours is told from others. The length of a queue that such a device has not is the
/// kernel's with ours, and 0 with the reference.
fn described(pod: &Space) -> Result<Vec<String>> {
    let text = tool(pod, "ip", &["-d", "link", "show", "eth0"])?;
    let words = text.split_whitespace().skip(1).map(|word| if word.starts_with("eth0@") { "eth0" } else { word });
    let words: Vec<String> = words.map(str::to_owned).collect();
    let mut kept = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if ["alias", "link-netnsid", "qlen"].contains(&word.as_str()) {
            words.next();
        } else {
            kept.push(word);
        }
    }
    Ok(kept)
}

fn ipvlan_is_what_the_reference_makes(case: &Case) -> Result<()> {
    let options = [
        json!({}),
        json!({ "mode": "l3" }),
        json!({ "mode": "l3s" }),
        json!({ "mtu": 1400 }),
        json!({ "master": null }),
    ];
    for extra in options {
        let lan = Lan::new(case)?;
        lan.node.route("0.0.0.0/0", OUTSIDE[0].parse()?)?;
        // One default route, through which the reference finds the parent too.
        let extra = merged(&extra, json!({ "ipam": { "routes": [{ "dst": "192.0.2.0/24" }] } }));
        let attempt = || -> Result<()> {
            let (mut results, mut links) = (Vec::new(), Vec::new());
            for cni_path in [case.cni_path.as_path(), Path::new("/usr/lib/cni")] {
                let case = Case { cni_path: cni_path.to_owned(), ..case.clone() };
                let pod = lan.pod(&case, "a", &merged(&conf(&case, "l2"), extra.clone()))?;
                links.push(described(pod.space())?);
                pod.attachment.del()?;
                results.push(pod.result);
            }
            ensure!(links[0] == links[1], "ours:\n{:?}\nreference:\n{:?}", links[0], links[1]);
            let [ours, reference] = [0, 1].map(|n| comparable(&results[n], extra["mode"].as_str()));
            ensure!(ours == reference, "ours:\n{ours}\nreference:\n{reference}");
            Ok(())
        };
        attempt().with_context(|| extra.to_string())?;
    }
    Ok(())
}

/// A result without what has to differ: where the pod is, which address it got, and, in the modes without a next hop,
/// the gateway that the reference names all the same.
fn comparable(result: &Value, mode: Option<&str>) -> Value {
    let mut result = result.clone();
    result["interfaces"][0]["sandbox"] = Value::Null;
    for ip in result["ips"].as_array_mut().into_iter().flatten() {
        ip["address"] = Value::Null;
        if mode.is_some_and(|mode| mode != "l2") {
            ip["gateway"] = Value::Null;
        }
    }
    result
}
