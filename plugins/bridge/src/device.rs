//! The bridge and the veth pair.

use podwire_plugin::{
    Attached, BridgeSpec, Context, Error, Result, code,
    net::{Errno, Link, LinkChange, PortChange, nft},
    random_mac,
};

use crate::config::Config;

/// How often an ADD starts over because the bridge vanished under it.
const ATTEMPTS: u32 = 8;

/// Makes the veth pair, and the bridge where it is missing.
pub(crate) async fn attach(cx: &mut Context<Config>) -> Result<Attached> {
    let mac = cx.requested_mac(cx.conf.plugin.mac).unwrap_or_else(random_mac);
    for attempt in 1.. {
        // Whoever undoes the making of the bridge, or collects it, looks for ports and deletes it in one step, into which
        // a port must not fall.
        let lock = cx.host.ns().share().await?;
        let bridge = ensure(cx)?;
        let mtu = mtu(cx, &bridge)?;
        let made = cx.create_port(&bridge, mac, mtu);
        drop(lock);
        match made {
            Ok((port, pod)) => {
                set_up_port(cx, &port).await?;
                if cx.conf.plugin.macspoofchk {
                    let is_new = nft::spoof::add(cx.nft()?, &port.name, mac, &cx.label.to_string()).await?;
                    cx.undo_by("remove the source checks", async move |cx| {
                        let label = cx.label.to_string();
                        nft::spoof::remove(cx.nft()?, |comment| comment == label).await?;
                        if is_new { Ok(nft::collect_skeletons(cx.nft()?)?) } else { Ok(()) }
                    });
                }
                cx.raise_port(&port)?;
                return Ok(Attached { node: vec![bridge, port], pod });
            }
            // Somebody else has removed the bridge between our look and our port.
            Err(error) if error.is(Errno::EINVAL) && attempt < ATTEMPTS && is_gone(cx, &bridge)? => {}
            Err(error) if error.is(Errno::EEXIST) => return Err(cx.taken(&error)?.into()),
            Err(error) => return Err(error.into()),
        }
    }
    unreachable!("the loop ends by itself")
}

/// The bridge as it is, or `None`; an error where the name is another device's.
pub(crate) fn existing(cx: &Context<Config>) -> Result<Option<Link>> {
    cx.bridge(&cx.conf.plugin.bridge)
}

/// GC, when the network has no pod left: removes the ports that podwire made for the network as a whole (the gateways of
/// its VLANs), and the bridge if podwire made it for this network and no other has a port on it.
pub(crate) async fn remove_unused_bridge(cx: &Context<Config>) -> Result<()> {
    let _lock = cx.host.ns().lock().await?;
    // A gateway's link whose maker was killed before it was a port: one that is being made has the lock.
    let links = cx.host.links()?;
    let is_port = |index| links.iter().any(|link| Some(link.index) == index && link.master.is_some());
    let is_stray = |link: &&Link| link.kind == "veth" && !is_port(Some(link.index)) && !is_port(link.peer);
    for stray in links.iter().filter(is_stray).filter(|link| cx.is_of_network(link)) {
        cx.host.delete_link_at(stray.index)?;
    }
    let Some(bridge) = existing(cx)? else { return Ok(()) };
    if !cx.is_idle(bridge.index)? {
        return Ok(());
    }
    for port in cx.host.ports(bridge.index)?.iter().filter(|port| cx.is_of_network(port)) {
        cx.host.delete_link_at(port.index)?;
    }
    if cx.is_of_network(&bridge) && cx.host.ports(bridge.index)?.is_empty() {
        cx.host.delete_link_at(bridge.index)?;
    }
    Ok(())
}

fn is_gone(cx: &Context<Config>, bridge: &Link) -> Result<bool> {
    Ok(cx.host.link_at(bridge.index)?.is_none())
}

/// The bridge, made or found, up, and with the options that the configuration asks of it.
fn ensure(cx: &mut Context<Config>) -> Result<Link> {
    let config = &cx.conf.plugin;
    let (name, mtu, vlan_filtering) = (config.bridge.clone(), config.mtu(), config.wants_vlans());
    let bridge = cx.ensure_bridge(BridgeSpec { name: &name, mtu, vlan_filtering })?;
    let config = &cx.conf.plugin;
    let change = LinkChange {
        up: (!bridge.up).then_some(true),
        promisc: (config.promisc_mode && !bridge.promisc).then_some(true),
        ..LinkChange::default()
    };
    if change.up.is_some() || change.promisc.is_some() {
        cx.host.change_link(bridge.index, &change)?;
    }
    if config.wants_vlans() && !bridge.vlan_filtering {
        if !bridge.alias.starts_with("podwire:") {
            let how = format!("ip link set dev {:?} type bridge vlan_filtering 1", bridge.name);
            return Err(Error::new(code::DIFFERENT, format!("bridge {:?}: does not filter VLANs", bridge.name))
                .with_details(format!("podwire did not make it, so it is left alone; switch it on by: {how}"))
                .into());
        }
        cx.host.enable_vlan_filtering(&bridge)?;
    }
    Ok(bridge)
}

/// The MTU of the pair: the configuration's, else the bridge's.
fn mtu(cx: &Context<Config>, bridge: &Link) -> Result<u32> {
    let wanted = cx.conf.plugin.mtu().unwrap_or(bridge.mtu);
    // A bridge follows its only port's MTU, but a second port with a larger one would lose its large frames there.
    if wanted > bridge.mtu && !cx.host.ports(bridge.index)?.is_empty() {
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
            ..PortChange::default()
        };
        cx.host.change_port(port.index, change)?;
    }
    set_up_vlans(cx, port.index).await
}

/// Puts a port into its VLANs.
pub(crate) async fn set_up_vlans(cx: &Context<Config>, port: u32) -> Result<()> {
    let config = &cx.conf.plugin;
    if !config.wants_vlans() {
        return Ok(());
    }
    if !config.preserve_default_vlan {
        // What the bridge put the port into by itself: its default VLAN, whichever it is.
        for vlan in cx.host.vlans(port)? {
            cx.host.delete_vlan(port, vlan, false)?;
        }
    }
    for vlan in config.vlans() {
        cx.turn().await;
        cx.host.add_vlan(port, vlan, false)?;
    }
    Ok(())
}
