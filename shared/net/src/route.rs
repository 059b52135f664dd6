//! Routes.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP};
use netlink_packet_route::{
    AddressFamily,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
        RouteType,
    },
};
use nix::errno::Errno;
use podwire_spec::{Cidr, Route};

use crate::{Net, Result, message::Message};

/// A route as the kernel has it, with the index of the link that it leaves by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// The route; `table` and `priority` are always given.
    pub route: Route,
    /// The index of the link.
    pub link: Option<u32>,
}

/// `RT_TABLE_MAIN` in `linux/rtnetlink.h`.
const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;
/// What the kernel makes of an IPv6 route without a metric (`IP6_RT_PRIO_USER` in `net/ip6_route.h`).
const IPV6_METRIC: u32 = 1024;

impl Net {
    /// Adds a route by the link with this index; one to the same destination by another next hop comes behind it, as a
    /// pod with two networks may have.
    ///
    /// # Errors
    /// EEXIST where there is the same, ENETUNREACH where the next hop is on no network of the link.
    pub fn add_route(&self, index: u32, route: &Route) -> Result<()> {
        self.add_route_from(index, route, None)
    }

    /// As [`Self::add_route`], with the address that what takes it comes from, unless a program chooses another.
    ///
    /// # Errors
    /// As [`Self::add_route`], and EINVAL where `source` is no address of this namespace.
    pub fn add_route_from(&self, index: u32, route: &Route, source: Option<IpAddr>) -> Result<()> {
        let mut message = message(index, route);
        message.attributes.extend(source.map(|ip| RouteAttribute::PrefSource(ip.into())));
        self.request(|| name(route), "add", Message::NewRoute(message), NLM_F_CREATE).map(drop)
    }

    /// Removes a route. One that is not there is no error: `false`.
    ///
    /// # Errors
    /// Of the request.
    pub fn delete_route(&self, index: u32, route: &Route) -> Result<bool> {
        match self.request(|| name(route), "delete", Message::DelRoute(message(index, route)), 0) {
            Ok(_) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The unicast routes of one family, of every table.
    ///
    /// # Errors
    /// Of the request.
    pub fn routes(&self, ipv6: bool) -> Result<Vec<RouteEntry>> {
        let mut message = RouteMessage::default();
        message.header.address_family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let message = Message::GetRoute(message);
        let answers = self.request(|| "routes".to_owned(), "list", message, NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                Message::NewRoute(message) if message.header.kind == RouteType::Unicast => entry(&message),
                _ => None,
            })
            .collect())
    }
}

impl Net {
    /// The index of the link that packets to an address leave by; `None` where no route leads there.
    ///
    /// # Errors
    /// Of the request.
    pub fn way_to(&self, ip: IpAddr) -> Result<Option<u32>> {
        let mut message = RouteMessage::default();
        message.header.address_family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.destination_prefix_length = if ip.is_ipv4() { 32 } else { 128 };
        message.attributes.push(RouteAttribute::Destination(ip.into()));
        let message = Message::GetRoute(message);
        match self.request(|| format!("route to \"{ip}\""), "look up", message, 0) {
            Ok(answers) => Ok(answers.iter().find_map(|answer| match answer {
                Message::NewRoute(message) => entry(message)?.link,
                _ => None,
            })),
            Err(error) if error.is_absent() || error.is(Errno::ENETUNREACH) || error.is(Errno::EHOSTUNREACH) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl RouteEntry {
    /// Whether it counts for everybody, and not only where a rule leads to its table.
    pub fn is_in_main_table(&self) -> bool {
        self.route.table == Some(MAIN)
    }

    /// Whether this is the route that `wanted` asks for on the link with this index.
    pub fn is(&self, wanted: &Route, index: u32) -> bool {
        let metric = wanted.priority.filter(|&metric| metric != 0);
        let default_metric = if wanted.dst.ip().is_ipv4() { 0 } else { IPV6_METRIC };
        self.link == Some(index)
            && self.route.dst == wanted.dst.network()
            && (wanted.gw.is_none() || self.route.gw == wanted.gw)
            && self.route.table == Some(wanted.table.filter(|&table| table != 0).unwrap_or(MAIN))
            && self.route.priority == Some(metric.unwrap_or(default_metric))
            && (wanted.mtu.is_none() || self.route.mtu == wanted.mtu)
            && (wanted.advmss.is_none() || self.route.advmss == wanted.advmss)
    }
}

fn name(route: &Route) -> String {
    match route.gw {
        Some(gw) => format!("route to \"{}\" by \"{gw}\"", route.dst),
        None => format!("route to \"{}\"", route.dst),
    }
}

fn message(index: u32, route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let table = route.table.filter(|&table| table != 0).unwrap_or(MAIN);
    // A route without a next hop is to neighbours on the link.
    let scope = match (route.scope, route.gw) {
        (Some(scope), _) => scope.into(),
        (None, None) if route.dst.ip().is_ipv4() => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    message.header = RouteHeader {
        address_family: if route.dst.ip().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 },
        destination_prefix_length: route.dst.prefix(),
        // Tables above 255 do not fit here; the attribute below counts for all.
        table: u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
        protocol: RouteProtocol::Boot,
        scope,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    if route.onlink {
        message.header.flags = RouteFlags::Onlink;
    }
    let attributes = &mut message.attributes;
    if !route.dst.is_default() {
        attributes.push(RouteAttribute::Destination(route.dst.network().ip().into()));
    }
    attributes.extend([RouteAttribute::Oif(index), RouteAttribute::Table(table)]);
    attributes.extend(route.gw.map(|gw| RouteAttribute::Gateway(gw.into())));
    attributes.extend(route.priority.map(RouteAttribute::Priority));
    let metrics: Vec<_> =
        route.mtu.map(RouteMetric::Mtu).into_iter().chain(route.advmss.map(RouteMetric::Advmss)).collect();
    if !metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

fn entry(message: &RouteMessage) -> Option<RouteEntry> {
    let v4 = message.header.address_family == AddressFamily::Inet;
    let any = if v4 { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let (mut dst, mut link) = (any, None);
    let mut route = Route::new(Cidr::default_of(any), None);
    route.table = Some(message.header.table.into());
    route.priority = Some(0);
    route.scope = Some(message.header.scope.into());
    route.onlink = message.header.flags.contains(RouteFlags::Onlink);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => dst = ip(address)?,
            RouteAttribute::Gateway(address) => route.gw = ip(address),
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Table(table) => route.table = Some(*table),
            RouteAttribute::Priority(metric) => route.priority = Some(*metric),
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    match metric {
                        RouteMetric::Mtu(mtu) => route.mtu = Some(*mtu),
                        RouteMetric::Advmss(advmss) => route.advmss = Some(*advmss),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    route.dst = Cidr::new(dst, message.header.destination_prefix_length).ok()?;
    Some(RouteEntry { route, link })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}
