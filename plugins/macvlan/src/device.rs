//! The devices: the pod's, and for `hostAccess` the node's.

use podwire_plugin::{
    Context, Parent, Result,
    net::{Link, LinkChange, LinkSpec, MacVlan, MacVlanMode},
};

use crate::config::{Config, Mode};

/// Makes the pod's link.
pub(crate) fn create(cx: &mut Context<Config>, parent: &Parent) -> Result<Link> {
    let config = &cx.conf.plugin;
    let (device, mac) = (config.device(), cx.requested_mac(config.mac));
    let (mode, mtu) = (config.mode, parent.mtu(config.mtu)?);
    let name = cx.env.ifname.clone();
    let spec = LinkSpec { mac, mtu: Some(mtu), ..LinkSpec::new(&name, Some(device.kind())) };
    let mut link = match cx.create_pod_link(parent, spec) {
        Ok(link) => link,
        Err(error) => return Err(cx.explain_refusal(parent, error)),
    };
    if let (Mode::Passthru, Some(mac)) = (mode, mac) {
        // The kernel gives it the parent's MAC address, whatever the message says. From here on both change together,
        // and the parent gets its own back with the end of the device.
        cx.pod()?.change_link(link.index, &LinkChange { mac: Some(mac), ..LinkChange::default() })?;
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
