//! vlan: every option, proven by what the kernel has and by the tags of captured frames.

mod check;
mod holders;
mod options;
mod parents;
mod races;
mod shared;
mod tags;

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::bridge::Added;
use crate::lab::{Space, cable};
use crate::packets::{Capture, Frame, Tag};
use crate::runner::{Case, Feature, Test, merged};

pub(super) const TESTS: &[&[Test]] =
    &[tags::TESTS, options::TESTS, parents::TESTS, holders::TESTS, shared::TESTS, races::TESTS, check::TESTS];

const NEEDS: &[Feature] = &[Feature::Vlan];
/// A shared VLAN gives each pod a macvlan.
const SHARED: &[Feature] = &[Feature::Vlan, Feature::Macvlan];

/// The link of either node of [`nodes`] to the other.
const UPLINK: &str = "uplink";
const LIMIT: Duration = Duration::from_secs(2);

/// Two nodes, joined by a cable without a switch: what one sends with a tag comes to the other with it.
fn nodes(case: &Case) -> Result<[Space; 2]> {
    let nodes = [case.node("n1")?, case.node("n2")?];
    cable(&nodes[0], UPLINK, &nodes[1], UPLINK)?;
    Ok(nodes)
}

/// VLAN 100 of the uplink, as network `net` on `10.7.0.0/24`, with `extra` laid over it.
fn conf(case: &Case, extra: Value) -> Value {
    let conf = json!({
        "cniVersion": "1.0.0",
        "name": "net",
        "type": "vlan",
        "master": UPLINK,
        "vlanId": 100,
        "ipam": case.host_local(&["10.7.0.0/24"]),
    });
    merged(&conf, extra)
}

/// The same as a network that several pods of a node have.
fn shared(case: &Case, extra: Value) -> Value {
    merged(&conf(case, json!({ "cniVersion": "1.1.0", "shared": true })), extra)
}

/// A tag of 802.1Q without a priority.
fn q(id: u16) -> Tag {
    Tag { protocol: Tag::Q, priority: 0, id }
}

/// The tags of the next echo request of the pod that comes by.
fn tags_of_ping(capture: &mut Capture, pod: &Added) -> Result<Vec<Tag>> {
    let ip = pod.ip(0)?;
    Ok(capture.expect(LIMIT, "echo request", |frame: &Frame| frame.is_echo_request_from(ip))?.tags)
}
