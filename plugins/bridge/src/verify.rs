//! CHECK: is the node's side as ADD made it?

use podwire_plugin::{
    AddResult, Context, Error, Result, host_veth_name,
    net::{Link, Port, Vlan, nft},
    warn_of_bonds_on,
};

use crate::{config::Config, device, gateway};

/// Compares bridge, port, VLANs, gateway and rules with what was asked for; `link` is the pod's.
pub(crate) fn verify(cx: &Context<Config>, link: &Link, made: &AddResult) -> Result<()> {
    let config = &cx.conf.plugin;
    let differs = |object: String, expected: &str, found: String| Err(Error::differs(object, expected, found).into());
    let Some(bridge) = device::existing(cx)? else {
        return differs(format!("bridge {:?}", config.bridge), "to be there", "none".to_owned());
    };
    if config.promisc_mode && !bridge.promisc {
        return differs(format!("bridge {:?}", bridge.name), "promiscuous", "not".to_owned());
    }
    warn_of_bonds_on(&cx.host, &bridge)?;
    let port = cx.verify_port(link, &bridge)?;
    if !port.up && !config.disable_container_interface {
        return differs(format!("port {:?}", port.name), "up", "down".to_owned());
    }
    verify_port(cx, &port, port.port.unwrap_or_default())?;
    if config.is_gateway() {
        verify_gateway(cx, made)?;
    }
    // The reference plugin's pods have rules of another kind, which are its own to check.
    if port.name == host_veth_name(&cx.env.container_id, &cx.env.ifname) {
        verify_rules(cx, link, &port, made)?;
    }
    Ok(())
}

fn verify_port(cx: &Context<Config>, port: &Link, options: Port) -> Result<()> {
    let config = &cx.conf.plugin;
    let name = &port.name;
    for (what, wanted, found) in
        [("hairpin", config.hairpin_mode, options.hairpin), ("isolation", config.port_isolation, options.isolated)]
    {
        if wanted && !found {
            return Err(Error::differs(format!("port {name:?}: {what}"), "on", "off").into());
        }
    }
    if config.wants_vlans() {
        let present = cx.host.vlans(port.index)?;
        for wanted in config.vlans() {
            let fits = |vlan: &Vlan| {
                vlan.first <= wanted.first
                    && wanted.last <= vlan.last
                    && (vlan.pvid, vlan.untagged) == (wanted.pvid, wanted.untagged)
            };
            if !present.iter().any(fits) {
                let object = format!("port {name:?}: VLAN {}-{}", wanted.first, wanted.last);
                return Err(Error::differs(object, "to be there", format!("{present:?}")).into());
            }
        }
    }
    Ok(())
}

fn verify_gateway(cx: &Context<Config>, made: &AddResult) -> Result<()> {
    let name = gateway::interface_name(&cx.conf.plugin);
    let Some(link) = cx.host.link(&name)? else {
        return Err(Error::differs(format!("gateway's link {name:?}"), "to be there", "none").into());
    };
    let present = cx.host.addresses(link.index)?;
    for wanted in gateway::addresses(made) {
        if !present.iter().any(|address| address.cidr == wanted) {
            let found: Vec<_> = present.iter().map(|address| address.cidr.to_string()).collect();
            return Err(
                Error::differs(format!("gateway's link {name:?}: address"), wanted, format!("{found:?}")).into()
            );
        }
    }
    Ok(())
}

fn verify_rules(cx: &Context<Config>, link: &Link, port: &Link, made: &AddResult) -> Result<()> {
    let config = &cx.conf.plugin;
    let label = cx.label.to_string();
    if config.ip_masq {
        let present = nft::masquerade::list(cx.nft()?)?;
        for ip in made.ips.iter().map(|ip| ip.address.ip()) {
            if !present.iter().any(|(address, owner)| *address == ip && *owner == label) {
                let object = format!("masquerading of address \"{ip}\" (table inet {})", nft::TABLE);
                return Err(Error::differs(object, "to be there", "none").into());
            }
        }
    }
    if let (true, Some(mac)) = (config.macspoofchk, link.mac)
        && !nft::spoof::is_checked(cx.nft()?, &port.name, mac)?
    {
        let object = format!("source check of port {:?} for {mac} (table bridge {})", port.name, nft::TABLE);
        return Err(Error::differs(object, "to be there", "none").into());
    }
    Ok(())
}
