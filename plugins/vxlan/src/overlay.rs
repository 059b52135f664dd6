//! `attach` = `bridge`: what a network has on the node, a VXLAN device and a bridge, shared by its pods.
//!
//! Whoever makes, uses or removes them holds the lock of the node's namespace meanwhile, so that nothing is removed
//! between a look and the port that an ADD makes after it. A call that is killed under the lock leaves them half-made,
//! but labelled: the next ADD goes on from there, and GC removes them.

use podwire_plugin::{
    Attached, BridgeSpec, Context, Error, Label, Result, code, join,
    net::{Errno, Link, LinkChange, LinkSpec, PortChange},
    random_mac,
};

use crate::{
    config::Config,
    device::{Difference, Underlay, checksum_difference, in_use, set_checksum},
    peers,
};

/// Makes what is missing on the node, and the pod's veth pair.
pub(crate) async fn attach(cx: &mut Context<Config>) -> Result<Attached> {
    let mac = cx.requested_mac(None).unwrap_or_else(random_mac);
    let underlay = Underlay::find(cx)?;
    let lock = cx.host.ns().lock().await?;
    let device = existing(cx, &underlay)?;
    let mtu = match &device {
        Some(device) => device.mtu,
        None => underlay.mtu(cx)?,
    };
    let name = cx.conf.plugin.bridge();
    let bridge = cx.ensure_bridge(BridgeSpec { name: &name, mtu: Some(mtu), vlan_filtering: false })?;
    if !bridge.up {
        cx.host.change_link(bridge.index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
    }
    let mut device = match device {
        Some(device) => device,
        None => create(cx, &underlay, &bridge, mtu)?,
    };
    if !is_whole(&device, &bridge) {
        complete(cx, &mut device, &bridge).await?;
    }
    let (port, pod) = match cx.create_port(&bridge, mac, mtu) {
        Ok(ends) => ends,
        Err(error) if error.is(Errno::EEXIST) => return Err(cx.taken(&error)?.into()),
        Err(error) => return Err(error.into()),
    };
    drop(lock);
    cx.raise_port(&port)?;
    Ok(Attached { node: vec![bridge, device, port], pod })
}

/// The device that is there, if it is the one that is wanted.
///
/// # Errors
/// Code 101, naming the difference.
pub(crate) fn existing(cx: &Context<Config>, underlay: &Underlay) -> Result<Option<Link>> {
    let config = &cx.conf.plugin;
    let Some(device) = cx.host.link(&config.device())? else { return Ok(None) };
    let bridge = cx.bridge(&config.bridge())?;
    let refuse = |Difference(option, wanted, found)| {
        let what = format!("vxlan {:?}: exists with {option} {found}, not {wanted}", device.name);
        let how = "nothing was changed; remove it when no pod is on it, or choose another name for \"vxlan\"";
        Err(Error::new(code::DIFFERENT, what).with_details(how).into())
    };
    if Label::parse(&device.alias).is_some() && !cx.is_of_network(&device) {
        return refuse(Difference("alias", cx.network_label().to_string(), device.alias.clone()));
    }
    if let Some(difference) = underlay.difference(cx, &device)? {
        return refuse(difference);
    }
    if let Some(wanted) = config.mtu().filter(|&wanted| wanted != device.mtu) {
        return refuse(Difference("mtu", wanted.to_string(), device.mtu.to_string()));
    }
    let is_port = bridge.as_ref().is_some_and(|bridge| is_whole(&device, bridge));
    if !is_port && cx.is_of_network(&device) && device.master.is_none_or(|master| is_bridge(bridge.as_ref(), master)) {
        // Half-made: the rest is done now.
        return Ok(Some(device));
    }
    if device.master.is_none() || device.master != bridge.as_ref().map(|bridge| bridge.index) {
        let master = match device.master {
            Some(master) => cx.host.link_at(master)?.map(|link| format!("{:?}", link.name)),
            None => None,
        };
        return refuse(Difference(
            "bridge",
            format!("{:?}", config.bridge()),
            master.unwrap_or_else(|| "none".to_owned()),
        ));
    }
    if config.arp_suppress != device.port.unwrap_or_default().neigh_suppress {
        let (wanted, found) = (config.arp_suppress.to_string(), (!config.arp_suppress).to_string());
        return refuse(Difference("arpSuppress", wanted, found));
    }
    match checksum_difference(config, &cx.host, &device.name)? {
        Some(difference) => refuse(difference),
        None => Ok(Some(device)),
    }
}

fn is_bridge(bridge: Option<&Link>, master: u32) -> bool {
    bridge.is_some_and(|bridge| bridge.index == master)
}

/// Setting the device up is the last step of making it.
fn is_whole(device: &Link, bridge: &Link) -> bool {
    device.up && device.master == Some(bridge.index)
}

fn create(cx: &mut Context<Config>, underlay: &Underlay, bridge: &Link, mtu: u32) -> Result<Link> {
    let (name, label) = (cx.conf.plugin.device(), cx.network_label().to_string());
    let spec = LinkSpec {
        mtu: Some(mtu),
        master: Some(bridge.index),
        mac: Some(random_mac()),
        alias: Some(&label),
        ..LinkSpec::new(&name, Some(underlay.parameters(&cx.conf.plugin).kind()))
    };
    match cx.host.create_link(&spec) {
        Ok(device) => {
            cx.undo_shared_port(device.index);
            Ok(device)
        }
        Err(error) if error.is(Errno::EEXIST) => Err(in_use(cx, &error)?.into()),
        Err(error) => Err(error.into()),
    }
}

/// What follows once the device is there, each step of which may be done already.
async fn complete(cx: &Context<Config>, device: &mut Link, bridge: &Link) -> Result<()> {
    let config = &cx.conf.plugin;
    cx.relabel(device)?;
    if device.master.is_none() {
        let change = LinkChange { master: Some(bridge.index), ..LinkChange::default() };
        cx.host.change_link(device.index, &change)?;
    }
    set_checksum(config, &cx.host, &device.name)?;
    let change = PortChange { neigh_suppress: Some(config.arp_suppress), ..PortChange::default() };
    cx.host.change_port(device.index, change)?;
    cx.host.change_link(device.index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
    cx.host.wait_for_port(device.index).await?;
    Ok(())
}

/// DEL: removes the pod's pair, and with the last one what the network has on the node.
pub(crate) async fn detach(cx: &Context<Config>) -> Result<()> {
    let _lock = cx.host.ns().lock().await?;
    let mut errors = Vec::new();
    errors.extend(cx.delete_port().await.err());
    let config = &cx.conf.plugin;
    let device = cx.host.link(&config.device())?.filter(|device| device.kind == "vxlan");
    let bridge = cx.host.link(&config.bridge())?.filter(|bridge| bridge.kind == "bridge");
    errors.extend(retire(cx, device, bridge).await.err());
    join(errors)
}

/// GC: removes what the network has on the node if no pod uses it, whatever it is named, and puts the forwarding
/// entries right where it stays.
pub(crate) async fn collect(cx: &Context<Config>) -> Result<()> {
    let _lock = cx.host.ns().lock().await?;
    let links = cx.host.links()?;
    let mut errors = Vec::new();
    let of_network = |kind| links.iter().filter(move |link| link.kind == kind && cx.is_of_network(link));
    for device in of_network("vxlan") {
        let bridge = links.iter().find(|link| Some(link.index) == device.master).cloned();
        errors.extend(retire(cx, Some(device.clone()), bridge).await.err());
    }
    for bridge in of_network("bridge") {
        errors.extend(retire(cx, None, Some(bridge.clone())).await.err());
    }
    errors.extend(peers::reconcile(cx).await.err());
    join(errors)
}

/// Removes device and bridge, so far as podwire made them for this network, unless others have ports there. From a
/// device that somebody else made it takes the entries that it had added.
async fn retire(cx: &Context<Config>, device: Option<Link>, bridge: Option<Link>) -> Result<()> {
    if let Some(bridge) = &bridge {
        let ports = cx.host.ports(bridge.index)?;
        let is_device = |port: &Link| device.as_ref().is_some_and(|device| device.index == port.index);
        if !ports.iter().all(is_device) {
            return Ok(());
        }
    }
    if let Some(device) = device {
        if cx.is_of_network(&device) {
            cx.host.delete_link_at(device.index)?;
        } else {
            peers::withdraw(cx, &device).await?;
        }
    }
    if let Some(bridge) = bridge.filter(|bridge| cx.is_of_network(bridge)) {
        cx.host.delete_link_at(bridge.index)?;
    }
    Ok(())
}
