//! Mode source: frames from some MAC addresses only.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Added, NEEDS, OTHER, conf, details, parsed};
use crate::lab::{Lan, Space, mac_bytes};
use crate::packets::{Capture, Frame, echo_request, inject, isolated, reaches};
use crate::runner::{Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p28_macvlan_source_mode_takes_from_one_and_not_from_another, "sourceMacs, pings").needs(NEEDS).ours(),
    test!(p28_macvlan_source_mode_gives_a_frame_to_two, "one MAC allowed on two devices: both see the frame")
        .needs(NEEDS)
        .ours(),
    test!(p23_macvlan_check_compares_the_source_macs, "code 102, one more or one less").needs(NEEDS).ours(),
    test!(p05_macvlan_source_macs_without_their_mode, "and the mode without them: code 7").needs(NEEDS).ours(),
];

fn source(case: &Case, macs: &[&str]) -> Value {
    conf(case, json!({ "mode": "source", "sourceMacs": macs }))
}

fn p28_macvlan_source_mode_takes_from_one_and_not_from_another(case: &Case) -> Result<()> {
    const STRANGER: [&str; 2] = ["192.168.7.201", "fd07::201"];
    let lan = Lan::new()?;
    let stranger = case.node("stranger")?;
    lan.connect(&stranger, "eth0", &STRANGER)?;
    let a = Added::new(case, &lan.node, "a", &source(case, &[&lan.other.link("eth0")?.mac]))?;
    a.attachment.check(&a.result)?;
    for ip in parsed(&OTHER)? {
        reaches(a.pod(), ip)?;
    }
    for ip in parsed(&STRANGER)? {
        isolated(a.pod(), ip)?;
        // It is there, and is heard by everybody else.
        reaches(&lan.other, ip)?;
    }
    Ok(())
}

fn p28_macvlan_source_mode_gives_a_frame_to_two(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let sender = lan.other.link("eth0")?.mac;
    let both = source(case, &[&sender, "02:00:00:00:00:77"]);
    let (a, b) = (Added::new(case, &lan.node, "a", &both)?, Added::new(case, &lan.node, "b", &both)?);
    let neither = Added::new(case, &lan.node, "c", &source(case, &["02:00:00:00:00:77"]))?;
    let captures = [&a, &b, &neither].map(|pod| Capture::on(pod.pod(), "eth0"));
    let [mut at_a, mut at_b, mut at_c] = captures;
    let from: IpAddr = OTHER[0].parse()?;
    let (IpAddr::V4(source), IpAddr::V4(target)) = (from, a.ips()?[0]) else { anyhow::bail!("IPv4 expected") };
    let frame = echo_request(mac_bytes(&a.mac()?)?, mac_bytes(&sender)?, source, target);
    inject(&lan.other, "eth0", &frame)?;
    let wanted = |frame: &Frame| frame.is_echo_request_from(from);
    let limit = Duration::from_secs(2);
    at_a.as_mut().map_err(|e| anyhow::anyhow!("{e:#}"))?.expect(limit, "frame at the first", wanted)?;
    at_b.as_mut().map_err(|e| anyhow::anyhow!("{e:#}"))?.expect(limit, "frame at the second", wanted)?;
    let third = at_c.as_mut().map_err(|e| anyhow::anyhow!("{e:#}"))?;
    third.expect_none(Duration::from_millis(300), "the frame at the third", wanted)
}

/// Sets the source MACs of the pod by hand, without touching the rest.
fn set_sources(pod: &Space, how: &str, mac: &str) -> Result<()> {
    crate::cni::tool(pod, "ip", &["link", "set", "eth0", "type", "macvlan", "macaddr", how, mac]).map(drop)
}

fn p23_macvlan_check_compares_the_source_macs(case: &Case) -> Result<()> {
    let (kept, other) = ("02:00:00:00:00:77", "02:00:00:00:00:78");
    let lan = Lan::new()?;
    let Added { attachment, result } = Added::new(case, &lan.node, "a", &source(case, &[kept]))?;
    let listed = details(&attachment.pod, "eth0")?["linkinfo"]["info_data"].clone();
    ensure!(listed.to_string().contains(kept), "{listed}");
    attachment.check(&result)?;
    set_sources(&attachment.pod, "add", other)?;
    attachment.check_call(&result).fail(102)?.says(&["eth0", kept, other])?;
    set_sources(&attachment.pod, "del", other)?;
    attachment.check(&result).context("as it was")?;
    set_sources(&attachment.pod, "del", kept)?;
    attachment.check_call(&result).fail(102)?.says(&["eth0", kept]).map(drop)
}

fn p05_macvlan_source_macs_without_their_mode(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    for extra in [json!({ "mode": "source" }), json!({ "sourceMacs": ["02:00:00:00:00:77"] })] {
        let pod = case.pod("a")?;
        let add = case.attachment(&lan.node, &pod, &conf(case, extra)).call("ADD");
        case.unchanged(&[&lan.node, &pod], || add.fail(7))?.says(&["sourceMacs"])?;
    }
    let multicast = source(case, &["01:00:5e:00:00:01"]);
    let add = case.attachment(&lan.node, &case.pod("a")?, &multicast).call("ADD");
    add.fail(7)?.says(&["sourceMacs[0]", "unicast"]).map(drop)
}
