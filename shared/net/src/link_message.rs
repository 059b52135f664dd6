//! Links as messages: `ifinfomsg` of `linux/rtnetlink.h`, and the attributes of `linux/if_link.h` that are used here.

use netlink_packet_core::{DecodeError, Emitable, Nla, NlaBuffer, Parseable};
use nix::libc;
use podwire_spec::Mac;

use crate::{
    Device, Kind, Link, LinkChange, LinkSpec, Port,
    attribute::{self, Attributes, attributes, number, text},
    bond::BondPort,
    link::mark,
};

/// `ifinfomsg`: family, type, index, flags, and which of those are meant.
const HEADER: usize = 16;
/// The family of a port's VLANs.
const AF_BRIDGE: u8 = 7;
const UP: u32 = libc::IFF_UP.cast_unsigned();
const PROMISC: u32 = libc::IFF_PROMISC.cast_unsigned();

/// `IFLA_...`.
pub(crate) mod ifla {
    pub(crate) const ADDRESS: u16 = 1;
    pub(crate) const IFNAME: u16 = 3;
    pub(crate) const MTU: u16 = 4;
    pub(crate) const LINK: u16 = 5;
    pub(crate) const MASTER: u16 = 10;
    pub(crate) const OPERSTATE: u16 = 16;
    pub(crate) const LINKINFO: u16 = 18;
    pub(crate) const IFALIAS: u16 = 20;
    pub(crate) const AF_SPEC: u16 = 26;
    pub(crate) const GROUP: u16 = 27;
    pub(crate) const NET_NS_FD: u16 = 28;
    pub(crate) const EXT_MASK: u16 = 29;
    pub(crate) const NUM_TX_QUEUES: u16 = 31;
    pub(crate) const NUM_RX_QUEUES: u16 = 32;
    pub(crate) const LINK_NETNSID: u16 = 37;
    pub(crate) const TARGET_NETNSID: u16 = 46;
    pub(crate) const PROP_LIST: u16 = 52;
    pub(crate) const ALT_IFNAME: u16 = 53;
    pub(crate) const PERM_ADDRESS: u16 = 54;
}

/// `IFLA_INFO_...`, in `LINKINFO`.
mod info {
    pub(super) const KIND: u16 = 1;
    pub(super) const DATA: u16 = 2;
    pub(super) const PORT_KIND: u16 = 4;
    pub(super) const PORT_DATA: u16 = 5;
}

/// `IFLA_BR_VLAN_FILTERING`, an option of bridges.
const VLAN_FILTERING: u16 = 7;
/// `VETH_INFO_PEER`.
const PEER: u16 = 1;

/// `IFLA_BRPORT_...`, options of a bridge's ports.
pub(crate) mod brport {
    pub(crate) const STATE: u16 = 1;
    pub(crate) const HAIRPIN: u16 = 4;
    pub(crate) const NEIGH_SUPPRESS: u16 = 32;
    pub(crate) const ISOLATED: u16 = 33;
}

/// A request about links.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkRequest {
    family: u8,
    /// Which link, where that is not said by name.
    pub(crate) index: u32,
    flags: u32,
    change: u32,
    /// The rest.
    pub(crate) attributes: Attributes,
}

impl LinkRequest {
    /// About the link with this index.
    pub(crate) fn at(index: u32) -> Self {
        Self { index, ..Self::default() }
    }

    /// About the VLANs of the bridge's port with this index; of all ports for 0.
    pub(crate) fn about_vlans(index: u32) -> Self {
        Self { family: AF_BRIDGE, ..Self::at(index) }
    }

    /// About the link with this name.
    pub(crate) fn named(name: &str) -> Self {
        let mut request = Self::default();
        request.attributes.text(ifla::IFNAME, name);
        request
    }

    /// The type of a link, and options of that type.
    pub(crate) fn info(&mut self, kind: &str, fill: impl FnOnce(&mut Attributes)) {
        self.attributes.nested(ifla::LINKINFO, |info| {
            info.text(info::KIND, kind);
            info.nested(info::DATA, fill);
        });
    }

    /// The type of a link, and no more.
    pub(crate) fn kind(&mut self, kind: &str) {
        self.attributes.nested(ifla::LINKINFO, |info| info.text(info::KIND, kind));
    }

    /// Options of a bridge's port.
    pub(crate) fn bridge_port(&mut self, fill: impl FnOnce(&mut Attributes)) {
        self.attributes.nested(ifla::LINKINFO, |info| {
            info.text(info::PORT_KIND, "bridge");
            info.nested(info::PORT_DATA, fill);
        });
    }

    /// Switches VLAN filtering of a bridge on.
    pub(crate) fn filter_vlans(&mut self) {
        self.info("bridge", |bridge| bridge.u8(VLAN_FILTERING, 1));
    }

    fn flag(&mut self, flag: u32, wanted: Option<bool>) {
        if let Some(on) = wanted {
            self.change |= flag;
            self.flags |= if on { flag } else { 0 };
        }
    }

    fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[0] = self.family;
        for (place, field) in [(4, self.index), (8, self.flags), (12, self.change)] {
            header[place..place + 4].copy_from_slice(&field.to_ne_bytes());
        }
        header
    }
}

impl Emitable for LinkRequest {
    fn buffer_len(&self) -> usize {
        HEADER + self.attributes.as_bytes().len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        let (header, rest) = buffer.split_at_mut(HEADER);
        header.copy_from_slice(&self.header());
        rest[..self.attributes.as_bytes().len()].copy_from_slice(self.attributes.as_bytes());
    }
}

impl From<&LinkSpec<'_>> for LinkRequest {
    fn from(spec: &LinkSpec<'_>) -> Self {
        let mut request = Self::named(spec.name);
        request.flag(UP, spec.up.then_some(true));
        let attributes = &mut request.attributes;
        spec.mac.inspect(|mac| attributes.bytes(ifla::ADDRESS, &mac.0));
        spec.mtu.inspect(|mtu| attributes.u32(ifla::MTU, *mtu));
        spec.master.inspect(|master| attributes.u32(ifla::MASTER, *master));
        spec.parent.inspect(|parent| attributes.u32(ifla::LINK, *parent));
        spec.alias.inspect(|alias| attributes.u32(ifla::GROUP, mark(alias)));
        spec.ns.inspect(|ns| attributes.u32(ifla::NET_NS_FD, ns.raw_fd().cast_unsigned()));
        if matches!(spec.kind, None | Some(Kind::Veth(_))) {
            // Left alone, the kernel makes a veth end with a queue for each processor and then takes all but one out of
            // use again, which costs it two grace periods of RCU a pair.
            attributes.u32(ifla::NUM_TX_QUEUES, 1);
            attributes.u32(ifla::NUM_RX_QUEUES, 1);
        }
        match &spec.kind {
            None => {}
            Some(Kind::Bridge { vlan_filtering: false }) => request.kind("bridge"),
            Some(Kind::Bridge { vlan_filtering: true }) => request.filter_vlans(),
            Some(Kind::Veth(peer)) => {
                let peer = Self::from(&**peer);
                request.info("veth", |veth| {
                    veth.nested(PEER, |whole| {
                        whole.raw(&peer.header());
                        whole.raw(peer.attributes.as_bytes());
                    });
                });
            }
            Some(Kind::Device(Device { kind, options })) => {
                request.info(kind, |device| device.raw(options.as_bytes()));
            }
        }
        request
    }
}

impl LinkChange<'_> {
    /// The change of the link with this index.
    pub(crate) fn of(&self, index: u32) -> LinkRequest {
        /// `IFLA_INET_CONF`, and what it is in.
        const INET: u16 = 2;
        const CONF: u16 = 1;
        /// `IPV4_DEVCONF_ARP_NOTIFY` in `linux/ip.h`.
        const ARP_NOTIFY: u16 = 22;
        let mut request = LinkRequest::at(index);
        request.flag(UP, self.up);
        request.flag(PROMISC, self.promisc);
        let attributes = &mut request.attributes;
        self.mac.inspect(|mac| attributes.bytes(ifla::ADDRESS, &mac.0));
        self.mtu.inspect(|mtu| attributes.u32(ifla::MTU, *mtu));
        self.master.inspect(|master| attributes.u32(ifla::MASTER, *master));
        self.name.inspect(|name| attributes.text(ifla::IFNAME, name));
        self.alias.inspect(|alias| attributes.text(ifla::IFALIAS, alias));
        self.group.inspect(|group| attributes.u32(ifla::GROUP, *group));
        if self.arp_notify {
            attributes.nested(ifla::AF_SPEC, |families| {
                families.nested(INET, |inet| inet.nested(CONF, |conf| conf.u32(ARP_NOTIFY, 1)));
            });
        }
        request
    }
}

impl Link {
    /// Reads what the kernel says of a link.
    pub(crate) fn parse(message: &[u8]) -> Result<Self, DecodeError> {
        let Some((header, rest)) = message.split_first_chunk::<HEADER>() else {
            return Err(format!("{} bytes are no link", message.len()).into());
        };
        let flags = number(&header[8..]);
        let mut link =
            Self { index: number(&header[4..]), up: flags & UP != 0, promisc: flags & PROMISC != 0, ..Self::default() };
        let of_bridge = header[0] == AF_BRIDGE;
        for (kind, value) in attributes(rest) {
            match kind {
                ifla::IFNAME => link.name = text(value),
                ifla::ADDRESS => link.mac = mac(value),
                ifla::PERM_ADDRESS => link.permanent_mac = mac(value),
                ifla::MTU => link.mtu = number(value),
                ifla::MASTER => link.master = Some(number(value)),
                ifla::LINK => link.peer = Some(number(value)),
                ifla::LINK_NETNSID => link.peer_ns = Some(number(value).cast_signed()),
                ifla::IFALIAS => link.alias = text(value),
                ifla::GROUP => link.group = number(value),
                ifla::OPERSTATE => link.operational = is_operational(number(value)),
                ifla::PROP_LIST => {
                    let names = attributes(value).filter(|(kind, _)| *kind == ifla::ALT_IFNAME);
                    link.altnames.extend(names.map(|(_, name)| text(name)));
                }
                ifla::LINKINFO => link.take(value),
                // Of other families it is settings of IP, which are most of the message.
                ifla::AF_SPEC if of_bridge => link.vlans = value.to_vec(),
                _ => {}
            }
        }
        Ok(link)
    }

    fn take(&mut self, infos: &[u8]) {
        let (mut options, mut port_kind) = (&[][..], String::new());
        for (kind, value) in attributes(infos) {
            match kind {
                info::KIND => self.kind = text(value),
                info::DATA => options = value,
                info::PORT_KIND => port_kind = text(value),
                info::PORT_DATA if port_kind == "bridge" => self.port = Some(Port::parse(value)),
                info::PORT_DATA if port_kind == "bond" => self.bond_port = Some(BondPort::parse(value)),
                _ => {}
            }
        }
        if self.kind == "bridge" {
            let mut filtering = attributes(options).filter(|(kind, _)| *kind == VLAN_FILTERING);
            self.vlan_filtering = filtering.any(|(_, value)| number(value) != 0);
        } else {
            self.data = options.into();
        }
    }

    /// The options of a device of this type, for the module of that type to read; `None` for another device.
    pub(crate) fn options<T>(&self, kind: &str) -> Option<Vec<T>>
    where
        T: for<'a> Parseable<NlaBuffer<&'a [u8]>>,
    {
        (self.kind == kind).then(|| attribute::known(&self.data))
    }
}

impl Device {
    pub(crate) fn new<T: Nla>(kind: &'static str, options: &[T]) -> Self {
        let mut attributes = Attributes::default();
        attributes.of(options);
        Self { kind, options: attributes }
    }

    /// The link that the kernel would make of it, for tests of what is read back.
    #[cfg(test)]
    pub(crate) fn link(&self) -> Link {
        Link { kind: self.kind.to_owned(), data: self.options.as_bytes().into(), ..Link::default() }
    }
}

impl Port {
    fn parse(options: &[u8]) -> Self {
        /// `BR_STATE_DISABLED` in `linux/if_bridge.h`.
        const DISABLED: u32 = 0;
        let mut port = Self::default();
        for (kind, value) in attributes(options) {
            match kind {
                brport::STATE => port.enabled = number(value) != DISABLED,
                brport::HAIRPIN => port.hairpin = number(value) != 0,
                brport::ISOLATED => port.isolated = number(value) != 0,
                brport::NEIGH_SUPPRESS => port.neigh_suppress = number(value) != 0,
                _ => {}
            }
        }
        port
    }
}

/// RFC 2863's states: 0 is that of a driver that does not say, 6 is `up`.
pub(crate) fn is_operational(state: u32) -> bool {
    matches!(state, 0 | 6)
}

pub(crate) fn mac(value: &[u8]) -> Option<Mac> {
    value.try_into().ok().map(Mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(request: &LinkRequest) -> Vec<u8> {
        let mut bytes = vec![0; request.buffer_len()];
        request.emit(&mut bytes);
        bytes
    }

    #[test]
    fn what_is_asked_for_is_read_back() {
        let peer = LinkSpec::new("eth0", None);
        let mac = Mac([2, 0, 0, 0, 0, 7]);
        let spec = LinkSpec {
            mac: Some(mac),
            mtu: Some(1400),
            master: Some(3),
            up: true,
            alias: Some("podwire:net:id:eth0"),
            ..LinkSpec::new("veth0", Some(Kind::Veth(Box::new(peer))))
        };
        let link = Link::parse(&bytes(&LinkRequest::from(&spec))).unwrap();
        assert_eq!((link.name.as_str(), link.kind.as_str(), link.mtu), ("veth0", "veth", 1400));
        assert_eq!((link.mac, link.master, link.up, link.promisc), (Some(mac), Some(3), true, false));
        assert!(link.is_labelled("podwire:net:id:eth0") && !link.is_labelled("podwire:net:id:eth1"));
        let (_, peer) = attributes(&link.data).find(|(kind, _)| *kind == PEER).unwrap();
        assert_eq!(Link::parse(peer).unwrap().name, "eth0");
    }

    #[test]
    fn a_change_says_what_is_meant_and_nothing_else() {
        let change = LinkChange { up: Some(false), promisc: Some(true), alias: Some("a"), ..LinkChange::default() };
        let request = change.of(7);
        assert_eq!((request.index, request.flags, request.change), (7, PROMISC, UP | PROMISC));
        assert_eq!(attributes(request.attributes.as_bytes()).collect::<Vec<_>>(), [(ifla::IFALIAS, &b"a\0"[..])]);
    }

    #[test]
    fn a_bridge_and_its_port_are_read() {
        let mut request = LinkRequest::named("cni0");
        request.filter_vlans();
        let bridge = Link::parse(&bytes(&request)).unwrap();
        assert!(bridge.vlan_filtering && bridge.port.is_none());
        let mut request = LinkRequest::at(7);
        request.bridge_port(|port| {
            port.u8(brport::STATE, 3);
            port.u8(brport::ISOLATED, 1);
        });
        let port = Link::parse(&bytes(&request)).unwrap();
        let isolated = Port { enabled: true, isolated: true, ..Port::default() };
        assert_eq!((port.index, port.port), (7, Some(isolated)));
    }

    #[test]
    fn what_is_too_short_is_an_error() {
        assert!(Link::parse(&[0; HEADER - 1]).is_err());
        assert_eq!(Link::parse(&[0; HEADER]).unwrap(), Link::default());
    }
}
