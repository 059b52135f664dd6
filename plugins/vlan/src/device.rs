//! The pod's link: a VLAN device of its own, or a share of one.

use podwire_plugin::{Attached, Context, Error, Parent, Result, code, net::LinkSpec};

use crate::{config::Config, holder, shared};

/// Makes the pod's link.
pub(crate) async fn attach(cx: &mut Context<Config>) -> Result<Attached> {
    let parent = parent(cx)?;
    parent.mtu(cx.conf.plugin.mtu())?;
    if cx.conf.plugin.shared { shared::attach(cx, &parent).await } else { exclusive(cx, &parent) }
}

/// The parent, which must be up: on one that is down no VLAN can be set up.
fn parent(cx: &Context<Config>) -> Result<Parent> {
    let config = &cx.conf.plugin;
    let parent = cx.parent(config.master.as_deref(), config.link_in_container)?;
    if parent.link.up {
        return Ok(parent);
    }
    let name = &parent.link.name;
    Err(Error::new(code::TRY_AGAIN, format!("parent {name:?}: is down"))
        .with_details(format!("a VLAN needs its parent up: ip link set dev {name} up"))
        .into())
}

/// A device that is the pod's alone.
fn exclusive(cx: &mut Context<Config>, parent: &Parent) -> Result<Attached> {
    let (name, device) = (cx.env.ifname.clone(), cx.conf.plugin.device());
    let spec = LinkSpec {
        mac: cx.requested_mac(None),
        // One that is not asked for is left to the kernel: a few parents need four bytes of their own for the tag.
        mtu: cx.conf.plugin.mtu(),
        ..LinkSpec::new(&name, Some(device.kind()))
    };
    match cx.create_pod_link(parent, spec) {
        Ok(pod) => Ok(Attached { node: vec![], pod }),
        Err(error) => Err(holder::explain(cx, parent, &device, error)),
    }
}

/// STATUS: can the kernel make what is asked for, and is the parent there?
pub(crate) fn ready(cx: &Context<Config>) -> Result<()> {
    cx.host.can_create("vlan")?;
    if cx.conf.plugin.shared {
        cx.host.can_create("macvlan")?;
    }
    if !cx.conf.plugin.link_in_container {
        parent(cx)?;
    }
    Ok(())
}
