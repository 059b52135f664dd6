//! The bridge and the veth pair.

use std::hash::{BuildHasher, RandomState};

use podwire_plugin::{
    Attached, Context, Error, Label, Mac, Result, Undo, code, host_veth_name,
    net::{self, Errno, Kind, Link, LinkChange, LinkSpec, PortChange, nft, write_sysctl},
    serves_nobody,
};

use crate::config::Config;

/// How often an ADD starts over because the bridge vanished under it.
const ATTEMPTS: u32 = 8;

/// Makes the veth pair, and the bridge where it is missing.
pub(crate) async fn attach(cx: &mut Context<Config>) -> Result<Attached> {
    let mac = cx.requested_mac(cx.conf.plugin.mac).unwrap_or_else(random_mac);
    for attempt in 1.. {
        let bridge = ensure(cx).await?;
        let mtu = mtu(cx, &bridge).await?;
        match veth(cx, &bridge, mac, mtu).await {
            Ok(port) => {
                set_up_port(cx, &port).await?;
                if cx.conf.plugin.macspoofchk {
                    nft::spoof::add(cx.nft()?, &port.name, mac, &cx.label.to_string())?;
                    cx.undo_by(Undo::SourceCheck);
                }
                let index = port.peer.ok_or_else(|| net::Error::new("veth", "find the other end of", Errno::ENODEV))?;
                let pod = Link::known(index, &cx.env.ifname, Some(mac));
                return Ok(Attached { node: vec![bridge, port], pod });
            }
            // Another call's undoing or a GC has removed the bridge between our look and our port.
            Err(error) if error.is(Errno::EINVAL) && attempt < ATTEMPTS && is_gone(cx, &bridge).await? => {}
            Err(error) if error.is(Errno::EEXIST) => return Err(taken(cx, error).await?.into()),
            Err(error) => return Err(error.into()),
        }
    }
    unreachable!("the loop ends by itself")
}

/// The bridge as it is, or `None`; an error where the name is another device's.
pub(crate) async fn existing(cx: &Context<Config>) -> Result<Option<Link>> {
    let name = &cx.conf.plugin.bridge;
    match cx.host.link(name).await? {
        Some(link) if link.kind != "bridge" => {
            let kind = if link.kind.is_empty() { "hardware" } else { &link.kind };
            Err(Error::new(code::DIFFERENT, format!("bridge: link {name:?} exists and is not a bridge but {kind:?}"))
                .with_details("choose another name for \"bridge\", or remove the link")
                .into())
        }
        other => Ok(other),
    }
}

/// GC, when the network has no pod left: removes the ports that podwire made for the network as a whole (the gateways of
/// its VLANs), and the bridge if podwire made it for this network and no other has a port on it.
pub(crate) async fn remove_unused_bridge(cx: &Context<Config>) -> Result<()> {
    let _lock = cx.host.ns().lock().await?;
    let Some(bridge) = existing(cx).await? else { return Ok(()) };
    if !serves_nobody(&cx.host, bridge.index).await? {
        return Ok(());
    }
    for port in cx.host.ports(bridge.index).await?.iter().filter(|port| is_ours(cx, port)) {
        cx.host.delete_link_at(port.index).await?;
    }
    if is_ours(cx, &bridge) && cx.host.ports(bridge.index).await?.is_empty() {
        cx.host.delete_link_at(bridge.index).await?;
    }
    Ok(())
}

fn is_ours(cx: &Context<Config>, link: &Link) -> bool {
    link.alias == Label::of_network(&cx.conf.name).to_string()
}

async fn is_gone(cx: &Context<Config>, bridge: &Link) -> Result<bool> {
    Ok(cx.host.link_at(bridge.index).await?.is_none())
}

/// The bridge, made or found, up, and with the options that the configuration asks of it.
async fn ensure(cx: &mut Context<Config>) -> Result<Link> {
    let bridge = loop {
        if let Some(bridge) = existing(cx).await? {
            break bridge;
        }
        match create(cx).await {
            Ok(bridge) => break bridge,
            // Another call was first: look again.
            Err(error) if error.is(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
    };
    let config = &cx.conf.plugin;
    let change = LinkChange {
        up: (!bridge.up).then_some(true),
        promisc: (config.promisc_mode && !bridge.promisc).then_some(true),
        ..LinkChange::default()
    };
    if change.up.is_some() || change.promisc.is_some() {
        cx.host.change_link(bridge.index, &change).await?;
    }
    if config.wants_vlans() && !bridge.vlan_filtering {
        if !bridge.alias.starts_with("podwire:") {
            let how = format!("ip link set dev {:?} type bridge vlan_filtering 1", bridge.name);
            return Err(Error::new(code::DIFFERENT, format!("bridge {:?}: does not filter VLANs", bridge.name))
                .with_details(format!("podwire did not make it, so it is left alone; switch it on by: {how}"))
                .into());
        }
        cx.host.enable_vlan_filtering(&bridge).await?;
    }
    Ok(bridge)
}

async fn create(cx: &mut Context<Config>) -> net::Result<Link> {
    let label = Label::of_network(&cx.conf.name).to_string();
    let config = &cx.conf.plugin;
    let spec = LinkSpec {
        mtu: config.mtu(),
        // Given, and not invented by the kernel, it stays the same whatever ports come and go.
        mac: Some(random_mac()),
        alias: Some(&label),
        up: true,
        ..LinkSpec::new(&config.bridge, Some(Kind::Bridge { vlan_filtering: config.wants_vlans() }))
    };
    let mut bridge = cx.host.create_link(&spec).await?;
    cx.undo_at_last_by(Undo::SharedLink(bridge.index));
    // The node's routes are not for a pod to decide (CVE-2020-10749).
    match write_sysctl(&format!("ipv6/conf/{}/accept_ra", bridge.name), "0") {
        Err(error) if !error.is(Errno::ENOENT) => return Err(error),
        _ => {}
    }
    bridge.vlan_filtering = cx.conf.plugin.wants_vlans();
    bridge.up = true;
    Ok(bridge)
}

/// Both ends in one message: named, with their MAC addresses and MTU, one a port of the bridge and up, the other in
/// the pod.
async fn veth(cx: &mut Context<Config>, bridge: &Link, mac: Mac, mtu: u32) -> net::Result<Link> {
    let (name, label) = (host_veth_name(&cx.env.container_id, &cx.env.ifname), cx.label.to_string());
    let pod = cx.pod_ns().map_err(|error| net::Error::other("pod", "enter", error))?;
    let peer = LinkSpec { mac: Some(mac), mtu: Some(mtu), ns: Some(pod), ..LinkSpec::new(&cx.env.ifname, None) };
    let spec = LinkSpec {
        mac: Some(random_mac()),
        mtu: Some(mtu),
        master: Some(bridge.index),
        alias: Some(&label),
        up: true,
        ..LinkSpec::new(&name, Some(Kind::Veth(Box::new(peer))))
    };
    let link = cx.host.create_link(&spec).await?;
    cx.undo_by(Undo::HostLink(link.index));
    Ok(link)
}

/// The MTU of the pair: the configuration's, else the bridge's.
async fn mtu(cx: &Context<Config>, bridge: &Link) -> Result<u32> {
    let wanted = cx.conf.plugin.mtu().unwrap_or(bridge.mtu);
    // A bridge follows its only port's MTU, but a second port with a larger one would lose its large frames there.
    if wanted > bridge.mtu && !cx.host.ports(bridge.index).await?.is_empty() {
        let why = format!("{wanted} is above the {} bytes of bridge {:?}", bridge.mtu, bridge.name);
        return Err(Error::invalid("mtu", why)
            .with_details(
                "the bridge has other ports, whose large frames would be lost; raise its MTU first, and theirs",
            )
            .into());
    }
    Ok(wanted)
}

/// What the one message cannot say: options and VLANs of the port, and the name that people know the pod by.
async fn set_up_port(cx: &Context<Config>, port: &Link) -> Result<()> {
    let config = &cx.conf.plugin;
    if config.hairpin_mode || config.port_isolation {
        let change = PortChange {
            hairpin: config.hairpin_mode.then_some(true),
            isolated: config.port_isolation.then_some(true),
        };
        cx.host.change_port(port.index, change).await?;
    }
    set_up_vlans(cx, port.index).await?;
    if let Some(pod) = &cx.env.args.pod {
        // A second attachment of the pod has the same name but for its interface; one that does not fit has none.
        let altname = format!("{}_{}_{}", pod.namespace, pod.name, cx.env.ifname);
        if altname.len() <= 127 {
            cx.host.add_altname(port.index, &altname).await.or_else(|error| {
                tracing::warn!("{error}");
                if error.is(Errno::EEXIST) || error.is(Errno::EINVAL) { Ok(()) } else { Err(error) }
            })?;
        }
    }
    Ok(())
}

/// Puts a port into its VLANs.
pub(crate) async fn set_up_vlans(cx: &Context<Config>, port: u32) -> Result<()> {
    let config = &cx.conf.plugin;
    if !config.wants_vlans() {
        return Ok(());
    }
    if !config.preserve_default_vlan {
        // What the bridge put the port into by itself: its default VLAN, whichever it is.
        for vlan in cx.host.vlans(port).await? {
            cx.host.delete_vlan(port, vlan, false).await?;
        }
    }
    for vlan in config.vlans() {
        cx.host.add_vlan(port, vlan, false).await?;
    }
    Ok(())
}

/// Which name was taken: the pod's, or the node's.
async fn taken(cx: &Context<Config>, error: net::Error) -> Result<Error> {
    let name = &cx.env.ifname;
    if cx.pod()?.link(name).await?.is_some() {
        return Ok(Error::new(code::EXISTS, format!("CNI_IFNAME {name:?}: exists already in the pod"))
            .with_details(error.to_string()));
    }
    let veth = host_veth_name(&cx.env.container_id, name);
    Ok(Error::new(code::EXISTS, format!("link {veth:?}: exists already on the node"))
        .with_details("this attachment was added before, into another namespace, and not deleted: call DEL first"))
}

/// A random, locally administered, unicast address.
fn random_mac() -> Mac {
    // The keys of std's hash maps come from the kernel's random numbers.
    let [first, rest @ .., _, _] = RandomState::new().hash_one(std::process::id()).to_ne_bytes();
    let mut mac = [first & 0xfc | 2; 6];
    mac[1..].copy_from_slice(&rest);
    Mac(mac)
}
