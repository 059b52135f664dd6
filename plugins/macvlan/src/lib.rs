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
mod device;
mod verify;

use std::collections::HashSet;

use config::Config;
use podwire_plugin::{
    AddResult, Attach, Attached, Context, Label, NetConf, Result, delete_pod_link, join,
    net::{Link, MacVlan},
    spec::Env,
};

/// The plugin.
#[derive(Debug)]
pub struct Plugin;

impl Attach for Plugin {
    const NAME: &str = "macvlan";
    type Config = Config;

    fn validate(env: &Env, conf: &NetConf<Config>) -> Result<()> {
        config::validate(env, conf)
    }

    async fn attach(cx: &mut Context<Config>) -> Result<Attached> {
        let config = &cx.conf.plugin;
        let has_shim = config.host_access;
        let parent = cx.parent(config.master(), config.link_in_container)?;
        let pod = device::create(cx, &parent)?;
        let node = if has_shim { vec![device::shim(cx, &parent).await?] } else { Vec::new() };
        Ok(Attached { node, pod })
    }

    async fn addressed(cx: &mut Context<Config>, attached: &Attached, result: &AddResult) -> Result<()> {
        match attached.node.first() {
            Some(shim) => cx.open_to_node(shim, &attached.pod, result),
            None => Ok(()),
        }
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
        cx.host.can_create(MacVlan::KIND)?;
        let config = &cx.conf.plugin;
        if !config.link_in_container {
            cx.parent(config.master(), false)?.mtu(config.mtu)?;
        }
        Ok(())
    }
}
