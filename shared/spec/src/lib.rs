//! The wire types of the Container Network Interface: what a runtime sends to a plugin and what it gets back.
//!
//! Pure data: no I/O, no async, no kernel. Everything follows the
//! [CNI specification 1.1.0](https://github.com/containernetworking/cni/blob/main/SPEC.md) and its
//! [conventions](https://github.com/containernetworking/cni/blob/main/CONVENTIONS.md).
//!
//! * [`Version`]: the seven versions of the specification that podwire speaks.
//! * [`Env`]: the `CNI_*` variables, validated.
//! * [`NetConf`]: the network configuration from stdin, validated; unknown keys are found and a near name suggested.
//! * [`AddResult`]: the result of ADD, written to and read from every version.
//! * [`Error`]: the error object, and the table of its codes in [`code`].

mod conf;
mod convert;
mod decode;
mod env;
mod error;
mod fields;
mod json;
mod names;
mod result;
mod said;
mod suggest;
mod version;

pub use conf::{Attachment, Common, DelegateKind, IpRange, NetConf, RuntimeConfig, Unknown, version_of};
pub use env::{Command, Env, K8sPod, PodArgs};
pub use error::{Error, brief, code};
pub use fields::of as keys_of;
pub use names::{container_id, hash, interface_name, network_name};
pub use result::{AddResult, Cidr, Dns, Interface, Ip, Mac, RequestedIp, Route, address_or_nothing};
pub use suggest::{did_you_mean, nearest};
pub use version::Version;

/// What every fallible function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
