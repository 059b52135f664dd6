//! The runner: everything that a CNI call needs and that is not about one type of device.
//!
//! A plugin is one small crate: a `Config`, and one of three traits.
//!
//! * [`Attach`], for plugins that put an interface into a pod: make the device, and say whether it is as configured.
//!   Addresses, routes, results, CHECK, GC and undo are done here.
//! * [`Plugin`], the wider one under it, for anything else that takes part in a chain.
//! * [`podwire_ipam::Ipam`], for address plugins.
//!
//! `main` is one line: [`run`] or [`run_ipam`]. The way of a call is told in ARCHITECTURE.md.

#[global_allocator]
static MEMORY: podwire_net::Memory = podwire_net::Memory::new();

mod addresses;
mod attach;
mod bridged;
mod context;
mod delegate;
mod flight;
mod label;
mod lend;
mod log;
mod output;
mod parent;
mod port;
pub mod rehearse;
mod run;
mod share;
mod shim;
mod siblings;
mod turn;
mod undo;
mod waits;

pub use anyhow::{self, Result};
pub use attach::{Attach, Attached, PodSide, delete_pod_link};
pub use bridged::{warn_of_bond, warn_of_bonds_on};
pub use context::Context;
pub use label::{Label, host_veth_name};
pub use output::join;
pub use parent::Parent;
pub use podwire_net as net;
pub use podwire_spec::{self as spec, AddResult, Cidr, Error, Interface, Ip, Mac, NetConf, Route, code, hash};
pub use port::{BridgeSpec, random_mac};
pub use run::{Plugin, run, run_ipam};
pub use siblings::Sibling;
