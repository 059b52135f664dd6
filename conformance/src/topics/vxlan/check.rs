//! P23: CHECK names the one thing that was changed behind its back.

use anyhow::{Context, Result};
use serde_json::json;

use super::{NEEDS, Pod, Underlay, network};
use crate::cni::tool;
use crate::runner::{Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p23_vxlan_check_names_what_was_changed, "device, bridge, port, entries").needs(NEEDS).ours().limit(60),
    test!(p23_vxlan_check_of_direct_names_what_was_changed, "in the pod").needs(NEEDS).ours(),
];

const MAC: &str = "02:00:00:00:00:07";

/// On the node: what is done to it, and what CHECK has to say.
const ON_THE_NODE: &[(&str, &[&str])] = &[
    ("ip link set vx42 type vxlan ttl 7", &["vx42", "ttl", "16", "7"]),
    ("ip link set vx42 type vxlan tos 0x40", &["vx42", "tos", "32", "64"]),
    ("ip link set vx42 type vxlan nolearning", &["vx42", "learning", "true", "false"]),
    ("ip link set vx42 type vxlan local 192.0.2.77", &["vx42", "local", "192.0.2.1", "192.0.2.77"]),
    ("ip link set vx42 type vxlan remote 192.0.2.78", &["vx42", "remote", "192.0.2.78"]),
    ("ip link set vx42 mtu 1300", &["vx42", "MTU", "1400", "1300"]),
    ("ip link set vx42 down", &["vx42", "up", "down"]),
    ("ip link set vx42 nomaster", &["vx42", "br-vx42"]),
    ("ip link del vx42", &["vx42", "none"]),
    ("ip link del br-vx42", &["br-vx42"]),
    ("ip link set br-vx42 down", &["br-vx42", "up", "down"]),
    ("bridge link set dev vx42 neigh_suppress off", &["vx42", "arpSuppress", "true", "false"]),
    ("bridge fdb del 00:00:00:00:00:00 dev vx42 dst 192.0.2.2 self", &["vx42", "00:00:00:00:00:00>192.0.2.2"]),
    ("bridge fdb del 02:00:00:00:00:07 dev vx42 dst 192.0.2.2 self", &["vx42", "02:00:00:00:00:07>192.0.2.2"]),
    ("ip addr del 192.0.2.1/24 dev eth0", &["underlay", "local", "192.0.2.1"]),
    ("ip neigh del 10.42.0.7 dev br-vx42", &["10.42.0.7", MAC, "br-vx42"]),
];

/// In the pod, of a device that is there.
const IN_THE_POD: &[(&str, &[&str])] = &[
    ("ip link set eth0 type vxlan ttl 7", &["eth0", "ttl", "16", "7"]),
    ("ip link set eth0 type vxlan nolearning", &["eth0", "learning", "true", "false"]),
    ("ip link set eth0 mtu 1300", &["eth0", "MTU", "1400", "1300"]),
    ("bridge fdb del 00:00:00:00:00:00 dev eth0 dst 192.0.2.2 self", &["eth0", "00:00:00:00:00:00>192.0.2.2"]),
    ("ip link del eth0", &["eth0", "none"]),
];

/// For each a fresh node and pod: ADD, CHECK, the damage, CHECK with code 102 and the words, DEL.
fn each(case: &Case, attach: &str, damages: &[(&str, &[&str])]) -> Result<()> {
    for (damage, words) in damages {
        let attempt = || -> Result<()> {
            let underlay = Underlay::new(1, false)?;
            let node = &underlay.nodes[0];
            let conf = network(json!({
                "attach": attach, "local": "192.0.2.1", "ttl": 16, "tos": 32, "mtu": 1400, "remotes": ["192.0.2.2"],
                "fdb": [{ "mac": MAC, "dst": "192.0.2.2", "ips": ["10.42.0.7"] }], "arpSuppress": attach == "bridge",
            }));
            let pod = Pod::new(case, node, "a", "10.42.0.1", &conf)?;
            let place = if attach == "bridge" { node } else { pod.space() };
            let mut command = damage.split(' ');
            tool(place, command.next().unwrap_or_default(), &command.collect::<Vec<_>>())?;
            let check = || pod.attachment.check_call(&pod.result).fail(102);
            case.unchanged(&[node, pod.space()], check)?.says(words)?;
            pod.attachment.del()
        };
        attempt().with_context(|| (*damage).to_owned())?;
    }
    Ok(())
}

fn p23_vxlan_check_names_what_was_changed(case: &Case) -> Result<()> {
    each(case, "bridge", ON_THE_NODE)
}

fn p23_vxlan_check_of_direct_names_what_was_changed(case: &Case) -> Result<()> {
    each(case, "direct", IN_THE_POD)
}
