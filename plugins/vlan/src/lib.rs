//! `vlan`: a device in the pod for one VLAN of a link: what it sends leaves that link with a tag, and it gets what comes
//! with this tag.
//!
//! ```json
//! {"cniVersion": "1.1.0", "name": "storage", "type": "vlan", "master": "eth1", "vlanId": 100,
//!  "ipam": {"type": "host-local", "subnet": "10.100.0.0/24"}}
//! ```
//!
//! Every option is explained in the README beside this crate; the device in the manual of
//! [ip-link(8)](https://man7.org/linux/man-pages/man8/ip-link.8.html), under "VLAN Type Support".

mod config;
mod device;
mod holder;
mod shared;
mod verify;

use std::collections::HashSet;

use config::Config;
use podwire_plugin::{
    AddResult, Attach, Attached, Context, Label, NetConf, Result, delete_pod_link, join, net::Link, spec::Env,
};

/// The plugin.
#[derive(Debug)]
pub struct Vlan;

impl Attach for Vlan {
    const NAME: &str = "vlan";
    type Config = Config;

    fn validate(_env: &Env, conf: &NetConf<Config>) -> Result<()> {
        config::validate(conf)
    }

    async fn attach(cx: &mut Context<Config>) -> Result<Attached> {
        device::attach(cx).await
    }

    fn verify(cx: &Context<Config>, link: &Link, _made: &AddResult) -> Result<()> {
        verify::verify(cx, link)
    }

    async fn detach(cx: &Context<Config>) -> Result<()> {
        // The configuration may have changed since the ADD, so it is not asked whether the device is shared.
        let deleted = delete_pod_link(cx).await;
        let left = cx.leave().await;
        join([deleted, left].into_iter().filter_map(Result::err).collect())
    }

    async fn collect(cx: &Context<Config>, valid: &HashSet<Label>) -> Result<()> {
        shared::collect(cx, valid).await
    }

    fn ready(cx: &Context<Config>) -> Result<()> {
        device::ready(cx)
    }
}
