//! static: the addresses that the configuration or the caller names.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::packets::reaches;
use crate::runner::{Attachment, Case, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(static_addresses_are_reported, "addresses, gateways, routes, dns"),
    test!(
        static_args_replace_the_addresses,
        "runtimeConfig.ips over args.cni.ips; those of CNI_ARGS come after the configured ones"
    ),
    test!(static_cni_args_bring_a_gateway, "IP and GATEWAY, several of each"),
    test!(static_without_any_address_gives_none, "a bridge that wanted one has its own error"),
    test!(p23_static_check_compares, "with what ADD returned"),
    test!(static_gateway_outside_of_its_network_is_refused, "code 7, by ADD, CHECK and STATUS").ours(),
    test!(p28_static_gateway_that_is_onlink_is_reached, "by an address alone in its network").ours(),
];

fn attachment(case: &Case, ipam: Value, extra: Value) -> Result<Attachment> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let base = json!({ "cniVersion": "1.0.0", "name": "net", "type": "static", "ipam": merged(&json!({ "type": "static" }), ipam) });
    Ok(case.attachment(&node, &pod, &merged(&base, extra)))
}

fn static_addresses_are_reported(case: &Case) -> Result<()> {
    let ipam = json!({
        "addresses": [
            { "address": "10.7.0.5/24", "gateway": "10.7.0.254" }, { "address": "fd07::5/64" }, { "address": "10.8.0.5/16" },
        ],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "fd08::/64", "gw": "fd07::9" }],
        "dns": { "nameservers": ["10.7.0.53"], "domain": "example.org" },
    });
    let result = attachment(case, ipam, json!({}))?.add()?;
    let expected = json!([
        { "address": "10.7.0.5/24", "gateway": "10.7.0.254" }, { "address": "fd07::5/64" }, { "address": "10.8.0.5/16" },
    ]);
    ensure!(result["ips"] == expected, "{}", result["ips"]);
    ensure!(result["routes"] == json!([{ "dst": "0.0.0.0/0" }, { "dst": "fd08::/64", "gw": "fd07::9" }]), "{result}");
    ensure!(result["dns"] == json!({ "nameservers": ["10.7.0.53"], "domain": "example.org" }), "{result}");
    Ok(())
}

fn static_args_replace_the_addresses(case: &Case) -> Result<()> {
    let configured = json!({ "addresses": [{ "address": "10.7.0.5/24" }] });
    let runtime = json!({ "capabilities": { "ips": true }, "runtimeConfig": { "ips": ["10.7.0.11/24"] } });
    let args = json!({ "args": { "cni": { "ips": ["10.7.0.12/24"] } } });
    for (extra, expected) in [
        (merged(&runtime, args.clone()), json!([{ "address": "10.7.0.11/24" }])),
        (args, json!([{ "address": "10.7.0.12/24" }])),
        (json!({}), json!([{ "address": "10.7.0.5/24" }, { "address": "10.7.0.13/24" }])),
    ] {
        let result = attachment(case, configured.clone(), extra)?.args("IgnoreUnknown=true;IP=10.7.0.13/24").add()?;
        ensure!(result["ips"] == expected, "expected {expected}: {result}");
    }
    let result = attachment(case, configured, json!({}))?.add()?;
    ensure!(result["ips"] == json!([{ "address": "10.7.0.5/24" }]), "{result}");
    Ok(())
}

fn static_cni_args_bring_a_gateway(case: &Case) -> Result<()> {
    let args = "IgnoreUnknown=true;IP=10.7.0.13/24,fd07::13/64;GATEWAY=10.7.0.1,fd07::1";
    let result = attachment(case, json!({}), json!({}))?.args(args).add()?;
    let expected = json!([
        { "address": "10.7.0.13/24", "gateway": "10.7.0.1" }, { "address": "fd07::13/64", "gateway": "fd07::1" },
    ]);
    ensure!(result["ips"] == expected, "{result}");
    Ok(())
}

fn static_without_any_address_gives_none(case: &Case) -> Result<()> {
    let result = attachment(case, json!({}), json!({}))?.add()?;
    ensure!(result.get("ips").is_none_or(|ips| ips.as_array().is_some_and(Vec::is_empty)), "{result}");
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let add = case
        .attachment(&node, &pod, &case.bridge_with(json!({ "ipam": null })))
        .with(json!({ "ipam": { "type": "static" } }));
    case.unchanged(&[&node, &pod], || add.call("ADD").fail_somehow()).map(drop)
}

fn p23_static_check_compares(case: &Case) -> Result<()> {
    let attachment = attachment(case, json!({ "addresses": [{ "address": "10.7.0.5/24" }] }), json!({}))?;
    let mut result = attachment.add()?;
    attachment.check(&result)?;
    result["ips"][0]["address"] = "10.7.0.6/24".into();
    attachment.check_call(&result).fail(102)?.says(&["10.7.0.5"])?;
    attachment.del()
}

fn static_gateway_outside_of_its_network_is_refused(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    for address in [
        json!({ "address": "10.7.0.5/24", "gateway": "10.9.0.1" }),
        json!({ "address": "10.7.0.5/32", "gateway": "10.7.0.1" }),
        json!({ "address": "fd07::5/64", "gateway": "fd09::1" }),
    ] {
        let ipam = json!({ "type": "static", "addresses": [address] });
        let conf = case.bridge_with(json!({ "cniVersion": "1.1.0", "isGateway": false, "ipam": null }));
        let attachment = case.attachment(&node, &pod, &merged(&conf, json!({ "ipam": ipam })));
        let failure = case.unchanged(&[&node, &pod], || attachment.call("ADD").fail(7))?;
        let gateway = address["gateway"].as_str().unwrap_or_default();
        failure.says(&["ipam.addresses[0].gateway", gateway, "onlink"])?;
        attachment.call("STATUS").fail(50)?.says(&[gateway])?;
        attachment.del()?;
    }
    Ok(())
}

fn p28_static_gateway_that_is_onlink_is_reached(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    node.add_bridge("cni0")?;
    node.up("cni0")?;
    // The gateway, and the way back.
    node.address("cni0", "10.9.0.1/24")?;
    node.address("cni0", "10.7.0.254/24")?;
    let ipam = json!({
        "type": "static",
        "addresses": [{ "address": "10.7.0.5/32", "gateway": "10.9.0.1", "onlink": true }],
        "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let conf = case.bridge_with(json!({ "isGateway": false, "ipam": null }));
    let attachment = case.attachment(&node, &pod, &merged(&conf, json!({ "ipam": ipam })));
    let result = attachment.add()?;
    attachment.check(&result)?;
    reaches(&pod, "10.9.0.1".parse()?).map(drop)
}
