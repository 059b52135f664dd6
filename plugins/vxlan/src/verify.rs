//! CHECK: is the device as ADD made it?

use podwire_plugin::{
    Context, Error, Result,
    net::{Link, Net},
};

use crate::{
    config::{Config, Place},
    device::{Difference, Underlay, checksum_difference},
    peers,
};

/// Compares the device, wherever it is, with what was asked for; `link` is the pod's.
pub(crate) fn verify(cx: &Context<Config>, link: &Link) -> Result<()> {
    let gone = |error| Error::differs("underlay", "to be there", format!("{error:#}"));
    let underlay = Underlay::find(cx).map_err(gone)?;
    match cx.conf.plugin.attach {
        Place::Direct => {
            parameters(cx, cx.pod()?, link, &underlay)?;
            peers::verify(cx, true, link, &underlay)
        }
        Place::Bridge => {
            let device = ports(cx, link)?;
            parameters(cx, &cx.host, &device, &underlay)?;
            peers::verify(cx, false, &device, &underlay)
        }
    }
}

/// The bridge, and on it the pod's port and the device.
fn ports(cx: &Context<Config>, link: &Link) -> Result<Link> {
    let config = &cx.conf.plugin;
    let missing = |object: String| Error::differs(object, "to be there", "none");
    let bridge = config.bridge();
    let bridge = cx.bridge(&bridge)?.ok_or_else(|| missing(format!("bridge {bridge:?}")))?;
    let port = cx.verify_port(link, &bridge)?;
    let name = config.device();
    let device = cx.host.link(&name)?.ok_or_else(|| missing(format!("vxlan {name:?}")))?;
    for link in [&bridge, &port, &device] {
        if !link.up {
            return Err(Error::differs(format!("link {:?}", link.name), "up", "down").into());
        }
    }
    let object = |what: &str| format!("vxlan {name:?}: {what}");
    if device.master != Some(bridge.index) {
        let wanted = format!("a port of {:?}", bridge.name);
        return Err(Error::differs(object("bridge"), wanted, format!("master {:?}", device.master)).into());
    }
    // ADD gave the pod's link the device's.
    if device.mtu != link.mtu {
        return Err(Error::differs(object("MTU"), link.mtu, device.mtu).into());
    }
    let suppresses = device.port.unwrap_or_default().neigh_suppress;
    if suppresses != config.arp_suppress {
        return Err(Error::differs(object("arpSuppress"), config.arp_suppress, suppresses).into());
    }
    Ok(device)
}

fn parameters(cx: &Context<Config>, net: &Net, device: &Link, underlay: &Underlay) -> Result<()> {
    let mut difference = underlay.difference(cx, device)?;
    if difference.is_none() {
        difference = checksum_difference(&cx.conf.plugin, net, &device.name)?;
    }
    match difference {
        Some(Difference(option, wanted, found)) => {
            Err(Error::differs(format!("vxlan {:?}: {option}", device.name), wanted, found).into())
        }
        None => Ok(()),
    }
}
