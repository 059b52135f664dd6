//! IPv6 in the pod, and who is told of a new address.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::libc;
use serde_json::{Value, json};

use super::Added;
use crate::intercept::{Fate, Moment};
use crate::lab::{Address, cable, mac_bytes};
use crate::packets::{Body, Capture, Frame, inject, reaches, router_advertisement};
use crate::runner::{Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(addresses_are_announced, "gratuitous ARP and unsolicited neighbour advertisement"),
    test!(no_waiting_for_duplicate_detection, "usable at once, and no probe on the wire"),
    test!(enabledad_probes_before_use, "a probe on the wire, and ADD ends when it is over"),
    test!(enabledad_asks_when_it_is_heard, "the port is in service before the pod has an address").ours(),
    test!(a_router_advertisement_changes_nothing, "no SLAAC, no route; a control that takes both"),
];

const LIMIT: Duration = Duration::from_secs(2);

fn conf(case: &Case, extra: Value) -> Value {
    let base = case.bridge_with(json!({ "ipam": case.host_local(&["10.7.0.0/24", "fd07::/64"]) }));
    crate::runner::merged(&base, extra)
}

fn addresses_are_announced(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let witness = Added::new(case, &node, "w", &conf(case, json!({})))?;
    let mut capture = Capture::everywhere(&node)?;
    let a = Added::new(case, &node, "a", &conf(case, json!({})))?;
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = (a.ip(0)?, a.ip(1)?) else {
        anyhow::bail!("one address of each family expected: {}", a.result);
    };
    let mac = a.pod().link("eth0")?.mac;
    // In whichever order they come.
    let mut missing = vec!["gratuitous ARP", "neighbour advertisement"];
    while !missing.is_empty() {
        let frame =
            capture.expect(LIMIT, &missing.join(", "), |frame| frame.announces_v4(v4) || frame.announces_v6(v6))?;
        ensure!(frame.from == mac, "announced by {}, the pod has {mac}", frame.from);
        let seen = if frame.announces_v4(v4) { "gratuitous ARP" } else { "neighbour advertisement" };
        missing.retain(|what| *what != seen);
    }
    reaches(witness.pod(), a.ip(1)?).map(drop)
}

/// A probe of duplicate detection (RFC 4862): a solicitation for `target` from nowhere.
fn probes(frame: &Frame, target: Ipv6Addr) -> bool {
    matches!(&frame.body, Body::Ip { from, protocol: 58, payload, .. }
        if from.is_unspecified() && payload.first() == Some(&135) && payload.get(8..24) == Some(&target.octets()[..]))
}

fn no_waiting_for_duplicate_detection(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let mut capture = Capture::everywhere(&node)?;
    let a = Added::new(case, &node, "a", &conf(case, json!({})))?;
    let all: Vec<Address> = [a.pod().addresses("eth0")?, node.addresses("cni0")?].concat();
    for address in all.iter().filter(|address| address.prefix == 64 && address.ip.to_string().starts_with("fd07")) {
        ensure!(!address.tentative, "ADD is over and {address:?} cannot be used yet");
    }
    let target: Ipv6Addr = a.ip(1)?.to_string().parse()?;
    capture.expect_none(Duration::from_millis(1500), "a probe", |frame| probes(frame, target))
}

fn enabledad_probes_before_use(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let mut capture = Capture::everywhere(&node)?;
    let a = Added::new(case, &node, "a", &conf(case, json!({ "enabledad": true })))?;
    let target: Ipv6Addr = a.ip(1)?.to_string().parse()?;
    let own = a.pod().addresses("eth0")?.into_iter().find(|address| address.ip == target);
    ensure!(own.as_ref().is_some_and(|address| !address.tentative), "ADD ended too early: {own:?}");
    capture.expect(Duration::from_millis(10), "probe", |frame| probes(frame, target)).map(drop)
}

fn enabledad_asks_when_it_is_heard(case: &Case) -> Result<()> {
    asks_when_it_is_heard(case, &conf(case, json!({ "enabledad": true })))
}

/// That the bridge forwards by all its ports whenever the pod has an address for which the kernel asks whether it is taken:
/// it asks once.
pub(super) fn asks_when_it_is_heard(case: &Case, conf: &Value) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("a")?);
    let attachment = case.attachment(&node, &pod, conf);
    let mut seen = Vec::new();
    let look = |moment: &Moment| -> Result<Option<bool>> {
        let is_request = moment.number == libc::SYS_sendto;
        if !is_request || pod.find("eth0")?.is_none() || pod.ips("eth0")?.is_empty() {
            return Ok(None);
        }
        Ok(Some(node.ports("cni0")?.iter().all(|port| port.running)))
    };
    let output = attachment.call("ADD").run_under(|moment| {
        seen.push(look(moment));
        Fate::Goes
    })?;
    output.success()?;
    let seen: Vec<bool> = seen.into_iter().filter_map(Result::transpose).collect::<Result<_>>()?;
    ensure!(!seen.is_empty() && seen.iter().all(|heard| *heard), "in service at each request after it: {seen:?}");
    Ok(())
}

fn a_router_advertisement_changes_nothing(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let a = Added::new(case, &node, "a", &conf(case, json!({})))?;
    // A plain host on the same bridge, as the kernel makes one.
    let control = case.node("control")?;
    cable(&node, "port", &control, "eth0")?;
    node.plug("cni0", "port")?;
    control.address("eth0", "fd07::ffff/64")?;
    reaches(&control, a.ip(1)?)?;
    let learnt = |address: &Address| address.ip.to_string().starts_with("2001:db8:");
    let router = mac_bytes("02:00:00:00:00:fe")?;
    let prefix = "2001:db8:7::".parse()?;
    let mut seen = false;
    // A host takes advertisements only once its own link-local address is settled.
    for _ in 0..10 {
        inject(&node, "port", &router_advertisement(router, prefix))?;
        inject(&node, &a.host_link(), &router_advertisement(router, prefix))?;
        seen = control.await_address(Duration::from_millis(500), learnt)?;
        if seen {
            break;
        }
    }
    ensure!(seen, "the control did not take the advertisement either");
    let addresses = a.pod().addresses("eth0")?;
    ensure!(!addresses.iter().any(learnt), "the pod took an address from it: {addresses:?}");
    let routes = a.pod().routes()?;
    ensure!(!routes.iter().any(|route| route.to == "::/0"), "the pod took a default route from it: {routes:?}");
    Ok(())
}
