//! Address plugins as a library: what the programs `host-local` and `static` do, callable in-process.
//!
//! Everything here is synchronous and knows neither stdin nor stdout: the runner reads the call, hands it over as a
//! [`Request`], and writes what comes back. The same code serves an interface plugin that delegates to its own suite
//! without starting a program.
//!
//! * [`HostLocal`]: addresses from ranges, leased in files on the node that the reference plugin reads and writes too.
//! * [`Static`]: the addresses that the configuration or the caller names.

mod allocate;
mod folder;
mod freed;
mod host_local;
mod index;
mod lease;
mod origin;
mod probe;
mod range;
mod reclaim;
mod requested;
mod resolv;
mod static_;
mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod testing_node;

use std::{net::IpAddr, os::fd::BorrowedFd, time::Duration};

use podwire_spec as spec;
use serde::de::DeserializeOwned;

pub use host_local::{HostLocal, HostLocalConfig};
pub use static_::{Static, StaticAddress, StaticConfig};

/// One call: the environment and the configuration, both checked.
pub struct Request<'a, C> {
    /// The `CNI_*` variables.
    pub env: &'a spec::Env,
    /// The network configuration, read with [`spec::NetConf::parse_ipam`].
    pub conf: &'a spec::NetConf<C>,
    /// The program around.
    pub runner: &'a dyn Runner,
}

/// What an address plugin asks of the program that it runs in: to wait in a way that the program can be told to end
/// meanwhile, and to speak with the pod's network, of which nothing is known here.
pub trait Runner {
    /// Waits for the lock (flock(2), exclusive) on `file`, which somebody else has.
    ///
    /// # Errors
    /// Code 106 if the call is to end, code 5 if the lock cannot be had.
    fn wait_for_lock(&self, file: BorrowedFd<'_>) -> spec::Result<()>;

    /// Asks, from the interface of the pod that `env` names, who else has each of `ips`; one answer for each. Waits for
    /// as long as `wait` if nobody answers.
    ///
    /// # Errors
    /// Code 106 if the call is to end; code 7 or 103 where the question cannot be asked.
    fn probe(&self, env: &spec::Env, ips: &[IpAddr], wait: Duration) -> spec::Result<Vec<Option<spec::Mac>>>;

    /// GC: whether an attachment was being added when it began, and so is to be spared although the list lacks it.
    fn is_being_added(&self, network: &str, container_id: &str, ifname: &str) -> bool;
}

/// An address plugin.
///
/// A call may block, in [`Runner`]'s functions only: on a lease folder's lock for as long as another call holds it.
pub trait Ipam {
    /// The plugin's `type`.
    const NAME: &'static str;
    /// The options in the `ipam` object.
    type Config: DeserializeOwned;

    /// Takes addresses for the attachment. The result holds addresses, routes and DNS, no interfaces.
    ///
    /// # Errors
    /// Code 7 for a configuration that cannot be; code 100 where no address is left; code 105 where an address is taken or
    /// the attachment has one already; code 5 for a file that cannot be read or written. Nothing is taken then.
    fn add(rq: &Request<'_, Self::Config>) -> anyhow::Result<spec::AddResult>;

    /// Gives the attachment's addresses back; having none is success.
    ///
    /// # Errors
    /// Code 5 for a file that cannot be read or removed; every address is attempted.
    fn del(rq: &Request<'_, Self::Config>) -> anyhow::Result<()>;

    /// Compares what the attachment holds with `prevResult` and the configuration.
    ///
    /// # Errors
    /// Code 102 for a difference.
    fn check(rq: &Request<'_, Self::Config>) -> anyhow::Result<()>;

    /// Gives back the addresses of this network's attachments that are not in `cni.dev/valid-attachments`.
    ///
    /// # Errors
    /// Code 7 without that list; code 5 for files that cannot be removed, after all were attempted.
    fn gc(rq: &Request<'_, Self::Config>) -> anyhow::Result<()>;

    /// Tells whether an ADD would find an address.
    ///
    /// # Errors
    /// Code 50 where it would not.
    fn status(rq: &Request<'_, Self::Config>) -> anyhow::Result<()>;
}

/// The list that GC goes by.
///
/// # Errors
/// Code 7 without it: to take a missing list for an empty one would remove every attachment.
fn valid_attachments<C>(conf: &spec::NetConf<C>) -> spec::Result<&[spec::Attachment]> {
    conf.valid.as_deref().ok_or_else(|| {
        spec::Error::invalid(
            "cni.dev/valid-attachments",
            "missing; GC removes nothing without the list of what to keep",
        )
    })
}
