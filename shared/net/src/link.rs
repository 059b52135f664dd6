//! Links: what the kernel says of one, and the messages that make, change and delete them.

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_DUMP, NLM_F_ECHO, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        AfSpecInet, AfSpecUnspec, InetDevConf, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVeth,
        LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, Prop, State,
    },
};
use nix::errno::Errno;
use podwire_spec::Mac;

use crate::{BondPort, Error, Net, Netns, Result};

/// `IFLA_ALT_IFNAME` in `linux/if_link.h`.
const ALT_IFNAME: u16 = 53;

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
    pub(crate) data: Option<InfoData>,
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

    fn message(&self) -> LinkMessage {
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
            Kind::Device(device) => vec![LinkInfo::Kind(device.kind.clone()), LinkInfo::Data(device.data.clone())],
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

impl Net {
    /// Makes a link in this namespace and returns it as the kernel did: index, and MAC even where the kernel invented
    /// it. The other end of a veth pair may be elsewhere.
    ///
    /// # Errors
    /// EEXIST where a name is taken, on either side; EOPNOTSUPP where the kernel lacks the kind.
    pub async fn create_link(&self, spec: &LinkSpec<'_>) -> Result<Link> {
        let object = || format!("link {:?}", spec.name);
        let message = RouteNetlinkMessage::NewLink(spec.message());
        let answers = self.request(object, "create", message, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO).await?;
        let mut link = if let Some(link) = links(answers).find(|link| link.name == spec.name) {
            link
        } else {
            // A kernel that does not echo: ask.
            let link = self.link(spec.name).await?;
            link.ok_or_else(|| Error::new(object(), "find after create", Errno::ENODEV))?
        };
        // The kernel passes over an alias in the message that creates (`rtnl_create_link`), so it gets a second one; the
        // first has a group instead, so that a link whose maker was killed between the two is known.
        if let Some(alias) = spec.alias {
            if let Err(error) = self.label(&link, alias).await {
                self.delete_link_at(link.index).await?;
                return Err(error);
            }
            alias.clone_into(&mut link.alias);
        }
        Ok(link)
    }

    /// Makes a link in another namespace, on a parent in this one, and returns it as `other`, a connection there, sees
    /// it.
    ///
    /// # Errors
    /// As [`Self::create_link`].
    pub async fn create_link_in(&self, other: &Self, spec: &LinkSpec<'_>) -> Result<Link> {
        let object = || format!("link {:?}", spec.name);
        let mut message = spec.message();
        message.attributes.push(LinkAttribute::NetNsFd(other.ns().raw_fd()));
        // No echo: the kernel would send it to whichever socket has our number in the other namespace.
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let mut attempts = 0;
        while let Err(error) =
            self.request(object, "create", RouteNetlinkMessage::NewLink(message.clone()), flags).await
        {
            attempts += 1;
            if attempts > 3 || !error.is(Errno::EEXIST) || !self.is_taken_only_here(other, spec.name).await? {
                return Err(error);
            }
            message.header.index = self.free_index(other).await?;
        }
        match other.link(spec.name).await {
            Ok(link) => link.ok_or_else(|| Error::new(object(), "find after create", Errno::ENODEV)),
            Err(error) => {
                other.delete_link(spec.name).await?;
                Err(error)
            }
        }
    }

    /// Whether a name is one of this namespace and not of the other. Older kernels look for the name of a link to be made
    /// here, wherever it is to be; an index that comes with the request keeps them from looking by name.
    async fn is_taken_only_here(&self, other: &Self, name: &str) -> Result<bool> {
        Ok(self.link(name).await?.is_some() && other.link(name).await?.is_none())
    }

    /// An index that no link has in either namespace now.
    async fn free_index(&self, other: &Self) -> Result<u32> {
        let (here, there) = (self.links().await?, other.links().await?);
        Ok(here.iter().chain(&there).map(|link| link.index).max().unwrap_or_default() + 1)
    }

    /// Gives a link its alias, as [`Self::create_link`] does.
    ///
    /// # Errors
    /// Of the request.
    pub async fn label(&self, link: &Link, alias: &str) -> Result<()> {
        let change = LinkChange { alias: Some(alias), group: Some(0), ..LinkChange::default() };
        self.change_link(link.index, &change).await
    }

    /// The link with this name or altname.
    ///
    /// # Errors
    /// Of the request; a link that is not there is `None`.
    pub async fn link(&self, name: &str) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.get_link(|| format!("link {name:?}"), message).await
    }

    /// The link with this altname, which may be longer than a name.
    ///
    /// # Errors
    /// Of the request; a link that is not there is `None`.
    pub async fn link_with_altname(&self, altname: &str) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        let text = [altname.as_bytes(), b"\0"].concat();
        message.attributes.push(LinkAttribute::Other(DefaultNla::new(ALT_IFNAME, text)));
        self.get_link(|| format!("link with altname {altname:?}"), message).await
    }

    /// The link with this index.
    ///
    /// # Errors
    /// Of the request; a link that is not there is `None`.
    pub async fn link_at(&self, index: u32) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.get_link(|| format!("link number {index}"), message).await
    }

    async fn get_link(&self, object: impl Fn() -> String, mut message: LinkMessage) -> Result<Option<Link>> {
        message.attributes.push(without_statistics());
        match self.request(object, "get", RouteNetlinkMessage::GetLink(message), 0).await {
            Ok(answers) => Ok(links(answers).next()),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every link of the namespace.
    ///
    /// # Errors
    /// Of the request.
    pub async fn links(&self) -> Result<Vec<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(without_statistics());
        let message = RouteNetlinkMessage::GetLink(message);
        Ok(links(self.request(|| "links".to_owned(), "list", message, NLM_F_DUMP).await?).collect())
    }

    /// The links whose master has this index.
    ///
    /// # Errors
    /// Of the request.
    pub async fn ports(&self, master: u32) -> Result<Vec<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.extend([without_statistics(), LinkAttribute::Controller(master)]);
        let message = RouteNetlinkMessage::GetLink(message);
        let answers = self.request(|| format!("ports of link number {master}"), "list", message, NLM_F_DUMP).await?;
        Ok(links(answers).filter(|link| link.master == Some(master)).collect())
    }

    /// Changes a link.
    ///
    /// # Errors
    /// Of the request.
    pub async fn change_link(&self, index: u32, change: &LinkChange<'_>) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        for (flag, wanted) in [(LinkFlags::Up, change.up), (LinkFlags::Promisc, change.promisc)] {
            if let Some(on) = wanted {
                message.header.change_mask |= flag;
                message.header.flags.set(flag, on);
            }
        }
        let attributes = &mut message.attributes;
        attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        attributes.extend(change.mtu.map(LinkAttribute::Mtu));
        attributes.extend(change.master.map(LinkAttribute::Controller));
        attributes.extend(change.name.map(|name| LinkAttribute::IfName(name.to_owned())));
        attributes.extend(change.alias.map(|alias| LinkAttribute::IfAlias(alias.to_owned())));
        attributes.extend(change.group.map(LinkAttribute::Group));
        if change.arp_notify {
            let mut conf = InetDevConf::default();
            conf.arp_notify = 1;
            let inet = vec![AfSpecInet::DevConfRequest(conf)];
            attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(inet)]));
        }
        let message = RouteNetlinkMessage::NewLink(message);
        self.request(|| format!("link number {index}"), "change", message, 0).await.map(drop)
    }

    /// Moves a link into another namespace, where it is down, has no master and no addresses, and is named `name`.
    ///
    /// # Errors
    /// EEXIST where the name is taken there; EINVAL for a link that has to stay where it is.
    pub async fn move_link(&self, link: &Link, to: &Netns, name: &str) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.extend([LinkAttribute::NetNsFd(to.raw_fd()), LinkAttribute::IfName(name.to_owned())]);
        let message = RouteNetlinkMessage::NewLink(message);
        self.request(|| format!("link {:?}", link.name), "move", message, 0).await.map(drop)
    }

    /// Gives a link another name, of up to 127 bytes.
    ///
    /// # Errors
    /// EEXIST where the name is taken in the namespace.
    pub async fn add_altname(&self, index: u32, name: &str) -> Result<()> {
        self.add_altnames(index, &[name.to_owned()]).await
    }

    /// Gives a link other names, in one message.
    ///
    /// # Errors
    /// EEXIST where one is taken in the namespace; EINVAL where they all together pass 64 KiB.
    pub async fn add_altnames(&self, index: u32, names: &[String]) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::PropList(names.iter().cloned().map(Prop::AltIfName).collect()));
        let message = RouteNetlinkMessage::NewLinkProp(message);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let object = || format!("altname \"{}\"", names.join("\", \""));
        self.request(object, "add", message, flags).await.map(drop)
    }

    /// Takes an altname from a link. One that is not there is no error: `false`.
    ///
    /// # Errors
    /// Of the request.
    pub async fn delete_altname(&self, index: u32, name: &str) -> Result<bool> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::PropList(vec![Prop::AltIfName(name.to_owned())]));
        let message = RouteNetlinkMessage::DelLinkProp(message);
        match self.request(|| format!("altname {name:?}"), "delete", message, 0).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes a link. One that is not there is no error: `false`.
    ///
    /// # Errors
    /// Of the request.
    pub async fn delete_link(&self, name: &str) -> Result<bool> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.delete(|| format!("link {name:?}"), message).await
    }

    /// Deletes the link with this index. One that is not there is no error: `false`.
    ///
    /// # Errors
    /// Of the request.
    pub async fn delete_link_at(&self, index: u32) -> Result<bool> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.delete(|| format!("link number {index}"), message).await
    }

    async fn delete(&self, object: impl Fn() -> String, message: LinkMessage) -> Result<bool> {
        match self.request(object, "delete", RouteNetlinkMessage::DelLink(message), 0).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the kernel could make a link of this kind, and we may: asked by a request that cannot succeed, since no
    /// link is without queues, but fails earlier where the kind is unknown.
    ///
    /// # Errors
    /// EOPNOTSUPP where the kernel lacks the kind, EPERM without `CAP_NET_ADMIN`.
    pub async fn can_create(&self, kind: &str) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.extend([
            LinkAttribute::IfName("podwire-probe".to_owned()),
            LinkAttribute::NumTxQueues(0),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Other(kind.to_owned()))]),
        ]);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let message = RouteNetlinkMessage::NewLink(message);
        match self.request(|| format!("link of type {kind:?}"), "create", message, flags).await {
            Err(error) if matches!(error.errno, Some(Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES)) => Err(error),
            _ => Ok(()),
        }
    }
}

/// The group of a link that is yet to get this alias.
fn mark(alias: &str) -> u32 {
    let [low @ .., _, _, _, _] = podwire_spec::hash(alias.as_bytes()).to_le_bytes();
    // Not 0, which is every link's, and below the largest that tools write as a number with a sign.
    u32::from_le_bytes(low) & 0x7fff_ffff | 1
}

pub(crate) fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

pub(crate) fn links(answers: Vec<RouteNetlinkMessage>) -> impl Iterator<Item = Link> {
    answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(message) => Some(Link::from(message)),
        _ => None,
    })
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

    fn take(&mut self, info: LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => self.kind = kind.to_string(),
            LinkInfo::Data(InfoData::Bridge(options)) => {
                self.vlan_filtering = options.contains(&InfoBridge::VlanFiltering(true));
            }
            LinkInfo::Data(data) => self.data = Some(data),
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
