//! `hostAccess`: node and pod reach each other although the device between them forbids it.
//!
//! A macvlan or an ipvlan never passes a frame between a pod and the parent itself, but it does between two devices on
//! one parent. So the node gets such a device too, the *shim*: one for each parent, shared by the pods there and gone
//! with the last ([`Context::share`]). What it takes beside it:
//!
//! * On the node, a route to each address of a pod by the shim, from the node's own address. Its metric is a number
//!   made of the attachment, by which DEL and GC find it again.
//! * In the pod, a route to each address of the node by a link-local address of the shim. The shim has none of the
//!   node's addresses and answers no ARP but a pod's of this node: it would answer the whole network, beside the
//!   parent, and leave the neighbours with a MAC address that goes when the last pod does.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use podwire_net::{Errno, Kind, Link, LinkChange, LinkSpec, write_sysctl};
use podwire_spec::{AddResult, Cidr, Mac, Route, code};

use crate::{Context, Error, Label, Parent, Result, addresses::is_pods, hash, output::join, parent::default_link_of};

/// What the name of a shim starts with; the index of its parent follows.
const PREFIX: &str = "shim";

/// The next hop of the pods to the node, on every shim: nobody but a pod of the same node gets an answer, so that it
/// need not differ from node to node.
const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(169, 254, 7, 1);

impl<C> Context<C> {
    /// The shim on a parent of the node, found or made, up, and with this attachment among its users. `accept` is asked
    /// whether a link that is there is one as `kind` makes it; `has_mac` whether the type has MAC addresses of its own.
    ///
    /// # Errors
    /// Code 101 where a link has the shim's name and is another, or the parent takes no such device.
    pub async fn shim(
        &mut self,
        parent: &Parent,
        kind: Kind<'_>,
        has_mac: bool,
        accept: impl Fn(&Link) -> bool,
    ) -> Result<Link> {
        let name = format!("{PREFIX}{}", parent.link.index);
        let label = Label::of_network(&self.conf.name).to_string();
        let spec = LinkSpec {
            // Given, and not invented by the kernel, it stays what it is: udev changes those.
            mac: parent.link.mac.filter(|_| has_mac).map(shim_mac),
            parent: Some(parent.link.index),
            alias: Some(&label),
            ..LinkSpec::new(&name, Some(kind))
        };
        let accept = |link: &Link| {
            if accept(link) && (is_shim(link) || is_unfinished(link)) {
                return Ok(());
            }
            Err(Error::new(code::DIFFERENT, format!("hostAccess: link {name:?} exists and is another {:?}", link.kind))
                .with_details("that name is for the shim of its parent; rename or remove the link")
                .into())
        };
        let mut shim = match self.share(&spec, accept).await {
            Ok(shim) => shim,
            Err(error) => return Err(self.explain_refusal(parent, error)),
        };
        if !shim.up {
            prepare(&name)?;
            // With its label once more, which an ADD that was killed may not have come to.
            let change = LinkChange { up: Some(true), alias: Some(&label), group: Some(0), ..LinkChange::default() };
            self.host.change_link(shim.index, &change)?;
            shim.up = true;
        }
        Ok(shim)
    }

    /// Makes the routes on both sides.
    ///
    /// # Errors
    /// Code 7 where the node has no address that the pod could reach it by; else of the kernel.
    pub fn open_to_node(&mut self, shim: &Link, pod: &Link, result: &AddResult) -> Result<()> {
        let node = self.node_addresses(shim)?;
        let served: Vec<_> = result.ips.iter().filter_map(|ip| Some((ip, source(ip.address, &node)?))).collect();
        if served.is_empty() {
            let why =
                "the node has no address of the pod's IP version, neither on the parent nor for its default route";
            return Err(Error::invalid("hostAccess", why).into());
        }
        let metric = metric(&self.label.user());
        for (ip, source) in served {
            let route = Route { priority: Some(metric), ..Route::new(Cidr::of_host(ip.address.ip()), None) };
            match self.host.add_route_from(shim.index, &route, Some(source)) {
                Ok(()) => {
                    let index = shim.index;
                    self.undo_by(format!("remove the node's route to {}", route.dst), async move |cx| {
                        Ok(cx.host.delete_route(index, &route)?)
                    });
                }
                // Of an ADD that was killed before this one.
                Err(error) if error.is(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for ipv6 in [false, true] {
            let ips: Vec<_> = node.iter().map(|cidr| cidr.ip()).filter(|ip| ip.is_ipv6() == ipv6).collect();
            if !ips.is_empty() && result.ips.iter().any(|ip| ip.address.ip().is_ipv6() == ipv6) {
                self.lead_to_node(shim, pod, ipv6, &ips)?;
            }
        }
        Ok(())
    }

    /// The pod's routes to these addresses of the node, all of one IP version.
    fn lead_to_node(&self, shim: &Link, pod: &Link, ipv6: bool, ips: &[IpAddr]) -> Result<()> {
        let inside = self.pod()?;
        let next_hop = match self.next_hop(shim, ipv6)? {
            Some(next_hop) => next_hop,
            None => self.add_next_hop(shim, ipv6)?,
        };
        if !ipv6 {
            // To a link-local address of IPv6 there is a route on every link.
            inside.add_route(pod.index, &Route::new(Cidr::of_host(next_hop), None))?;
        }
        for &ip in ips {
            inside.add_route(pod.index, &Route::new(Cidr::of_host(ip), Some(next_hop)))?;
        }
        Ok(())
    }

    /// The link-local address by which pods reach the node, where the shim has one.
    fn next_hop(&self, shim: &Link, ipv6: bool) -> Result<Option<IpAddr>> {
        let is_such = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => !ipv6 && *ip == NEXT_HOP,
            IpAddr::V6(ip) => ipv6 && ip.is_unicast_link_local(),
        };
        Ok(self.host.addresses(shim.index)?.into_iter().map(|address| address.cidr.ip()).find(is_such))
    }

    fn add_next_hop(&self, shim: &Link, ipv6: bool) -> Result<IpAddr> {
        let address = if ipv6 {
            // A node may have IPv6 on some links only; on this one it is needed.
            write_sysctl(&format!("ipv6/conf/{}/disable_ipv6", shim.name), "0")?;
            let ip = link_local(shim_mac(shim.mac.unwrap_or(Mac([0; 6]))));
            Cidr::new(ip.into(), 64)
        } else {
            Cidr::new(NEXT_HOP.into(), 32)
        };
        let address = address.map_err(anyhow::Error::msg)?;
        match self.host.add_address(shim.index, address, false) {
            // Another call was first.
            Err(error) if error.is(Errno::EEXIST) => {}
            other => other?,
        }
        Ok(address.ip())
    }

    /// CHECK: shim, and routes on both sides.
    ///
    /// # Errors
    /// Code 102, naming the first difference.
    pub fn verify_shim(&self, pod: &Link, made: &AddResult) -> Result<()> {
        let Some(shim) = self.shared()?.filter(is_shim) else {
            return Err(Error::differs("hostAccess: shim of this attachment", "to be there", "none").into());
        };
        if !shim.up {
            return Err(Error::differs(format!("hostAccess: shim {:?}", shim.name), "up", "down").into());
        }
        let own = made.interfaces.iter().position(|interface| is_pods(interface, &self.env.netns, &pod.name));
        let ips: Vec<_> = made.ips.iter().filter(|ip| ip.interface.is_none() || ip.interface == own).collect();
        let node = self.node_addresses(&shim)?;
        let routes = self.routes_by(&shim, &[self.label.user()])?;
        for ip in ips.iter().filter(|ip| source(ip.address, &node).is_some()) {
            if !routes.iter().any(|route| route.dst.ip() == ip.address.ip()) {
                let object = format!("hostAccess: route to \"{}\" by shim {:?}", ip.address.ip(), shim.name);
                return Err(Error::differs(object, "to be there", "none").into());
            }
        }
        for ipv6 in [false, true] {
            let of_version = |ip: IpAddr| ip.is_ipv6() == ipv6;
            let Some(ip) = ips.iter().find(|ip| of_version(ip.address.ip())) else { continue };
            let Some(wanted) = source(ip.address, &node) else { continue };
            let (routes, next_hop) = (self.pod()?.routes(ipv6)?, self.next_hop(&shim, ipv6)?);
            // One will do: the node may have got more since the pod is there.
            let leads = |ip: IpAddr| {
                let route = Route::new(Cidr::of_host(ip), next_hop);
                next_hop.is_some() && routes.iter().any(|entry| entry.is(&route, pod.index))
            };
            if !node.iter().map(|cidr| cidr.ip()).filter(|ip| of_version(*ip)).any(leads) {
                let object = format!("hostAccess: pod's route to the node's address \"{wanted}\" by {:?}", pod.name);
                return Err(Error::differs(object, "to be there", "none").into());
            }
        }
        Ok(())
    }

    /// DEL: removes the node's routes to the pod, and the shim with its last user.
    ///
    /// # Errors
    /// Of the kernel. Who could not remove the routes stays a user, or nobody would look for them any more.
    pub async fn leave_shim(&self) -> Result<()> {
        let Some(shim) = self.shared()?.filter(is_shim) else { return Ok(()) };
        self.close_to(&shim, &[self.label.user()])?;
        self.leave().await
    }

    /// GC: the same for every dead attachment of this network.
    ///
    /// # Errors
    /// Of the kernel; all is attempted.
    pub async fn collect_shims(&self, valid: &HashSet<Label>) -> Result<()> {
        let mut errors = Vec::new();
        let dead = self.dead_users(valid)?;
        // Other plugins share other links, with more to them than is known here.
        for (shim, users) in dead.iter().filter(|(link, _)| is_shim(link)) {
            self.turn().await;
            let closed = self.close_to(shim, users);
            errors.extend(if closed.is_ok() { self.release(shim, users).await.err() } else { closed.err() });
        }
        // One that an ADD left which was killed before it was a user.
        let links = self.host.links()?;
        for shim in links.iter().filter(|link| parent_of(link).is_some() && self.is_of_network(link)) {
            self.turn().await;
            errors.extend(self.release(shim, &[]).await.err());
        }
        join(errors)
    }

    fn close_to(&self, shim: &Link, users: &[String]) -> Result<()> {
        for route in self.routes_by(shim, users)? {
            self.host.delete_route(shim.index, &route)?;
        }
        Ok(())
    }

    /// The routes by a shim that belong to these users.
    fn routes_by(&self, shim: &Link, users: &[String]) -> Result<Vec<Route>> {
        let metrics: HashSet<_> = users.iter().map(|user| Some(metric(user))).collect();
        let mut found = Vec::new();
        for ipv6 in [false, true] {
            let routes = self.host.routes(ipv6)?.into_iter();
            let is_theirs =
                |link: Option<u32>, route: &Route| link == Some(shim.index) && metrics.contains(&route.priority);
            found.extend(routes.filter(|entry| is_theirs(entry.link, &entry.route)).map(|entry| entry.route));
        }
        Ok(found)
    }

    /// The node's addresses that pods on this shim's parent can reach it by: of either IP version the parent's, or
    /// where it has none those of the default route's link.
    fn node_addresses(&self, shim: &Link) -> Result<Vec<Cidr>> {
        let mut all = Vec::new();
        for ipv6 in [false, true] {
            let mut found = match parent_of(shim) {
                Some(parent) => self.addresses_of(parent, ipv6)?,
                None => Vec::new(),
            };
            if found.is_empty()
                && let Some(link) = default_link_of(&self.host, ipv6)?
            {
                found = self.addresses_of(link.index, ipv6)?;
            }
            all.append(&mut found);
        }
        Ok(all)
    }

    fn addresses_of(&self, link: u32, ipv6: bool) -> Result<Vec<Cidr>> {
        let addresses = self.host.addresses(link)?.into_iter().map(|address| address.cidr);
        let is_link_local = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        Ok(addresses.filter(|cidr| cidr.ip().is_ipv6() == ipv6 && !is_link_local(cidr.ip())).collect())
    }
}

/// Whether podwire made this link as a shim.
fn is_shim(link: &Link) -> bool {
    parent_of(link).is_some() && Label::parse(&link.alias).is_some()
}

/// Whether this is a shim that was made by a call which ended before it could say so.
fn is_unfinished(link: &Link) -> bool {
    parent_of(link).is_some() && link.alias.is_empty() && link.altnames.is_empty() && !link.up
}

/// The index of a shim's parent.
fn parent_of(shim: &Link) -> Option<u32> {
    shim.name.strip_prefix(PREFIX)?.parse().ok()
}

/// A MAC address for the shim of the parent with this one, always the same.
fn shim_mac(parent: Mac) -> Mac {
    let [first, rest @ .., _, _] = hash(&parent.0).to_be_bytes();
    let mut mac = [first & 0xfc | 2; 6];
    mac[1..].copy_from_slice(&rest);
    Mac(mac)
}

/// The metric of the routes to an attachment: no other has it, as far as 32 bits can tell, and the kernel's own are far
/// below.
fn metric(user: &str) -> u32 {
    let bytes = hash(user.as_bytes()).to_be_bytes();
    // Both halves of it, one laid over the other.
    let folded = [0, 1, 2, 3].map(|place| bytes[place] ^ bytes[place + 4]);
    u32::from_be_bytes(folded).max(1)
}

/// The node's address to speak to a pod from: one in the pod's own network, else the first of its IP version.
fn source(pod: Cidr, node: &[Cidr]) -> Option<IpAddr> {
    let same_version = || node.iter().map(|address| address.ip()).filter(|ip| ip.is_ipv4() == pod.ip().is_ipv4());
    same_version().find(|ip| pod.contains(*ip)).or_else(|| same_version().next())
}

/// The link-local address that goes with a MAC address (RFC 4291, appendix A).
fn link_local(mac: Mac) -> Ipv6Addr {
    let mut octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0];
    octets[8..11].copy_from_slice(&mac.0[..3]);
    octets[8] ^= 2;
    octets[13..].copy_from_slice(&mac.0[3..]);
    octets.into()
}

/// Before the shim goes up: it answers ARP of those alone to whom a route leads by it, no router may configure the node
/// by it, and its link-local addresses are usable at once. It asks for pods from these: an ipvlan would not get the
/// answer to another of the node's addresses, which goes to the parent.
fn prepare(name: &str) -> podwire_net::Result<()> {
    write_sysctl(&format!("ipv4/conf/{name}/arp_filter"), "1")?;
    write_sysctl(&format!("ipv4/conf/{name}/arp_announce"), "2")?;
    for key in ["accept_ra", "accept_dad"] {
        match write_sysctl(&format!("ipv6/conf/{name}/{key}"), "0") {
            Err(error) if !error.is(Errno::ENOENT) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_node_speaks_from_the_pods_network_where_it_can() {
        let node = cidrs(&["10.9.0.1/16", "192.168.7.1/24", "fd07::1/64"]);
        let from = |pod: &str| source(pod.parse().unwrap(), &node).map(|ip| ip.to_string());
        assert_eq!(from("192.168.7.9/24").as_deref(), Some("192.168.7.1"));
        assert_eq!(from("172.16.0.9/24").as_deref(), Some("10.9.0.1"));
        assert_eq!(from("fd08::9/64").as_deref(), Some("fd07::1"));
        assert_eq!(source("fd08::9/64".parse().unwrap(), &node[..2]), None);
    }

    #[test]
    fn metrics_and_mac_addresses_are_the_same_each_time_and_differ() {
        let metrics: HashSet<_> = (0..1000).map(|n| metric(&format!("podwire:net:c{n}:eth0"))).collect();
        assert!(metrics.len() == 1000 && !metrics.contains(&0));
        let [a, b] = [1, 2].map(|last| shim_mac(Mac([2, 0, 0, 0, 0, last])));
        assert_ne!(a, b);
        assert_eq!(a.0[0] & 3, 2, "{a} is locally administered and unicast");
    }

    #[test]
    fn the_link_local_address_flips_the_universal_bit() {
        assert_eq!(link_local(Mac([2, 0, 0, 0, 0, 7])).to_string(), "fe80::ff:fe00:7");
    }

    #[test]
    fn a_shim_is_known_by_its_name_and_label() {
        let link = |name: &str, alias: &str| {
            let mut link = Link::known(7, name, None);
            alias.clone_into(&mut link.alias);
            link
        };
        assert!(is_shim(&link("shim12", "podwire:net::")));
        assert!(!is_shim(&link("shim12", "")) && !is_shim(&link("shimmer", "podwire:net::")));
    }
}
