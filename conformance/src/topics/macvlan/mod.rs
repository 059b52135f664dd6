//! macvlan: every mode and option, proven by what the kernel has and by packets.

mod access;
mod calls;
mod modes;
mod options;
mod passthru;
mod source;

use std::net::IpAddr;

use anyhow::{Context, Result};
use rtnetlink::LinkBridgePort;
use serde_json::{Value, json};

use crate::cni::tool;
use crate::lab::{Space, cable};
use crate::runner::{Attachment, Case, Feature, Test, merged};

pub(super) const TESTS: &[&[Test]] =
    &[modes::TESTS, source::TESTS, passthru::TESTS, options::TESTS, access::TESTS, calls::TESTS];

/// What every test here needs.
const NEEDS: &[Feature] = &[Feature::Macvlan];

/// The parent on the node.
const PARENT: &str = "eth1";

/// Two nodes on a switch, on `192.168.7.0/24` and `fd07::/64`.
struct Lan {
    switch: Space,
    /// Where the pods are; `.1` on the link `eth1`.
    node: Space,
    /// The other one; `.200` on the link `eth0`.
    other: Space,
}

const NODE: [&str; 2] = ["192.168.7.1", "fd07::1"];
const OTHER: [&str; 2] = ["192.168.7.200", "fd07::200"];

impl Lan {
    fn new() -> Result<Self> {
        let lan = Self { switch: Space::switch("switch")?, node: Space::node("node")?, other: Space::node("other")? };
        lan.connect(&lan.node, PARENT, &NODE)?;
        lan.connect(&lan.other, "eth0", &OTHER)?;
        Ok(lan)
    }

    /// Plugs a link of `space` into the switch, into a port named as `space` is.
    fn connect(&self, space: &Space, link: &str, ips: &[&str]) -> Result<()> {
        cable(space, link, &self.switch, &space.name)?;
        self.switch.plug("sw0", &space.name)?;
        for ip in ips {
            space.address(link, &format!("{ip}/{}", if ip.contains(':') { 64 } else { 24 }))?;
        }
        Ok(())
    }

    /// Has the switch send frames back to the node where they came from, or not.
    fn hairpin(&self, on: bool) -> Result<()> {
        let port = self.switch.link("node")?.index;
        self.switch.set_port("node", LinkBridgePort::new(port).hairpin(on).build())
    }

    /// Makes the pod `name` and adds it to the network.
    fn add(&self, case: &Case, name: &str, conf: &Value) -> Result<Added> {
        let attachment = case.attachment(&self.node, &case.pod(name)?, conf);
        let result = attachment.add().with_context(|| format!("pod {name:?}"))?;
        Ok(Added { attachment, result })
    }
}

/// A network named `lan` on the parent, with `extra` laid over it, at version 1.0.0, the newest that the reference
/// knows.
fn conf(case: &Case, extra: Value) -> Value {
    let conf = json!({
        "cniVersion": "1.0.0",
        "name": "lan",
        "type": "macvlan",
        "master": PARENT,
        "ipam": case.host_local(&["192.168.7.0/24", "fd07::/64"]),
    });
    merged(&conf, extra)
}

/// A pod that was added, with what ADD said.
struct Added {
    attachment: Attachment,
    result: Value,
}

impl Added {
    fn pod(&self) -> &Space {
        &self.attachment.pod
    }

    /// The addresses that ADD reported.
    fn ips(&self) -> Result<Vec<IpAddr>> {
        let ips = self.result["ips"].as_array().into_iter().flatten();
        let ips = ips.map(|ip| ip["address"].as_str().and_then(|text| text.split('/').next()?.parse().ok()));
        ips.collect::<Option<_>>().with_context(|| self.result.to_string())
    }

    /// The MAC address that the pod has.
    fn mac(&self) -> Result<String> {
        Ok(self.pod().link("eth0")?.mac)
    }
}

/// The addresses of a table as addresses.
fn parsed(ips: &[&str]) -> Result<Vec<IpAddr>> {
    ips.iter().map(|ip| ip.parse().with_context(|| (*ip).to_owned())).collect()
}

/// What `ip -d link` says of a link's options.
fn details(space: &Space, link: &str) -> Result<Value> {
    let text = tool(space, "ip", &["-d", "-j", "link", "show", link])?;
    let all: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    Ok(all[0].clone())
}
