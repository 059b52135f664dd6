//! What is particular to `macvlan`.

use anyhow::Result;
use serde_json::{Value, json};

use super::parent::{Row, Show};
use crate::lab::Lan;
use crate::runtimes::examples;

const NET: &str = "192.168.7";

const fn row(mode: &'static str, returns: bool, extra: fn(&Lan) -> Result<Value>, reaches: [bool; 3]) -> Row {
    Row { mode, returns, extra, net: NET, reaches }
}

pub(super) const SHOW: Show = Show {
    plugin: "macvlan",
    example: examples::MACVLAN,
    rows: &[
        row("bridge", false, |_| Ok(json!({})), [true, true, false]),
        row("bridge", false, |_| Ok(json!({ "hostAccess": true })), [true, true, true]),
        row("private", false, |_| Ok(json!({})), [false, true, false]),
        row("private", true, |_| Ok(json!({})), [false, true, false]),
        row("vepa", false, |_| Ok(json!({})), [false, true, false]),
        row("vepa", true, |_| Ok(json!({})), [true, true, true]),
        row("passthru", false, |_| Ok(json!({})), [false, true, false]),
        row("source", true, |lan| Ok(json!({ "sourceMacs": [lan.other.link("eth0")?.mac] })), [false, true, false]),
    ],
    note: "In passthru there can be no other pod; in source the one allowed is the other node.",
};
