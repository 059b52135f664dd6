//! `bond`: several links as one, in the pod: links of the node, which it gets for as long as it lives, or its own.
//!
//! ```json
//! {"cniVersion": "1.1.0", "name": "storage", "type": "bond", "mode": "active-backup", "miimon": 100,
//!  "links": [{"name": "eth1"}, {"name": "eth2"}],
//!  "ipam": {"type": "host-local", "subnet": "10.30.0.0/24"}}
//! ```
//!
//! Every option is explained in the README beside this crate; the device in the kernel's
//! [bonding documentation](https://docs.kernel.org/networking/bonding.html).

mod config;
mod device;
mod options;
mod values;
mod verify;

use std::collections::HashSet;

use config::Config;
use podwire_plugin::{
    AddResult, Attach, Attached, Context, Label, NetConf, PodSide, Result,
    net::{BondMode, FailOverMac, Link},
    spec::Env,
};

/// The plugin.
#[derive(Debug)]
pub struct Bond;

impl Attach for Bond {
    const NAME: &str = "bond";
    type Config = Config;

    fn validate(env: &Env, conf: &NetConf<Config>) -> Result<()> {
        config::validate(env, conf)
    }

    fn ifname<'a>(env: &'a Env, config: &'a Config) -> &'a str {
        config.ifname(env)
    }

    fn keeps_mac(config: &Config) -> bool {
        // Then it is the active link's, whichever that is by now.
        config.fail_over_mac != Some(FailOverMac::Active)
    }

    async fn attach(cx: &mut Context<Config>) -> Result<Attached> {
        device::attach(cx).await
    }

    fn pod_side(config: &Config) -> PodSide {
        // Given a MAC address, be it its own, a bond of this mode gives it to all of its links, and then the switch
        // cannot tell them apart.
        PodSide { announced_by_up: config.mode() == BondMode::BalanceTlb, ..PodSide::default() }
    }

    async fn settle(cx: &Context<Config>, attached: &Attached) -> Result<Vec<Link>> {
        device::settle(cx, &attached.pod).await.map(|()| Vec::new())
    }

    fn verify(cx: &Context<Config>, link: &Link, _made: &AddResult) -> Result<()> {
        verify::verify(cx, link)
    }

    async fn detach(cx: &Context<Config>) -> Result<()> {
        device::detach(cx).await
    }

    async fn collect(cx: &Context<Config>, valid: &HashSet<Label>) -> Result<()> {
        cx.give_back_dead(valid).await
    }

    fn ready(cx: &Context<Config>) -> Result<()> {
        cx.host.can_create("bond")?;
        device::are_links_there(cx)
    }
}
