//! CHECK: is the device as ADD made it?

use podwire_plugin::{
    Context, Error, Result,
    net::{Link, MacVlan},
};

use crate::config::Config;

/// Compares the pod's link with what was asked for.
pub(crate) fn verify(cx: &Context<Config>, link: &Link) -> Result<()> {
    let config = &cx.conf.plugin;
    let object = format!("pod's link {:?}", link.name);
    let Some(found) = MacVlan::of(link) else {
        return Err(Error::differs(object, "a macvlan", format!("type {:?}", link.kind)).into());
    };
    let wanted = config.device();
    if found.mode != wanted.mode {
        return Err(Error::differs(format!("{object}: mode"), wanted.mode, found.mode).into());
    }
    if wanted.broadcast_queue.is_some() && found.broadcast_queue != wanted.broadcast_queue {
        let length = |queue: Option<u32>| queue.map_or_else(|| "none".to_owned(), |length| length.to_string());
        let (wanted, found) = (length(wanted.broadcast_queue), length(found.broadcast_queue));
        return Err(Error::differs(format!("{object}: bcqueuelen"), wanted, found).into());
    }
    // A default route may have moved since, which is no fault of the pod's.
    let Some(master) = config.master() else { return Ok(()) };
    let parent = cx.parent(Some(master), config.link_in_container)?;
    // On a macvlan the kernel makes it on that one's own parent.
    let real = if parent.link.kind == MacVlan::KIND { parent.link.peer } else { Some(parent.link.index) };
    if link.peer != real {
        let below = cx.net(parent.in_pod)?.link_at(link.peer.unwrap_or_default())?;
        let found = below.map_or_else(|| "none".to_owned(), |below| format!("{:?}", below.name));
        return Err(Error::differs(format!("{object}: parent"), format!("{master:?}"), found).into());
    }
    if let Some(mtu) = config.mtu.filter(|&mtu| mtu != 0 && mtu != link.mtu) {
        return Err(Error::differs(format!("{object}: MTU"), mtu, link.mtu).into());
    }
    Ok(())
}
