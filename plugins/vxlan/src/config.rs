//! The options of `vxlan`.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use podwire_plugin::{
    Error, Mac, NetConf, Result,
    net::{Df, FLOOD, Fdb, FromPacket, Vxlan},
    spec::interface_name,
};
use serde::{Deserialize, Deserializer, de};

/// The largest VNI, of 24 bits.
const MAX_VNI: u32 = 0x00ff_ffff;

/// The options. No reference plugin exists; the names are those of `ip link add type vxlan`, in camel case.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own, most of them the kernel's")]
pub struct Config {
    /// The VXLAN network identifier, 0 to 16777215.
    pub(crate) vni: u32,
    /// The device's name on the node. Default: `vx` and the VNI.
    vxlan: Option<String>,
    /// The bridge's name on the node. Default: `br-vx` and the VNI.
    bridge: Option<String>,
    /// Where the device is. Default: `bridge`.
    #[serde(default)]
    pub(crate) attach: Place,
    /// The link whose traffic carries the frames. Default: whichever the routes say.
    pub(crate) dev: Option<String>,
    /// The node's address to send from. Default: whichever the routes say.
    pub(crate) local: Option<IpAddr>,
    /// The other end, where there is only one.
    remote: Option<IpAddr>,
    /// The multicast group where frames go whose destination is not known. Needs `dev`.
    group: Option<IpAddr>,
    /// The other ends, which all get the frames whose destination is not known.
    #[serde(default)]
    pub(crate) remotes: Vec<IpAddr>,
    /// Who is where.
    #[serde(default)]
    fdb: Vec<Entry>,
    /// The UDP port. Default: 4789.
    #[serde(default = "dstport")]
    dstport: u16,
    /// Remember which address frames come from. Default: true.
    #[serde(default = "yes")]
    learning: bool,
    /// The packets' time to live, or `inherit`. Default: 0, the kernel's choice.
    #[serde(default)]
    ttl: Byte,
    /// The packets' type of service, or `inherit`. Default: 0.
    #[serde(default)]
    tos: Byte,
    /// The packets' don't-fragment bit. Default: `unset`.
    #[serde(default)]
    df: DontFragment,
    /// Packets have a UDP checksum. Default: true.
    #[serde(default = "yes")]
    udp_csum: bool,
    /// The group policy extension. Default: false.
    #[serde(default)]
    gbp: bool,
    /// The bridge answers ARP and neighbour discovery for the `ips` of `fdb`. Default: false.
    #[serde(default)]
    pub(crate) arp_suppress: bool,
    /// MTU in bytes. Default: the underlay's less the headers. 0 is as absent.
    mtu: Option<u32>,
    /// Leave checksums to the hardware below. Default: as the kernel has it.
    pub(crate) tx_checksum_offload: Option<bool>,
}

/// Where the VXLAN device is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    /// On the node, a port of a bridge that the pods are on too.
    #[default]
    Bridge,
    /// In the pod.
    Direct,
}

/// An entry of `fdb`: the pod with this MAC address is behind that other end.
#[derive(Clone, Debug, Deserialize)]
struct Entry {
    mac: Mac,
    dst: IpAddr,
    vni: Option<u32>,
    port: Option<u16>,
    /// The pod's addresses, for `arpSuppress`.
    #[serde(default)]
    ips: Vec<IpAddr>,
}

/// `unset`, `set` or `inherit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DontFragment {
    #[default]
    Unset,
    Set,
    Inherit,
}

/// A number of one byte, or `inherit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Byte(FromPacket);

impl Default for Byte {
    fn default() -> Self {
        Self(FromPacket::Value(0))
    }
}

impl<'de> Deserialize<'de> for Byte {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Byte;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("0 to 255, or \"inherit\"")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Byte, E> {
                let wrong = |_| E::invalid_value(de::Unexpected::Unsigned(number), &self);
                number.try_into().map(|byte| Byte(FromPacket::Value(byte))).map_err(wrong)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Byte, E> {
                match text {
                    "inherit" => Ok(Byte(FromPacket::Inherit)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

fn dstport() -> u16 {
    4789
}

fn yes() -> bool {
    true
}

impl Config {
    /// The device's name on the node.
    pub(crate) fn device(&self) -> String {
        self.vxlan.clone().unwrap_or_else(|| format!("vx{}", self.vni))
    }

    /// The bridge's name on the node.
    pub(crate) fn bridge(&self) -> String {
        self.bridge.clone().unwrap_or_else(|| format!("br-vx{}", self.vni))
    }

    /// The MTU asked for, in bytes.
    pub(crate) fn mtu(&self) -> Option<u32> {
        self.mtu.filter(|&mtu| mtu != 0)
    }

    /// Whether packets are of IP version 6.
    pub(crate) fn ipv6(&self) -> bool {
        self.addresses().next().is_some_and(|(_, address)| address.is_ipv6())
    }

    /// What IP, UDP, VXLAN and the inner Ethernet header take of the underlay's MTU, in bytes.
    pub(crate) fn overhead(&self) -> u32 {
        if self.ipv6() { 70 } else { 50 }
    }

    /// The parameters of the device, on the link with this index.
    pub(crate) fn parameters(&self, dev: Option<u32>) -> Vxlan {
        Vxlan {
            vni: self.vni,
            dev,
            local: self.local,
            peer: self.remote.or(self.group),
            ipv6: self.ipv6(),
            port: self.dstport,
            learning: self.learning,
            ttl: self.ttl.0,
            tos: self.tos.0,
            df: match self.df {
                DontFragment::Unset => Df::Unset,
                DontFragment::Set => Df::Set,
                DontFragment::Inherit => Df::Inherit,
            },
            udp_csum: self.udp_csum,
            gbp: self.gbp,
        }
    }

    /// The forwarding entries that the configuration asks for on a node with the addresses `own`: one list serves every
    /// node, which passes over what is its own.
    pub(crate) fn entries(&self, own: &HashSet<IpAddr>) -> Vec<Fdb> {
        let mut all: Vec<Fdb> = Vec::new();
        let flooding = self.remotes.iter().map(|&dst| Fdb { mac: FLOOD, dst, vni: None, port: None });
        for entry in flooding.chain(self.fdb.iter().map(|entry| self.forwarding(entry))) {
            if !own.contains(&entry.dst) && !all.contains(&entry) {
                all.push(entry);
            }
        }
        all
    }

    /// The addresses that the bridge answers for, with their MAC addresses.
    pub(crate) fn neighbours(&self, own: &HashSet<IpAddr>) -> Vec<(IpAddr, Mac)> {
        let elsewhere = self.fdb.iter().filter(|entry| self.arp_suppress && !own.contains(&entry.dst));
        elsewhere.flat_map(|entry| entry.ips.iter().map(|&ip| (ip, entry.mac))).collect()
    }

    /// An address on the way to the other ends, to find the underlay by.
    pub(crate) fn far_end(&self, own: &HashSet<IpAddr>) -> Option<IpAddr> {
        let others = self.remotes.iter().copied().chain(self.fdb.iter().map(|entry| entry.dst));
        self.remote.into_iter().chain(others).find(|dst| !own.contains(dst))
    }

    /// What is the device's own is left out, as the kernel does when it lists them.
    fn forwarding(&self, entry: &Entry) -> Fdb {
        Fdb {
            mac: entry.mac,
            dst: entry.dst,
            vni: entry.vni.filter(|&vni| vni != self.vni),
            port: entry.port.filter(|&port| port != self.dstport),
        }
    }

    /// Every address of the underlay that is named, with its JSON path.
    fn addresses(&self) -> impl Iterator<Item = (String, IpAddr)> {
        let single = [("local", self.local), ("remote", self.remote), ("group", self.group)];
        let single = single.into_iter().filter_map(|(path, address)| Some((path.to_owned(), address?)));
        let remotes = self.remotes.iter().enumerate().map(|(n, &address)| (format!("remotes[{n}]"), address));
        let fdb = self.fdb.iter().enumerate().map(|(n, entry)| (format!("fdb[{n}].dst"), entry.dst));
        single.chain(remotes).chain(fdb)
    }
}

/// Refuses what contradicts itself.
pub(crate) fn validate(conf: &NetConf<Config>) -> Result<()> {
    let config = &conf.plugin;
    names(config)?;
    addresses(config)?;
    entries(config)?;
    let wrong = |path: &str, why: String| Err(Error::invalid(path, why).into());
    if config.vni > MAX_VNI {
        return wrong("vni", format!("{}: a VNI is 0 to {MAX_VNI}", config.vni));
    }
    if config.dstport == 0 {
        return wrong("dstport", "0: a port is 1 to 65535".to_owned());
    }
    if config.tos.0 == FromPacket::Value(1) {
        return wrong("tos", "1: the kernel takes it for \"inherit\"; write that".to_owned());
    }
    if config.df != DontFragment::Unset && config.ipv6() {
        return wrong("df", "IPv6 packets have no such bit, and no router divides them".to_owned());
    }
    // RFC 791 and RFC 8200 name the least; more than the largest jumbo frame no link carries.
    if let Some(mtu) = config.mtu().filter(|mtu| !(68..=65535).contains(mtu)) {
        return wrong("mtu", format!("{mtu}: not between 68 and 65535 bytes"));
    }
    Ok(())
}

fn names(config: &Config) -> Result<()> {
    for (path, name) in [("vxlan", &config.vxlan), ("bridge", &config.bridge), ("dev", &config.dev)] {
        let Some(name) = name else { continue };
        if !interface_name(name) {
            return Err(Error::invalid(path, format!("{name:?}: not the name of an interface")).into());
        }
        if config.attach == Place::Direct && path != "dev" {
            let why = "cannot be combined with attach \"direct\", whose device is in the pod and on no bridge";
            return Err(Error::invalid(path, why).into());
        }
    }
    if config.device() == config.bridge() {
        return Err(Error::invalid("vxlan", format!("{:?}: is the bridge's name too", config.device())).into());
    }
    if config.attach == Place::Direct && config.arp_suppress {
        let why = "cannot be combined with attach \"direct\": there is no bridge that could answer";
        return Err(Error::invalid("arpSuppress", why).into());
    }
    Ok(())
}

fn addresses(config: &Config) -> Result<()> {
    for (path, address) in config.addresses() {
        if address.is_ipv6() != config.ipv6() {
            let why = format!("\"{address}\": all addresses of the underlay must be of one IP version");
            return Err(Error::invalid(&path, why).into());
        }
        let is_group = path == "group";
        let none = address.is_unspecified() || address == IpAddr::V4(Ipv4Addr::BROADCAST);
        if address.is_multicast() != is_group || none {
            let kind = if is_group { "the address of a multicast group" } else { "the address of one node" };
            return Err(Error::invalid(&path, format!("\"{address}\": not {kind}")).into());
        }
    }
    if config.remote.is_some() && config.group.is_some() {
        let why = "cannot be combined with group: frames go to one of the two by default";
        return Err(Error::invalid("remote", why).into());
    }
    if config.group.is_some() && config.dev.is_none() {
        return Err(Error::invalid("dev", "missing: a multicast group is joined on a link, which it names").into());
    }
    Ok(())
}

fn entries(config: &Config) -> Result<()> {
    let mut seen = HashSet::new();
    for (place, entry) in config.fdb.iter().enumerate() {
        if !seen.insert(entry.mac) {
            let why = format!("\"{}\": stands twice, and frames to it can go to one end only", entry.mac);
            return Err(Error::invalid(&format!("fdb[{place}].mac"), why).into());
        }
        if let Some(vni) = entry.vni.filter(|&vni| vni > MAX_VNI) {
            let why = format!("{vni}: a VNI is 0 to {MAX_VNI}");
            return Err(Error::invalid(&format!("fdb[{place}].vni"), why).into());
        }
        if entry.port == Some(0) {
            return Err(Error::invalid(&format!("fdb[{place}].port"), "0: a port is 1 to 65535").into());
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
