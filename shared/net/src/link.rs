//! Links as data: what the kernel says of one, and what to make or change. The requests are in `links.rs`.

use std::sync::Arc;

use netlink_packet_core::Nla;
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage, Prop, State,
};
use podwire_spec::Mac;

use crate::{BondPort, Netns};

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
    pub(crate) data: Option<Arc<InfoData>>,
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
    pub(crate) kind: InfoKind,
    pub(crate) data: InfoData,
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

    pub(crate) fn message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        if self.up {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        }
        let attributes = &mut message.attributes;
        attributes.push(LinkAttribute::IfName(self.name.to_owned()));
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(self.master.map(LinkAttribute::Controller));
        attributes.extend(self.parent.map(LinkAttribute::Link));
        attributes.extend(self.alias.map(|alias| LinkAttribute::Group(mark(alias))));
        attributes.extend(self.ns.map(|ns| LinkAttribute::NetNsFd(ns.raw_fd())));
        if matches!(self.kind, None | Some(Kind::Veth(_))) {
            // Left alone, the kernel makes a veth end with a queue for each processor and then takes all but one out of
            // use again, which costs it two grace periods of RCU a pair.
            attributes.extend([LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)]);
        }
        attributes.extend(self.kind.as_ref().map(|kind| LinkAttribute::LinkInfo(kind.info())));
        message
    }
}

impl Kind<'_> {
    fn info(&self) -> Vec<LinkInfo> {
        match self {
            Kind::Bridge { vlan_filtering: false } => vec![LinkInfo::Kind(InfoKind::Bridge)],
            Kind::Bridge { vlan_filtering: true } => vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)])),
            ],
            Kind::Veth(peer) => {
                vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer.message())))]
            }
            Kind::Device(Device { kind, data }) => {
                // As bytes: to clone one type of device is to carry the code that clones them all.
                let mut bytes = vec![0; data.value_len()];
                data.emit_value(&mut bytes);
                vec![LinkInfo::Kind(kind.clone()), LinkInfo::Data(InfoData::Other(bytes))]
            }
        }
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
fn mark(alias: &str) -> u32 {
    // Above what people number their groups with, below the largest that tools write without a sign.
    const OURS: u32 = 1 << 30;
    let network = alias.match_indices(':').nth(1).map_or(alias, |(end, _)| &alias[..end]);
    let low = |text: &str| {
        let [a, b, ..] = podwire_spec::hash(text.as_bytes()).to_le_bytes();
        u32::from(u16::from_le_bytes([a, b]))
    };
    OURS | (low(network) & 0x3fff) << 16 | low(alias)
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            promisc: message.header.flags.contains(LinkFlags::Promisc),
            ..Self::default()
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(Mac),
                LinkAttribute::PermAddress(bytes) => link.permanent_mac = bytes.try_into().ok().map(Mac),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::Link(index) => link.peer = Some(index),
                LinkAttribute::LinkNetNsId(number) => link.peer_ns = Some(number),
                LinkAttribute::IfAlias(alias) => link.alias = alias,
                LinkAttribute::Group(group) => link.group = group,
                LinkAttribute::OperState(state) => link.operational = matches!(state, State::Up | State::Unknown),
                LinkAttribute::PropList(props) => {
                    link.altnames.extend(props.into_iter().filter_map(|prop| match prop {
                        Prop::AltIfName(name) => Some(name),
                        _ => None,
                    }));
                }
                LinkAttribute::LinkInfo(infos) => infos.into_iter().for_each(|info| link.take(info)),
                _ => {}
            }
        }
        link
    }
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

    fn take(&mut self, info: LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => self.kind = kind.to_string(),
            LinkInfo::Data(InfoData::Bridge(options)) => {
                self.vlan_filtering = options.contains(&InfoBridge::VlanFiltering(true));
            }
            LinkInfo::Data(data) => self.data = Some(data.into()),
            LinkInfo::PortData(InfoPortData::BridgePort(options)) => {
                self.port = Some(Port {
                    enabled: options.iter().any(
                        |option| matches!(option, InfoBridgePort::State(state) if u8::from(*state) != Port::DISABLED),
                    ),
                    hairpin: options.contains(&InfoBridgePort::HairpinMode(true)),
                    isolated: options.contains(&InfoBridgePort::Isolated(true)),
                    neigh_suppress: options.contains(&InfoBridgePort::NeighSupress(true)),
                });
            }
            LinkInfo::PortData(InfoPortData::BondPort(options)) => self.bond_port = Some(BondPort::of(options)),
            _ => {}
        }
    }
}

impl Port {
    /// `BR_STATE_DISABLED` in `linux/if_bridge.h`.
    const DISABLED: u8 = 0;
}
