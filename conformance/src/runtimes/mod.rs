//! Real runtimes on the plugins: what a cluster does to them, not what the protocol says it would.

mod cnitool;
mod containerd;
mod cri;
pub(crate) mod examples;
mod image;
mod pods;

use crate::runner::Topic;

/// The topic of these tests.
pub const TOPIC: Topic = Topic { name: "runtimes", tests: &[cnitool::TESTS, pods::TESTS, examples::TESTS] };
