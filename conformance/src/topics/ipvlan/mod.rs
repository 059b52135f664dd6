//! ipvlan: every mode and flag, proven by packets; what all devices of a parent share, and what they must not.

mod access;
mod identity;
mod life;
mod parents;
mod reach;
mod routed;

use std::net::IpAddr;

use anyhow::{Context, Result};
use rtnetlink::LinkBridgePort;
use serde_json::{Value, json};

use crate::lab::{Space, cable};
use crate::packets::{isolated, reaches};
use crate::runner::{Attachment, Case, Test};

pub(super) const TESTS: &[&[Test]] =
    &[reach::TESTS, routed::TESTS, identity::TESTS, parents::TESTS, life::TESTS, access::TESTS];

/// The node's addresses on its parent link, `eth1`.
const NODE: [&str; 2] = ["10.7.0.1", "fd07::1"];
/// Those of the machine outside.
const OUTSIDE: [&str; 2] = ["10.7.0.200", "fd07::c8"];

/// A node and a machine outside, joined by a switch.
struct Lan {
    node: Space,
    switch: Space,
    outside: Space,
}

impl Lan {
    fn new(case: &Case) -> Result<Self> {
        let lan = Self { node: case.node("node")?, switch: Space::switch("switch")?, outside: case.node("outside")? };
        lan.plug_in(&lan.node, "eth1", "port1")?;
        lan.plug_in(&lan.outside, "eth0", "port2")?;
        for (space, link, ips) in [(&lan.node, "eth1", NODE), (&lan.outside, "eth0", OUTSIDE)] {
            space.address(link, &format!("{}/24", ips[0]))?;
            space.address(link, &format!("{}/64", ips[1]))?;
        }
        // Pods in modes without ARP are known to others by their node.
        lan.outside.route("10.8.0.0/24", NODE[0].parse()?)?;
        lan.outside.route("fd08::/64", NODE[1].parse()?)?;
        Ok(lan)
    }

    /// Joins a link of `space` to the switch.
    fn plug_in(&self, space: &Space, link: &str, port: &str) -> Result<()> {
        cable(space, link, &self.switch, port)?;
        self.switch.plug("sw0", port)
    }

    /// Whatever is outside sends packets for the node's pods back to it: the switch, in mode l2, or a router.
    fn returns(&self, mode: &str) -> Result<()> {
        if mode == "l2" {
            let port = self.switch.link("port1")?.index;
            return self.switch.set_port("port1", LinkBridgePort::new(port).hairpin(true).build());
        }
        self.node.route("0.0.0.0/0", OUTSIDE[0].parse()?)?;
        self.node.route("::/0", OUTSIDE[1].parse()?)?;
        self.outside.set_sysctl("net/ipv4/ip_forward", "1")?;
        self.outside.set_sysctl("net/ipv6/conf/all/forwarding", "1")
    }

    /// Adds a pod to the network of `conf`.
    fn pod(&self, case: &Case, name: &str, conf: &Value) -> Result<Pod> {
        let attachment = case.attachment(&self.node, &case.pod(name)?, conf);
        let result = attachment.add().with_context(|| format!("pod {name:?}"))?;
        Ok(Pod { attachment, result })
    }
}

/// A pod that was added, with what ADD said.
struct Pod {
    attachment: Attachment,
    result: Value,
}

impl Pod {
    fn space(&self) -> &Space {
        &self.attachment.pod
    }

    fn check(&self) -> Result<()> {
        self.attachment.check(&self.result)
    }

    /// The addresses that ADD reported.
    fn ips(&self) -> Result<Vec<IpAddr>> {
        let ips = self.result["ips"].as_array().context("a result with addresses")?;
        let texts = ips.iter().filter_map(|ip| ip["address"].as_str()?.split('/').next());
        texts.map(|ip| ip.parse().with_context(|| ip.to_owned())).collect()
    }

    /// The IPv4 address.
    fn ip(&self) -> Result<IpAddr> {
        self.ips()?.into_iter().find(IpAddr::is_ipv4).with_context(|| format!("an IPv4 address in {}", self.result))
    }
}

/// A network named `net` on the node's `eth1`, with an address of each IP version and default routes: in l2 of the
/// parent's own network, in the others of one that is the node's.
fn conf(case: &Case, mode: &str) -> Value {
    let subnets = if mode == "l2" { ["10.7.0.0/24", "fd07::/64"] } else { ["10.8.0.0/24", "fd08::/64"] };
    let mut ipam = case.host_local(&subnets);
    ipam["routes"] = json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]);
    json!({ "cniVersion": "1.0.0", "name": "net", "type": "ipvlan", "master": "eth1", "mode": mode, "ipam": ipam })
}

/// Who is to reach whom, or not to.
struct Claim<'a> {
    from: &'a Space,
    to: IpAddr,
    reaches: bool,
}

/// Proves all of them, at the same time.
fn prove(claims: &[Claim]) -> Result<()> {
    std::thread::scope(|scope| {
        let proofs: Vec<_> = claims
            .iter()
            .map(|Claim { from, to, reaches: wanted }| {
                scope.spawn(move || if *wanted { reaches(from, *to).map(drop) } else { isolated(from, *to) })
            })
            .collect();
        proofs.into_iter().try_for_each(|proof| match proof.join() {
            Ok(proven) => proven,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

fn addresses(texts: [&str; 2]) -> Result<Vec<IpAddr>> {
    texts.iter().map(|text| text.parse().with_context(|| (*text).to_owned())).collect()
}
