//! The bridge as the pod's gateway.

use std::{collections::HashSet, net::IpAddr};

use podwire_plugin::{
    AddResult, Cidr, Context, Error, Label, NetConf, Result, Route, code, host_veth_name,
    net::{Errno, Kind, Link, LinkChange, LinkSpec, read_sysctl, write_sysctl},
};

use crate::{config::Config, device};

/// Completes the result: gateways that the delegate left out, and default routes.
pub(crate) fn complete(conf: &NetConf<Config>, result: &mut AddResult) -> Result<()> {
    if result.ips.is_empty() {
        return match &conf.ipam {
            Some(kind) => Err(Error::new(code::DELEGATE, format!("delegate {kind:?}: gave no address")).into()),
            None => Ok(()),
        };
    }
    let config = &conf.plugin;
    if !config.is_gateway() {
        return Ok(());
    }
    let mut defaults: HashSet<_> = result
        .routes
        .iter()
        .filter(|route| route.dst.is_default() && route.gw.is_some())
        .map(|route| route.dst)
        .collect();
    for ip in &mut result.ips {
        if ip.gateway.is_none() {
            ip.gateway = Some(first_host(ip.address)?);
        }
        let default = Cidr::default_of(ip.address.ip());
        if config.is_default_gateway && defaults.insert(default) {
            result.routes.push(Route::new(default, ip.gateway));
        }
    }
    Ok(())
}

/// Gives the bridge its gateway addresses.
pub(crate) async fn set_up(cx: &mut Context<Config>, bridge: &Link, result: &AddResult) -> Result<()> {
    let wanted = addresses(result);
    if wanted.is_empty() {
        return Ok(());
    }
    let link = interface(cx, bridge).await?;
    let present: Vec<_> = cx.host.addresses(link.index)?.into_iter().filter(|one| !one.automatic).collect();
    for &gateway in &wanted {
        if present.iter().any(|address| address.cidr == gateway) {
            continue;
        }
        for other in present.iter().map(|address| address.cidr).filter(|&other| is_in_the_way(other, gateway, &wanted))
        {
            if !cx.conf.plugin.force_address {
                let object =
                    format!("bridge {:?}: has address \"{other}\", not the gateway's \"{gateway}\"", link.name);
                return Err(Error::new(code::DIFFERENT, object)
                    .with_details("\"forceAddress\": true replaces it; or remove it, or choose another subnet")
                    .into());
            }
            if cx.host.delete_address(link.index, other)? {
                let index = link.index;
                cx.undo_by(format!("give address {other} back to the bridge"), async move |cx| {
                    Ok(cx.host.add_address(index, other, false)?)
                });
            }
        }
        match cx.host.add_address(link.index, gateway, false) {
            Ok(()) => {
                let (link, bridge) = (link.index, bridge.index);
                cx.undo_at_last_by(format!("remove address {gateway} unless others use it"), async move |cx| {
                    if cx.is_idle(bridge)? {
                        cx.host.delete_address(link, gateway)?;
                    }
                    Ok(())
                });
            }
            // Another call was first.
            Err(error) if error.is(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The gateway addresses of a result, each once.
pub(crate) fn addresses(result: &AddResult) -> Vec<Cidr> {
    let mut all: Vec<Cidr> = Vec::new();
    for ip in &result.ips {
        if let Some(Ok(gateway)) = ip.gateway.map(|gateway| Cidr::new(gateway, ip.address.prefix()))
            && !all.contains(&gateway)
        {
            all.push(gateway);
        }
    }
    all
}

/// The name of the link that has the gateway's address: the bridge, or for pods of an access VLAN a port of that VLAN.
pub(crate) fn interface_name(config: &Config) -> String {
    match config.access_vlan() {
        Some(vlan) => format!("{}.{vlan}", config.bridge),
        None => config.bridge.clone(),
    }
}

/// A bridge has one IPv4 address, the gateway's; of IPv6 it may have several whose networks do not overlap.
fn is_in_the_way(other: Cidr, gateway: Cidr, wanted: &[Cidr]) -> bool {
    let same_family = other.ip().is_ipv4() == gateway.ip().is_ipv4();
    let overlap = other.contains(gateway.ip()) || gateway.contains(other.ip());
    same_family && !wanted.contains(&other) && (other.ip().is_ipv4() || overlap)
}

/// The first address of a network that a host can have.
fn first_host(address: Cidr) -> Result<IpAddr> {
    let first = match address.network().ip() {
        IpAddr::V4(ip) => ip.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(ip) => ip.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    };
    first.filter(|&ip| address.contains(ip)).ok_or_else(|| {
        Error::invalid("isGateway", format!("network of address \"{address}\" has no room for a gateway")).into()
    })
}

/// The link for the gateway's addresses; for a VLAN a veth pair with both ends on the node, made once for all its pods.
///
/// It is looked at and made in one step, under the lock. Whoever takes such a pair away, under it too, looks for other
/// pods' ports first, and this pod has its port already.
async fn interface(cx: &mut Context<Config>, bridge: &Link) -> Result<Link> {
    let Some(vlan) = cx.conf.plugin.access_vlan() else { return Ok(bridge.clone()) };
    let name = interface_name(&cx.conf.plugin);
    if !podwire_plugin::spec::interface_name(&name) {
        let why = format!("the gateway's interface would be {name:?}, which is longer than 15 bytes");
        return Err(Error::invalid("bridge", why).into());
    }
    let port = host_veth_name(&cx.conf.plugin.bridge, &vlan.to_string());
    let _lock = cx.host.ns().lock().await?;
    let link = match cx.host.link(&name)? {
        Some(link) => link,
        None => create_pair(cx, bridge, &name, &port)?,
    };
    match cx.host.link(&port)? {
        Some(port) if port.master == Some(bridge.index) && port.up && link.up => {}
        // Just made, or by a call that was killed half-way.
        Some(port) => plug_in(cx, &link, &port, bridge.index).await?,
        // Somebody else's link, which has its own way into the VLAN.
        None => {}
    }
    Ok(link)
}

fn create_pair(cx: &mut Context<Config>, bridge: &Link, name: &str, port: &str) -> Result<Link> {
    let label = Label::of_network(&cx.conf.name).to_string();
    let spec = LinkSpec {
        mtu: Some(bridge.mtu),
        alias: Some(&label),
        ..LinkSpec::new(name, Some(Kind::Veth(Box::new(LinkSpec::new(port, None)))))
    };
    let link = cx.host.create_link(&spec)?;
    if let Some(port) = link.peer {
        cx.undo_shared_port(port);
    }
    Ok(link)
}

/// Makes the other end a port of the bridge, in the VLANs of the pods, sets both up and waits until it is in service.
async fn plug_in(cx: &Context<Config>, link: &Link, port: &Link, bridge: u32) -> Result<()> {
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    let label = Label::of_network(&cx.conf.name).to_string();
    cx.host.change_link(port.index, &LinkChange { master: Some(bridge), alias: Some(&label), ..up.clone() })?;
    device::set_up_vlans(cx, port.index).await?;
    cx.host.change_link(link.index, &up)?;
    cx.host.wait_for_port(port.index).await?;
    Ok(())
}

/// Lets the node forward packets of the families that have a gateway. It is not taken back, not even by an ADD that fails
/// after it: others, who found it on, may rely on it by then.
pub(crate) fn forward(result: &AddResult) -> Result<()> {
    let mut gateways = result.ips.iter().filter_map(|ip| ip.gateway);
    let has = [gateways.clone().any(|gateway| gateway.is_ipv4()), gateways.any(|gateway| gateway.is_ipv6())];
    for (key, is_wanted) in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"].into_iter().zip(has) {
        if is_wanted && read_sysctl(key)? != "1" {
            write_sysctl(key, "1")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_host_is_the_gateway_where_there_is_room() {
        assert_eq!(first_host(cidr("10.1.7.9/16")).unwrap().to_string(), "10.1.0.1");
        assert_eq!(first_host(cidr("fd00::9/64")).unwrap().to_string(), "fd00::1");
        assert_eq!(first_host(cidr("10.0.0.1/31")).unwrap().to_string(), "10.0.0.1");
        assert!(first_host(cidr("10.0.0.1/32")).is_err());
        assert!(first_host(cidr("255.255.255.255/32")).is_err());
    }

    #[test]
    fn another_ipv4_address_is_in_the_way_but_not_another_ipv6_network() {
        let wanted = [cidr("10.1.0.1/16"), cidr("10.2.0.1/16"), cidr("fd00::1/64")];
        assert!(is_in_the_way(cidr("10.9.0.1/16"), wanted[0], &wanted));
        assert!(!is_in_the_way(wanted[1], wanted[0], &wanted));
        assert!(!is_in_the_way(cidr("fd01::1/64"), wanted[2], &wanted));
        assert!(is_in_the_way(cidr("fd00::2/64"), wanted[2], &wanted));
        assert!(!is_in_the_way(cidr("10.9.0.1/16"), wanted[2], &wanted));
    }
}
