//! Every plugin tells its steps, whatever it makes.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{call, file, is_end, is_step, lines, logged};
use crate::lab::{Daemon, Lan, Offer, Server, Software, cable};
use crate::runner::{Attachment, Case, Feature, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(log_steps_of_loopback, "a line for each, and one at the end").ours(),
    test!(log_steps_of_macvlan, "a line for each, and one at the end").needs(&[Feature::Macvlan]).ours(),
    test!(log_steps_of_vxlan, "a line for each, and one at the end").needs(&[Feature::Vxlan]).ours(),
    test!(log_steps_of_ipvlan, "a line for each, and one at the end").needs(&[Feature::Ipvlan]).ours(),
    test!(log_steps_of_vlan, "a line for each, and one at the end").needs(&[Feature::Vlan]).ours(),
    test!(log_steps_of_bond, "a line for each, and one at the end").needs(&[Feature::Bond]).ours(),
    test!(log_steps_of_dhcp, "a line for each, and one at the end").needs(&[Feature::DhcpServers]).ours(),
];

fn log_steps_of_loopback(case: &Case) -> Result<()> {
    let conf = json!({ "cniVersion": "1.1.0", "name": "net", "type": "loopback" });
    let attachment = case.attachment(&case.node("n1")?, &case.pod("p1")?, &conf).ifname("lo");
    tells_its_steps(&attachment, "change", "link")
}

fn log_steps_of_macvlan(case: &Case) -> Result<()> {
    device_is_told(case, json!({ "type": "macvlan", "master": Lan::PARENT }), "eth0")
}

fn log_steps_of_vxlan(case: &Case) -> Result<()> {
    device_is_told(case, json!({ "type": "vxlan", "vni": 42, "dev": Lan::PARENT }), "vx42")
}

fn log_steps_of_ipvlan(case: &Case) -> Result<()> {
    device_is_told(case, json!({ "type": "ipvlan", "master": Lan::PARENT }), "eth0")
}

fn log_steps_of_vlan(case: &Case) -> Result<()> {
    device_is_told(case, json!({ "type": "vlan", "master": Lan::PARENT, "vlanId": 100 }), "eth0")
}

fn log_steps_of_bond(case: &Case) -> Result<()> {
    let links = Lan::SPARE.map(|link| json!({ "name": link }));
    device_is_told(case, json!({ "type": "bond", "links": links }), "eth0")
}

fn device_is_told(case: &Case, options: Value, device: &str) -> Result<()> {
    let lan = Lan::new()?;
    lan.add_spare()?;
    let ipam = case.host_local(&["192.168.7.0/24"]);
    let conf = merged(&json!({ "cniVersion": "1.1.0", "name": "net", "ipam": ipam }), options);
    tells_its_steps(&case.attachment(&lan.node, &case.pod("p1")?, &conf), "create", &format!("link {device:?}"))
}

fn log_steps_of_dhcp(case: &Case) -> Result<()> {
    let (lan, pod) = (Lan::new()?, case.pod("p1")?);
    let _server = Server::start(Software::Dnsmasq, &lan.other, "eth0", &case.dir.join("server"), &Offer::v4())?;
    let daemon = Daemon::start(&case.cni_path, &lan.node, &case.dir.join("daemon"), &[])?;
    cable(&pod, "eth0", &lan.switch, "to-pod")?;
    lan.switch.plug("sw0", "to-pod")?;
    let ipam = json!({ "type": "dhcp", "daemonSocketPath": daemon.socket() });
    let conf = json!({ "cniVersion": "1.1.0", "name": "net", "type": "dhcp", "ipam": ipam });
    tells_its_steps(&case.attachment(&lan.node, &pod, &conf), "DHCP.Allocate", "DHCP daemon")
}

/// ADD, which tells this step among others, and how it ended.
fn tells_its_steps(attachment: &Attachment, operation: &str, object: &str) -> Result<()> {
    let attachment = logged(attachment, "debug")?;
    let output = call(&attachment, "ADD").run()?;
    output.success()?;
    ensure!(output.stderr.is_empty(), "{}", output.stderr);
    let all = lines(&file(&attachment.case))?;
    for line in &all {
        ensure!(line["podwire"] == attachment.conf["type"] && line["containerID"] == *attachment.container, "{line}");
    }
    let is_it = |line: &&Value| {
        line["operation"] == operation && line["object"].as_str().is_some_and(|text| text.starts_with(object))
    };
    let steps: Vec<_> = all.iter().filter(|line| is_step(line)).collect();
    let step = steps.iter().copied().find(is_it).with_context(|| format!("no step {operation} {object}: {all:#?}"))?;
    ensure!(step["result"] == "ok", "{step}");
    let end = all.last().context("no lines")?;
    ensure!(is_end(end) && end["result"] == "ok" && end["steps"] == steps.len(), "{} steps: {end}", steps.len());
    attachment.del()
}
