//! `"probe": true`: with a machine on the network that has an address already.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::intercept::Fate;
use crate::lab::{Lan, Space};
use crate::packets::{Body, Capture, arp_request, inject, reaches};
use crate::runner::{Attachment, Case, Feature, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(
        probe_passes_over_an_address_that_others_have,
        "macvlan, both families; quarantine and a warning with the MAC"
    )
    .needs(&[Feature::Macvlan])
    .ours(),
    test!(probe_works_behind_a_bridge, "its port is made in the same call").ours(),
    test!(probe_is_what_the_standards_say, "ARP of RFC 5227 and solicitations of RFC 4862, from the pod").ours(),
    test!(probe_by_a_program_of_another_build, "host-local that is started").ours(),
    test!(probe_refuses_an_address_that_was_asked_for, "code 105 with the MAC, and nothing left").ours(),
    test!(probe_ends_with_sigterm, "at once, and nothing left").ours(),
    test!(probe_ends_in_time_in_a_flood, "whenever it has read a frame, there is another").ours(),
    test!(probe_on_ipvlan_is_refused, "its kernel hands answers to nobody").needs(&[Feature::Ipvlan]).ours(),
];

/// Ranges that begin with what the other node has.
fn ipam(case: &Case) -> Value {
    let ranges = json!([
        [{ "subnet": "192.168.7.0/24", "rangeStart": Lan::OTHER[0] }],
        [{ "subnet": "fd07::/64", "rangeStart": Lan::OTHER[1] }],
    ]);
    json!({ "type": "host-local", "dataDir": case.leases(), "ranges": ranges, "probe": true })
}

/// A network whose bridge has the node's link to the switch as a port.
fn bridged(case: &Case, lan: &Lan) -> Result<Attachment> {
    lan.node.add_bridge("cni0")?;
    lan.node.up("cni0")?;
    lan.node.plug("cni0", Lan::PARENT)?;
    let conf = merged(&case.bridge_with(json!({ "ipam": null, "isGateway": false })), json!({ "ipam": ipam(case) }));
    Ok(case.attachment(&lan.node, &case.pod("p1")?, &conf))
}

/// That the call passed the other node's addresses over and said why.
fn ensure_passed_over(case: &Case, lan: &Lan, attachment: &Attachment) -> Result<()> {
    let output = attachment.call("ADD").run()?;
    let result = output.success()?;
    let ips =
        result["ips"].as_array().map(|ips| ips.iter().filter_map(|ip| ip["address"].as_str()).collect::<Vec<_>>());
    ensure!(ips == Some(vec!["192.168.7.201/24", "fd07::201/64"]), "{result}");
    let mac = lan.other.link("eth0")?.mac;
    for ip in Lan::OTHER {
        ensure!(output.stderr.contains(&format!("address {ip}: in use by {mac}")), "no warning: {}", output.stderr);
        let content = std::fs::read_to_string(case.leases_of("net").join(ip))?;
        ensure!(content == format!("quarantined by podwire: in use by {mac}"), "{content:?}");
    }
    attachment.check(&result)?;
    for ip in Lan::OTHER {
        reaches(&attachment.pod, ip.parse()?)?;
    }
    attachment.del()?;
    ensure!(case.lease_names("net")? == Lan::OTHER, "left: {:?}", case.lease_names("net")?);
    Ok(())
}

fn probe_passes_over_an_address_that_others_have(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let conf =
        json!({ "cniVersion": "1.0.0", "name": "net", "type": "macvlan", "master": Lan::PARENT, "ipam": ipam(case) });
    ensure_passed_over(case, &lan, &case.attachment(&lan.node, &case.pod("p1")?, &conf))
}

fn probe_works_behind_a_bridge(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let attachment = bridged(case, &lan)?;
    ensure_passed_over(case, &lan, &attachment)
}

fn probe_is_what_the_standards_say(case: &Case) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(5);
    let lan = Lan::new()?;
    let attachment = bridged(case, &lan)?;
    let mut seen = Capture::on(&lan.other, "eth0")?;
    attachment.add()?;
    let mac = attachment.pod.link("eth0")?.mac;
    let groups = [("ff02::1:ff00:200", "33:33:ff:00:02:00"), ("ff02::1:ff00:201", "33:33:ff:00:02:01")];
    for (four, (group, group_mac)) in [200, 201].into_iter().zip(groups) {
        let ip = std::net::Ipv4Addr::new(192, 168, 7, four);
        seen.expect(LIMIT, "ARP probe", |frame| {
            let is_it = matches!(frame.body, Body::Arp { operation: 1, sender, target, .. } if sender.is_unspecified() && target == ip);
            is_it && frame.to == crate::packets::BROADCAST && frame.from == mac
        })?;
        let group: IpAddr = group.parse()?;
        seen.expect(LIMIT, "neighbour solicitation", |frame| {
            let Body::Ip { from, to, .. } = &frame.body else { return false };
            let is_it = frame.is_icmpv6(135) && from.is_unspecified() && *to == group;
            is_it && frame.from == mac && frame.to == group_mac
        })?;
    }
    Ok(())
}

fn probe_by_a_program_of_another_build(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let attachment = bridged(case, &lan)?;
    let script = format!("exec {}/host-local", case.cni_path.display());
    let path = case.fake_plugin("host-local", &script)?;
    let result = attachment.call("ADD").env("CNI_PATH", path).succeed()?;
    ensure!(result["ips"][0]["address"] == "192.168.7.201/24", "{result}");
    Ok(())
}

fn probe_refuses_an_address_that_was_asked_for(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let attachment = bridged(case, &lan)?.args(&format!("IP={}", Lan::OTHER[1]));
    let spaces: [&Space; 2] = [&lan.node, &attachment.pod];
    let failure = case.unchanged(&spaces, || attachment.call("ADD").fail(105))?;
    failure.says(&[Lan::OTHER[1], &lan.other.link("eth0")?.mac]).map(drop)
}

fn probe_ends_with_sigterm(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let attachment = bridged(case, &lan)?.with(json!({ "ipam": {
        "ranges": [[{ "subnet": "192.168.7.0/24" }]], "probeWait": 10000,
    } }));
    let mut seen = Capture::on(&lan.other, "eth0")?;
    let start = Instant::now();
    let output = case.unchanged(&[&lan.node, &attachment.pod], || {
        let mut child = attachment.call("ADD").spawn()?;
        child.stdin.take().context("stdin")?.write_all(attachment.conf.to_string().as_bytes())?;
        seen.expect(Duration::from_secs(5), "ARP probe", |frame| matches!(frame.body, Body::Arp { operation: 1, .. }))?;
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
        Ok(child.wait_with_output()?)
    })?;
    let error: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
    ensure!(error["code"] == 106, "{error}");
    ensure!(start.elapsed() < Duration::from_secs(9), "it waited to the end: {:?}", start.elapsed());
    Ok(())
}

fn probe_ends_in_time_in_a_flood(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let attachment = bridged(case, &lan)?.with(json!({ "ipam": {
        "ranges": [[{ "subnet": "192.168.7.0/24" }]], "probeWait": 1000,
    } }));
    let frame = arp_request([2, 0, 0, 0, 0, 9], [192, 168, 7, 9].into(), [192, 168, 7, 8].into());
    let mut received = 0;
    let start = Instant::now();
    let output = attachment.call("ADD").run_under(|moment| {
        if moment.number == libc::SYS_recvfrom && inject(&lan.other, "eth0", &frame).is_ok() {
            received += 1;
        }
        Fate::Goes
    })?;
    output.success()?;
    ensure!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
    ensure!(received > 5, "it has received {received} times");
    Ok(())
}

fn probe_on_ipvlan_is_refused(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let conf =
        json!({ "cniVersion": "1.0.0", "name": "net", "type": "ipvlan", "master": Lan::PARENT, "ipam": ipam(case) });
    let attachment = case.attachment(&lan.node, &case.pod("p1")?, &conf);
    let failure = case.unchanged(&[&lan.node, &attachment.pod], || attachment.call("ADD").fail(7))?;
    failure.says(&["ipam.probe", "ipvlan"]).map(drop)
}
