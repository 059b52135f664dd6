//! CHECK: is the device as it was asked for?

use podwire_plugin::{
    Context, Error, Result,
    net::{Link, VlanDevice},
};

use crate::config::Config;

/// Compares the pod's link with the configuration.
pub(crate) async fn verify(cx: &Context<Config>, link: &Link) -> Result<()> {
    let config = &cx.conf.plugin;
    let object = format!("pod's link {:?}", link.name);
    is_as_configured(&object, link, &config.device())?;
    let parent = cx.parent(config.master.as_deref(), config.link_in_container).await?;
    // An index means something only in its own namespace.
    let is_on_it = link.peer == Some(parent.link.index) && link.peer_ns.is_none() == parent.in_pod;
    if !is_on_it {
        let found = link.peer.map_or_else(|| "none".to_owned(), |index| format!("link number {index}"));
        return Err(Error::differs(format!("{object}: parent"), format!("{:?}", parent.link.name), found).into());
    }
    Ok(())
}

fn is_as_configured(object: &str, link: &Link, wanted: &VlanDevice) -> Result<()> {
    let Some(found) = VlanDevice::of(link) else {
        return Err(Error::differs(object, "a vlan", format!("type {:?}", link.kind)).into());
    };
    match wanted.difference(&found) {
        Some((option, here, there)) => Err(Error::differs(format!("{object}: {option}"), here, there).into()),
        None => Ok(()),
    }
}
