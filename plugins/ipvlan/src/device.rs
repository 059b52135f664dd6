//! The device, and what keeps it from being made.
//!
//! Mode and flag belong to the parent: the kernel gives those of the device that was made last to all of them, and says
//! nothing. So whoever comes with others is refused, by looking at what sits on the parent before anything is made.

use podwire_plugin::{
    Context, Error, Parent, Result, anyhow, code,
    net::{self, Errno, IpVlan, IpVlanMode, Link, LinkSpec, read_sysctl},
};

use crate::config::Config;

/// Makes the pod's link. Looking at the parent and changing it is one step.
pub(crate) async fn create(cx: &mut Context<Config>, parent: &Parent) -> Result<Link> {
    let (device, mtu) = (cx.conf.plugin.device(), parent.mtu(cx.conf.plugin.mtu)?);
    if cx.conf.plugin.host_access && !cx.conf.plugin.is_routed() {
        refuse_strict_sources(&parent.link.name)?;
    }
    let _lock = cx.net(parent.in_pod)?.ns().lock().await?;
    refuse_other_modes(cx, parent, device)?;
    let name = cx.env.ifname.clone();
    let spec = LinkSpec { mtu: Some(mtu), ..LinkSpec::new(&name, Some(device.kind())) };
    match cx.create_pod_link(parent, spec) {
        Ok(link) => Ok(link),
        Err(error) => Err(explain(cx, parent, device, error)),
    }
}

/// Refuses a mode or a flag that the devices on the parent do not have.
pub(crate) fn refuse_other_modes(cx: &Context<Config>, parent: &Parent, device: IpVlan) -> Result<()> {
    let other = |link: &Link| IpVlan::of(link).filter(|found| *found != device);
    // A device on an ipvlan is one on that one's own parent.
    let in_the_way = match other(&parent.link) {
        Some(found) => Some((found, format!("ipvlan {:?} itself", parent.link.name))),
        None => (cx.siblings(parent, IpVlan::KIND)?.into_iter())
            .find_map(|sibling| Some((other(&sibling.link)?, sibling.to_string()))),
    };
    let Some((found, whose)) = in_the_way else { return Ok(()) };
    let name = &parent.link.name;
    Err(Error::new(code::DIFFERENT, format!("parent {name:?}: carries ipvlan in mode {found}, not {device}: {whose}"))
        .with_details("all devices on a parent have the same mode and flag; take that mode, or another parent")
        .into())
}

/// The kernel's refusal with the reason, where it is known.
fn explain(cx: &Context<Config>, parent: &Parent, device: IpVlan, error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<net::Error>().and_then(|refusal| refusal.errno) {
        // The kernel's own ENOTSUPP, which has no name outside of it.
        Some(Errno::UnknownErrno) if device.mode == IpVlanMode::L3s => Error::new(
            code::NO_KERNEL_FEATURE,
            format!("parent {:?}: this kernel lacks mode l3s (CONFIG_IPVLAN_L3S)", parent.link.name),
        )
        .with_details(error.to_string())
        .into(),
        _ => cx.explain_refusal(parent, error),
    }
}

/// The node's own device on the parent, through which it and the pods reach each other.
pub(crate) async fn shim(cx: &mut Context<Config>, parent: &Parent) -> Result<Link> {
    let device = cx.conf.plugin.device();
    cx.shim(parent, device.kind(), false, |link| IpVlan::of(link) == Some(device)).await
}

/// In mode l2 what a pod sends to the node comes in by the parent, while the way back is by the shim.
fn refuse_strict_sources(parent: &str) -> Result<()> {
    // The larger of the two counts (ip-sysctl.rst in the kernel's documentation); 1 is strict, 2 loose.
    let mut effective = 0;
    for link in ["all", parent] {
        effective = effective.max(read_sysctl(&format!("ipv4/conf/{link}/rp_filter"))?.parse().unwrap_or(0));
    }
    if effective != 1 {
        return Ok(());
    }
    Err(Error::new(code::DIFFERENT, format!("hostAccess: parent {parent:?} drops what pods send to the node"))
        .with_details(format!("its rp_filter is 1, strict; net.ipv4.conf.{parent}.rp_filter=2 is what mode l2 takes"))
        .into())
}
