//! What the client says to the servers: options of `request` and `provide`, who it is, how it wants to be answered.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{SERVERS, Site, with_router};
use crate::lab::Software;
use crate::packets::dhcp::kind;
use crate::packets::{BROADCAST, Capture, Dhcp};
use crate::runner::{Case, Feature, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(dhcp_client_id_is_of_container_network_and_interface, "type 0 and what the reference sends").needs(SERVERS),
    test!(dhcp_request_adds_options, "to those that are asked for anyway").needs(SERVERS),
    test!(dhcp_request_skips_the_default, "and asks for nothing else").needs(SERVERS),
    test!(dhcp_request_knows_names, "of every option that has a use for a pod").needs(SERVERS).ours(),
    test!(dhcp_provide_sends_values, "host name, vendor class, a client id of one's own").needs(SERVERS),
    test!(dhcp_provide_from_arg, "the value of CNI_ARGS; the one of the configuration where it is not there")
        .needs(SERVERS),
    test!(dhcp_broadcast_flag, "set where the daemon was told so, else not").needs(SERVERS).limit(60),
    test!(dhcp_broadcast_flag_on_ipvlan, "set by itself, for answers to a MAC that others have too")
        .needs(&[Feature::Ipvlan, Feature::DhcpServers])
        .ours()
        .limit(60),
    test!(dhcp_priority_is_the_metric_of_the_routes, "in the pod").needs(SERVERS).ours(),
    test!(p05_dhcp_refuses_what_cannot_be, "options, sockets, families, before the daemon is asked").ours(),
];

const SOON: Duration = Duration::from_secs(10);

/// The DISCOVER of a pod with this `ipam` section laid over, and `CNI_ARGS`.
fn discover(case: &Case, ipam: &Value, args: Option<&str>) -> Result<Dhcp> {
    let site = Site::new(case, Software::Dnsmasq, &with_router(), &[])?;
    let mut capture = Capture::on(&site.lan.other, "eth0")?;
    let mut attachment = site.attachment("a", json!({ "ipam": ipam }))?;
    attachment.args = args.map(str::to_owned);
    attachment.add()?;
    first(&mut capture)
}

/// The first DISCOVER that was captured.
fn first(capture: &mut Capture) -> Result<Dhcp> {
    let is_it = |dhcp: &Dhcp| dhcp.kind() == Some(kind::DISCOVER);
    let frame = capture.expect(SOON, "DISCOVER", |frame| Dhcp::of(frame).as_ref().is_some_and(is_it))?;
    ensure!(frame.to == BROADCAST, "DISCOVER to {}", frame.to);
    Dhcp::of(&frame).context("a message")
}

fn is_option(dhcp: &Dhcp, code: u8, value: &[u8]) -> Result<()> {
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let (there, wanted) = (text(dhcp.option(code)), text(Some(value)));
    ensure!(there == wanted, "option {code} is {there:?}, expected {wanted:?}");
    Ok(())
}

fn requested(dhcp: &Dhcp) -> BTreeSet<u8> {
    dhcp.requested().iter().copied().collect()
}

fn dhcp_client_id_is_of_container_network_and_interface(case: &Case) -> Result<()> {
    is_option(&discover(case, &json!({}), None)?, 61, b"\0container-a/net/eth0")
}

fn dhcp_request_adds_options(case: &Case) -> Result<()> {
    let seen = requested(&discover(case, &json!({ "request": [{ "option": "43" }, { "option": "routers" }] }), None)?);
    ensure!([1, 3, 43].iter().all(|code| seen.contains(code)), "asked for {seen:?}");
    Ok(())
}

fn dhcp_request_skips_the_default(case: &Case) -> Result<()> {
    let request = json!([{ "skipDefault": true, "option": "subnet-mask" }, { "option": "43" }]);
    let seen = requested(&discover(case, &json!({ "request": request }), None)?);
    ensure!(seen == BTreeSet::from([1, 43]), "asked for {seen:?}");
    Ok(())
}

fn dhcp_request_knows_names(case: &Case) -> Result<()> {
    let names = [
        ("subnet-mask", 1),
        ("static-routes", 33),
        ("classless-static-routes", 121),
        ("domain-name-servers", 6),
        ("domain-name", 15),
        ("domain-search", 119),
        ("interface-mtu", 26),
        ("ntp-servers", 42),
    ];
    let mut request: Vec<Value> = names.iter().map(|(name, _)| json!({ "option": name })).collect();
    request.push(json!({ "skipDefault": true }));
    let seen = requested(&discover(case, &json!({ "request": request }), None)?);
    let wanted: BTreeSet<u8> = names.into_iter().map(|(_, code)| code).collect();
    ensure!(seen == wanted, "asked for {seen:?}, expected {wanted:?}");
    Ok(())
}

fn dhcp_provide_sends_values(case: &Case) -> Result<()> {
    let provide = json!([
        { "option": "host-name", "value": "pod-a" },
        { "option": "vendor-class-identifier", "value": "podwire test" },
        { "option": "dhcp-client-identifier", "value": "somebody" },
        { "option": "224", "value": "private" },
    ]);
    let seen = discover(case, &json!({ "provide": provide }), None)?;
    is_option(&seen, 12, b"pod-a")?;
    is_option(&seen, 60, b"podwire test")?;
    is_option(&seen, 61, b"somebody")?;
    is_option(&seen, 224, b"private")
}

fn dhcp_provide_from_arg(case: &Case) -> Result<()> {
    let provide = json!([
        { "option": "host-name", "fromArg": "K8S_POD_NAME" },
        { "option": "vendor-class-identifier", "value": "fallback", "fromArg": "NOT_THERE" },
    ]);
    let seen = discover(case, &json!({ "provide": provide }), Some("IgnoreUnknown=1;K8S_POD_NAME=web-7"))?;
    is_option(&seen, 12, b"web-7")?;
    is_option(&seen, 60, b"fallback")
}

fn dhcp_broadcast_flag(case: &Case) -> Result<()> {
    for (args, wanted) in [(&[][..], false), (&["-broadcast"][..], true)] {
        let own = case.below(if wanted { "with" } else { "without" });
        let site = Site::new(&own, Software::Dnsmasq, &with_router(), args)?;
        let mut capture = Capture::on(&site.lan.other, "eth0")?;
        site.pod("a", json!({}))?;
        let seen = first(&mut capture)?.broadcast;
        ensure!(seen == wanted, "with {args:?} the broadcast flag is {seen}");
    }
    Ok(())
}

fn dhcp_broadcast_flag_on_ipvlan(case: &Case) -> Result<()> {
    let site = Site::bare(case, Software::Dnsmasq, &with_router(), &[])?;
    let mut capture = Capture::on(&site.lan.other, "eth0")?;
    let pod = site.pod("a", json!({ "type": "ipvlan", "master": crate::lab::Lan::PARENT }))?;
    ensure!(first(&mut capture)?.broadcast, "the broadcast flag is not set");
    pod.attachment.del()?;
    site.server.await_release(pod.ip()?)
}

fn dhcp_priority_is_the_metric_of_the_routes(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Dnsmasq, &with_router(), &[])?;
    // Older results have no metric.
    let pod = site.pod("a", json!({ "cniVersion": "1.1.0", "ipam": { "priority": 77 } }))?;
    let routes = pod.space().routes()?;
    let default = routes.iter().find(|route| route.to == "0.0.0.0/0").context("a default route")?;
    ensure!(default.priority == Some(77), "metric {:?}", default.priority);
    pod.attachment.check(&pod.result)
}

fn p05_dhcp_refuses_what_cannot_be(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let refused: &[(Value, &[&str])] = &[
        (
            json!({ "request": [{ "option": "classless-static-route" }] }),
            &["ipam.request[0].option", "classless-static-routes"],
        ),
        (json!({ "request": [{ "option": "0" }] }), &["ipam.request[0].option"]),
        (json!({ "provide": [{ "option": "12", "value": "x".repeat(256) }] }), &["ipam.provide[0].value", "255"]),
        (json!({ "provide": [{ "option": "53", "value": "x" }] }), &["ipam.provide[0].option"]),
        (json!({ "daemonSocketPath": "dhcp.sock" }), &["ipam.daemonSocketPath", "dhcp.sock", "absolute"]),
        (json!({ "dhcp4": false }), &["dhcp4", "dhcp6"]),
    ];
    for (ipam, words) in refused {
        let mut conf = case.bridge_conf();
        conf["ipam"] =
            crate::runner::merged(&json!({ "type": "dhcp", "daemonSocketPath": "/run/none.sock" }), ipam.clone());
        let call = case.attachment(&node, &pod, &conf).call("ADD");
        let failure = case.unchanged(&[&node, &pod], || call.fail(7)).with_context(|| ipam.to_string())?;
        failure.says(words)?;
    }
    Ok(())
}
