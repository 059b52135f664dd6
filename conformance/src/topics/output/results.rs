//! P11 to P14, P16: results and versions.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::runner::{Case, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p11_version_0_2_0_has_ip4_and_ip6, "0.1.0 and 0.2.0, whole"),
    test!(p11_versions_0_3_0_to_0_4_0_name_the_ip_version, "whole"),
    test!(p11_version_1_0_0_has_plain_ips, "whole"),
    test!(p11_version_1_1_0_has_mtus, "whole"),
    test!(p11_route_attributes_only_from_1_1_0, "mtu, advmss, priority, table, scope").ours(),
    test!(p11_prev_result_is_read_in_every_version, "CHECK and DEL with results of 0.1.0 to 1.1.0"),
    test!(p12_the_result_is_what_the_kernel_has, "MACs, MTUs, indices, sandbox"),
    test!(p13_loopback_passes_a_previous_result_on, "never less than it got"),
    test!(p14_version_needs_nothing_and_reads_nothing, "any stdin, no other variable"),
    test!(p14_every_other_plugin_tells_its_versions, "any stdin, no other variable").ours(),
    test!(p16_dns_of_the_network_wins, "over the delegate's, where it has any entry"),
];

/// A bridge network whose addresses, routes and DNS are all known beforehand.
fn known_conf(case: &Case, version: &str) -> Value {
    case.bridge_with(json!({
        "cniVersion": version,
        "mtu": 1400,
        "dns": { "nameservers": ["10.7.0.53"], "search": ["example.org"] },
        "ipam": null,
    }))
    .as_object()
    .map(|conf| {
        let mut conf = conf.clone();
        conf.insert(
            "ipam".into(),
            json!({
                "type": "static",
                "addresses": [
                    { "address": "10.7.0.5/24", "gateway": "10.7.0.1" },
                    { "address": "fd07::5/64", "gateway": "fd07::1" },
                ],
                "routes": [{ "dst": "192.168.0.0/16", "gw": "10.7.0.9" }, { "dst": "fd08::/64", "gw": "fd07::9" }],
            }),
        );
        Value::Object(conf)
    })
    .unwrap_or_default()
}

/// ADD's result with what differs from run to run replaced by words.
fn result_at(case: &Case, version: &str) -> Result<Value> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = case.attachment(&node, &pod, &known_conf(case, version));
    let mut result = attachment.add().with_context(|| format!("version {version}"))?;
    let sandbox = pod.ns.path();
    for interface in result.get_mut("interfaces").and_then(Value::as_array_mut).into_iter().flatten() {
        ensure!(interface["mac"].as_str().is_some_and(|mac| mac.len() == 17), "no MAC: {interface}");
        interface["mac"] = "MAC".into();
        if interface["name"].as_str().is_some_and(|name| name.starts_with("veth")) {
            interface["name"] = "HOST".into();
        }
        if interface["sandbox"].as_str().map(std::path::Path::new) == Some(&sandbox) {
            interface["sandbox"] = "POD".into();
        }
        // Older ones may leave it out or say that it is empty.
        if interface["sandbox"] == "" {
            interface.as_object_mut().map(|interface| interface.remove("sandbox"));
        }
    }
    attachment.del()?;
    Ok(result)
}

fn same(found: &Value, expected: &Value) -> Result<()> {
    ensure!(found == expected, "found    {found}\nexpected {expected}");
    Ok(())
}

fn p11_version_0_2_0_has_ip4_and_ip6(case: &Case) -> Result<()> {
    for version in ["0.1.0", "0.2.0"] {
        let expected = json!({
            "cniVersion": version,
            "ip4": {
                "ip": "10.7.0.5/24", "gateway": "10.7.0.1",
                "routes": [{ "dst": "192.168.0.0/16", "gw": "10.7.0.9" }],
            },
            "ip6": { "ip": "fd07::5/64", "gateway": "fd07::1", "routes": [{ "dst": "fd08::/64", "gw": "fd07::9" }] },
            "dns": { "nameservers": ["10.7.0.53"], "search": ["example.org"] },
        });
        same(&result_at(case, version)?, &expected)?;
    }
    Ok(())
}

/// The result from 0.3.0 on, as 1.0.0 has it.
fn modern(version: &str) -> Value {
    json!({
        "cniVersion": version,
        "interfaces": [
            { "name": "cni0", "mac": "MAC" },
            { "name": "HOST", "mac": "MAC" },
            { "name": "eth0", "mac": "MAC", "sandbox": "POD" },
        ],
        "ips": [
            { "interface": 2, "address": "10.7.0.5/24", "gateway": "10.7.0.1" },
            { "interface": 2, "address": "fd07::5/64", "gateway": "fd07::1" },
        ],
        "routes": [{ "dst": "192.168.0.0/16", "gw": "10.7.0.9" }, { "dst": "fd08::/64", "gw": "fd07::9" }],
        "dns": { "nameservers": ["10.7.0.53"], "search": ["example.org"] },
    })
}

fn p11_versions_0_3_0_to_0_4_0_name_the_ip_version(case: &Case) -> Result<()> {
    for version in ["0.3.0", "0.3.1", "0.4.0"] {
        let mut expected = modern(version);
        expected["ips"][0]["version"] = "4".into();
        expected["ips"][1]["version"] = "6".into();
        same(&result_at(case, version)?, &expected)?;
    }
    Ok(())
}

fn p11_version_1_0_0_has_plain_ips(case: &Case) -> Result<()> {
    same(&result_at(case, "1.0.0")?, &modern("1.0.0"))
}

fn p11_version_1_1_0_has_mtus(case: &Case) -> Result<()> {
    let mut expected = modern("1.1.0");
    for interface in expected["interfaces"].as_array_mut().into_iter().flatten() {
        interface["mtu"] = 1400.into();
    }
    same(&result_at(case, "1.1.0")?, &expected)
}

fn p11_route_attributes_only_from_1_1_0(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let route =
        json!({ "dst": "192.168.0.0/16", "gw": "10.7.0.9", "mtu": 1300, "advmss": 1260, "priority": 77, "table": 100 });
    for (version, whole) in [("1.0.0", false), ("1.1.0", true)] {
        let pod = case.pod("p1")?;
        let mut conf = known_conf(case, version);
        conf["ipam"]["routes"] = json!([route]);
        let attachment = case.attachment(&node, &pod, &conf);
        let result = attachment.add()?;
        let expected = if whole { route.clone() } else { json!({ "dst": "192.168.0.0/16", "gw": "10.7.0.9" }) };
        same(&result["routes"], &json!([expected]))?;
        if whole {
            let routes = pod.routes()?;
            let found = routes.iter().find(|route| route.to == "192.168.0.0/16").context("the route is not there")?;
            ensure!(
                (found.mtu, found.advmss, found.priority, found.table) == (Some(1300), Some(1260), Some(77), 100),
                "{found:?}"
            );
            attachment.check(&result)?;
        }
        attachment.del()?;
    }
    Ok(())
}

fn p11_prev_result_is_read_in_every_version(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let pod = case.pod("p1")?;
        let attachment = case.attachment(&node, &pod, &case.bridge_with(json!({ "cniVersion": version })));
        let result = attachment.add()?;
        if !version.starts_with("0.1") && !version.starts_with("0.2") && !version.starts_with("0.3") {
            attachment.check(&result).with_context(|| format!("version {version}"))?;
        }
        let conf = merged(&attachment.conf, json!({ "prevResult": result }));
        attachment.call("DEL").conf(&conf).succeed().with_context(|| format!("version {version}"))?;
        ensure!(pod.find("eth0")?.is_none() && case.lease_names("net")?.is_empty(), "version {version}: not removed");
    }
    Ok(())
}

fn p12_the_result_is_what_the_kernel_has(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let extra = json!({ "cniVersion": "1.1.0", "mtu": 1380, "ipam": case.host_local(&["10.7.0.0/24", "fd07::/64"]) });
    let result = case.attachment(&node, &pod, &case.bridge_with(extra)).add()?;
    let interfaces = result["interfaces"].as_array().context("no interfaces")?;
    ensure!(interfaces.len() == 3, "{} interfaces", interfaces.len());
    for (interface, space) in interfaces.iter().zip([&node, &node, &pod]) {
        let link = space.link(interface["name"].as_str().unwrap_or_default())?;
        ensure!(interface["mac"] == link.mac, "{interface}: the kernel has {link:?}");
        ensure!(interface["mtu"] == link.mtu && link.mtu == 1380, "{interface}: the kernel has {link:?}");
    }
    let sandbox = pod.ns.path();
    ensure!(interfaces[2]["sandbox"].as_str().map(std::path::Path::new) == Some(&sandbox), "{result}");
    let host = node.link(interfaces[1]["name"].as_str().unwrap_or_default())?;
    ensure!(host.master == Some(node.link("cni0")?.index), "the host side is no port: {host:?}");
    ensure!(host.peer == Some(pod.link("eth0")?.index), "not the two ends of one veth: {host:?}");
    let mut ips: Vec<&str> = Vec::new();
    for ip in result["ips"].as_array().into_iter().flatten() {
        ensure!(ip["interface"] == 2, "{ip} points elsewhere");
        ips.extend(ip["address"].as_str());
    }
    ips.sort_unstable();
    ensure!(pod.ips("eth0")? == ips, "reported {ips:?}, the kernel has {:?}", pod.ips("eth0")?);
    Ok(())
}

fn p13_loopback_passes_a_previous_result_on(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let bridge = case.attachment(&node, &pod, &case.bridge_conf());
    let previous = bridge.add()?;
    let conf = json!({ "cniVersion": "1.0.0", "name": "net", "type": "loopback", "prevResult": previous });
    let result = case.attachment(&node, &pod, &conf).ifname("lo").add()?;
    for interface in previous["interfaces"].as_array().into_iter().flatten() {
        let all = result["interfaces"].as_array().context("no interfaces")?;
        ensure!(all.contains(interface), "{interface} got lost: {result}");
    }
    for ip in previous["ips"].as_array().into_iter().flatten() {
        ensure!(result["ips"].as_array().is_some_and(|all| all.contains(ip)), "{ip} got lost: {result}");
    }
    Ok(())
}

fn p14_version_needs_nothing_and_reads_nothing(case: &Case) -> Result<()> {
    tell_versions(case, &["bridge", "host-local", "static", "loopback"])
}

fn p14_every_other_plugin_tells_its_versions(case: &Case) -> Result<()> {
    tell_versions(case, &["macvlan", "ipvlan", "vlan", "vxlan", "bond", "dhcp"])
}

fn tell_versions(case: &Case, plugins: &[&str]) -> Result<()> {
    let node = case.node("n1")?;
    for plugin in plugins {
        for stdin in ["", "{", "nonsense", "{\"cniVersion\":\"9.9.9\"}", "{\"cniVersion\":\"1.0.0\"}"] {
            let call = case.call(&node, plugin, "VERSION").without("CNI_PATH").stdin(stdin);
            let answer = call.succeed().with_context(|| format!("{plugin} with {stdin:?}"))?;
            ensure!(answer["cniVersion"].is_string(), "{plugin}: {answer}");
            let all = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
            ensure!(answer["supportedVersions"] == json!(all), "{plugin}: {answer}");
        }
    }
    Ok(())
}

fn p16_dns_of_the_network_wins(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let own = json!({ "nameservers": ["10.7.0.53"], "domain": "net.example" });
    let delegates = json!({ "nameservers": ["10.9.9.9"], "search": ["other"] });
    for (dns, expected) in [(own.clone(), &own), (json!({}), &delegates), (json!({ "nameservers": [] }), &delegates)] {
        let pod = case.pod("p1")?;
        let mut conf = known_conf(case, "1.0.0");
        conf["dns"] = dns.clone();
        conf["ipam"]["dns"] = delegates.clone();
        let attachment = case.attachment(&node, &pod, &conf);
        let result = attachment.add()?;
        ensure!(&result["dns"] == expected, "with dns {dns}: {}", result["dns"]);
        attachment.del()?;
    }
    Ok(())
}
