//! The address plugin `dhcp`, its daemon, and real servers: dnsmasq and Kea.

mod calls;
mod crowd;
mod daemon;
mod lease;
mod options;
mod six;
mod swap;
mod time;

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::lab::{Daemon, Lan, Offer, Server, Software, Space};
use crate::runner::{Attachment, Case, Feature, Test, merged};

pub(super) const TESTS: &[&[Test]] =
    &[lease::TESTS, options::TESTS, time::TESTS, calls::TESTS, daemon::TESTS, six::TESTS, swap::TESTS, crowd::TESTS];

/// What every test with a server needs.
const SERVERS: &[Feature] = &[Feature::DhcpServers];

/// The network of the lab, with a router.
fn with_router() -> Offer {
    Offer { router: Some(Lan::OTHER[0].to_owned()), ..Offer::v4() }
}

/// A node with a daemon, and a server on its network.
struct Site {
    case: Case,
    lan: Lan,
    daemon: Daemon,
    server: Server,
}

impl Site {
    /// With a server of `software` that has `offer` to give, and a daemon with these arguments.
    fn new(case: &Case, software: Software, offer: &Offer, args: &[&str]) -> Result<Self> {
        let lan = Lan::new()?;
        // The bridge plugin finds it, with the way out in it.
        lan.node.add_bridge("cni0")?;
        lan.node.plug("cni0", Lan::PARENT)?;
        lan.node.up("cni0")?;
        Self::on(case, lan, software, offer, args)
    }

    /// The same for pods on the node's own link instead of a bridge.
    fn bare(case: &Case, software: Software, offer: &Offer, args: &[&str]) -> Result<Self> {
        Self::on(case, Lan::new()?, software, offer, args)
    }

    fn on(case: &Case, lan: Lan, software: Software, offer: &Offer, args: &[&str]) -> Result<Self> {
        let server = Server::start(software, &lan.other, "eth0", &case.dir.join("server"), offer)?;
        let daemon = Daemon::start(&case.cni_path, &lan.node, &case.dir.join("daemon"), args)?;
        Ok(Self { case: case.clone(), lan, daemon, server })
    }

    /// A network named `net` of pods on the bridge.
    fn conf(&self, extra: Value) -> Value {
        let conf = json!({
            "cniVersion": "1.0.0",
            "name": "net",
            "type": "bridge",
            "bridge": "cni0",
            "ipam": { "type": "dhcp", "daemonSocketPath": self.daemon.socket() },
        });
        merged(&conf, extra)
    }

    /// A pod that is not added yet.
    fn attachment(&self, name: &str, extra: Value) -> Result<Attachment> {
        Ok(self.case.attachment(&self.lan.node, &self.case.pod(name)?, &self.conf(extra)))
    }

    /// Adds a pod.
    fn pod(&self, name: &str, extra: Value) -> Result<Pod> {
        Pod::add(self.attachment(name, extra)?)
    }
}

/// A pod that was added, with what ADD said.
struct Pod {
    attachment: Attachment,
    result: Value,
}

impl Pod {
    fn add(attachment: Attachment) -> Result<Self> {
        let result = attachment.add().with_context(|| format!("pod {:?}", attachment.pod.name))?;
        Ok(Self { attachment, result })
    }

    fn space(&self) -> &Space {
        &self.attachment.pod
    }

    /// The addresses that ADD reported, with their prefixes, sorted.
    fn cidrs(&self) -> Vec<String> {
        let ips = self.result["ips"].as_array().into_iter().flatten();
        let mut cidrs: Vec<String> = ips.filter_map(|ip| ip["address"].as_str().map(str::to_owned)).collect();
        cidrs.sort();
        cidrs
    }

    /// The address that ADD reported, which has to be the only one.
    fn ip(&self) -> Result<IpAddr> {
        let cidrs = self.cidrs();
        ensure!(cidrs.len() == 1, "addresses {cidrs:?}, expected one");
        let ip = cidrs[0].split('/').next().unwrap_or_default();
        ip.parse().with_context(|| ip.to_owned())
    }

    /// The routes that ADD reported: destination and router.
    fn routes(&self) -> Vec<(String, String)> {
        let routes = self.result["routes"].as_array().into_iter().flatten();
        let word = |route: &Value, key: &str| route[key].as_str().unwrap_or_default().to_owned();
        let mut routes: Vec<_> = routes.map(|route| (word(route, "dst"), word(route, "gw"))).collect();
        routes.sort();
        routes
    }
}

/// As pairs of strings.
fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

/// As strings.
fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// Bytes that look like nothing, the same each time, so that a failure can be repeated (xorshift).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let numbers = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    numbers.flatten().take(length).collect()
}
