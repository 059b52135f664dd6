//! `vxlan`: pods of several nodes on one Ethernet, whose frames travel in UDP packets (RFC 7348).
//!
//! ```json
//! {"cniVersion": "1.1.0", "name": "overlay", "type": "vxlan", "vni": 42,
//!  "remotes": ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
//!  "ipam": {"type": "host-local", "subnet": "10.42.0.0/24", "rangeStart": "10.42.0.10", "rangeEnd": "10.42.0.80"}}
//! ```
//!
//! Every option is explained in the README beside this crate; the device in the kernel's
//! [VXLAN documentation](https://docs.kernel.org/networking/vxlan.html).

mod config;
mod device;
mod overlay;
mod peers;
mod verify;

use std::collections::HashSet;

use config::{Config, Place};
use podwire_plugin::{AddResult, Attach, Attached, Context, Label, NetConf, Result, net::Link, spec::Env};

/// The plugin.
#[derive(Debug)]
pub struct Vxlan;

impl Attach for Vxlan {
    const NAME: &str = "vxlan";
    type Config = Config;

    fn validate(_: &Env, conf: &NetConf<Config>) -> Result<()> {
        config::validate(conf)
    }

    async fn attach(cx: &mut Context<Config>) -> Result<Attached> {
        match cx.conf.plugin.attach {
            Place::Bridge => overlay::attach(cx).await,
            Place::Direct => Ok(Attached { node: Vec::new(), pod: device::direct(cx).await? }),
        }
    }

    async fn addressed(cx: &mut Context<Config>, _: &Attached, _: &AddResult) -> Result<()> {
        // Late, so that an ADD that fails has not changed what other pods send by.
        match cx.conf.plugin.attach {
            Place::Bridge => {
                let _lock = cx.host.ns().lock().await?;
                peers::reconcile(cx).await
            }
            Place::Direct => Ok(()),
        }
    }

    async fn settle(cx: &Context<Config>, attached: &Attached) -> Result<Vec<Link>> {
        match attached.node.last() {
            Some(port) => Ok(vec![cx.host.wait_for_port(port.index).await?]),
            None => Ok(Vec::new()),
        }
    }

    fn verify(cx: &Context<Config>, link: &Link, _: &AddResult) -> Result<()> {
        verify::verify(cx, link)
    }

    async fn detach(cx: &Context<Config>) -> Result<()> {
        // Whatever the configuration says of `attach`: it may have changed since the ADD.
        overlay::detach(cx).await
    }

    async fn collect(cx: &Context<Config>, _: &HashSet<Label>) -> Result<()> {
        overlay::collect(cx).await
    }

    fn ready(cx: &Context<Config>) -> Result<()> {
        cx.host.can_create("vxlan")?;
        let underlay = device::Underlay::find(cx)?;
        underlay.mtu(cx)?;
        if cx.conf.plugin.attach == Place::Bridge {
            for kind in ["bridge", "veth"] {
                cx.host.can_create(kind)?;
            }
            overlay::existing(cx, &underlay)?;
        }
        Ok(())
    }
}
