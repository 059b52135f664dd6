//! bridge: every option, proven by what the kernel has and by packets.

mod addresses;
mod filter;
mod ipv6;
mod labels;
mod masquerade;
mod ports;
mod rules;
mod surroundings;
mod vlan;

use std::net::IpAddr;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::lab::Space;
use crate::runner::{Attachment, Case, Test};

pub(super) const TESTS: &[&[Test]] = &[
    addresses::TESTS,
    ports::TESTS,
    vlan::TESTS,
    filter::TESTS,
    masquerade::TESTS,
    ipv6::TESTS,
    labels::TESTS,
    surroundings::TESTS,
];

/// A pod that was added, with what ADD said.
pub(super) struct Added {
    pub(super) attachment: Attachment,
    pub(super) result: Value,
}

impl Added {
    /// Makes the pod `name` and adds it to the network.
    pub(super) fn new(case: &Case, node: &Space, name: &str, conf: &Value) -> Result<Self> {
        let attachment = case.attachment(node, &case.pod(name)?, conf);
        let result = attachment.add().with_context(|| format!("pod {name:?}"))?;
        Ok(Self { attachment, result })
    }

    /// The same after a CHECK, which has to pass right after ADD, before other pods come.
    pub(super) fn checked(self) -> Result<Self> {
        self.attachment.check(&self.result)?;
        Ok(self)
    }

    pub(super) fn pod(&self) -> &Space {
        &self.attachment.pod
    }

    /// The `n`th address that ADD reported.
    pub(super) fn ip(&self, n: usize) -> Result<IpAddr> {
        let text = self.result["ips"][n]["address"].as_str().unwrap_or_default();
        let ip = text.split('/').next().unwrap_or_default();
        ip.parse().with_context(|| format!("address {n} of {}", self.result))
    }

    /// The host's end of the veth.
    fn host_link(&self) -> String {
        self.result["interfaces"][1]["name"].as_str().unwrap_or_default().to_owned()
    }
}
