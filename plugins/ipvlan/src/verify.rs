//! CHECK: is the device as ADD made it?

use podwire_plugin::{
    Context, Error, Result,
    net::{IpVlan, Link},
};

use crate::config::Config;

/// Compares the pod's link with what was asked for.
pub(crate) fn verify(cx: &Context<Config>, link: &Link) -> Result<()> {
    let config = &cx.conf.plugin;
    let object = |what: &str| format!("pod's link {:?}{what}", link.name);
    let Some(found) = IpVlan::of(link) else {
        return Err(Error::differs(object(""), "an ipvlan", format!("type {:?}", link.kind)).into());
    };
    let wanted = config.device();
    if found != wanted {
        return Err(Error::differs(object(": mode"), wanted, found).into());
    }
    if let Some(mtu) = config.mtu.filter(|&mtu| mtu != 0 && mtu != link.mtu) {
        return Err(Error::differs(object(": MTU"), mtu, link.mtu).into());
    }
    // A default route may have moved since, which is no fault of the pod's.
    let Some(name) = config.master() else { return Ok(()) };
    let net = cx.net(config.link_in_container)?;
    let differs = |found: String| Err(Error::differs(object(": parent"), format!("{name:?}"), found).into());
    let Some(master) = net.link(name)? else { return differs("no link of that name".to_owned()) };
    // A device on an ipvlan is one on that one's own parent.
    let expected = if IpVlan::of(&master).is_some() { master.peer } else { Some(master.index) };
    if link.peer == expected {
        return Ok(());
    }
    let parent = match link.peer {
        Some(index) => net.link_at(index)?,
        None => None,
    };
    differs(parent.map_or_else(|| "another".to_owned(), |parent| format!("{:?}", parent.name)))
}
