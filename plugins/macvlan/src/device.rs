//! The device, and what keeps it from being made.

use podwire_plugin::{
    Context, Error, Parent, Result, anyhow, code,
    net::{self, Errno, Link, LinkChange, LinkSpec, MacVlan, MacVlanMode},
};

use crate::config::{Config, Mode};

/// Makes the pod's link.
pub(crate) async fn create(cx: &mut Context<Config>, parent: &Parent) -> Result<Link> {
    let config = &cx.conf.plugin;
    let (device, mac) = (config.device(), cx.requested_mac(config.mac));
    let (mode, mtu) = (config.mode, parent.mtu(config.mtu)?);
    let name = cx.env.ifname.clone();
    let spec = LinkSpec { mac, mtu: Some(mtu), ..LinkSpec::new(&name, Some(device.kind())) };
    let mut link = match cx.create_pod_link(parent, spec).await {
        Ok(link) => link,
        Err(error) => return Err(explain(cx, parent, error).await),
    };
    if let (Mode::Passthru, Some(mac)) = (mode, mac) {
        // The kernel gives it the parent's MAC address, whatever the message says. From here on both change together,
        // and the parent gets its own back with the end of the device.
        cx.pod()?.change_link(link.index, &LinkChange { mac: Some(mac), ..LinkChange::default() }).await?;
        link.mac = Some(mac);
    }
    Ok(link)
}

/// The node's own device on the parent, through which it and the pods reach each other.
pub(crate) async fn shim(cx: &mut Context<Config>, parent: &Parent) -> Result<Link> {
    let device = MacVlan { mode: MacVlanMode::Bridge, broadcast_queue: None };
    let is_such = |link: &Link| MacVlan::of(link).is_some_and(|found| found.mode == MacVlanMode::Bridge);
    cx.shim(parent, device.kind(), true, is_such).await
}

/// The kernel's refusal with the name of what is in the way.
async fn explain(cx: &Context<Config>, parent: &Parent, error: anyhow::Error) -> anyhow::Error {
    let Some(refusal) = error.downcast_ref::<net::Error>() else { return error };
    // EBUSY: another type of device has the parent, or a master. EINVAL: a device in mode passthru does, or one is
    // asked for where others are already.
    let others = match refusal.errno {
        Some(Errno::EBUSY) => ["ipvlan", "ipvtap"],
        Some(Errno::EINVAL) => [MacVlan::KIND, "macvtap"],
        _ => return error,
    };
    let name = &parent.link.name;
    let why = match cx.in_the_way(parent, &others).await {
        Ok(Some(found)) => found,
        Ok(None) if parent.link.mac.is_none_or(|mac| mac.0 == [0; 6]) => "it is no Ethernet link".to_owned(),
        Ok(None) => "another device has it, in a namespace that cannot be seen from here".to_owned(),
        Err(look) => return error.context(format!("{look:#}")),
    };
    let what_to_do = "remove that, or choose another parent; in mode passthru a pod has the parent for itself";
    Error::new(code::DIFFERENT, format!("parent {name:?}: takes no such macvlan: {why}"))
        .with_details(format!("{refusal}; {what_to_do}"))
        .into()
}
