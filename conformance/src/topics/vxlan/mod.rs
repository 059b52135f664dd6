//! vxlan: nodes joined by a switch, pods on them, and what is seen on the way between.

mod check;
mod life;
mod parameters;
mod peers;
mod reach;

use std::net::IpAddr;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cni::{Call, tool};
use crate::lab::{Space, on_a_switch};
use crate::runner::{Attachment, Case, Feature, Test, merged};

pub(super) const TESTS: &[&[Test]] = &[reach::TESTS, peers::TESTS, parameters::TESTS, life::TESTS, check::TESTS];

const NEEDS: &[Feature] = &[Feature::Vxlan];

/// Nodes named `n1` and so on, each with an `eth0` on the switch that joins them.
struct Underlay {
    nodes: Vec<Space>,
    ipv6: bool,
    _switch: Space,
}

impl Underlay {
    /// So many nodes, with addresses of either IP version.
    fn new(count: usize, ipv6: bool) -> Result<Self> {
        let names: Vec<_> = (1..=count).map(|n| format!("n{n}")).collect();
        let (switch, nodes) = on_a_switch(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        let underlay = Self { nodes, ipv6, _switch: switch };
        let prefix = if ipv6 { 64 } else { 24 };
        for (n, node) in (1..).zip(&underlay.nodes) {
            node.address("eth0", &format!("{}/{prefix}", underlay.address(n)))?;
        }
        Ok(underlay)
    }

    /// The address of the `n`th node, counted from 1.
    fn address(&self, n: usize) -> String {
        if self.ipv6 { format!("2001:db8::{n}") } else { format!("192.0.2.{n}") }
    }

    /// The addresses of all nodes.
    fn addresses(&self) -> Vec<String> {
        (1..=self.nodes.len()).map(|n| self.address(n)).collect()
    }
}

/// A network named `net` with VNI 42.
fn network(extra: Value) -> Value {
    merged(&json!({ "cniVersion": "1.1.0", "name": "net", "type": "vxlan", "vni": 42 }), extra)
}

/// A pod on a network, with an address by `static`.
struct Pod {
    attachment: Attachment,
    ip: IpAddr,
    result: Value,
}

impl Pod {
    /// What is to be added: the pod `name` with the address `ip`/24.
    fn attachment(case: &Case, node: &Space, name: &str, ip: &str, conf: &Value) -> Result<Attachment> {
        let ipam = json!({ "type": "static", "addresses": [{ "address": format!("{ip}/24") }] });
        Ok(case.attachment(node, &case.pod(name)?, conf).with(json!({ "ipam": ipam })))
    }

    /// Adds it, and checks it.
    fn new(case: &Case, node: &Space, name: &str, ip: &str, conf: &Value) -> Result<Self> {
        let attachment = Self::attachment(case, node, name, ip, conf)?;
        let result = attachment.add().with_context(|| format!("pod {name:?}"))?;
        attachment.check(&result).with_context(|| format!("pod {name:?}"))?;
        Ok(Self { attachment, ip: ip.parse()?, result })
    }

    fn space(&self) -> &Space {
        &self.attachment.pod
    }
}

/// A pod on every node, `p1` with 10.42.0.1 and so on.
fn pods(case: &Case, underlay: &Underlay, conf: &Value) -> Result<Vec<Pod>> {
    let pod = |(n, node)| Pod::new(case, node, &format!("p{n}"), &format!("10.42.0.{n}"), conf);
    (1..).zip(&underlay.nodes).map(pod).collect()
}

/// GC of a network with these attachments as the valid ones.
fn collect(case: &Case, node: &Space, conf: &Value, valid: &[&Attachment]) -> Call {
    let list: Vec<Value> = valid.iter().map(|a| json!({ "containerID": a.container, "ifname": a.ifname })).collect();
    case.call(node, "vxlan", "GC").conf(&merged(conf, json!({ "cni.dev/valid-attachments": list })))
}

/// The forwarding entries of a device, as `bridge fdb` prints them.
fn fdb(space: &Space, device: &str) -> Result<Vec<String>> {
    let text = tool(space, "bridge", &["fdb", "show", "dev", device])?;
    Ok(text.lines().map(|line| line.trim().to_owned()).collect())
}

/// Where frames go whose destination is not known, sorted.
fn flooded(space: &Space, device: &str) -> Result<Vec<String>> {
    let entries = fdb(space, device)?;
    let flooding = entries.iter().filter_map(|line| line.strip_prefix("00:00:00:00:00:00 dst "));
    let mut all: Vec<_> = flooding.filter_map(|rest| rest.split(' ').next()).map(str::to_owned).collect();
    all.sort();
    Ok(all)
}
