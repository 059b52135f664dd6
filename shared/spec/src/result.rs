//! The result of ADD, as version 1.1.0 has it: section "Success" of the specification.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Serde by way of `Display` and `FromStr`.
macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|why| de::Error::custom(format!("{text:?}: {why}")))
            }
        }
    };
}

/// An Ethernet address, written `02:00:00:00:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if number == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl FromStr for Mac {
    type Err = String;

    /// Six pairs of hexadecimal digits with `:` or `-` between them; a unicast address that is not all zero.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected a MAC address such as 02:00:00:00:00:01".to_owned();
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(part.ok_or_else(expected)?, 16).map_err(|_| expected())?;
        }
        if parts.next().is_some() {
            return Err(expected());
        }
        if bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err("an interface's MAC address must be unicast and not all zero".to_owned());
        }
        Ok(Self(bytes))
    }
}
as_text!(Mac);

/// An address with the prefix length of its network, written `10.1.0.5/16`; the prefix length must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(pub IpNetwork);

impl Cidr {
    /// `ip` in a network of `prefix` bits.
    ///
    /// # Errors
    /// Where `prefix` is longer than the address.
    pub fn new(ip: IpAddr, prefix: u8) -> Result<Self, String> {
        IpNetwork::new(ip, prefix).map(Self).map_err(|_| format!("prefix length {prefix}: too long for {ip}"))
    }

    /// The address.
    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// The prefix length in bits.
    pub fn prefix(self) -> u8 {
        self.0.prefix()
    }

    /// The same with the host's bits cleared.
    #[must_use]
    pub fn network(self) -> Self {
        Self(IpNetwork::new(self.0.network(), self.0.prefix()).unwrap_or(self.0))
    }

    /// Whether `ip` is of this network.
    pub fn contains(self, ip: IpAddr) -> bool {
        self.0.contains(ip)
    }

    /// Whether this is the network that holds every address of a family.
    pub fn is_default(self) -> bool {
        self.prefix() == 0
    }

    /// The network of one address alone: 32 or 128 bits.
    pub fn of_host(ip: IpAddr) -> Self {
        Self(IpNetwork::from(ip))
    }

    /// The default network of the family that `ip` is of: `0.0.0.0/0` or `::/0`.
    pub fn default_of(ip: IpAddr) -> Self {
        let any = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Self(IpNetwork::new(any, 0).unwrap_or_else(|_| unreachable!("0 bits fit every family")))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.ip(), self.0.prefix())
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected an address with a prefix length, such as 10.1.0.5/16".to_owned();
        let (ip, prefix) = text.split_once('/').ok_or_else(expected)?;
        Self::new(ip.parse().map_err(|_| expected())?, prefix.parse().map_err(|_| expected())?)
    }
}
as_text!(Cidr);

/// An address that somebody asks for, with or without a prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestedIp {
    /// The address.
    pub ip: IpAddr,
    /// Its prefix length in bits, where one was given.
    pub prefix: Option<u8>,
}

impl fmt::Display for RequestedIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip.fmt(f)?;
        self.prefix.map_or(Ok(()), |prefix| write!(f, "/{prefix}"))
    }
}

impl FromStr for RequestedIp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            let cidr: Cidr = text.parse()?;
            return Ok(Self { ip: cidr.ip(), prefix: Some(cidr.prefix()) });
        }
        let ip = text.parse().map_err(|_| "expected an address such as 10.1.0.5 or 10.1.0.5/16".to_owned())?;
        Ok(Self { ip, prefix: None })
    }
}
as_text!(RequestedIp);

/// An interface that ADD made or uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Interface {
    /// Its name, in the namespace where it is.
    pub name: String,
    /// Its MAC address; empty where it has none.
    #[serde(default)]
    pub mac: String,
    /// Its MTU in bytes (from 1.1.0).
    #[serde(default)]
    pub mtu: Option<u32>,
    /// `CNI_NETNS` for an interface in the pod; empty on the node.
    #[serde(default)]
    pub sandbox: String,
    /// The socket of an interface that is a program's, such as vhost-user's (from 1.1.0).
    #[serde(rename = "socketPath", default)]
    pub socket_path: String,
    /// The address of an interface that is a PCI device (from 1.1.0).
    #[serde(rename = "pciID", default)]
    pub pci_id: String,
}

/// An address of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Ip {
    /// Which of the result's interfaces has it, counted from 0.
    #[serde(default)]
    pub interface: Option<usize>,
    /// The address.
    pub address: Cidr,
    /// The gateway of its network.
    #[serde(default, deserialize_with = "address_or_nothing")]
    pub gateway: Option<IpAddr>,
}

/// A route in the pod. The attributes beyond `gw` exist from 1.1.0.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// Where to.
    pub dst: Cidr,
    /// The next hop; without it the gateway of the address that is of the same family.
    #[serde(default, deserialize_with = "address_or_nothing")]
    pub gw: Option<IpAddr>,
    /// Path MTU in bytes.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Maximal segment size to advertise, in bytes.
    #[serde(default)]
    pub advmss: Option<u32>,
    /// Metric; the lower one wins.
    #[serde(default)]
    pub priority: Option<u32>,
    /// Routing table; 254 (main) by default.
    #[serde(default)]
    pub table: Option<u32>,
    /// Scope as the kernel numbers it: 0 global, 253 link, 254 host.
    #[serde(default)]
    pub scope: Option<u8>,
    /// The next hop is on the link although no address of the pod covers it (podwire's own).
    #[serde(default)]
    pub onlink: bool,
}

impl Route {
    /// A route without attributes.
    pub fn new(dst: Cidr, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None, onlink: false }
    }
}

/// Resolver configuration for the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses of name servers, in order of priority.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: String,
    /// Domains to search.
    pub search: Vec<String>,
    /// Options of the resolver.
    pub options: Vec<String>,
}

impl Dns {
    /// Whether nothing is said at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The result of a successful ADD. [`AddResult::to_json`] and [`AddResult::from_json`] speak every version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddResult {
    /// Every interface made, the host's side first.
    pub interfaces: Vec<Interface>,
    /// Every address given.
    pub ips: Vec<Ip>,
    /// Every route made.
    pub routes: Vec<Route>,
    /// Resolver configuration.
    pub dns: Dns,
}

/// Reads an address for serde's `deserialize_with`. Some plugins and templates write an absent one as the empty string.
///
/// # Errors
/// For any other text that is not an IP address.
pub fn address_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => {
            text.parse().map(Some).map_err(|_| de::Error::custom(format!("{text:?}: expected an IP address")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_unicast_and_strict() {
        assert_eq!("02:00:00:00:00:0A".parse::<Mac>().unwrap().to_string(), "02:00:00:00:00:0a");
        for bad in [
            "",
            "02",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "01:00:00:00:00:00",
            "00:00:00:00:00:00",
            "+2:00:00:00:00:00",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn cidrs_want_their_prefix_length() {
        assert_eq!("10.1.0.5/16".parse::<Cidr>().unwrap().to_string(), "10.1.0.5/16");
        for bad in ["10.1.0.5", "10.1.0.5/33", "10.1.0/16", "fd00::1/129", "/16", ""] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
