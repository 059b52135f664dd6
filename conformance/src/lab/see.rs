//! What the kernel says: links, addresses, routes and VLANs, read over netlink by code that shares nothing with the
//! plugins, so that a mistake of theirs cannot hide itself.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfoFlags, InfoBridge, InfoBridgePort, InfoData, InfoPortData, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, Prop, State,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};

/// A link as the kernel reports it.
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the kernel's, set or not by itself")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Interface index, of this namespace.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// `veth`, `bridge`, ...; empty for the loopback.
    pub kind: String,
    /// As text, `0a:58:...`.
    pub mac: String,
    /// In bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Carrier is there and the kernel has started the queue: what is sent is sent.
    pub running: bool,
    /// `IFF_PROMISC`, or held promiscuous by something.
    pub promisc: bool,
    /// Index of the bridge it is a port of.
    pub master: Option<u32>,
    /// Index of the peer, in the peer's namespace.
    pub peer: Option<u32>,
    /// `ifalias`.
    pub alias: Option<String>,
    /// Alternative names.
    pub altnames: Vec<String>,
    /// Port flag, for a port of a bridge.
    pub hairpin: bool,
    /// Port flag, for a port of a bridge.
    pub isolated: bool,
    /// For a bridge.
    pub vlan_filtering: bool,
}

/// An address on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of its link.
    pub index: u32,
    /// The address itself.
    pub ip: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
    /// Duplicate-address detection is off for it.
    pub nodad: bool,
    /// Duplicate-address detection is still going on.
    pub tentative: bool,
    /// Not learnt from a router.
    pub permanent: bool,
}

/// A unicast route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination, `0.0.0.0/0` for the IPv4 default.
    pub to: String,
    /// Next hop.
    pub via: Option<IpAddr>,
    /// Index of the outgoing link.
    pub link: Option<u32>,
    /// Routing table, 254 for main.
    pub table: u32,
    /// Metric.
    pub priority: Option<u32>,
    /// MTU metric in bytes.
    pub mtu: Option<u32>,
    /// Advertised MSS in bytes.
    pub advmss: Option<u32>,
    /// `link`, `universe`, ... as netlink's number.
    pub scope: u8,
}

/// A VLAN of a bridge port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vlan {
    /// Number, 1 to 4094.
    pub id: u16,
    /// Frames without a tag belong to it.
    pub pvid: bool,
    /// Frames leave without a tag.
    pub untagged: bool,
}

/// All links of the handle's namespace.
pub(super) async fn links(handle: &Handle) -> Result<Vec<Link>> {
    let messages: Vec<LinkMessage> = handle.link().get().execute().try_collect().await.context("links: dump")?;
    Ok(messages.into_iter().map(link).collect())
}

/// All addresses of the handle's namespace.
pub(super) async fn addresses(handle: &Handle) -> Result<Vec<Address>> {
    let messages: Vec<AddressMessage> =
        handle.address().get().execute().try_collect().await.context("addresses: dump")?;
    Ok(messages.into_iter().filter_map(address).collect())
}

/// Waits until `wanted` accepts an address, one that is there or one that comes; false if none does within `limit`.
pub(super) async fn await_address(wanted: impl Fn(&Address) -> bool, limit: Duration) -> Result<bool> {
    let groups = [MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    let is_wanted = |message| match message {
        RouteNetlinkMessage::NewAddress(new) => address(new).is_some_and(|address| wanted(&address)),
        _ => false,
    };
    await_message(&groups, async |handle| Ok(addresses(handle).await?.iter().any(&wanted)), is_wanted, limit).await
}

/// Waits until `unwanted` accepts no address; false if it still does after `limit`.
pub(super) async fn await_no_address(unwanted: impl Fn(&Address) -> bool, limit: Duration) -> Result<bool> {
    let (connection, handle, mut messages) =
        rtnetlink::new_multicast_connection(&[MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr])?;
    tokio::spawn(connection);
    let gone = async {
        // Looked at anew after whatever the kernel says of addresses.
        while addresses(&handle).await?.iter().any(&unwanted) {
            messages.next().await.context("addresses: the kernel says no more")?;
        }
        anyhow::Ok(true)
    };
    tokio::time::timeout(limit, gone).await.unwrap_or(Ok(false))
}

/// Waits until `wanted` accepts a route of IPv4, one that is there or one that comes; false if none does within `limit`.
pub(super) async fn await_route(wanted: impl Fn(&Route) -> bool, limit: Duration) -> Result<bool> {
    let is_wanted = |message| match message {
        RouteNetlinkMessage::NewRoute(new) => route(&new).is_some_and(|route| wanted(&route)),
        _ => false,
    };
    let is_there = async |handle: &Handle| Ok(routes(handle).await?.iter().any(&wanted));
    await_message(&[MulticastGroup::Ipv4Route], is_there, is_wanted, limit).await
}

/// Waits until `wanted` accepts a link, one that is there or one that comes or changes; false if none does within
/// `limit`.
pub(super) async fn await_link(wanted: impl Fn(&Link) -> bool, limit: Duration) -> Result<bool> {
    let is_wanted = |message| match message {
        RouteNetlinkMessage::NewLink(new) => wanted(&link(new)),
        _ => false,
    };
    await_message(
        &[MulticastGroup::Link],
        async |handle| Ok(links(handle).await?.iter().any(&wanted)),
        is_wanted,
        limit,
    )
    .await
}

async fn await_message(
    groups: &[MulticastGroup],
    is_there: impl AsyncFn(&Handle) -> Result<bool>,
    is_wanted: impl Fn(RouteNetlinkMessage) -> bool,
    limit: Duration,
) -> Result<bool> {
    // Listening starts before looking, so that nothing comes in between.
    let (connection, handle, mut messages) = rtnetlink::new_multicast_connection(groups)?;
    tokio::spawn(connection);
    if is_there(&handle).await? {
        return Ok(true);
    }
    let arrival = async {
        while let Some((message, _)) = messages.next().await {
            if let NetlinkPayload::InnerMessage(message) = message.payload
                && is_wanted(message)
            {
                return true;
            }
        }
        false
    };
    Ok(tokio::time::timeout(limit, arrival).await.unwrap_or(false))
}

/// All unicast routes of the handle's namespace, in every table but `local`.
pub(super) async fn routes(handle: &Handle) -> Result<Vec<Route>> {
    let mut all = Vec::new();
    let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
    for family in [v4, v6] {
        let messages: Vec<RouteMessage> =
            handle.route().get(family).execute().try_collect().await.context("routes: dump")?;
        all.extend(messages.iter().filter_map(route));
    }
    Ok(all)
}

/// Removes the route to `to` by the very message that the kernel describes it with: a request has to match in protocol
/// and scope too.
pub(super) async fn remove_route(handle: &Handle, to: &str) -> Result<()> {
    let any = RouteMessageBuilder::<IpAddr>::new().build();
    let messages: Vec<RouteMessage> = handle.route().get(any).execute().try_collect().await.context("routes: dump")?;
    let found = messages.into_iter().find(|message| route(message).is_some_and(|route| route.to == to));
    let message = found.with_context(|| format!("route to {to}: not there to be removed"))?;
    handle.route().del(message).execute().await.with_context(|| format!("route to {to}: delete"))
}

/// The VLANs of every bridge port and bridge, by link index.
pub(super) async fn vlans(handle: &Handle) -> Result<Vec<(u32, Vec<Vlan>)>> {
    let messages: Vec<LinkMessage> = handle
        .link()
        .get()
        .set_filter_mask(AddressFamily::Bridge, vec![LinkExtentMask::Brvlan])
        .execute()
        .try_collect()
        .await
        .context("bridge VLANs: dump")?;
    Ok(messages.into_iter().map(|message| (message.header.index, port_vlans(&message))).collect())
}

fn port_vlans(message: &LinkMessage) -> Vec<Vlan> {
    let mut vlans = Vec::new();
    for attribute in &message.attributes {
        let LinkAttribute::AfSpecBridge(specs) = attribute else {
            continue;
        };
        for spec in specs {
            if let AfSpecBridge::VlanInfo(info) = spec {
                vlans.push(Vlan {
                    id: info.vid,
                    pvid: info.flags.contains(BridgeVlanInfoFlags::Pvid),
                    untagged: info.flags.contains(BridgeVlanInfoFlags::Untagged),
                });
            }
        }
    }
    vlans.sort_unstable();
    vlans
}

fn link(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up),
        promisc: flags.contains(LinkFlags::Promisc),
        ..Link::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.mac = mac_text(&bytes),
            LinkAttribute::OperState(state) => link.running = state == State::Up,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.master = Some(index),
            LinkAttribute::Link(index) => link.peer = Some(index),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Promiscuity(count) => link.promisc |= count > 0,
            LinkAttribute::PropList(props) => {
                link.altnames.extend(props.into_iter().filter_map(|prop| match prop {
                    Prop::AltIfName(name) => Some(name),
                    _ => None,
                }));
            }
            LinkAttribute::LinkInfo(infos) => infos.into_iter().for_each(|info| details(&mut link, info)),
            _ => {}
        }
    }
    link
}

fn details(link: &mut Link, info: LinkInfo) {
    match info {
        LinkInfo::Kind(kind) => link.kind = kind.to_string(),
        LinkInfo::Data(InfoData::Bridge(data)) => {
            link.vlan_filtering = data.contains(&InfoBridge::VlanFiltering(true));
        }
        LinkInfo::PortData(InfoPortData::BridgePort(data)) => {
            link.hairpin = data.contains(&InfoBridgePort::HairpinMode(true));
            link.isolated = data.contains(&InfoBridgePort::Isolated(true));
        }
        _ => {}
    }
}

fn address(message: AddressMessage) -> Option<Address> {
    let mut ip = None;
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in message.attributes {
        match attribute {
            // For a point-to-point link `Address` is the peer, and `Local`, which comes later, is ours.
            AddressAttribute::Local(own) => ip = Some(own),
            AddressAttribute::Address(other) => ip = ip.or(Some(other)),
            AddressAttribute::Flags(all) => flags = all,
            _ => {}
        }
    }
    Some(Address {
        index: message.header.index,
        ip: ip?,
        prefix: message.header.prefix_len,
        nodad: flags.contains(AddressFlags::Nodad),
        tentative: flags.contains(AddressFlags::Tentative),
        permanent: flags.contains(AddressFlags::Permanent),
    })
}

fn route(message: &RouteMessage) -> Option<Route> {
    const LOCAL: u32 = 255;
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let v6 = message.header.address_family == AddressFamily::Inet6;
    let mut to = if v6 { "::" } else { "0.0.0.0" }.to_owned();
    let mut route = Route {
        to: String::new(),
        via: None,
        link: None,
        table: u32::from(message.header.table),
        priority: None,
        mtu: None,
        advmss: None,
        scope: message.header.scope.into(),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address)?.to_string(),
            RouteAttribute::Gateway(address) => route.via = ip(address),
            RouteAttribute::Oif(index) => route.link = Some(*index),
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(priority) => route.priority = Some(*priority),
            RouteAttribute::Metrics(metrics) => metrics.iter().for_each(|m| metric(&mut route, m)),
            _ => {}
        }
    }
    route.to = format!("{to}/{}", message.header.destination_prefix_length);
    (route.table != LOCAL).then_some(route)
}

fn metric(route: &mut Route, metric: &netlink_packet_route::route::RouteMetric) {
    use netlink_packet_route::route::RouteMetric;
    match metric {
        RouteMetric::Mtu(mtu) => route.mtu = Some(*mtu),
        RouteMetric::Advmss(mss) => route.advmss = Some(*mss),
        _ => {}
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

/// A hardware address as text.
pub fn mac_text(bytes: &[u8]) -> String {
    let parts: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}

/// A hardware address as bytes.
pub fn mac_bytes(text: &str) -> Result<[u8; 6]> {
    let bytes = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16))
        .collect::<Result<Vec<u8>, _>>()
        .with_context(|| format!("mac {text:?}: not hexadecimal"))?;
    bytes.try_into().map_err(|_| anyhow::anyhow!("mac {text:?}: not six bytes"))
}
