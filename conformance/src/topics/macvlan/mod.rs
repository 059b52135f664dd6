//! macvlan: every mode and option, proven by what the kernel has and by packets.

mod access;
mod calls;
mod modes;
mod options;
mod passthru;
mod source;

use std::net::IpAddr;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cni::tool;
use crate::lab::{Lan, Space};
use crate::runner::{Attachment, Case, Feature, Test, merged};

pub(super) const TESTS: &[&[Test]] =
    &[modes::TESTS, source::TESTS, passthru::TESTS, options::TESTS, access::TESTS, calls::TESTS];

/// What every test here needs.
const NEEDS: &[Feature] = &[Feature::Macvlan];

const PARENT: &str = Lan::PARENT;
const NODE: [&str; 2] = Lan::NODE;
const OTHER: [&str; 2] = Lan::OTHER;

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
    /// Makes the pod `name` and adds it to the network.
    fn new(case: &Case, node: &Space, name: &str, conf: &Value) -> Result<Self> {
        let attachment = case.attachment(node, &case.pod(name)?, conf);
        let result = attachment.add().with_context(|| format!("pod {name:?}"))?;
        Ok(Self { attachment, result })
    }

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
