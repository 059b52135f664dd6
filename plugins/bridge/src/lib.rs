//! `bridge`: a veth pair, one end in the pod, the other a port of a bridge on the node.
//!
//! ```json
//! {"cniVersion": "1.1.0", "name": "pods", "type": "bridge", "isDefaultGateway": true, "ipMasq": true,
//!  "ipam": {"type": "host-local", "subnet": "10.88.0.0/16"}}
//! ```
//!
//! Every option is explained in the README beside this crate; the device in the kernel's
//! [bridge documentation](https://docs.kernel.org/networking/bridge.html).

mod config;
mod device;
mod gateway;
mod verify;

use std::collections::HashSet;

use config::Config;
use podwire_plugin::{
    AddResult, Attach, Attached, Context, Label, NetConf, PodSide, Result, anyhow, join,
    net::{Link, nft},
    spec::Env,
    warn_of_bonds_on,
};

/// The plugin.
#[derive(Debug)]
pub struct Bridge;

impl Attach for Bridge {
    const NAME: &str = "bridge";
    type Config = Config;

    fn validate(env: &Env, conf: &NetConf<Config>) -> Result<()> {
        config::validate(env, conf)
    }

    async fn attach(cx: &mut Context<Config>) -> Result<Attached> {
        let attached = device::attach(cx).await?;
        let bridge = &attached.node[0];
        // One that podwire made has its ports from podwire; those of another may be anything.
        if Label::parse(&bridge.alias).is_none() {
            warn_of_bonds_on(&cx.host, bridge)?;
        }
        Ok(attached)
    }

    fn complete(conf: &NetConf<Config>, result: &mut AddResult) -> Result<()> {
        gateway::complete(conf, result)
    }

    async fn addressed(cx: &mut Context<Config>, attached: &Attached, result: &AddResult) -> Result<()> {
        if cx.conf.plugin.is_gateway() {
            gateway::set_up(cx, &attached.node[0], result).await?;
        }
        if cx.conf.plugin.ip_masq && !result.ips.is_empty() {
            let addresses: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
            let is_new = nft::masquerade::add(cx.nft()?, &addresses, &cx.label.to_string()).await?;
            cx.undo_by("remove the masquerading", async move |cx| {
                let label = cx.label.to_string();
                nft::masquerade::remove(cx.nft()?, |comment| comment == label).await?;
                if is_new { Ok(nft::collect_skeletons(cx.nft()?)?) } else { Ok(()) }
            });
        }
        // After all that can be undone.
        if cx.conf.plugin.is_gateway() { gateway::forward(result) } else { Ok(()) }
    }

    fn pod_side(config: &Config) -> PodSide {
        PodSide { up: !config.disable_container_interface, dad: config.enabledad, ..PodSide::default() }
    }

    async fn settle(cx: &Context<Config>, attached: &Attached) -> Result<Vec<Link>> {
        match attached.node.last() {
            Some(port) => Ok(vec![cx.host.wait_for_port(port.index).await?]),
            None => Ok(Vec::new()),
        }
    }

    fn is_bound_to_mac(config: &Config) -> bool {
        config.macspoofchk
    }

    fn verify(cx: &Context<Config>, link: &Link, made: &AddResult) -> Result<()> {
        verify::verify(cx, link, made)
    }

    async fn detach(cx: &Context<Config>) -> Result<()> {
        // The rules are looked for whatever the configuration says: it may have changed since the ADD. What is removed
        // takes the kernel a while to free, which it does while the link goes.
        let label = cx.label.to_string();
        let rules = remove_rules(cx, |comment| comment == label).await;
        let link = cx.delete_port().await;
        join([link, rules].into_iter().filter_map(Result::err).collect())
    }

    async fn collect(cx: &Context<Config>, valid: &HashSet<Label>) -> Result<()> {
        let mut errors = vec![];
        errors.extend(remove_rules(cx, |comment| cx.is_dead(comment, valid)).await.err());
        if valid.is_empty() {
            errors.extend(device::remove_unused_bridge(cx).await.err());
            errors.extend(cx.nft().and_then(|nft| Ok(nft::collect_skeletons(nft)?)).err());
        }
        join(errors)
    }

    fn ready(cx: &Context<Config>) -> Result<()> {
        for kind in ["bridge", "veth"] {
            cx.host.can_create(kind)?;
        }
        if cx.conf.plugin.ip_masq || cx.conf.plugin.macspoofchk {
            nft::is_available(cx.nft()?)?;
        }
        if let Some(bridge) = device::existing(cx)? {
            warn_of_bonds_on(&cx.host, &bridge)?;
        }
        Ok(())
    }
}

async fn remove_rules(cx: &Context<Config>, is_doomed: impl Fn(&str) -> bool) -> Result<()> {
    let nft = cx.nft()?;
    let masquerade = nft::masquerade::remove(nft, &is_doomed).await.map(drop);
    let checks = nft::spoof::remove(nft, &is_doomed).await.map(drop);
    join([masquerade, checks].into_iter().filter_map(Result::err).map(anyhow::Error::from).collect())
}
