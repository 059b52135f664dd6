//! Who reaches whom: every mode with every flag.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Claim, Lan, NODE, OUTSIDE, addresses, conf, prove};
use crate::runner::{Case, Feature, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p28_ipvlan_l2_reaches_its_network, "pods, node and outside, as the reference does").needs(&[Feature::Ipvlan]),
    test!(p28_ipvlan_l2_with_every_flag, "bridge, private and vepa, at a switch without and with hairpin")
        .needs(&[Feature::Ipvlan])
        .ours()
        .limit(90),
    test!(p28_ipvlan_l3_with_every_flag, "bridge, private and vepa, without and with a router")
        .needs(&[Feature::Ipvlan])
        .ours()
        .limit(90),
    test!(p28_ipvlan_l3s_with_every_flag, "bridge, private and vepa, without and with a router")
        .needs(&[Feature::IpvlanL3s])
        .ours()
        .limit(90),
];

/// A row of the matrix. Outside is reached in each of them.
struct Row {
    flag: &'static str,
    /// What is outside sends packets for the node's pods back to it.
    returns: bool,
    /// Pods on the same parent reach each other.
    pods: bool,
    /// The pods and their own node reach each other.
    node: bool,
}

const fn row(flag: &'static str, returns: bool, pods: bool, node: bool) -> Row {
    Row { flag, returns, pods, node }
}

fn p28_ipvlan_l2_reaches_its_network(case: &Case) -> Result<()> {
    holds(case, "l2", &row("bridge", false, true, false))
}

fn p28_ipvlan_l2_with_every_flag(case: &Case) -> Result<()> {
    each(
        case,
        "l2",
        &[
            row("bridge", true, true, true),
            row("private", false, false, false),
            row("private", true, false, true),
            row("vepa", false, false, false),
            row("vepa", true, true, true),
        ],
    )
}

/// The rows of the modes in which the node's routes decide.
const ROUTED: [Row; 6] = [
    row("bridge", false, true, false),
    row("bridge", true, true, true),
    row("private", false, false, false),
    row("private", true, false, true),
    row("vepa", false, false, false),
    row("vepa", true, true, true),
];

fn p28_ipvlan_l3_with_every_flag(case: &Case) -> Result<()> {
    each(case, "l3", &ROUTED)
}

fn p28_ipvlan_l3s_with_every_flag(case: &Case) -> Result<()> {
    each(case, "l3s", &ROUTED)
}

fn each(case: &Case, mode: &str, rows: &[Row]) -> Result<()> {
    rows.iter().try_for_each(|row| holds(case, mode, row))
}

fn holds(case: &Case, mode: &str, row: &Row) -> Result<()> {
    let what = format!("{mode} {}, outside returns: {}", row.flag, row.returns);
    let lan = Lan::new(case)?;
    if row.returns {
        lan.returns(mode)?;
    }
    let conf = merged(&conf(case, mode), json!({ "name": format!("{}{}", row.flag, row.returns), "flag": row.flag }));
    let (a, b) = (lan.pod(case, "a", &conf)?, lan.pod(case, "b", &conf)?);
    let mut claims = Vec::new();
    let (node, outside) = (addresses(NODE)?, addresses(OUTSIDE)?);
    for (n, (&own, &other)) in a.ips()?.iter().zip(&b.ips()?).enumerate() {
        claims.extend([
            Claim { from: a.space(), to: outside[n], reaches: true },
            Claim { from: &lan.outside, to: own, reaches: true },
            Claim { from: a.space(), to: other, reaches: row.pods },
            Claim { from: b.space(), to: own, reaches: row.pods },
            Claim { from: a.space(), to: node[n], reaches: row.node },
            Claim { from: &lan.node, to: own, reaches: row.node },
        ]);
    }
    ensure!(claims.len() == 12, "{what}: an address of each IP version expected: {}", a.result);
    prove(&claims).context(what)
}
