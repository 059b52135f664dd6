//! The options of `bond`.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use podwire_plugin::{
    Error, NetConf, Result,
    net::{AdSelect, ArpValidate, Bond, BondMode, FailOverMac, LacpRate, PrimaryReselect, XmitHashPolicy},
    spec::{Command, Env, interface_name},
};
use serde::Deserialize;

use crate::{options, values};

/// How often the carrier of the links is looked at where nothing is said, in milliseconds: what the kernel takes for the
/// modes that cannot do without.
const MIIMON: u32 = 100;

/// The options of the plugin that is in use elsewhere, by the same names, and the rest of the kernel's. Times are in
/// milliseconds.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// The bond's name in the pod. Default: `CNI_IFNAME`.
    ifname: String,
    /// The mode, by name or number. Default: `active-backup`.
    #[serde(deserialize_with = "values::choice")]
    mode: Option<BondMode>,
    /// The links, at least one.
    pub(crate) links: Vec<LinkName>,
    /// The links are in the pod already. Default: false.
    pub(crate) links_in_container: bool,
    /// MTU in bytes. Default: the smallest of the links'. 0 is as absent.
    mtu: Option<u32>,
    /// How often the links' carrier is looked at. Default: 100, without `arpInterval`.
    #[serde(deserialize_with = "values::number")]
    pub(crate) miimon: Option<u32>,
    /// How long a link is up before it is used. Default: 0.
    #[serde(deserialize_with = "values::number")]
    pub(crate) updelay: Option<u32>,
    /// How long a link is down before it is given up. Default: 0.
    #[serde(deserialize_with = "values::number")]
    pub(crate) downdelay: Option<u32>,
    /// How often the targets are asked by ARP or neighbour solicitation. Default: never.
    #[serde(deserialize_with = "values::number")]
    pub(crate) arp_interval: Option<u32>,
    /// Whom to ask by ARP, up to 16.
    pub(crate) arp_ip_targets: Vec<Ipv4Addr>,
    /// Whom to ask by neighbour solicitation, up to 16.
    #[serde(rename = "nsIp6Targets")]
    pub(crate) ns_ip6_targets: Vec<Ipv6Addr>,
    /// Which frames count as a sign of life. Default: none are looked at, any traffic counts.
    #[serde(deserialize_with = "values::choice")]
    pub(crate) arp_validate: Option<ArpValidate>,
    /// The link to use whenever it is up. Default: none is better than the others.
    pub(crate) primary: Option<String>,
    /// When to return to it. Default: always.
    #[serde(deserialize_with = "values::choice")]
    pub(crate) primary_reselect: Option<PrimaryReselect>,
    /// Whose MAC address the links have. Default: none, all have the bond's.
    #[serde(deserialize_with = "values::choice")]
    pub(crate) fail_over_mac: Option<FailOverMac>,
    /// What decides by which link a frame leaves. Default: layer2.
    #[serde(deserialize_with = "values::choice")]
    pub(crate) xmit_hash_policy: Option<XmitHashPolicy>,
    /// IGMP reports after a change of the active link. Default: 1.
    pub(crate) resend_igmp: Option<u8>,
    /// Gratuitous ARPs and unsolicited neighbour advertisements after a change of the active link. Default: 1.
    pub(crate) num_peer_notif: Option<u8>,
    /// Take what comes in by links that only wait. Default: false.
    #[serde(deserialize_with = "values::switch")]
    pub(crate) all_slaves_active: Option<bool>,
    /// Links that have to be up for the bond to be. Default: 0, which is as 1.
    pub(crate) min_links: Option<u32>,
    /// Frames by one link before it is the next one's turn; 0 is at random. Default: 1.
    pub(crate) packets_per_slave: Option<u16>,
    /// How often the switch is asked to send LACP frames. Default: slow.
    #[serde(deserialize_with = "values::choice")]
    pub(crate) lacp_rate: Option<LacpRate>,
    /// Which aggregation becomes active. Default: stable.
    #[serde(deserialize_with = "values::choice")]
    pub(crate) ad_select: Option<AdSelect>,
    /// Move flows between links by their load. Default: true.
    #[serde(deserialize_with = "values::switch")]
    pub(crate) tlb_dynamic_lb: Option<bool>,
}

/// One entry of `links`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LinkName {
    pub(crate) name: String,
}

impl Config {
    /// The bond's name in the pod.
    pub(crate) fn ifname<'a>(&'a self, env: &'a Env) -> &'a str {
        if self.ifname.is_empty() { &env.ifname } else { &self.ifname }
    }

    /// The mode.
    pub(crate) fn mode(&self) -> BondMode {
        self.mode.unwrap_or(BondMode::ActiveBackup)
    }

    /// The MTU asked for, in bytes.
    pub(crate) fn mtu(&self) -> Option<u32> {
        self.mtu.filter(|&mtu| mtu != 0)
    }

    /// Whether the targets are asked.
    pub(crate) fn asks_targets(&self) -> bool {
        self.arp_interval.is_some_and(|interval| interval != 0)
    }

    /// How often the carrier is looked at.
    pub(crate) fn miimon(&self) -> u32 {
        self.miimon.unwrap_or(if self.asks_targets() { 0 } else { MIIMON })
    }

    /// Whether no two links may have the same MAC address: whoever has it is told apart by it.
    pub(crate) fn needs_distinct_macs(&self) -> bool {
        let keeps = self.fail_over_mac.is_some_and(|policy| policy != FailOverMac::None);
        keeps || self.mode() == BondMode::BalanceAlb
    }

    /// The options for the kernel.
    pub(crate) fn bond(&self) -> Bond {
        Bond {
            miimon: Some(self.miimon()),
            updelay: self.updelay,
            downdelay: self.downdelay,
            arp_interval: self.arp_interval,
            arp_ip_targets: self.arp_ip_targets.clone(),
            ns_ip6_targets: self.ns_ip6_targets.clone(),
            arp_validate: self.arp_validate,
            primary_reselect: self.primary_reselect,
            fail_over_mac: self.fail_over_mac,
            xmit_hash_policy: self.xmit_hash_policy,
            resend_igmp: self.resend_igmp.map(u32::from),
            num_peer_notif: self.num_peer_notif,
            all_slaves_active: self.all_slaves_active,
            min_links: self.min_links,
            packets_per_slave: self.packets_per_slave.map(u32::from),
            lacp_rate: self.lacp_rate,
            ad_select: self.ad_select,
            tlb_dynamic_lb: self.tlb_dynamic_lb,
            ..Bond::new(self.mode())
        }
    }
}

/// Refuses what contradicts itself.
pub(crate) fn validate(env: &Env, conf: &NetConf<Config>) -> Result<()> {
    let config = &conf.plugin;
    if !config.ifname.is_empty() && !interface_name(&config.ifname) {
        return Err(Error::invalid("ifname", format!("{:?}: not the name of an interface", config.ifname)).into());
    }
    // RFC 791 names the least; more than the largest jumbo frame no link carries.
    if let Some(mtu) = config.mtu().filter(|mtu| !(68..=65535).contains(mtu)) {
        return Err(Error::invalid("mtu", format!("{mtu}: not between 68 and 65535 bytes")).into());
    }
    validate_links(config, env)?;
    options::validate(config)?;
    if env.command == Command::Add {
        warn(&conf.name, config);
    }
    if conf.runtime.mac.or(conf.args.mac).or(env.args.mac).is_some()
        && config.fail_over_mac == Some(FailOverMac::Active)
    {
        let why = "active: the bond has the MAC address of its active link, so that none can be asked for";
        return Err(Error::invalid("failOverMac", why).into());
    }
    Ok(())
}

fn validate_links(config: &Config, env: &Env) -> Result<()> {
    let links = &config.links;
    if links.is_empty() {
        return Err(Error::invalid("links", "a bond needs at least one link, better two").into());
    }
    let mut seen = HashSet::new();
    for (place, LinkName { name }) in links.iter().enumerate() {
        let path = format!("links[{place}].name");
        if !interface_name(name) {
            return Err(Error::invalid(&path, format!("{name:?}: not the name of an interface")).into());
        }
        if !seen.insert(name) {
            return Err(Error::invalid(&path, format!("{name:?}: listed twice")).into());
        }
        if name == "lo" || *name == config.ifname(env) {
            let what = if name == "lo" { "the loopback" } else { "the bond itself" };
            return Err(Error::invalid(&path, format!("{name:?}: {what} cannot be one of its links")).into());
        }
    }
    match &config.primary {
        Some(primary) if links.iter().all(|link| link.name != *primary) => {
            Err(Error::invalid("primary", format!("{primary:?}: not one of the links")).into())
        }
        _ => Ok(()),
    }
}

/// Says what is allowed and hardly meant.
fn warn(network: &str, config: &Config) {
    if config.links.len() == 1 {
        tracing::warn!("network {network:?}: links: there is only one, so nothing is left when it fails");
    }
    if config.miimon() == 0 && !config.asks_targets() {
        tracing::warn!("network {network:?}: miimon is 0 without arpInterval: a link that fails is never noticed");
    }
}
