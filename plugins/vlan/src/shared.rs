//! One VLAN of one parent for several pods: a device on the node that they share, and a macvlan on it for each. It goes
//! with its last user (see `Context::share`).

use std::collections::HashSet;

use podwire_plugin::{
    Attached, Context, Error, Label, Parent, Result, code, hash, join,
    net::{Errno, Link, LinkChange, LinkSpec, MacVlan, MacVlanMode, VlanDevice, VlanProtocol, write_sysctl},
    spec::interface_name,
};

use crate::{config::Config, holder};

/// How often an ADD looks again because another device of this VLAN came or went meanwhile.
const ATTEMPTS: u32 = 8;

/// Sysctls of the device, which is the pods' and gives the node no part in the VLAN: no link-local address, no routes
/// from its routers, no answers for the node's addresses elsewhere, nothing forwarded.
const APART: [(&str, &str, &str); 3] =
    [("ipv6", "disable_ipv6", "1"), ("ipv4", "arp_ignore", "8"), ("ipv4", "forwarding", "0")];

/// What each pod has on the device: pods reach each other at once, and others through it.
pub(crate) const POD_LINK: MacVlan = MacVlan { mode: MacVlanMode::Bridge, broadcast_queue: None };

/// Makes the pod's link, and the device where it is missing.
pub(crate) async fn attach(cx: &mut Context<Config>, parent: &Parent) -> Result<Attached> {
    let device = join_or_make(cx, parent).await?;
    let name = cx.env.ifname.clone();
    let spec = LinkSpec {
        mac: cx.requested_mac(None),
        mtu: cx.conf.plugin.mtu(),
        ..LinkSpec::new(&name, Some(POD_LINK.kind()))
    };
    let pod = cx.create_pod_link(&Parent { link: device.clone(), in_pod: false }, spec)?;
    Ok(Attached { node: vec![device], pod })
}

/// The device, up, with this attachment among its users.
async fn join_or_make(cx: &mut Context<Config>, parent: &Parent) -> Result<Link> {
    let (wanted, alias) = (cx.conf.plugin.device(), Label::of_network(&cx.conf.name).to_string());
    for attempt in 1.. {
        let there = find(cx, parent, &wanted)?;
        let name = there.map_or_else(|| name(&parent.link.name, &wanted), |link| link.name);
        let spec = LinkSpec {
            parent: Some(parent.link.index),
            alias: Some(&alias),
            ..LinkSpec::new(&name, Some(wanted.kind()))
        };
        match cx.share(&spec, |link| accept(link, parent, &wanted)).await {
            Ok(link) => {
                set_up(cx, &link)?;
                return Ok(link);
            }
            Err(error) if holder::is_taken(&error) => {
                // By a device on the node that came since we looked, or by one that only a pod has.
                if attempt == ATTEMPTS || find(cx, parent, &wanted)?.is_none() {
                    return Err(holder::explain(cx, parent, &wanted, error));
                }
            }
            Err(error) => return Err(error),
        }
    }
    unreachable!("the loop ends by itself")
}

/// The node's device for this VLAN, whoever made it and whatever it is called.
fn find(cx: &Context<Config>, parent: &Parent, wanted: &VlanDevice) -> Result<Option<Link>> {
    let links = cx.host.links()?;
    Ok(links.into_iter().find(|link| is_it(link, parent, wanted)))
}

fn is_it(link: &Link, parent: &Parent, wanted: &VlanDevice) -> bool {
    let is_on_it = link.peer == Some(parent.link.index) && link.peer_ns.is_none();
    is_on_it && VlanDevice::of(link).is_some_and(|device| device.is_same_vlan(wanted))
}

/// Refuses a link that is not what is asked for.
fn accept(link: &Link, parent: &Parent, wanted: &VlanDevice) -> Result<()> {
    let (name, vlan, parent_name) = (&link.name, holder::title(wanted), &parent.link.name);
    let found = VlanDevice::of(link).filter(|_| is_it(link, parent, wanted));
    let Some(found) = found else {
        let kind = if link.kind.is_empty() { "hardware" } else { &link.kind };
        return Err(Error::new(code::DIFFERENT, format!("link {name:?}: exists and is not {vlan} of {parent_name:?}"))
            .with_details(format!("it is of type {kind:?}; rename it, or remove it"))
            .into());
    };
    match wanted.difference(&found) {
        Some((option, here, there)) => {
            let what = format!("{option} of {vlan} of {parent_name:?}: link {name:?} has {there}, asked for is {here}");
            Err(Error::new(code::DIFFERENT, what)
                .with_details(
                    "the pods of a VLAN share one device; it was not changed, and they all need the same options",
                )
                .into())
        }
        None => Ok(()),
    }
}

/// Sets the device up, and apart from the node, if podwire made it. Whoever comes while another is about to does the same.
fn set_up(cx: &Context<Config>, link: &Link) -> Result<()> {
    let name = &link.name;
    if link.up {
        return Ok(());
    }
    if Label::parse(&link.alias).is_none() {
        return Err(Error::new(code::TRY_AGAIN, format!("link {name:?}: is down"))
            .with_details(format!(
                "podwire did not make it, so it is left alone; set it up by: ip link set dev {name} up"
            ))
            .into());
    }
    for (family, key, value) in APART {
        match write_sysctl(&format!("{family}/conf/{name}/{key}"), value) {
            // A kernel, or a node, without IPv6.
            Err(error) if !error.is(Errno::ENOENT) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(cx.host.change_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() })?)
}

/// `PARENT.ID`, as people call it, where that fits and is not ambiguous; else `vlan` and a number made from all of it.
fn name(parent: &str, device: &VlanDevice) -> String {
    let usual = format!("{parent}.{}", device.id);
    if device.protocol == VlanProtocol::Q && interface_name(&usual) {
        return usual;
    }
    let hash = hash(format!("{parent}/{}/{}", device.protocol, device.id).as_bytes());
    format!("vlan{:011x}", hash & 0xfff_ffff_ffff)
}

/// GC: takes the dead from the devices, and devices that an ADD was killed over.
pub(crate) async fn collect(cx: &Context<Config>, valid: &HashSet<Label>) -> Result<()> {
    let mut errors = Vec::new();
    for (link, users) in cx.dead_users(valid)? {
        errors.extend(cx.release(&link, &users).await.err());
    }
    for link in cx.host.links()? {
        if cx.is_of_network(&link) && VlanDevice::of(&link).is_some() {
            errors.extend(cx.release(&link, &[]).await.err());
        }
    }
    join(errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let q = |id| VlanDevice::new(id, VlanProtocol::Q);
        assert_eq!(name("eth1", &q(100)), "eth1.100");
        let long = name("enp175s0f0np0", &q(100));
        let others = [name("enp175s0f0np0", &q(101)), name("enp175s0f0np1", &q(100))];
        let service = name("eth1", &VlanDevice::new(100, VlanProtocol::Ad));
        for computed in [&long, &others[0], &others[1], &service] {
            assert!(computed.starts_with("vlan") && computed.len() == 15 && interface_name(computed), "{computed}");
        }
        assert!(!others.contains(&long) && service != "eth1.100");
    }

    #[test]
    fn another_device_is_refused_with_what_differs() {
        let parent = Parent { link: Link::known(7, "eth1", None), in_pod: false };
        let mut bridge = Link::known(8, "eth1.100", None);
        "bridge".clone_into(&mut bridge.kind);
        let error = accept(&bridge, &parent, &VlanDevice::new(100, VlanProtocol::Q)).unwrap_err().to_string();
        assert!(error.contains("not VLAN 100 of \"eth1\"") && error.contains("\"bridge\""), "{error}");
    }
}
