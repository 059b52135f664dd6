//! The pod's link.

use podwire_plugin::{
    Attached, Context, Error, Parent, Result, code,
    net::LinkSpec,
};

use crate::config::Config;

/// Makes the pod's link.
pub(crate) async fn attach(cx: &mut Context<Config>) -> Result<Attached> {
    let parent = parent(cx).await?;
    // One that is not asked for is left to the kernel: a few parents need four bytes of their own for the tag.
    let mtu = cx.conf.plugin.mtu();
    parent.mtu(mtu)?;
    exclusive(cx, &parent, mtu).await
}

/// The parent, which must be up: on one that is down no VLAN can be set up.
async fn parent(cx: &Context<Config>) -> Result<Parent> {
    let config = &cx.conf.plugin;
    let parent = cx.parent(config.master.as_deref(), config.link_in_container).await?;
    if parent.link.up {
        return Ok(parent);
    }
    let name = &parent.link.name;
    Err(Error::new(code::TRY_AGAIN, format!("parent {name:?}: is down"))
        .with_details(format!("a VLAN needs its parent up: ip link set dev {name:?} up"))
        .into())
}

/// A device that is the pod's alone.
async fn exclusive(cx: &mut Context<Config>, parent: &Parent, mtu: Option<u32>) -> Result<Attached> {
    let (name, mac) = (cx.env.ifname.clone(), cx.requested_mac(None));
    let spec = LinkSpec { mac, mtu, ..LinkSpec::new(&name, Some(cx.conf.plugin.device().kind())) };
    let pod = cx.create_pod_link(parent, spec).await?;
    Ok(Attached { node: vec![], pod })
}

/// STATUS: can the kernel make the device, and is the parent there?
pub(crate) async fn ready(cx: &Context<Config>) -> Result<()> {
    cx.host.can_create("vlan").await?;
    if !cx.conf.plugin.link_in_container {
        parent(cx).await?;
    }
    Ok(())
}
