//! Everything of podwire that reads input from outside, as functions of bytes that must neither panic nor take long.
//!
//! `conformance/fuzz` has a fuzzer for each, which looks for bytes that make one fail; `tests/replay.rs` tries what the
//! fuzzers know already, in `conformance/fuzz/corpus/TARGET`, on every run of the tests. Both go by [`TARGETS`].
//!
//! A target says by a panic that something is wrong: one of podwire's own, or that of an assertion here about what has
//! to come out.
#![allow(clippy::missing_panics_doc, reason = "a panic is how a target reports")]

mod environment;
mod leases;
mod previous;
mod socket;
mod stdin;
mod wire;

/// A name, and what is done with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 19] = [
    // stdin, by plugin.
    ("bond", stdin::interface::<bond::Bond>),
    ("bridge", stdin::interface::<bridge::Bridge>),
    ("ipvlan", stdin::interface::<ipvlan::Plugin>),
    ("macvlan", stdin::interface::<macvlan::Plugin>),
    ("vlan", stdin::interface::<vlan::Vlan>),
    ("vxlan", stdin::interface::<vxlan::Vxlan>),
    ("loopback", stdin::loopback),
    ("host-local", stdin::host_local),
    ("static", stdin::static_),
    ("dhcp", stdin::dhcp),
    // What else comes with a call.
    ("environment", environment::environment),
    ("previous-result", previous::previous_result),
    // Files.
    ("lease-folder", leases::lease_folder),
    ("daemon-records", socket::records),
    // The DHCP daemon's socket, its end and the plugin's.
    ("daemon-calls", socket::calls),
    ("daemon-answers", socket::answers),
    // What others send.
    ("dhcpv4", wire::dhcpv4),
    ("dhcpv6", wire::dhcpv6),
    ("netlink", wire::netlink),
];

/// Does what the target of that name does.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(target, _)| *target == name);
    target.unwrap_or_else(|| panic!("{name:?}: no such target")).1(data);
}
