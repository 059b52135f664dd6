//! The networks that are measured, what is promised of each, and what is aimed at.
//!
//! A **promise** is what `--assert`, and so `make bench`, fails on. It is what the project holds itself to on any machine,
//! and leaves room below what is measured on a quiet one. An **aim** is what the work on speed is measured by. It is
//! shown, with what misses it, and fails nothing: it is near to what can be had at all, and on a machine that does
//! something else at the same time a fraction more or less says nothing. A regression is caught by the number of
//! instructions (see [`super::instructions`]), which no load changes.

use serde_json::{Value, json};

use super::goal::{Goal, Measure};
use crate::runner::Feature;

/// The node's links below macvlan and its like; a bond has both.
pub(super) const LINKS: [&str; 2] = ["eth1", "eth2"];

/// What the node has before the first call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Below {
    /// A pod on the network, as on any node that is at work: the bridge is there and has its carrier.
    Neighbour,
    /// A link that is cabled to somewhere.
    Parent,
    /// Such a link with an address, and then a pod.
    Underlay,
    /// Two such links.
    Links,
}

/// What the floor does for a pod.
pub(super) struct Floor {
    /// The device: a word of `podwire-floor`.
    pub(super) device: &'static str,
    /// IPv6 too.
    pub(super) dual: bool,
    /// A default route.
    pub(super) gateway: bool,
    /// Rules that are there for all pods, as `nft` reads them, with a set for what a pod adds.
    pub(super) rules: Option<Rules>,
}

/// A table `floor` with one set.
#[derive(Clone, Copy)]
pub(super) enum Rules {
    /// Pods by their addresses.
    Masquerade,
    /// Ports by their names.
    Spoof,
}

/// A kind of network.
pub(super) struct Case {
    pub(super) title: &'static str,
    pub(super) plugin: &'static str,
    /// What the configuration says beside.
    pub(super) extra: fn() -> Value,
    pub(super) needs: &'static [Feature],
    pub(super) below: Below,
    /// Whether the reference has such a plugin.
    pub(super) reference: bool,
    pub(super) floor: Floor,
    pub(super) add: &'static [Goal],
    pub(super) del: &'static [Goal],
}

/// Aims of all devices: what may come on top of the kernel's own work.
const ADD: Goal = Goal::aim(Measure::OfFloor(1.5));
const DEL: Goal = Goal::aim(Measure::OfFloor(1.2));

/// As many times as fast as the reference an ADD is to be, whatever the device.
pub(super) const SIX: Goal = Goal::aim(Measure::Faster(6.0));

const fn faster(times: f64) -> Goal {
    Goal::promise(Measure::Faster(times))
}

/// A port of a bridge that is the pods' gateway.
const BRIDGE: Case = Case {
    title: "bridge",
    plugin: "bridge",
    extra: bridge,
    needs: &[],
    below: Below::Neighbour,
    reference: true,
    floor: Floor { device: "bridge=cni0", dual: false, gateway: true, rules: None },
    add: &[faster(6.0), ADD],
    del: &[faster(5.0), DEL],
};

/// A device on a link of the node.
pub(super) const PARENT: Case = Case {
    title: "macvlan",
    plugin: "macvlan",
    extra: || json!({ "master": LINKS[0] }),
    needs: &[Feature::Macvlan],
    below: Below::Parent,
    floor: Floor { device: "macvlan=eth1", gateway: false, ..BRIDGE.floor },
    // The kernel's own work is nearly all of a DEL.
    add: &[faster(4.0), SIX, ADD],
    del: &[DEL],
    ..BRIDGE
};

pub(super) const CASES: [Case; 9] = [
    BRIDGE,
    Case {
        title: "bridge, ipMasq",
        extra: || with(bridge(), "ipMasq", json!(true)),
        floor: Floor { rules: Some(Rules::Masquerade), ..BRIDGE.floor },
        add: &[faster(15.0), ADD],
        del: &[faster(10.0), DEL],
        ..BRIDGE
    },
    Case {
        title: "bridge, macspoofchk",
        extra: || with(bridge(), "macspoofchk", json!(true)),
        needs: &[Feature::NftBridge],
        floor: Floor { rules: Some(Rules::Spoof), ..BRIDGE.floor },
        add: &[SIX, ADD],
        del: &[DEL],
        ..BRIDGE
    },
    Case {
        title: "bridge, IPv4 and IPv6",
        extra: || with(bridge(), "ipam", json!({ "ranges": [[{ "subnet": SUBNET }], [{ "subnet": SUBNET6 }]] })),
        floor: Floor { dual: true, ..BRIDGE.floor },
        add: &[SIX, ADD],
        del: &[DEL],
        ..BRIDGE
    },
    PARENT,
    Case {
        title: "ipvlan",
        plugin: "ipvlan",
        needs: &[Feature::Ipvlan],
        floor: Floor { device: "ipvlan=eth1", ..PARENT.floor },
        ..PARENT
    },
    Case {
        title: "vlan",
        plugin: "vlan",
        extra: || json!({ "master": LINKS[0], "vlanId": 100 }),
        needs: &[Feature::Vlan],
        floor: Floor { device: "vlan=eth1,100", ..PARENT.floor },
        ..PARENT
    },
    Case {
        title: "vxlan",
        plugin: "vxlan",
        extra: || json!({ "vni": 42, "dev": LINKS[0], "remotes": ["192.0.2.2"] }),
        needs: &[Feature::Vxlan],
        below: Below::Underlay,
        reference: false,
        floor: Floor { device: "bridge=br-vx42", ..PARENT.floor },
        add: &[ADD],
        del: &[DEL],
    },
    Case {
        title: "bond",
        plugin: "bond",
        extra: || json!({ "mode": "active-backup", "miimon": 50, "links": LINKS.map(|name| json!({ "name": name })) }),
        needs: &[Feature::Bond],
        below: Below::Links,
        reference: false,
        floor: Floor { device: "bond=eth1,eth2", ..PARENT.floor },
        add: &[ADD],
        del: &[DEL],
    },
];

/// Room for every pod; ours and the reference give the first half, the floor the second.
pub(super) const SUBNET: &str = "10.78.0.0/16";
/// The same for IPv6.
pub(super) const SUBNET6: &str = "fd78::/64";

/// A bridge that is the pods' gateway.
pub(super) fn bridge() -> Value {
    json!({ "bridge": "cni0", "isDefaultGateway": true })
}

fn with(mut conf: Value, key: &str, value: Value) -> Value {
    conf[key] = value;
    conf
}
