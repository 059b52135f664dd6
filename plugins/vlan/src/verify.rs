//! CHECK: is everything as it was asked for?

use podwire_plugin::{
    Context, Error, Result,
    net::{Link, MacVlan, VlanDevice},
};

use crate::{config::Config, shared};

/// Compares the pod's link, and the device that it shares, with the configuration.
pub(crate) fn verify(cx: &Context<Config>, link: &Link) -> Result<()> {
    let object = format!("pod's link {:?}", link.name);
    if !cx.conf.plugin.shared {
        return verify_device(cx, &object, link);
    }
    let found = MacVlan::of(link).map(|found| found.mode);
    if found.as_ref() != Some(&shared::POD_LINK.mode) {
        let found = found.map_or_else(|| format!("type {:?}", link.kind), |mode| format!("a macvlan, mode {mode}"));
        return Err(Error::differs(object, format!("a macvlan, mode {}", shared::POD_LINK.mode), found).into());
    }
    let user = cx.label.user();
    let Some(device) = cx.shared()? else {
        return Err(Error::differs(format!("shared link with altname {user:?}"), "to be there", "none").into());
    };
    is_on(&object, link, &device, false)?;
    let object = format!("shared link {:?}", device.name);
    if !device.up {
        return Err(Error::differs(object, "up", "down").into());
    }
    verify_device(cx, &object, &device)
}

/// Compares a VLAN device and its parent with the configuration.
fn verify_device(cx: &Context<Config>, object: &str, link: &Link) -> Result<()> {
    let config = &cx.conf.plugin;
    let Some(found) = VlanDevice::of(link) else {
        return Err(Error::differs(object, "a vlan", format!("type {:?}", link.kind)).into());
    };
    if let Some((option, here, there)) = config.device().difference(&found) {
        return Err(Error::differs(format!("{object}: {option}"), here, there).into());
    }
    let parent = cx.parent(config.master.as_deref(), config.link_in_container)?;
    if config.shared && parent.link.index == link.index {
        // The parent was not named, and the first interface of ADD's own result is the shared device itself.
        return Ok(());
    }
    is_on(object, link, &parent.link, parent.in_pod || config.shared)
}

/// Compares what is below a link; an index means something only in its own namespace.
fn is_on(object: &str, link: &Link, parent: &Link, in_same_ns: bool) -> Result<()> {
    if link.peer == Some(parent.index) && link.peer_ns.is_none() == in_same_ns {
        return Ok(());
    }
    let found = link.peer.map_or_else(|| "none".to_owned(), |index| format!("link number {index}"));
    let expected = format!("{:?}, number {}", parent.name, parent.index);
    Err(Error::differs(format!("{object}: parent"), expected, found).into())
}
