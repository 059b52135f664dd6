//! The device, and what keeps it from being made.
//!
//! Mode and flag belong to the parent: the kernel gives those of the device that was made last to all of them, and says
//! nothing. So whoever comes with others is refused, by looking at what sits on the parent before anything is made.

use podwire_plugin::{
    Context, Error, Parent, Result, anyhow, code,
    net::{self, Errno, IpVlan, IpVlanMode, Link, LinkSpec},
};

use crate::config::Config;

/// Makes the pod's link. Looking at the parent and changing it is one step.
pub(crate) async fn create(cx: &mut Context<Config>, parent: &Parent) -> Result<Link> {
    let (device, mtu) = (cx.conf.plugin.device(), parent.mtu(cx.conf.plugin.mtu)?);
    let _lock = cx.net(parent.in_pod)?.ns().lock().await?;
    refuse_other_modes(cx, parent, device).await?;
    let name = cx.env.ifname.clone();
    let spec = LinkSpec { mtu: Some(mtu), ..LinkSpec::new(&name, Some(device.kind())) };
    match cx.create_pod_link(parent, spec).await {
        Ok(link) => Ok(link),
        Err(error) => Err(explain(cx, parent, device, error).await),
    }
}

/// Refuses a mode or a flag that the devices on the parent do not have.
pub(crate) async fn refuse_other_modes(cx: &Context<Config>, parent: &Parent, device: IpVlan) -> Result<()> {
    let other = |link: &Link| IpVlan::of(link).filter(|found| *found != device);
    // A device on an ipvlan is one on that one's own parent.
    let in_the_way = match other(&parent.link) {
        Some(found) => Some((found, format!("ipvlan {:?} itself", parent.link.name))),
        None => (cx.siblings(parent, IpVlan::KIND).await?.into_iter())
            .find_map(|sibling| Some((other(&sibling.link)?, sibling.to_string()))),
    };
    let Some((found, whose)) = in_the_way else { return Ok(()) };
    let name = &parent.link.name;
    Err(Error::new(code::DIFFERENT, format!("parent {name:?}: carries ipvlan in mode {found}, not {device}: {whose}"))
        .with_details("all devices on a parent have the same mode and flag; take that mode, or another parent")
        .into())
}

/// The kernel's refusal with the reason, where it is known.
async fn explain(cx: &Context<Config>, parent: &Parent, device: IpVlan, error: anyhow::Error) -> anyhow::Error {
    let name = &parent.link.name;
    let Some(refusal) = error.downcast_ref::<net::Error>() else { return error };
    let (code, why) = match refusal.errno {
        Some(Errno::EBUSY) => match in_the_way(cx, parent).await {
            Ok(why) => (code::DIFFERENT, why),
            Err(look) => return error.context(format!("{look:#}")),
        },
        Some(Errno::EINVAL) if parent.link.mac.is_none() || parent.link.name == "lo" => {
            (code::INVALID_CONFIG, "it is no Ethernet link".to_owned())
        }
        // The kernel's own ENOTSUPP, which has no name outside of it.
        Some(Errno::UnknownErrno | Errno::EOPNOTSUPP) if device.mode == IpVlanMode::L3s => {
            (code::NO_KERNEL_FEATURE, "this kernel lacks mode l3s (CONFIG_IPVLAN_L3S)".to_owned())
        }
        _ => return error,
    };
    Error::new(code, format!("parent {name:?}: takes no ipvlan: {why}")).with_details(refusal.to_string()).into()
}

/// What has a parent already that takes no ipvlan beside it.
async fn in_the_way(cx: &Context<Config>, parent: &Parent) -> Result<String> {
    if let Some(index) = parent.link.master {
        let master = cx.net(parent.in_pod)?.link_at(index).await?;
        return Ok(master.map_or_else(
            || "it is the port of another link".to_owned(),
            |master| format!("it is a port of {} {:?}", master.kind, master.name),
        ));
    }
    for kind in ["macvlan", "macvtap", "ipvtap"] {
        if let Some(sibling) = cx.siblings(parent, kind).await?.first() {
            return Ok(format!("it carries {sibling}"));
        }
    }
    Ok("another device has it, in a namespace that cannot be seen from here".to_owned())
}
