//! Links as data: what the kernel says of one, and what to make or change. The messages are in `link_message.rs`, the
//! requests in `links.rs`.

use podwire_spec::Mac;

use crate::{BondPort, Netns, attribute::Attributes};

/// A link as the kernel describes it.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the kernel's, independent of the others")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The type of device, such as `bridge` or `veth`; empty for hardware and loopback.
    pub kind: String,
    /// Its MAC address, where it has one of six bytes.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it is ready to pass packets (RFC 2863 `up`, or a driver that does not say).
    pub operational: bool,
    /// Whether `ip link set promisc on` was said.
    pub promisc: bool,
    /// The index of its master (bridge, bond), where it has one.
    pub master: Option<u32>,
    /// The index of the link below it, or of a veth's other end, in the namespace where that one is.
    pub peer: Option<u32>,
    /// The number of the namespace where `peer` is, if that is another one.
    pub peer_ns: Option<i32>,
    /// `ifalias`.
    pub alias: String,
    /// Its group, 0 for none.
    pub(crate) group: u32,
    /// Its other names.
    pub altnames: Vec<String>,
    /// For a bridge: whether it filters VLANs.
    pub vlan_filtering: bool,
    /// For a port of a bridge: its options.
    pub port: Option<Port>,
    /// For a port of a bond: what the bond makes of it.
    pub bond_port: Option<BondPort>,
    /// The MAC address that is burnt into hardware; none for what software makes.
    pub permanent_mac: Option<Mac>,
    /// For a device with options of its own: these, for the module of its type to read.
    pub(crate) data: Box<[u8]>,
    /// For a port of a bridge, where they were asked for: its VLANs.
    pub(crate) vlans: Vec<u8>,
}

/// The options of a port of a bridge.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the kernel's, independent of the others")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// The bridge has taken it into service: it passes frames, or spanning tree is about to decide on it.
    pub enabled: bool,
    /// Frames may leave where they came in.
    pub hairpin: bool,
    /// It talks only to ports that are not isolated.
    pub isolated: bool,
    /// The bridge answers ARP and neighbour discovery for it.
    pub neigh_suppress: bool,
}

/// What kind of link to make.
#[derive(Debug)]
pub enum Kind<'a> {
    /// A bridge.
    Bridge {
        /// Whether it filters VLANs; off leaves the attribute out, for kernels without it.
        vlan_filtering: bool,
    },
    /// A veth pair; the other end is made by the same message.
    Veth(Box<LinkSpec<'a>>),
    /// A device with options of its own; each type has a module that makes one of these.
    Device(Device),
}

/// The type of a device and its options, as the kernel takes them.
#[derive(Debug)]
pub struct Device {
    pub(crate) kind: &'static str,
    pub(crate) options: Attributes,
}

/// A link to make, whole, in one message.
#[derive(Debug)]
pub struct LinkSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is; none for the other end of a veth pair.
    pub kind: Option<Kind<'a>>,
    /// Its MAC address; the kernel invents one otherwise.
    pub mac: Option<Mac>,
    /// Its MTU in bytes; the kernel's default otherwise.
    pub mtu: Option<u32>,
    /// The index of its master.
    pub master: Option<u32>,
    /// The index of the link below it, in the connection's namespace, wherever the link itself is made.
    pub parent: Option<u32>,
    /// Its alias; passed over for the other end of a veth pair.
    pub alias: Option<&'a str>,
    /// The namespace to make it in; the connection's otherwise.
    pub ns: Option<&'a Netns>,
    /// Whether it starts up. The other end of a veth pair cannot.
    pub up: bool,
}

impl<'a> LinkSpec<'a> {
    /// A link with nothing but name and kind.
    pub fn new(name: &'a str, kind: Option<Kind<'a>>) -> Self {
        Self { name, kind, mac: None, mtu: None, master: None, parent: None, alias: None, ns: None, up: false }
    }
}

/// A change of a link; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct LinkChange<'a> {
    /// Set up or down.
    pub up: Option<bool>,
    /// Set the MAC address.
    pub mac: Option<Mac>,
    /// Set the MTU in bytes.
    pub mtu: Option<u32>,
    /// Set the master; 0 for none.
    pub master: Option<u32>,
    /// Set the name.
    pub name: Option<&'a str>,
    /// Set the alias.
    pub alias: Option<&'a str>,
    /// Set the group; 0 for none.
    pub group: Option<u32>,
    /// Switch promiscuous mode.
    pub promisc: Option<bool>,
    /// Send gratuitous ARP whenever the link goes up or gets a MAC address (sysctl `arp_notify`).
    pub arp_notify: bool,
}

/// The group of a link that is yet to get this alias, `PROGRAM:NETWORK:REST`: 14 bits tell the network, 16 the whole.
pub(crate) fn mark(alias: &str) -> u32 {
    // Above what people number their groups with, below the largest that tools write without a sign.
    const OURS: u32 = 1 << 30;
    let network = alias.match_indices(':').nth(1).map_or(alias, |(end, _)| &alias[..end]);
    let low = |text: &str| {
        let [a, b, ..] = podwire_spec::hash(text.as_bytes()).to_le_bytes();
        u32::from(u16::from_le_bytes([a, b]))
    };
    OURS | (low(network) & 0x3fff) << 16 | low(alias)
}

impl Link {
    /// What is known of a link that was made by a message about another one, as the far end of a veth pair is.
    pub fn known(index: u32, name: &str, mac: Option<Mac>) -> Self {
        Self { index, name: name.to_owned(), mac, ..Self::default() }
    }

    /// Whether it was made with this alias, even if whoever made it was killed before the link had it.
    pub fn is_labelled(&self, alias: &str) -> bool {
        self.alias == alias || (self.alias.is_empty() && self.group == mark(alias))
    }

    /// Whether whoever made it was killed before it had an alias, which was to be of the same network as this one.
    pub fn is_unlabelled_like(&self, alias: &str) -> bool {
        self.alias.is_empty() && self.group >> 16 == mark(alias) >> 16
    }
}
