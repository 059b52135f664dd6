//! From the first pod of a network on a node to the last, and what goes wrong between.

use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use super::{NEEDS, Pod, Underlay, collect, network};
use crate::cni::tool;
use crate::lab::Space;
use crate::packets::reaches;
use crate::runner::{Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p12_vxlan_result_lists_bridge_device_and_port, "host side first").needs(NEEDS).ours(),
    test!(p22_vxlan_goes_with_its_last_pod, "another pod or a foreign port keeps it").needs(NEEDS).ours(),
    test!(p22_vxlan_del_is_repeatable, "without the namespace too, both places").needs(NEEDS).ours(),
    test!(p24_vxlan_gc_removes_what_has_no_pod, "whatever a crash has left; other networks stay").needs(NEEDS).ours(),
    test!(p20_vxlan_a_crash_is_repaired_by_the_next_add, "at each step of making it").needs(NEEDS).ours(),
    test!(p20_vxlan_a_late_failure_leaves_nothing, "the first pod and a later one, both places").needs(NEEDS).ours(),
    test!(p07_vxlan_a_name_that_is_taken, "both places").needs(NEEDS).ours(),
    test!(p27_vxlan_many_at_once_share_one_device, "eight pods come and go at the same time").needs(NEEDS).ours(),
    test!(p25_vxlan_status, "dev or local missing, a delegate without an address").needs(NEEDS).ours(),
    test!(p24_vxlan_gc_of_direct_touches_no_pod, "there is nothing of it on the node").needs(NEEDS).ours(),
];

const LABEL: &str = "podwire:net::";

fn p12_vxlan_result_lists_bridge_device_and_port(case: &Case) -> Result<()> {
    let underlay = Underlay::new(1, false)?;
    let node = &underlay.nodes[0];
    let pod = Pod::new(case, node, "a", "10.42.0.1", &network(json!({ "dev": "eth0" })))?;
    let interfaces = pod.result["interfaces"].as_array().context("interfaces")?;
    let names: Vec<_> = interfaces.iter().filter_map(|interface| interface["name"].as_str()).collect();
    ensure!(names.len() == 4 && names[..2] == ["br-vx42", "vx42"] && names[3] == "eth0", "{names:?}");
    ensure!(interfaces.iter().all(|interface| interface["mtu"] == 1450), "{interfaces:?}");
    for (name, kind) in [("br-vx42", "bridge"), ("vx42", "vxlan")] {
        let link = node.link(name)?;
        ensure!(link.alias.as_deref() == Some(LABEL) && link.kind == kind && link.up, "{link:?}");
    }
    let direct = network(json!({ "name": "other", "vni": 43, "attach": "direct" }));
    let direct = Pod::new(case, node, "b", "10.42.0.2", &direct)?;
    ensure!(direct.result["interfaces"].as_array().map(Vec::len) == Some(1), "{}", direct.result);
    ensure!(direct.space().link("eth0")?.kind == "vxlan", "{:?}", direct.space().link("eth0")?);
    Ok(())
}

fn p22_vxlan_goes_with_its_last_pod(case: &Case) -> Result<()> {
    let underlay = Underlay::new(1, false)?;
    let node = &underlay.nodes[0];
    let before = case.snapshot(&[node])?;
    let conf = network(json!({ "remotes": ["192.0.2.2"] }));
    let a = Pod::new(case, node, "a", "10.42.0.1", &conf)?;
    let b = Pod::new(case, node, "b", "10.42.0.2", &conf)?;
    a.attachment.del()?;
    b.attachment.check(&b.result).context("after the other pod's DEL")?;
    let other = Space::node("other")?;
    crate::lab::cable(node, "foreign", &other, "eth0")?;
    node.plug("br-vx42", "foreign")?;
    b.attachment.del()?;
    ensure!(node.find("vx42")?.is_some() && node.find("br-vx42")?.is_some(), "removed under a foreign port");
    node.delete("foreign")?;
    b.attachment.del().context("again")?;
    before.ensure_same(&case.snapshot(&[node])?)
}

fn p22_vxlan_del_is_repeatable(case: &Case) -> Result<()> {
    for attach in ["bridge", "direct"] {
        let underlay = Underlay::new(1, false)?;
        let node = &underlay.nodes[0];
        let conf = network(json!({ "attach": attach }));
        let attachment = Pod::attachment(case, node, "a", "10.42.0.1", &conf)?;
        case.unchanged(&[node, &attachment.pod], || {
            attachment.del().context("before any ADD")?;
            attachment.add()?;
            attachment.del()?;
            attachment.del().context("again")
        })?;
        case.unchanged(&[node], || {
            attachment.add()?;
            let gone = attachment.call("DEL").env("CNI_NETNS", "/nowhere").succeed();
            if attach == "direct" {
                // The device is in a namespace that only this test keeps alive.
                attachment.pod.delete("eth0")?;
            }
            gone.map(drop)
        })?;
    }
    Ok(())
}

/// What a crash leaves: the bridge, the device, both, by the commands that make them.
const HALVES: &[(&str, &[&str])] = &[
    (
        "the bridge without the device",
        &["add br-vx42 type bridge", "set br-vx42 up", "set br-vx42 alias podwire:net::"],
    ),
    ("the device without the bridge", &["add vx42 type vxlan id 42 dstport 4789", "set vx42 alias podwire:net::"]),
    (
        "both, apart",
        &[
            "add br-vx42 type bridge",
            "set br-vx42 alias podwire:net::",
            "add vx42 type vxlan id 42 dstport 4789",
            "set vx42 alias podwire:net::",
        ],
    ),
    (
        "both, the device down",
        &[
            "add br-vx42 type bridge",
            "set br-vx42 up alias podwire:net::",
            "add vx42 type vxlan id 42 dstport 4789",
            "set vx42 master br-vx42 alias podwire:net::",
        ],
    ),
];

fn crash(node: &Space, commands: &[&str]) -> Result<()> {
    for command in commands {
        let words: Vec<_> = ["link"].into_iter().chain(command.split(' ')).collect();
        tool(node, "ip", &words)?;
    }
    Ok(())
}

fn p24_vxlan_gc_removes_what_has_no_pod(case: &Case) -> Result<()> {
    let underlay = Underlay::new(1, false)?;
    let node = &underlay.nodes[0];
    let conf = network(json!({ "remotes": ["192.0.2.2"] }));
    let other = Pod::new(case, node, "o", "10.42.0.9", &network(json!({ "name": "other", "vni": 43 })))?;
    for (what, commands) in HALVES {
        case.unchanged(&[node], || {
            crash(node, commands)?;
            collect(case, node, &conf, &[]).succeed()
        })
        .with_context(|| (*what).to_owned())?;
    }
    case.unchanged(&[node], || {
        let dead = Pod::new(case, node, "a", "10.42.0.1", &conf)?;
        let alive = Pod::new(case, node, "b", "10.42.0.2", &conf)?;
        collect(case, node, &conf, &[&alive.attachment]).succeed()?;
        ensure!(dead.space().find("eth0")?.is_none(), "the dead pod still has its link");
        alive.attachment.check(&alive.result)?;
        collect(case, node, &conf, &[]).succeed()
    })?;
    // A network that has other names now is cleaned up all the same.
    case.unchanged(&[node], || {
        Pod::new(case, node, "c", "10.42.0.1", &conf)?;
        collect(case, node, &network(json!({ "vni": 99, "vxlan": "new", "bridge": "newer" })), &[]).succeed()
    })?;
    other.attachment.check(&other.result)
}

fn p20_vxlan_a_crash_is_repaired_by_the_next_add(case: &Case) -> Result<()> {
    for (what, commands) in HALVES {
        let underlay = Underlay::new(2, false)?;
        let node = &underlay.nodes[0];
        let conf = network(json!({ "remotes": underlay.addresses(), "txChecksumOffload": false, "arpSuppress": true }));
        let attempt = || -> Result<()> {
            crash(node, commands)?;
            let a = Pod::new(case, node, "a", "10.42.0.1", &conf)?;
            let b = Pod::new(case, &underlay.nodes[1], "b", "10.42.0.2", &conf)?;
            reaches(a.space(), b.ip)?;
            a.attachment.del()?;
            ensure!(node.find("vx42")?.is_none() && node.find("br-vx42")?.is_none(), "left after the last DEL");
            Ok(())
        };
        attempt().with_context(|| (*what).to_owned())?;
    }
    Ok(())
}

fn p20_vxlan_a_late_failure_leaves_nothing(case: &Case) -> Result<()> {
    let ipam = |ip: &str| -> Value {
        // No link leads to the gateway, so that the kernel refuses the route after all else is done.
        json!({ "type": "static", "addresses": [{ "address": format!("{ip}/24") }],
                "routes": [{ "dst": "192.0.2.0/24", "gw": "172.31.0.1" }] })
    };
    for attach in ["bridge", "direct"] {
        let underlay = Underlay::new(1, false)?;
        let node = &underlay.nodes[0];
        let conf = network(json!({ "attach": attach, "remotes": ["192.0.2.2"] }));
        let fails = |name: &str| -> Result<()> {
            let pod = Pod::attachment(case, node, name, "10.42.0.7", &conf)?.with(json!({ "ipam": ipam("10.42.0.7") }));
            let failure = case.unchanged(&[node, &pod.pod], || pod.call("ADD").fail_somehow())?;
            failure.says(&["172.31.0.1"]).map(drop)
        };
        fails("first")?;
        if attach == "bridge" {
            let stays = Pod::new(case, node, "stays", "10.42.0.1", &conf)?;
            fails("later")?;
            stays.attachment.check(&stays.result)?;
        }
    }
    // The bridge was there: it stays, and nothing else does.
    let underlay = Underlay::new(1, false)?;
    let node = &underlay.nodes[0];
    node.add_bridge("br-vx42")?;
    node.change("br-vx42", |link| link.address(vec![2, 0, 0, 0, 7, 1]).mtu(1450).up())?;
    let pod = Pod::attachment(case, node, "a", "10.42.0.7", &network(json!({})))?;
    let pod = pod.with(json!({ "ipam": ipam("10.42.0.7") }));
    case.unchanged(&[node, &pod.pod], || pod.call("ADD").fail_somehow()).map(drop)
}

fn p07_vxlan_a_name_that_is_taken(case: &Case) -> Result<()> {
    for attach in ["bridge", "direct"] {
        let underlay = Underlay::new(1, false)?;
        let node = &underlay.nodes[0];
        let pod = Pod::attachment(case, node, "a", "10.42.0.1", &network(json!({ "attach": attach })))?;
        pod.pod.add_bridge("eth0")?;
        case.unchanged(&[node, &pod.pod], || pod.call("ADD").fail(105))?.says(&["CNI_IFNAME", "eth0"])?;
    }
    Ok(())
}

fn p27_vxlan_many_at_once_share_one_device(case: &Case) -> Result<()> {
    const PODS: usize = 8;
    let underlay = Underlay::new(1, false)?;
    let node = &underlay.nodes[0];
    let before = case.snapshot(&[node])?;
    let conf = network(json!({ "remotes": ["192.0.2.2", "192.0.2.3"] }));
    let attachments = (1..=PODS)
        .map(|n| Pod::attachment(case, node, &format!("p{n}"), &format!("10.42.0.{n}"), &conf))
        .collect::<Result<Vec<_>>>()?;
    let at_once = |work: &(dyn Fn(&crate::runner::Attachment) -> Result<()> + Sync)| -> Result<()> {
        thread::scope(|scope| {
            let threads: Vec<_> = attachments.iter().map(|one| scope.spawn(move || work(one))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
        })
    };
    at_once(&|one| one.check(&one.add()?))?;
    // The device's and one for each pod.
    let ports = node.ports("br-vx42")?;
    ensure!(ports.len() == PODS + 1, "ports: {ports:?}");
    // The first half leaves while it comes and goes again.
    at_once(&|one| {
        one.del()?;
        one.add()?;
        one.del()
    })?;
    before.ensure_same(&case.snapshot(&[node])?)
}

fn p25_vxlan_status(case: &Case) -> Result<()> {
    let underlay = Underlay::new(1, false)?;
    let node = &underlay.nodes[0];
    for attach in ["bridge", "direct"] {
        let conf = |extra: Value| network(crate::runner::merged(&json!({ "attach": attach }), extra));
        let status = |extra: Value| case.call(node, "vxlan", "STATUS").conf(&conf(extra));
        case.unchanged(&[node], || status(json!({ "dev": "eth0", "local": "192.0.2.1" })).succeed())?;
        status(json!({ "dev": "eth9" })).fail(50)?.says(&["dev", "eth9", "eth0"])?;
        status(json!({ "local": "192.0.2.9" })).fail(50)?.says(&["local", "192.0.2.9"])?;
        status(json!({ "dev": "eth0", "mtu": 1480 })).fail(50)?.says(&["mtu", "1480"])?;
        status(json!({ "ipam": { "type": "no-such" } })).fail(50)?.says(&["no-such"])?;
    }
    Ok(())
}

fn p24_vxlan_gc_of_direct_touches_no_pod(case: &Case) -> Result<()> {
    let underlay = Underlay::new(1, false)?;
    let node = &underlay.nodes[0];
    let conf = network(json!({ "attach": "direct", "remotes": ["192.0.2.2"] }));
    let pod = Pod::new(case, node, "a", "10.42.0.1", &conf)?;
    case.unchanged(&[node, pod.space()], || collect(case, node, &conf, &[]).succeed())?;
    pod.attachment.check(&pod.result)
}
