//! `macvlan`: gives the pod a MAC address of its own on a link of the node.
//!
//! ```json
//! {"cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "master": "eth1",
//!  "ipam": {"type": "host-local", "subnet": "192.168.7.0/24"}}
//! ```
//!
//! Every option is explained in the README beside this crate; the device in the manual page
//! [ip-link(8)](https://man7.org/linux/man-pages/man8/ip-link.8.html).

mod config;

use std::collections::HashSet;

use config::{Config, Mode};
use podwire_plugin::{
    AddResult, Attach, Attached, Context, Error, Label, NetConf, Parent, Result, delete_pod_link, join,
    net::{Link, LinkChange, LinkSpec, MacVlan, MacVlanMode},
    run,
    spec::Env,
};

fn main() -> std::process::ExitCode {
    run::<MacVlanPlugin>()
}

struct MacVlanPlugin;

impl Attach for MacVlanPlugin {
    const NAME: &str = "macvlan";
    type Config = Config;

    fn validate(env: &Env, conf: &NetConf<Config>) -> Result<()> {
        config::validate(env, conf)
    }

    async fn attach(cx: &mut Context<Config>) -> Result<Attached> {
        let config = &cx.conf.plugin;
        let parent = cx.parent(config.master.as_deref(), config.link_in_container).await?;
        let (device, mac) = (config.device(), cx.requested_mac(config.mac));
        let (passthru, mtu) = (config.mode == Mode::Passthru, parent.mtu(config.mtu)?);
        let name = cx.env.ifname.clone();
        let spec = LinkSpec { mac, mtu: Some(mtu), ..LinkSpec::new(&name, Some(device.kind())) };
        let mut pod = match cx.create_pod_link(&parent, spec).await {
            Ok(link) => link,
            Err(error) => return Err(cx.explain_refusal(&parent, error).await),
        };
        if passthru {
            if !parent.in_pod && Label::parse(&parent.link.alias).is_none() {
                // The parent is this pod's alone; whoever asks next is told whose. (One that a plugin made keeps its
                // own list of users.)
                cx.use_link(&parent.link).await?;
            }
            if let Some(mac) = mac {
                // The kernel gives it the parent's MAC address first, whatever the message says. From here on both
                // change together, and the parent gets its own back with the end of the device.
                let change = LinkChange { mac: Some(mac), ..LinkChange::default() };
                cx.pod()?.change_link(pod.index, &change).await?;
                pod.mac = Some(mac);
            }
        }
        let node = if cx.conf.plugin.host_access { vec![shim(cx, &parent).await?] } else { Vec::new() };
        Ok(Attached { node, pod })
    }

    async fn addressed(cx: &mut Context<Config>, attached: &Attached, result: &AddResult) -> Result<()> {
        match attached.node.first() {
            Some(shim) => cx.open_to_node(shim, &attached.pod, result).await,
            None => Ok(()),
        }
    }

    async fn verify(cx: &Context<Config>, link: &Link, made: &AddResult) -> Result<()> {
        verify_device(cx, link).await?;
        if cx.conf.plugin.host_access { cx.verify_shim(link, made).await } else { Ok(()) }
    }

    async fn detach(cx: &Context<Config>) -> Result<()> {
        // Whatever the configuration says: it may have changed since the ADD.
        let (link, shim) = (delete_pod_link(cx).await, cx.leave_shim().await);
        join([link, shim].into_iter().filter_map(Result::err).collect())
    }

    async fn collect(cx: &Context<Config>, valid: &HashSet<Label>) -> Result<()> {
        cx.collect_shims(valid).await
    }

    async fn ready(cx: &Context<Config>) -> Result<()> {
        cx.host.can_create(MacVlan::KIND).await?;
        let config = &cx.conf.plugin;
        if !config.link_in_container {
            cx.parent(config.master.as_deref(), false).await?.mtu(config.mtu)?;
        }
        Ok(())
    }
}

/// The node's own device on the parent, through which it and the pods reach each other.
async fn shim(cx: &mut Context<Config>, parent: &Parent) -> Result<Link> {
    let device = MacVlan { mode: MacVlanMode::Bridge, broadcast_queue: None };
    let is_such = |link: &Link| MacVlan::of(link).is_some_and(|found| found.mode == MacVlanMode::Bridge);
    cx.shim(parent, device.kind(), true, is_such).await
}

/// CHECK: the device's options and its parent.
async fn verify_device(cx: &Context<Config>, link: &Link) -> Result<()> {
    let config = &cx.conf.plugin;
    let object = format!("pod's link {:?}", link.name);
    let Some(found) = MacVlan::of(link) else {
        return Err(Error::differs(object, "a macvlan", format!("type {:?}", link.kind)).into());
    };
    let wanted = config.device();
    if found.mode != wanted.mode {
        return Err(Error::differs(format!("{object}: mode"), wanted.mode, found.mode).into());
    }
    if let Some(length) = wanted.broadcast_queue
        && found.broadcast_queue != Some(length)
    {
        let found = found.broadcast_queue.map_or_else(|| "none".to_owned(), |length| length.to_string());
        return Err(Error::differs(format!("{object}: bcqueuelen"), length, found).into());
    }
    // A default route may have moved since, which is no fault of the pod's.
    let Some(master) = config.master.as_deref().filter(|name| !name.is_empty()) else { return Ok(()) };
    let parent = cx.parent(Some(master), config.link_in_container).await?;
    let below = cx.net(parent.in_pod)?.link_at(link.peer.unwrap_or_default()).await?;
    // On a macvlan the kernel makes it on that one's own parent.
    let real = if parent.link.kind == MacVlan::KIND { parent.link.peer } else { Some(parent.link.index) };
    if link.peer != real {
        let found = below.map_or_else(|| "none".to_owned(), |below| format!("{:?}", below.name));
        return Err(Error::differs(format!("{object}: parent"), format!("{master:?}"), found).into());
    }
    if link.mtu != parent.mtu(config.mtu)? && config.mtu.is_some_and(|mtu| mtu != 0) {
        return Err(Error::differs(format!("{object}: MTU"), parent.mtu(config.mtu)?, link.mtu).into());
    }
    Ok(())
}
