//! The lab and the suite: network namespaces as nodes and pods, and the tests that drive CNI plugins through them.
//!
//! - [`lab`]: nodes, pods, switches, cables.
//! - [`packets`]: ping, capture, injection, sockets inside a namespace.
//! - [`cni`]: a call of a plugin and what came back.
//! - [`conflist`]: a configuration list, called as a runtime calls it.
//! - [`runner`]: registers, schedules and reports the tests; starts the guest kernel.
//! - [`topics`]: the tests.
//! - [`runtimes`]: the tests with real container runtimes.
//! - [`bench`]: times beside the reference plugins.
//! - [`demo`]: what a plugin does, step by step, for a person.
#![allow(
    clippy::missing_errors_doc,
    reason = "every function of the lab fails with an anyhow error that ends the test and says all there is"
)]
#![allow(
    clippy::unnecessary_debug_formatting,
    reason = "a path in a message stands in quotes, as every other name does"
)]
#![allow(clippy::similar_names, reason = "the field's own words are short and alike: port and pod, seen and sent")]

pub mod bench;
pub mod cli;
pub mod cni;
pub mod conflist;
pub mod demo;
mod intercept;
pub mod lab;
pub mod packets;
pub mod runner;
pub mod runtimes;
mod sys;
pub mod topics;
