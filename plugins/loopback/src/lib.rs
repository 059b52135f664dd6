//! `loopback`: sets the pod's own loopback interface up.
//!
//! ```json
//! {"cniVersion": "1.1.0", "name": "lo", "type": "loopback"}
//! ```
//!
//! Every network namespace is born with `lo`, down (`man 7 network_namespaces`); the kernel gives it its addresses when
//! it goes up. `CNI_IFNAME` is not looked at: the interface can have no other name.

use podwire_plugin::{
    AddResult, Context, Error, Interface, Ip, Plugin, Result,
    net::{Link, LinkChange},
};
use serde::Deserialize;

/// The plugin.
#[derive(Debug)]
pub struct Loopback;

/// No options of its own.
#[derive(Debug, Deserialize)]
pub struct Config {}

const NAME: &str = "lo";

impl Plugin for Loopback {
    const NAME: &str = "loopback";
    type Config = Config;

    async fn add(cx: &mut Context<Config>) -> Result<AddResult> {
        let link = loopback(cx)?;
        set_up(cx, link.index, true)?;
        if !link.up {
            let index = link.index;
            cx.undo_by("set the loopback down", async move |cx| set_up(cx, index, false));
        }
        let pod = cx.pod()?;
        // In a chain the result of the plugins before is passed on as it is.
        if let Some(made) = &cx.conf.prev_result {
            return Ok(made.clone());
        }
        let interface = Interface {
            name: NAME.to_owned(),
            mac: link.mac.map_or_else(|| "00:00:00:00:00:00".to_owned(), |mac| mac.to_string()),
            mtu: Some(link.mtu),
            sandbox: cx.env.netns.clone(),
            ..Interface::default()
        };
        let addresses = pod.addresses(link.index)?;
        let ips = addresses.iter().map(|address| Ip { interface: Some(0), address: address.cidr, gateway: None });
        Ok(AddResult { interfaces: vec![interface], ips: ips.collect(), ..AddResult::default() })
    }

    async fn del(cx: &mut Context<Config>) -> Result<()> {
        let Some(pod) = cx.pod_if_any()? else { return Ok(()) };
        match pod.link(NAME)? {
            Some(link) => set_up(cx, link.index, false),
            None => Ok(()),
        }
    }

    async fn check(cx: &mut Context<Config>) -> Result<()> {
        if loopback(cx)?.up {
            return Ok(());
        }
        Err(Error::differs("pod's link \"lo\"", "up", "down").into())
    }

    async fn gc(cx: &mut Context<Config>) -> Result<()> {
        // Nothing outlives the pod's namespace; but a GC without its list is an error for every plugin.
        cx.valid_attachments().map(drop)
    }

    async fn status(_cx: &mut Context<Config>) -> Result<()> {
        // Every namespace of every kernel has a loopback.
        Ok(())
    }
}

fn loopback(cx: &Context<Config>) -> Result<Link> {
    let link = cx.pod()?.link(NAME)?;
    link.ok_or_else(|| Error::differs("pod's link \"lo\"", "to be there", "none").into())
}

fn set_up(cx: &Context<Config>, index: u32, up: bool) -> Result<()> {
    Ok(cx.pod()?.change_link(index, &LinkChange { up: Some(up), ..LinkChange::default() })?)
}
