//! bond: every mode and option, links lent and given back, and traffic that goes on when a cable is cut.

mod lifecycle;
mod links;
mod options;
mod port;
mod traffic;

use anyhow::{Context, Result, ensure};
use rtnetlink::LinkBond;
use serde_json::{Value, json};

use crate::cni::tool;
use crate::lab::{Space, cable};
use crate::runner::{Case, Feature, Test, merged};

pub(super) const TESTS: &[&[Test]] = &[options::TESTS, links::TESTS, lifecycle::TESTS, traffic::TESTS, port::TESTS];

const NEEDS: &[Feature] = &[Feature::Bond];

/// The links of the node that the tests lend.
const LINKS: [&str; 2] = ["eth1", "eth2"];
/// Who is at the other end of the cables, in the pod's network.
const FAR: &str = "10.7.0.100";

/// A bond named `net` over both links on `10.7.0.0/24`, with `extra` laid over it.
fn conf(case: &Case, extra: Value) -> Value {
    let conf = json!({
        "cniVersion": "1.1.0",
        "name": "net",
        "type": "bond",
        "mode": "active-backup",
        "links": [{ "name": LINKS[0] }, { "name": LINKS[1] }],
        "ipam": case.host_local(&["10.7.0.0/24"]),
    });
    merged(&conf, extra)
}

/// A node whose links lead to a switch, which has the address [`FAR`].
fn node_at_switch(case: &Case) -> Result<(Space, Space)> {
    let (node, switch) = (case.node("n1")?, Space::switch("switch")?);
    for (link, port) in LINKS.into_iter().zip(["p1", "p2"]) {
        cable(&node, link, &switch, port)?;
        switch.plug("sw0", port)?;
    }
    switch.address("sw0", &format!("{FAR}/24"))?;
    Ok((node, switch))
}

/// A node whose links lead to another one, which has them in a bond of its own of the mode with this number, with the
/// address [`FAR`].
fn node_at_bond(case: &Case, mode: u8) -> Result<(Space, Space)> {
    let (node, far) = (case.node("n1")?, case.node("far")?);
    far.add("bond0", LinkBond::new("bond0").mode(mode.into()).miimon(50).build())?;
    let bond = far.link("bond0")?.index;
    for link in LINKS {
        cable(&node, link, &far, link)?;
        far.down(link)?;
        far.change(link, |link| link.controller(bond))?;
    }
    far.up("bond0")?;
    far.address("bond0", &format!("{FAR}/24"))?;
    Ok((node, far))
}

/// What `ip` says of one link.
fn shown(space: &Space, link: &str) -> Result<Value> {
    let text = tool(space, "ip", &["-json", "-details", "link", "show", "dev", link])?;
    let mut all: Value = serde_json::from_str(&text).context("ip: JSON")?;
    ensure!(all[0].is_object(), "ip says nothing of {link:?}: {all}");
    Ok(all[0].take())
}

/// What `ip` says of a bond itself.
fn bond_options(space: &Space, bond: &str) -> Result<Value> {
    Ok(shown(space, bond)?["linkinfo"]["info_data"].take())
}

/// What `ip` says of a port of a bond.
fn port_state(space: &Space, port: &str) -> Result<Value> {
    Ok(shown(space, port)?["linkinfo"]["info_slave_data"].take())
}

/// The names of a bond's ports, sorted.
fn ports(space: &Space, bond: &str) -> Result<Vec<String>> {
    let mut names: Vec<_> = space.ports(bond)?.into_iter().map(|port| port.name).collect();
    names.sort();
    Ok(names)
}
