//! The tests, one file or folder a topic. Names start with the ids of what a test proves, which the README of the suite explains.

mod behaviour;
mod bond;
mod bridge;
mod dhcp;
mod host_local;
mod input;
mod ipvlan;
mod labcheck;
mod leases;
mod log;
mod loopback;
mod macvlan;
mod output;
mod races;
mod scale;
mod static_;
mod survival;
mod vlan;
mod vxlan;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::Result;
use nix::sys::stat::{major, minor};

use crate::lab::Space;
use crate::runner::{Case, Test, Topic};

/// Every plugin of the suite.
const PLUGINS: [&str; 10] =
    ["bond", "bridge", "dhcp", "host-local", "ipvlan", "loopback", "macvlan", "static", "vlan", "vxlan"];

/// Every topic.
pub const TOPICS: &[Topic] = &[
    Topic { name: "lab", tests: &[labcheck::TESTS] },
    Topic { name: "input", tests: input::TESTS },
    Topic { name: "output", tests: output::TESTS },
    Topic { name: "log", tests: log::TESTS },
    Topic { name: "behaviour", tests: behaviour::TESTS },
    Topic { name: "bridge", tests: bridge::TESTS },
    Topic { name: "bond", tests: bond::TESTS },
    Topic { name: "macvlan", tests: macvlan::TESTS },
    Topic { name: "vxlan", tests: vxlan::TESTS },
    Topic { name: "host-local", tests: &[host_local::TESTS] },
    Topic { name: "leases", tests: leases::TESTS },
    Topic { name: "static", tests: &[static_::TESTS] },
    Topic { name: "dhcp", tests: dhcp::TESTS },
    Topic { name: "loopback", tests: &[loopback::TESTS] },
    Topic { name: "ipvlan", tests: ipvlan::TESTS },
    Topic { name: "vlan", tests: vlan::TESTS },
    Topic { name: "scale", tests: &[scale::TESTS] },
    Topic { name: "survival", tests: survival::TESTS },
    Topic { name: "races", tests: races::TESTS },
    crate::runtimes::TOPIC,
];

/// The test of that name with its topic's.
pub fn find(name: &str) -> Option<(&'static str, &'static Test)> {
    let mut all = TOPICS.iter().flat_map(|topic| topic.tests.iter().copied().flatten().map(|test| (topic.name, test)));
    all.find(|(_, test)| test.name == name)
}

/// Every plugin of the suite that is under test; the reference has some of them.
fn plugins(case: &Case) -> impl Iterator<Item = &'static str> {
    PLUGINS.into_iter().filter(|plugin| case.cni_path.join(plugin).exists())
}

/// The file by whose locks calls on the node keep out of each other's way; made by the first of them.
fn node_lock(node: &Space) -> Result<PathBuf> {
    Ok(format!("/run/podwire/node-{}.lock", fs::metadata(node.ns.path())?.ino()).into())
}

/// How `/proc/locks` names a file: tests have file systems of their own, in which numbers of files recur.
fn in_proc_locks(file: &fs::Metadata) -> String {
    format!("{:02x}:{:02x}:{} ", major(file.dev()), minor(file.dev()), file.ino())
}
