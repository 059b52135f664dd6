//! What is particular to `ipvlan`.

use anyhow::Result;
use serde_json::{Value, json};

use super::parent::{Row, Show};
use crate::lab::Lan;
use crate::runtimes::examples;

const fn flat(returns: bool, extra: fn(&Lan) -> Result<Value>, reaches: [bool; 3]) -> Row {
    Row { mode: "l2", returns, extra, net: "192.168.7", reaches }
}

const fn routed(mode: &'static str, extra: fn(&Lan) -> Result<Value>, reaches: [bool; 3]) -> Row {
    Row { mode, returns: false, extra, net: "192.168.8", reaches }
}

/// The other node has to know by which node a network without ARP is reached.
fn by_the_node(lan: &Lan, extra: Value) -> Result<Value> {
    lan.other.route("192.168.8.0/24", Lan::NODE[0].parse()?)?;
    Ok(extra)
}

pub(super) const SHOW: Show = Show {
    plugin: "ipvlan",
    example: examples::IPVLAN,
    rows: &[
        flat(false, |_| Ok(json!({})), [true, true, false]),
        flat(false, |_| Ok(json!({ "hostAccess": true })), [true, true, true]),
        flat(false, |_| Ok(json!({ "flag": "private" })), [false, true, false]),
        flat(false, |_| Ok(json!({ "flag": "vepa" })), [false, true, false]),
        flat(true, |_| Ok(json!({ "flag": "vepa" })), [true, true, true]),
        routed("l3", |lan| by_the_node(lan, json!({})), [true, true, false]),
        routed("l3", |lan| by_the_node(lan, json!({ "hostAccess": true })), [true, true, true]),
        routed("l3", |lan| by_the_node(lan, json!({ "flag": "private" })), [false, true, false]),
        routed("l3s", |lan| by_the_node(lan, json!({})), [true, true, false]),
        routed("l3s", |lan| by_the_node(lan, json!({ "hostAccess": true })), [true, true, true]),
    ],
    note: "In l3 and l3s the pods are on 192.168.8.0/24, to which the other node has a route by this one.",
};
