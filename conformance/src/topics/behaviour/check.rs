//! P23: CHECK passes right after ADD, and says what differs.

use anyhow::{Context, Result, ensure};
use rtnetlink::LinkMessageBuilder;
use serde_json::{Value, json};

use crate::lab::Space;
use crate::packets::reaches;
use crate::runner::{Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p23_check_passes_for_every_option, "right after ADD"),
    test!(p23_check_names_what_is_gone, "link, address, route, port, gateway, bridge, lease"),
    test!(p23_check_names_what_differs, "MAC, link down, flags of the port"),
    test!(p23_check_compares_the_mtu_that_was_reported, "from 1.1.0, where results tell it"),
    test!(p23_check_lets_later_plugins_be, "more routes, more addresses, promiscuous"),
    test!(p23_check_needs_the_previous_result, "code 7"),
    test!(p23_check_changes_nothing, "also when it fails"),
];

fn p23_check_passes_for_every_option(case: &Case) -> Result<()> {
    let options = [
        json!({ "isGateway": false }),
        json!({ "isDefaultGateway": true }),
        json!({ "hairpinMode": true }),
        json!({ "promiscMode": true }),
        json!({ "mtu": 1400 }),
        json!({ "ipam": case.host_local(&["10.7.0.0/24", "fd07::/64"]) }),
        json!({ "forceAddress": true }),
        json!({ "ipam": null }),
        json!({ "ipam": null, "isGateway": null, "cniVersion": "0.4.0" }),
        json!({ "runtimeConfig": { "mac": "0a:00:00:00:00:07" }, "capabilities": { "mac": true } }),
    ];
    for extra in options {
        let (node, pod) = (case.node("n1")?, case.pod("p1")?);
        let attachment = case.attachment(&node, &pod, &case.bridge_with(extra.clone()));
        let result = attachment.add().with_context(|| extra.to_string())?;
        case.unchanged(&[&node, &pod], || attachment.check(&result)).with_context(|| extra.to_string())?;
        attachment.del()?;
    }
    Ok(())
}

/// Something done behind the plugin's back: what it is called, what is done, what CHECK has to say.
type Damage<'a> = (&'a str, &'a dyn Fn(&Space, &Space, &str) -> Result<()>, &'a [&'a str]);

/// For each, a fresh pod: ADD, CHECK, the damage, CHECK with code 102 and the words.
fn each(case: &Case, damages: &[Damage]) -> Result<()> {
    for (what, damage, words) in damages {
        let attempt = || -> Result<()> {
            let (node, pod) = (case.node("n1")?, case.pod("p1")?);
            // Each gets the same address, which the damage and the words name.
            std::fs::remove_dir_all(case.leases()).or_else(not_there)?;
            let mut ipam = case.host_local(&["10.7.0.0/24"]);
            ipam["routes"] = json!([{ "dst": "192.0.2.0/24" }]);
            let conf = case.bridge_with(json!({ "mtu": 1400, "hairpinMode": true, "ipam": ipam }));
            let attachment = case.attachment(&node, &pod, &conf);
            let result = attachment.add()?;
            attachment.check(&result)?;
            damage(&node, &pod, result["interfaces"][1]["name"].as_str().unwrap_or_default())?;
            let failure = case.unchanged(&[&node, &pod], || attachment.check_call(&result).fail(102))?;
            failure.says(words)?;
            attachment.del()
        };
        attempt().with_context(|| (*what).to_owned())?;
    }
    Ok(())
}

fn not_there(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn p23_check_names_what_is_gone(case: &Case) -> Result<()> {
    each(
        case,
        &[
            ("the pod's link", &|_, pod, _| pod.delete("eth0"), &["eth0"]),
            ("the pod's address", &|_, pod, _| pod.remove_address("eth0", "10.7.0.2".parse()?), &["10.7.0.2"]),
            ("the pod's route", &|_, pod, _| pod.remove_route("192.0.2.0/24"), &["192.0.2.0/24"]),
            ("the port", &|node, _, host| node.change(host, LinkMessageBuilder::nocontroller), &["cni0"]),
            ("the gateway", &|node, _, _| node.remove_address("cni0", "10.7.0.1".parse()?), &["cni0", "10.7.0.1"]),
            ("the bridge", &|node, _, _| node.delete("cni0"), &["cni0"]),
            (
                "the lease",
                &|_, _, _| Ok(std::fs::remove_file(case.leases_of("net").join("10.7.0.2"))?),
                &["container-p1"],
            ),
        ],
    )
}

fn p23_check_names_what_differs(case: &Case) -> Result<()> {
    let other_mac = "0a:00:00:00:00:99";
    each(
        case,
        &[
            (
                "the pod's MAC",
                &|_, pod, _| pod.change("eth0", |link| link.address(vec![0x0a, 0, 0, 0, 0, 0x99])),
                &["eth0", other_mac],
            ),
            ("the pod's link down", &|_, pod, _| pod.down("eth0"), &["eth0"]),
            (
                "hairpin mode",
                &|node, _, host| {
                    let port = node.link(host)?.index;
                    node.set_port(host, rtnetlink::LinkBridgePort::new(port).hairpin(false).build())
                },
                &["hairpin"],
            ),
        ],
    )
}

fn p23_check_compares_the_mtu_that_was_reported(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = case.attachment(&node, &pod, &case.bridge_with(json!({ "cniVersion": "1.1.0", "mtu": 1400 })));
    let result = attachment.add()?;
    attachment.check(&result)?;
    pod.change("eth0", |link| link.mtu(1300))?;
    attachment.check_call(&result).fail(102)?.says(&["eth0", "1400", "1300"]).map(drop)
}

fn p23_check_lets_later_plugins_be(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    let result = attachment.add()?;
    pod.address("eth0", "172.31.0.1/24")?;
    pod.route("192.0.2.0/24", "10.7.0.1".parse()?)?;
    pod.change("eth0", |link| link.promiscuous(true))?;
    attachment.check(&result)?;
    reaches(&pod, "10.7.0.1".parse()?).map(drop)
}

fn p23_check_needs_the_previous_result(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    attachment.add()?;
    attachment.call("CHECK").fail(7)?.says(&["prevResult"]).map(drop)
}

fn p23_check_changes_nothing(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    let result = attachment.add()?;
    pod.remove_address("eth0", "10.7.0.2".parse()?)?;
    case.unchanged(&[&node, &pod], || attachment.check_call(&result).fail_somehow())?;
    let mut foreign: Value = result;
    foreign["interfaces"][2]["name"] = "eth9".into();
    case.unchanged(&[&node, &pod], || attachment.check_call(&foreign).fail_somehow())?;
    ensure!(pod.find("eth0")?.is_some(), "the pod's link is gone");
    Ok(())
}
