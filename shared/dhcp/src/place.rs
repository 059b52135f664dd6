//! Where a client's link is.

use std::path::{Path, PathBuf};

use podwire_net::{Errno, Link, Net, Netns};
use podwire_spec::interface_name;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A link of a namespace, by names: a handle of the namespace would keep it alive after its pod.
///
/// The namespace is known again by its number, so that another one that has got its path is not taken for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The path of the namespace, such as `/run/netns/pod`.
    netns: PathBuf,
    /// The link's name there.
    ifname: String,
    /// The namespace's device and inode number.
    number: (u64, u64),
}

impl Place {
    /// The link `ifname` of the namespace that is at `netns` now.
    ///
    /// # Errors
    /// [`Error::Gone`] where no namespace is there, [`Error::Unsuitable`] where `ifname` cannot be a link's name.
    pub fn new(netns: impl Into<PathBuf>, ifname: &str) -> Result<Self> {
        if !interface_name(ifname) {
            return Err(Error::Unsuitable(format!("link {ifname:?}: not a name that a link can have")));
        }
        let netns = netns.into();
        let number = open(&netns)?.number()?;
        Ok(Self { netns, ifname: ifname.to_owned(), number })
    }

    /// The path of the namespace.
    pub fn netns(&self) -> &Path {
        &self.netns
    }

    /// The link's name.
    pub fn ifname(&self) -> &str {
        &self.ifname
    }

    /// The namespace, if it is still the one that it was.
    ///
    /// # Errors
    /// [`Error::Gone`] where it is not.
    pub fn enter(&self) -> Result<Netns> {
        let ns = open(&self.netns)?;
        if ns.number()? != self.number {
            return Err(Error::Gone(format!("{}: it is another one by now", ns.name())));
        }
        Ok(ns)
    }

    /// A connection in the namespace, and the link.
    ///
    /// # Errors
    /// [`Error::Gone`] where either is no more.
    pub fn link(&self) -> Result<(Net, Link)> {
        let net = Net::open(self.enter()?)?;
        match net.link(&self.ifname)? {
            Some(link) => Ok((net, link)),
            None => Err(Error::Gone(format!("link {:?}: not found in {}", self.ifname, net.ns().name()))),
        }
    }
}

fn open(path: &Path) -> Result<Netns> {
    Netns::open(path).map_err(|error| match error.errno {
        // What was a namespace's mount point is a plain file once it is unmounted.
        Some(Errno::ENOENT | Errno::ENOTDIR | Errno::EINVAL) => Error::Gone(error.to_string()),
        _ => error.into(),
    })
}
