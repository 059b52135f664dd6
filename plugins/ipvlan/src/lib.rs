//! `ipvlan`: gives the pod addresses of its own on a link of the node, under the MAC address of that link.
//!
//! ```json
//! {"cniVersion": "1.1.0", "name": "lan", "type": "ipvlan", "master": "eth1",
//!  "ipam": {"type": "host-local", "subnet": "192.168.7.0/24"}}
//! ```
//!
//! Every option is explained in the README beside this crate; the device in the kernel's
//! [ipvlan documentation](https://docs.kernel.org/networking/ipvlan.html).

mod config;
mod device;
mod verify;

use std::collections::HashSet;

use config::Config;
use podwire_plugin::{
    AddResult, Attach, Attached, Context, Error, Label, NetConf, PodSide, Result, code, delete_pod_link, join,
    net::{IpVlan, Link},
    spec::Env,
};

/// The plugin.
#[derive(Debug)]
pub struct Plugin;

impl Attach for Plugin {
    const NAME: &str = "ipvlan";
    type Config = Config;

    fn validate(env: &Env, conf: &NetConf<Config>) -> Result<()> {
        config::validate(env, conf)
    }

    async fn attach(cx: &mut Context<Config>) -> Result<Attached> {
        let config = &cx.conf.plugin;
        let parent = cx.parent(config.master(), config.link_in_container)?;
        let pod = device::create(cx, &parent).await?;
        let node = if cx.conf.plugin.host_access { vec![device::shim(cx, &parent).await?] } else { Vec::new() };
        Ok(Attached { node, pod })
    }

    fn complete(conf: &NetConf<Config>, result: &mut AddResult) -> Result<()> {
        if let (true, Some(kind)) = (result.ips.is_empty(), &conf.ipam) {
            return Err(Error::new(code::DELEGATE, format!("delegate {kind:?}: gave no address")).into());
        }
        if conf.plugin.is_routed() {
            // Nobody is a neighbour, so a route that names no next hop of its own has none: it leads out by the device.
            result.ips.iter_mut().for_each(|ip| ip.gateway = None);
        }
        Ok(())
    }

    async fn addressed(cx: &mut Context<Config>, attached: &Attached, result: &AddResult) -> Result<()> {
        match attached.node.first() {
            Some(shim) => cx.open_to_node(shim, &attached.pod, result),
            None => Ok(()),
        }
    }

    fn pod_side(_: &Config) -> PodSide {
        PodSide { announced_by_up: true, ..PodSide::default() }
    }

    fn verify(cx: &Context<Config>, link: &Link, made: &AddResult) -> Result<()> {
        verify::verify(cx, link)?;
        if cx.conf.plugin.host_access { cx.verify_shim(link, made) } else { Ok(()) }
    }

    async fn detach(cx: &Context<Config>) -> Result<()> {
        // Whatever the configuration says: it may have changed since the ADD.
        let (link, shim) = (delete_pod_link(cx).await, cx.leave_shim().await);
        join([link, shim].into_iter().filter_map(Result::err).collect())
    }

    async fn collect(cx: &Context<Config>, valid: &HashSet<Label>) -> Result<()> {
        cx.collect_shims(valid).await
    }

    fn ready(cx: &Context<Config>) -> Result<()> {
        let config = &cx.conf.plugin;
        cx.host.can_create(IpVlan::KIND)?;
        // A parent in the pod is there when the pod is.
        if !config.link_in_container {
            let parent = cx.parent(config.master(), false)?;
            parent.mtu(config.mtu)?;
            device::refuse_other_modes(cx, &parent, config.device())?;
        }
        Ok(())
    }
}
