//! MTU, MAC address, and what the pod's link is.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Added, NEEDS, SHARED, UPLINK, conf, nodes};
use crate::cni::tool;
use crate::lab::Space;
use crate::packets::{Ping, reaches};
use crate::runner::{Case, Feature, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(vlan_mtu_is_the_parents_by_default, "1500 and 1400, and as large a ping passes").needs(NEEDS),
    test!(vlan_mtu_may_be_less, "mtu, and a larger packet does not pass").needs(NEEDS),
    test!(vlan_mtu_above_the_parents_is_refused, "code 7 with both, nothing changed").needs(NEEDS).ours(),
    test!(vlan_mac_may_be_asked_for, "runtimeConfig.mac; the parent's otherwise").needs(NEEDS).ours(),
    test!(p12_vlan_result_is_what_the_kernel_has, "one interface, in the pod").needs(NEEDS),
    test!(p05_vlan_options_that_cannot_be, "code 6 or 7 with the path, nothing changed").ours(),
    test!(vlan_demo_comes_to_its_end, "make demo PLUGIN=vlan: its matrix, its tags, its clean-up").needs(SHARED).ours(),
    test!(vlan_agrees_with_the_reference, "results, ip -d link, addresses and routes, but for the alias")
        .needs(&[Feature::Vlan, Feature::Reference])
        .ours(),
];

/// A pod on either node with these options on uplinks of that MTU; whether each of the sizes, in bytes of the IP packet,
/// passes undivided.
fn passing(case: &Case, extra: Value, uplinks: u32, sizes: &[usize]) -> Result<(u32, Vec<bool>)> {
    let nodes = nodes(case)?;
    for node in &nodes {
        node.change(UPLINK, |link| link.mtu(uplinks))?;
    }
    let conf = conf(case, extra);
    let (a, b) = (Added::new(case, &nodes[0], "a", &conf)?, Added::new(case, &nodes[1], "b", &conf)?);
    reaches(a.pod(), b.ip(0)?)?;
    let mut passed = Vec::new();
    for size in sizes {
        // 20 bytes of IP and 8 of ICMP go on top.
        let ping = Ping { size: size - 28, dont_fragment: true, ..Ping::default() };
        passed.push(ping.run(a.pod(), b.ip(0)?)?.times.len() == 1);
    }
    let mtu = a.pod().link("eth0")?.mtu;
    a.attachment.del()?;
    b.attachment.del()?;
    Ok((mtu, passed))
}

fn vlan_mtu_is_the_parents_by_default(case: &Case) -> Result<()> {
    for mtu in [1500_u32, 1400] {
        let size = usize::try_from(mtu)?;
        // The tag is not counted: it goes on top, as the rest of the Ethernet header does.
        let seen = passing(case, json!({}), mtu, &[size, size + 1])?;
        ensure!(seen == (mtu, vec![true, false]), "uplinks of {mtu}: {seen:?}");
    }
    Ok(())
}

fn vlan_mtu_may_be_less(case: &Case) -> Result<()> {
    let seen = passing(case, json!({ "mtu": 1300 }), 1500, &[1300, 1301])?;
    ensure!(seen == (1300, vec![true, false]), "{seen:?}");
    Ok(())
}

fn vlan_mtu_above_the_parents_is_refused(case: &Case) -> Result<()> {
    let [node, _far] = nodes(case)?;
    let pod = case.pod("a")?;
    for shared in [false, true] {
        let conf = conf(case, json!({ "mtu": 1501, "shared": shared }));
        let add = case.attachment(&node, &pod, &conf).call("ADD");
        case.unchanged(&[&node, &pod], || add.fail(7))?.says(&["mtu", "1501", "1500", UPLINK])?;
    }
    Ok(())
}

fn vlan_mac_may_be_asked_for(case: &Case) -> Result<()> {
    let [n1, n2] = nodes(case)?;
    let mac = "0a:00:00:00:00:07";
    let wanted = json!({ "runtimeConfig": { "mac": mac }, "capabilities": { "mac": true } });
    let a = Added::new(case, &n1, "a", &conf(case, wanted))?.checked()?;
    let b = Added::new(case, &n2, "b", &conf(case, json!({})))?.checked()?;
    ensure!(a.pod().link("eth0")?.mac == mac && a.result["interfaces"][0]["mac"] == mac, "{}", a.result);
    ensure!(b.pod().link("eth0")?.mac == n2.link(UPLINK)?.mac, "not the parent's: {}", b.result);
    reaches(b.pod(), a.ip(0)?).map(drop)
}

fn p12_vlan_result_is_what_the_kernel_has(case: &Case) -> Result<()> {
    let [node, _far] = nodes(case)?;
    let a = Added::new(case, &node, "a", &conf(case, json!({})))?.checked()?;
    let link = a.pod().link("eth0")?;
    let wanted = json!([{ "name": "eth0", "mac": link.mac, "sandbox": a.pod().ns.path() }]);
    ensure!(a.result["interfaces"] == wanted, "{}", a.result);
    ensure!(a.result["ips"][0]["interface"] == 0, "{}", a.result);
    ensure!(link.kind == "vlan" && link.up, "{link:?}");
    Ok(())
}

fn p05_vlan_options_that_cannot_be(case: &Case) -> Result<()> {
    let [node, _far] = nodes(case)?;
    let pod = case.pod("a")?;
    for (extra, code, words) in [
        (json!({ "vlanId": 4095 }), 7, &["vlanId", "4095", "4094"][..]),
        (json!({ "vlanId": -1 }), 7, &["vlanId", "-1"]),
        (json!({ "vlanId": "100" }), 6, &["vlanId", "100"]),
        (json!({ "protocol": "802.1ah" }), 6, &["protocol", "802.1ad"]),
        (json!({ "egressQosMap": { "0": 8 } }), 7, &["egressQosMap", "8", "7"]),
        (json!({ "ingressQosMap": { "8": 0 } }), 7, &["ingressQosMap", "8", "7"]),
        (json!({ "egressQosMap": [[0, 3]] }), 6, &["egressQosMap"]),
        (json!({ "mtu": 67 }), 7, &["mtu", "67"]),
        (json!({ "shared": true, "linkInContainer": true }), 7, &["shared", "linkInContainer"]),
        (json!({ "shared": true, "reorderHeader": false }), 7, &["reorderHeader", "shared"]),
        (json!({ "strict": true, "vlanID": 7 }), 2, &["vlanID", "vlanId"]),
    ] {
        let add = case.attachment(&node, &pod, &conf(case, extra.clone())).call("ADD");
        let failure = case.unchanged(&[&node, &pod], || add.fail(code)).with_context(|| extra.to_string())?;
        failure.says(words)?;
    }
    Ok(())
}

/// What one plugin makes of a configuration: its result, and what the kernel says of the pod.
fn made_by(case: &Case, plugins: &Path, extra: &Value) -> Result<(Value, Vec<Value>)> {
    let case = Case { cni_path: plugins.to_owned(), ..case.clone() };
    let [node, _far] = nodes(&case)?;
    // The parent's MAC address is the pod's.
    node.change(UPLINK, |link| link.address(vec![2, 0, 0, 0, 7, 1]))?;
    let a = Added::new(&case, &node, "a", &merged(&conf(&case, json!({ "ipam": null })), extra.clone()))?;
    let mut result = a.result.clone();
    result["interfaces"][0].as_object_mut().context("an interface")?.remove("sandbox");
    let said =
        [["-j", "-d", "link"], ["-j", "-4", "address"], ["-j", "-4", "route"]].map(|words| json_of(a.pod(), &words));
    let mut said = said.into_iter().collect::<Result<Vec<_>>>()?;
    for link in said[0].as_array_mut().into_iter().flatten() {
        let link = link.as_object_mut().context("a link")?;
        // Ours says whose it is, and has the kernel's default for the length of a queue that a VLAN does not have.
        for key in ["ifalias", "txqlen", "ifindex", "link_index", "link_netnsid"] {
            link.remove(key);
        }
    }
    for link in said[1].as_array_mut().into_iter().flatten() {
        let link = link.as_object_mut().context("a link")?;
        for key in ["txqlen", "ifindex", "link_index", "link_netnsid"] {
            link.remove(key);
        }
    }
    a.attachment.del()?;
    Ok((result, said))
}

fn json_of(pod: &Space, words: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&tool(pod, "ip", words)?)?)
}

fn vlan_agrees_with_the_reference(case: &Case) -> Result<()> {
    for extra in [json!({}), json!({ "vlanId": 0 }), json!({ "mtu": 1400 }), json!({ "cniVersion": "0.4.0" })] {
        let routes = json!([{ "dst": "0.0.0.0/0" }, { "dst": "192.0.2.0/24", "gw": "10.7.0.9" }]);
        let ipam = json!({ "type": "static", "addresses": [{ "address": "10.7.0.2/24", "gateway": "10.7.0.1" }], "routes": routes });
        let extra = merged(&extra, json!({ "ipam": ipam }));
        let ours = made_by(case, &case.cni_path, &extra)?;
        let reference = made_by(case, Path::new("/usr/lib/cni"), &extra)?;
        ensure!(ours.0 == reference.0, "{extra}: results\n{}\n{}", ours.0, reference.0);
        for (ours, reference) in ours.1.iter().zip(&reference.1) {
            ensure!(ours == reference, "{extra}: the kernel says\n{ours}\n{reference}");
        }
    }
    Ok(())
}

fn vlan_demo_comes_to_its_end(case: &Case) -> Result<()> {
    let program = std::env::current_exe()?;
    let plugins = case.cni_path.to_string_lossy().into_owned();
    let said =
        tool(&case.node("n1")?, &program.to_string_lossy(), &["demo", "--cni-path", &plugins, "--inside", "vlan"])?;
    for word in ["VLAN 100", "VLAN 200", "0x8100", "✓", "✗", "as they were before"] {
        ensure!(said.contains(word), "no {word:?} in\n{said}");
    }
    Ok(())
}
