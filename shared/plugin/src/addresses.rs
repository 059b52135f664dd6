//! Addresses and routes in the pod: given on ADD, compared on CHECK.

use std::net::IpAddr;

use podwire_net::{Errno, Link, LinkChange, read_sysctl, write_sysctl};
use podwire_spec::{AddResult, Cidr, Interface, Route};

use crate::{Context, Error, PodSide, Result};

/// `RT_SCOPE_LINK`: a route that needs no next hop.
const SCOPE_LINK: u8 = 253;

impl<C> Context<C> {
    /// Gives the pod's link its addresses, sets it up and adds the routes. IPv6 addresses are usable at once. If `side`
    /// asks for duplicate-address detection the link is set up, and the rest is left to [`Self::claim`].
    ///
    /// # Errors
    /// Of the kernel.
    pub(crate) fn configure(&self, link: &Link, result: &AddResult, side: PodSide) -> Result<()> {
        let dad = side.dad;
        let has_ipv6 = result.ips.iter().any(|ip| ip.address.ip().is_ipv6());
        let prepare = || if result.ips.is_empty() { Ok(()) } else { set_up_sysctls(&link.name, has_ipv6, dad) };
        let pod = self.pod_after(prepare)?;
        let notify = LinkChange { arp_notify: !result.ips.is_empty(), ..LinkChange::default() };
        // The kernel sets the link up before it looks at the rest of a message.
        if side.announced_by_up && notify.arp_notify {
            pod.change_link(link.index, &notify)?;
        }
        let up = LinkChange { up: Some(true), ..notify };
        if dad {
            return Ok(pod.change_link(link.index, &up)?);
        }
        for ip in &result.ips {
            pod.add_address(link.index, ip.address, false)?;
        }
        pod.change_link(link.index, &up)?;
        self.add_routes(link, result)
    }

    /// Gives the pod's link its addresses and routes, and waits until the kernel has asked whether somebody else has an
    /// IPv6 address. It asks once, when the address is there: the network is to be in service by then.
    ///
    /// # Errors
    /// EADDRINUSE where somebody has; of the kernel.
    pub(crate) async fn claim(&self, link: &Link, result: &AddResult) -> Result<()> {
        let pod = self.pod()?;
        for ip in &result.ips {
            pod.add_address(link.index, ip.address, true)?;
        }
        self.add_routes(link, result)?;
        Ok(pod.wait_for_dad(link.index).await?)
    }

    fn add_routes(&self, link: &Link, result: &AddResult) -> Result<()> {
        let pod = self.pod()?;
        for route in &completed(&result.routes, result) {
            pod.add_route(link.index, route)?;
        }
        Ok(())
    }

    /// Tells the neighbours of the pod's addresses: the kernel sends gratuitous ARP and unsolicited neighbour
    /// advertisements when a MAC address is set, even to what it was, since [`Self::configure`] switched that on. No
    /// raw socket is needed, whose closing alone takes the kernel milliseconds.
    ///
    /// # Errors
    /// Of the kernel.
    pub(crate) fn announce(&self, link: &Link) -> Result<()> {
        let change = LinkChange { mac: link.mac, ..LinkChange::default() };
        Ok(self.pod()?.change_link(link.index, &change)?)
    }

    /// Compares the pod's link with what the result says of it.
    ///
    /// # Errors
    /// Code 102, naming the first difference.
    pub(crate) fn verify_addresses(&self, link: &Link, result: &AddResult) -> Result<()> {
        let pod = self.pod()?;
        let name = &link.name;
        let addresses = pod.addresses(link.index)?;
        let own = result.interfaces.iter().position(|interface| is_pods(interface, &self.env.netns, name));
        for ip in result.ips.iter().filter(|ip| ip.interface.is_none() || ip.interface == own) {
            let found = addresses.iter().find(|address| address.cidr == ip.address);
            let object = || format!("address \"{}\" of pod's link {name:?}", ip.address);
            match found {
                None => {
                    let all: Vec<_> = addresses.iter().map(|address| address.cidr.to_string()).collect();
                    return Err(Error::differs(object(), "to be there", format!("only {all:?}")).into());
                }
                Some(address) if address.duplicate => {
                    return Err(
                        Error::differs(object(), "to be the pod's alone", "another owner on the network").into()
                    );
                }
                Some(_) => {}
            }
        }
        for ipv6 in [false, true] {
            let wanted: Vec<_> = completed(&result.routes, result)
                .into_iter()
                .filter(|route| route.dst.ip().is_ipv6() == ipv6)
                .collect();
            if wanted.is_empty() {
                continue;
            }
            let present = pod.routes(ipv6)?;
            if let Some(gone) = wanted.iter().find(|route| !present.iter().any(|entry| entry.is(route, link.index))) {
                let by = gone.gw.map_or_else(String::new, |gw| format!(" by \"{gw}\""));
                let object = format!("route to \"{}\"{by} of pod's link {name:?}", gone.dst);
                return Err(Error::differs(object, "to be there", "none such").into());
            }
        }
        Ok(())
    }
}

/// Whether a result's interface is the one in the pod with this name.
pub(crate) fn is_pods(interface: &Interface, netns: &str, name: &str) -> bool {
    interface.name == name && interface.sandbox == netns
}

/// The routes with the next hop that they leave out, the gateway of the first address of their family, and each once.
fn completed(routes: &[Route], result: &AddResult) -> Vec<Route> {
    let gateway = |dst: Cidr| -> Option<IpAddr> {
        result.ips.iter().filter_map(|ip| ip.gateway).find(|gateway| gateway.is_ipv4() == dst.ip().is_ipv4())
    };
    let mut all: Vec<Route> = Vec::new();
    for route in routes {
        let mut route = route.clone();
        if route.scope == Some(SCOPE_LINK) {
            route.gw = None;
        } else if route.gw.is_none() {
            route.gw = gateway(route.dst);
        }
        if !all.contains(&route) {
            all.push(route);
        }
    }
    all
}

/// Before the link goes up: its addresses are the ones given and no others, so no router may add to them (which is all
/// that `autoconf` could do); and it tells its neighbours when it gets a MAC address.
pub(crate) fn set_up_sysctls(ifname: &str, has_ipv6: bool, dad: bool) -> podwire_net::Result<()> {
    for (key, value, is_wanted) in
        [("accept_ra", "0", true), ("ndisc_notify", "1", has_ipv6), ("accept_dad", "0", has_ipv6 && !dad)]
    {
        if !is_wanted {
            continue;
        }
        match write_sysctl(&format!("ipv6/conf/{ifname}/{key}"), value) {
            // A kernel without IPv6, or one where it is switched off, has nothing to protect.
            Err(error) if error.is(Errno::ENOENT) && !has_ipv6 => {}
            other => other?,
        }
    }
    // Some runtimes switch IPv6 off for all of a pod: one that has an address has `::1` too.
    if has_ipv6 && read_sysctl(&format!("ipv6/conf/{ifname}/disable_ipv6"))? != "0" {
        for link in ["lo", ifname] {
            write_sysctl(&format!("ipv6/conf/{link}/disable_ipv6"), "0")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use podwire_spec::Ip;

    use super::*;

    #[test]
    fn routes_get_the_gateway_of_their_family_and_stand_once() {
        let result = AddResult {
            ips: vec![
                Ip { interface: None, address: "10.1.0.5/16".parse().unwrap(), gateway: Some([10, 1, 0, 1].into()) },
                Ip {
                    interface: None,
                    address: "fd00::5/64".parse().unwrap(),
                    gateway: Some("fd00::1".parse().unwrap()),
                },
            ],
            ..AddResult::default()
        };
        let link_scope = Route { scope: Some(SCOPE_LINK), ..Route::new("10.9.0.0/16".parse().unwrap(), None) };
        let routes = [
            Route::new("0.0.0.0/0".parse().unwrap(), None),
            Route::new("0.0.0.0/0".parse().unwrap(), Some([10, 1, 0, 1].into())),
            Route::new("::/0".parse().unwrap(), None),
            Route::new("10.8.0.0/16".parse().unwrap(), Some([10, 1, 0, 9].into())),
            link_scope,
        ];
        let completed = completed(&routes, &result);
        let next_hops: Vec<_> = completed.iter().map(|route| route.gw.map(|gw| gw.to_string())).collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(next_hops, [some("10.1.0.1"), some("fd00::1"), some("10.1.0.9"), None]);
    }
}
