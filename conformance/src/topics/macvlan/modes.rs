//! Who reaches whom in which mode.

use std::net::IpAddr;

use anyhow::{Context, Result};
use serde_json::json;

use super::{Added, NEEDS, NODE, OTHER, conf, parsed};
use crate::lab::{Lan, Space};
use crate::packets::{isolated, reaches};
use crate::runner::{Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p28_macvlan_bridge_mode, "pod to pod and to another node, not to its own node").needs(NEEDS),
    test!(p28_macvlan_bridge_mode_with_hairpin, "and to its own node by way of the switch").needs(NEEDS),
    test!(p28_macvlan_private_mode, "to another node alone").needs(NEEDS),
    test!(p28_macvlan_private_mode_with_hairpin, "the same even if the switch sends frames back").needs(NEEDS),
    test!(p28_macvlan_vepa_mode, "to another node alone, with a plain switch").needs(NEEDS),
    test!(p28_macvlan_vepa_mode_with_hairpin, "to all, with a switch that sends frames back").needs(NEEDS),
];

/// Whom a pod reaches. Another node it reaches in every mode, which is the control of what it does not reach.
struct Row {
    mode: &'static str,
    /// The switch sends frames back to the node.
    hairpin: bool,
    /// A second pod on the same parent.
    pod: bool,
    /// Its own node.
    node: bool,
}

const MATRIX: [Row; 6] = [
    Row { mode: "bridge", hairpin: false, pod: true, node: false },
    Row { mode: "bridge", hairpin: true, pod: true, node: true },
    Row { mode: "private", hairpin: false, pod: false, node: false },
    Row { mode: "private", hairpin: true, pod: false, node: false },
    Row { mode: "vepa", hairpin: false, pod: false, node: false },
    Row { mode: "vepa", hairpin: true, pod: true, node: true },
];

fn p28_macvlan_bridge_mode(case: &Case) -> Result<()> {
    prove(case, &MATRIX[0])
}

fn p28_macvlan_bridge_mode_with_hairpin(case: &Case) -> Result<()> {
    prove(case, &MATRIX[1])
}

fn p28_macvlan_private_mode(case: &Case) -> Result<()> {
    prove(case, &MATRIX[2])
}

fn p28_macvlan_private_mode_with_hairpin(case: &Case) -> Result<()> {
    prove(case, &MATRIX[3])
}

fn p28_macvlan_vepa_mode(case: &Case) -> Result<()> {
    prove(case, &MATRIX[4])
}

fn p28_macvlan_vepa_mode_with_hairpin(case: &Case) -> Result<()> {
    prove(case, &MATRIX[5])
}

fn prove(case: &Case, row: &Row) -> Result<()> {
    let lan = Lan::new()?;
    lan.hairpin(row.hairpin)?;
    let conf = conf(case, json!({ "mode": row.mode }));
    let (a, b) = (Added::new(case, &lan.node, "a", &conf)?, Added::new(case, &lan.node, "b", &conf)?);
    for (whom, ips, is_reached) in [
        ("another node", parsed(&OTHER)?, true),
        ("the other pod", b.ips()?, row.pod),
        ("its node", parsed(&NODE)?, row.node),
    ] {
        each(a.pod(), &ips, is_reached).with_context(|| whom.to_owned())?;
    }
    // And back: what another node sends gets to the pod.
    each(&lan.other, &a.ips()?, true).context("from another node")
}

fn each(from: &Space, ips: &[IpAddr], is_reached: bool) -> Result<()> {
    ips.iter().try_for_each(|&ip| if is_reached { reaches(from, ip).map(drop) } else { isolated(from, ip) })
}
