//! Which option goes with which mode and with which other option, and why the rest does not.

use podwire_plugin::{
    Error, Result,
    net::{BondMode, Choice, FailOverMac},
};

use crate::config::Config;

/// The modes of an option.
type Modes = &'static [BondMode];

const ONE_ACTIVE: Modes = &[BondMode::ActiveBackup];
const WITH_PRIMARY: Modes = &[BondMode::ActiveBackup, BondMode::BalanceTlb, BondMode::BalanceAlb];
const WITH_ARP: Modes = &[BondMode::BalanceRr, BondMode::ActiveBackup, BondMode::BalanceXor, BondMode::Broadcast];
const HASHING: Modes = &[BondMode::BalanceXor, BondMode::Lacp, BondMode::BalanceTlb];
const WITH_IGMP: Modes = &[BondMode::BalanceRr, BondMode::ActiveBackup, BondMode::BalanceTlb, BondMode::BalanceAlb];
const BY_LOAD: Modes = &[BondMode::BalanceTlb, BondMode::BalanceAlb];

/// How many targets the kernel takes (`BOND_MAX_ARP_TARGETS` in `net/bonding.h`).
const MAX_TARGETS: usize = 16;

/// Refuses an option that cannot do anything, or that the kernel would refuse, with the reason.
///
/// # Errors
/// Code 7.
pub(crate) fn validate(config: &Config) -> Result<()> {
    let mode = config.mode();
    for (option, is_given, modes, why) in rules(config) {
        if is_given && !modes.contains(&mode) {
            let named: Vec<_> = modes.iter().map(|mode| format!("{:?}", mode.name())).collect();
            return Err(Error::invalid(option, format!("cannot be used in mode {:?}: {why}", mode.name()))
                .with_details(format!("it is for {}", named.join(", ")))
                .into());
        }
    }
    validate_carrier(config)?;
    validate_targets(config)
}

/// Option, whether it is given, its modes, and why it is of none of the others.
fn rules(config: &Config) -> [(&'static str, bool, Modes, &'static str); 14] {
    let keeps_macs = config.fail_over_mac.is_some_and(|policy| policy != FailOverMac::None);
    let arp = "the mode sends and receives by links of its own choice, so that no answer to an ARP request says which \
               of them works; use miimon";
    let primary = "all links are used, so that none can be preferred";
    let lacp = "no aggregation is negotiated";
    [
        ("failOverMac", keeps_macs, ONE_ACTIVE, "there is no failover from one link to another"),
        ("arpInterval", config.asks_targets(), WITH_ARP, arp),
        ("arpIpTargets", !config.arp_ip_targets.is_empty(), WITH_ARP, arp),
        ("nsIp6Targets", !config.ns_ip6_targets.is_empty(), WITH_ARP, arp),
        ("arpValidate", config.arp_validate.is_some(), WITH_ARP, arp),
        ("primary", config.primary.is_some(), WITH_PRIMARY, primary),
        ("primaryReselect", config.primary_reselect.is_some(), WITH_PRIMARY, primary),
        ("xmitHashPolicy", config.xmit_hash_policy.is_some(), HASHING, "no hash decides by which link a frame leaves"),
        (
            "resendIgmp",
            config.resend_igmp.is_some(),
            WITH_IGMP,
            "the switch has one group of ports, whose memberships do not change with a link",
        ),
        (
            "numPeerNotif",
            config.num_peer_notif.is_some(),
            ONE_ACTIVE,
            "there is no change of the active link to tell the neighbours of",
        ),
        ("minLinks", config.min_links.is_some(), &[BondMode::Lacp], lacp),
        ("lacpRate", config.lacp_rate.is_some(), &[BondMode::Lacp], lacp),
        ("adSelect", config.ad_select.is_some(), &[BondMode::Lacp], lacp),
        ("packetsPerSlave", config.packets_per_slave.is_some(), &[BondMode::BalanceRr], "links do not take turns"),
    ]
}

fn validate_carrier(config: &Config) -> Result<()> {
    let (mode, miimon) = (config.mode(), config.miimon());
    let refuse = |option: &str, why: String| Err(Error::invalid(option, why).into());
    if config.tlb_dynamic_lb.is_some() && !BY_LOAD.contains(&mode) {
        let why = "flows are not spread by load";
        return refuse("tlbDynamicLb", format!("cannot be used in mode {:?}: {why}", mode.name()));
    }
    if miimon != 0 && config.asks_targets() {
        return refuse(
            "miimon",
            "cannot be combined with arpInterval: the kernel watches links in one way only".into(),
        );
    }
    if miimon == 0 && !WITH_ARP.contains(&mode) {
        let name = mode.name();
        return refuse(
            "miimon",
            format!("0: mode {name:?} has to know which links are up, and cannot learn it by ARP"),
        );
    }
    for (option, delay) in [("updelay", config.updelay), ("downdelay", config.downdelay)] {
        let Some(delay) = delay.filter(|&delay| delay != 0) else { continue };
        if miimon == 0 {
            return refuse(option, format!("{delay}: needs miimon, since it counts looks at the carrier"));
        }
        if delay % miimon != 0 {
            let less = delay / miimon * miimon;
            let why = format!("{delay}: not a multiple of miimon, {miimon} ms; the kernel would make it {less}");
            return refuse(option, why);
        }
    }
    Ok(())
}

fn validate_targets(config: &Config) -> Result<()> {
    let refuse = |option: &str, why: &str| Err(Error::invalid(option, why).into());
    let (v4, v6) = (&config.arp_ip_targets, &config.ns_ip6_targets);
    if config.asks_targets() && v4.is_empty() && v6.is_empty() {
        return refuse("arpInterval", "needs arpIpTargets or nsIp6Targets: there is nobody to ask");
    }
    for (option, count) in [("arpIpTargets", v4.len()), ("nsIp6Targets", v6.len())] {
        if count > 0 && !config.asks_targets() {
            return refuse(option, "needs arpInterval: they would never be asked");
        }
        if count > MAX_TARGETS {
            return refuse(option, &format!("{count} targets, and the kernel takes no more than {MAX_TARGETS}"));
        }
    }
    if let Some(bad) = v4.iter().find(|ip| ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast()) {
        return refuse("arpIpTargets", &format!("\"{bad}\": not the address of a host"));
    }
    if let Some(bad) = v6.iter().find(|ip| ip.is_unspecified() || ip.is_multicast()) {
        return refuse("nsIp6Targets", &format!("\"{bad}\": not the address of a host"));
    }
    for (place, ip) in v4.iter().enumerate() {
        if v4[..place].contains(ip) {
            return refuse("arpIpTargets", &format!("\"{ip}\": listed twice"));
        }
    }
    for (place, ip) in v6.iter().enumerate() {
        if v6[..place].contains(ip) {
            return refuse("nsIp6Targets", &format!("\"{ip}\": listed twice"));
        }
    }
    if config.arp_validate.is_some() && !config.asks_targets() {
        return refuse("arpValidate", "needs arpInterval: there is no answer to validate");
    }
    Ok(())
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
