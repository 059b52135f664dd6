//! What is to be done: the environment of a CNI plugin, and words on the command line in place of a configuration.

use std::io::{Error, Result};
use std::net::IpAddr;
use std::path::PathBuf;

/// The kind of device in the pod.
pub(crate) enum Device {
    /// A veth whose other end is a port of a bridge of the node.
    Port { bridge: String },
    /// macvlan in mode bridge on the parent.
    MacVlan,
    /// ipvlan in mode l2 on the parent.
    IpVlan,
    /// A VLAN of the parent.
    Vlan(u16),
    /// An active-backup bond of links of the node.
    Bond(Vec<String>),
}

/// A set of nftables and what goes into it for a pod.
pub(crate) struct Element {
    /// `NFPROTO_*` of the table.
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) set: String,
    /// The pod's address, or the name of its port: the key.
    pub(crate) key: Vec<u8>,
}

/// Everything that a call needs to know.
pub(crate) struct Order {
    pub(crate) netns: PathBuf,
    pub(crate) ifname: String,
    pub(crate) container: String,
    pub(crate) device: Device,
    /// Name of the link of the node below the device.
    pub(crate) parent: String,
    /// Number of the port among all of the node.
    pub(crate) port: u16,
    /// Directory of the leases.
    pub(crate) leases: PathBuf,
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    /// Gateways of default routes.
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) elements: Vec<Element>,
}

impl Order {
    /// From the environment and `words`, each `KEY=VALUE`.
    pub(crate) fn read(words: impl Iterator<Item = String>) -> Result<Self> {
        let mut order = Self {
            netns: variable("CNI_NETNS")?.into(),
            ifname: variable("CNI_IFNAME")?,
            container: variable("CNI_CONTAINERID")?,
            device: Device::MacVlan,
            parent: String::new(),
            port: 0,
            leases: PathBuf::new(),
            addresses: Vec::new(),
            gateways: Vec::new(),
            elements: Vec::new(),
        };
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| unknown(&word))?;
            order.take(key, value).ok_or_else(|| unknown(&word))?;
        }
        Ok(order)
    }

    /// Name of the port.
    pub(crate) fn port_name(&self) -> String {
        format!("floor{}", self.port)
    }

    fn take(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "bridge" => self.device = Device::Port { bridge: value.to_owned() },
            "macvlan" => (self.device, self.parent) = (Device::MacVlan, value.to_owned()),
            "ipvlan" => (self.device, self.parent) = (Device::IpVlan, value.to_owned()),
            "vlan" => {
                let (parent, id) = value.split_once(',')?;
                (self.device, self.parent) = (Device::Vlan(id.parse().ok()?), parent.to_owned());
            }
            "bond" => self.device = Device::Bond(value.split(',').map(str::to_owned).collect()),
            "port" => self.port = value.parse().ok()?,
            "leases" => self.leases = value.into(),
            "address" => {
                let (ip, prefix) = value.split_once('/')?;
                self.addresses.push((ip.parse().ok()?, prefix.parse().ok()?));
            }
            "gateway" => self.gateways.push(value.parse().ok()?),
            "element" => self.elements.push(element(value)?),
            _ => return None,
        }
        Some(())
    }
}

/// `FAMILY,TABLE,SET,KEY`, the key being an address or a name.
fn element(value: &str) -> Option<Element> {
    let [family, table, set, key] = value.split(',').collect::<Vec<_>>().try_into().ok()?;
    let key = match key.parse() {
        Ok(IpAddr::V4(ip)) => ip.octets().to_vec(),
        Ok(IpAddr::V6(ip)) => ip.octets().to_vec(),
        // A name is compared in its whole width.
        Err(_) => {
            let mut name = key.as_bytes().to_vec();
            name.resize(16, 0);
            name
        }
    };
    Some(Element { family: family.parse().ok()?, table: table.to_owned(), set: set.to_owned(), key })
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).map_err(|e| Error::other(format!("{name}: {e}")))
}

fn unknown(word: &str) -> Error {
    Error::other(format!("{word:?}: not understood"))
}
