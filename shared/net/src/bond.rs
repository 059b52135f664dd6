//! Bonds: their options, and what the kernel says of a bond and of its ports.

use std::net::{Ipv4Addr, Ipv6Addr};

use netlink_packet_route::link::{BondAllPortActive, InfoBond};
use podwire_spec::Mac;

use crate::{
    AdSelect, ArpValidate, BondMode, Choice, FailOverMac, Kind, LacpRate, Link, Net, PrimaryReselect, Result,
    XmitHashPolicy,
    attribute::attributes,
    link::Device,
    link_message::{LinkRequest, mac},
    message::Message,
};

/// The type's name.
const KIND: &str = "bond";

/// A bond's options; what is `None` is the kernel's default for the mode. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the kernel's option of that name")]
pub struct Bond {
    pub mode: BondMode,
    pub miimon: Option<u32>,
    pub updelay: Option<u32>,
    pub downdelay: Option<u32>,
    pub arp_interval: Option<u32>,
    pub arp_ip_targets: Vec<Ipv4Addr>,
    pub ns_ip6_targets: Vec<Ipv6Addr>,
    pub arp_validate: Option<ArpValidate>,
    /// The index of the primary link. Not sent with the others: it has to be a port first.
    pub primary: Option<u32>,
    pub primary_reselect: Option<PrimaryReselect>,
    pub fail_over_mac: Option<FailOverMac>,
    pub xmit_hash_policy: Option<XmitHashPolicy>,
    pub resend_igmp: Option<u32>,
    pub num_peer_notif: Option<u8>,
    pub all_slaves_active: Option<bool>,
    pub min_links: Option<u32>,
    pub packets_per_slave: Option<u32>,
    pub lacp_rate: Option<LacpRate>,
    pub ad_select: Option<AdSelect>,
    pub tlb_dynamic_lb: Option<bool>,
}

/// A port of a bond, as the kernel sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BondPort {
    /// Link monitoring found it up.
    pub up: bool,
    /// It takes part in the traffic, and does not only wait.
    pub active: bool,
    /// The MAC address that it had before.
    pub mac: Option<Mac>,
}

impl Bond {
    /// A bond with the kernel's defaults.
    pub fn new(mode: BondMode) -> Self {
        Self {
            mode,
            miimon: None,
            updelay: None,
            downdelay: None,
            arp_interval: None,
            arp_ip_targets: vec![],
            ns_ip6_targets: vec![],
            arp_validate: None,
            primary: None,
            primary_reselect: None,
            fail_over_mac: None,
            xmit_hash_policy: None,
            resend_igmp: None,
            num_peer_notif: None,
            all_slaves_active: None,
            min_links: None,
            packets_per_slave: None,
            lacp_rate: None,
            ad_select: None,
            tlb_dynamic_lb: None,
        }
    }

    /// For making it. The kernel takes the options in an order of its own, whatever theirs is in the message.
    pub fn kind(&self) -> Kind<'static> {
        let mut data = vec![InfoBond::Mode(self.mode.number().into())];
        let targets = |is_empty: bool, option| (!is_empty).then_some(option);
        let all_active =
            |on| InfoBond::AllPortsActive(if on { BondAllPortActive::Delivered } else { BondAllPortActive::Dropped });
        data.extend(
            [
                self.miimon.map(InfoBond::MiiMon),
                self.updelay.map(InfoBond::UpDelay),
                self.downdelay.map(InfoBond::DownDelay),
                self.arp_interval.map(InfoBond::ArpInterval),
                targets(self.arp_ip_targets.is_empty(), InfoBond::ArpIpTarget(self.arp_ip_targets.clone())),
                targets(self.ns_ip6_targets.is_empty(), InfoBond::NsIp6Target(self.ns_ip6_targets.clone())),
                self.arp_validate.map(|value| InfoBond::ArpValidate(u32::from(value.number()).into())),
                self.primary_reselect.map(|value| InfoBond::PrimaryReselect(value.number().into())),
                self.fail_over_mac.map(|value| InfoBond::FailOverMac(value.number().into())),
                self.xmit_hash_policy.map(|value| InfoBond::XmitHashPolicy(value.number().into())),
                self.resend_igmp.map(InfoBond::ResendIgmp),
                self.num_peer_notif.map(InfoBond::NumPeerNotif),
                self.all_slaves_active.map(all_active),
                self.min_links.map(InfoBond::MinLinks),
                self.packets_per_slave.map(InfoBond::PacketsPerPort),
                self.lacp_rate.map(|value| InfoBond::AdLacpRate(value.number().into())),
                self.ad_select.map(|value| InfoBond::AdSelect(value.number().into())),
                self.tlb_dynamic_lb.map(InfoBond::TlbDynamicLb),
            ]
            .into_iter()
            .flatten(),
        );
        Kind::Device(Device::new(KIND, &data))
    }

    /// The options of a bond that is there; `None` for another device.
    pub fn of(link: &Link) -> Option<Self> {
        let data = link.options(KIND)?;
        let mode = data.iter().find_map(|option| match option {
            InfoBond::Mode(mode) => BondMode::of_number(u8::from(*mode)),
            _ => None,
        });
        let mut bond = Self::new(mode?);
        for option in &data {
            bond.take(option);
        }
        Some(bond)
    }

    fn take(&mut self, option: &InfoBond) {
        match option {
            InfoBond::MiiMon(value) => self.miimon = Some(*value),
            InfoBond::UpDelay(value) => self.updelay = Some(*value),
            InfoBond::DownDelay(value) => self.downdelay = Some(*value),
            InfoBond::ArpInterval(value) => self.arp_interval = Some(*value),
            InfoBond::ArpIpTarget(list) => self.arp_ip_targets.clone_from(list),
            InfoBond::NsIp6Target(list) => self.ns_ip6_targets.clone_from(list),
            InfoBond::ArpValidate(value) => {
                self.arp_validate = u8::try_from(u32::from(*value)).ok().and_then(ArpValidate::of_number);
            }
            InfoBond::Primary(index) => self.primary = Some(*index),
            InfoBond::PrimaryReselect(value) => self.primary_reselect = PrimaryReselect::of_number((*value).into()),
            InfoBond::FailOverMac(value) => self.fail_over_mac = FailOverMac::of_number((*value).into()),
            InfoBond::XmitHashPolicy(value) => self.xmit_hash_policy = XmitHashPolicy::of_number((*value).into()),
            InfoBond::ResendIgmp(value) => self.resend_igmp = Some(*value),
            InfoBond::NumPeerNotif(value) => self.num_peer_notif = Some(*value),
            InfoBond::AllPortsActive(value) => self.all_slaves_active = Some(u8::from(*value) != 0),
            InfoBond::MinLinks(value) => self.min_links = Some(*value),
            InfoBond::PacketsPerPort(value) => self.packets_per_slave = Some(*value),
            InfoBond::AdLacpRate(value) => self.lacp_rate = LacpRate::of_number((*value).into()),
            InfoBond::AdSelect(value) => self.ad_select = AdSelect::of_number((*value).into()),
            InfoBond::TlbDynamicLb(value) => self.tlb_dynamic_lb = Some(*value),
            _ => {}
        }
    }

    /// The first option that was asked for here and is another one in `found`: its name, as asked for, as found. The
    /// primary link is left out, since an index says nothing.
    pub fn difference(&self, found: &Self) -> Option<(&'static str, String, String)> {
        let found = found.said();
        self.said().into_iter().find_map(|(name, wanted)| {
            let there = found.iter().find(|(other, _)| *other == name).map_or("none", |(_, value)| value);
            (there != wanted).then(|| (name, wanted, there.to_owned()))
        })
    }

    /// Every option that is given, by the name that it has in a configuration.
    fn said(&self) -> Vec<(&'static str, String)> {
        fn number<T: ToString>(name: &'static str, value: Option<T>) -> Option<(&'static str, String)> {
            value.map(|value| (name, value.to_string()))
        }
        fn choice<T: Choice>(name: &'static str, value: Option<T>) -> Option<(&'static str, String)> {
            value.map(|value| (name, value.name().to_owned()))
        }
        fn list<T: ToString>(name: &'static str, values: &[T]) -> Option<(&'static str, String)> {
            let values: Vec<_> = values.iter().map(ToString::to_string).collect();
            (!values.is_empty()).then(|| (name, values.join(" ")))
        }
        let all = [
            choice("mode", Some(self.mode)),
            number("miimon", self.miimon),
            number("updelay", self.updelay),
            number("downdelay", self.downdelay),
            number("arpInterval", self.arp_interval),
            list("arpIpTargets", &self.arp_ip_targets),
            list("nsIp6Targets", &self.ns_ip6_targets),
            choice("arpValidate", self.arp_validate),
            choice("primaryReselect", self.primary_reselect),
            choice("failOverMac", self.fail_over_mac),
            choice("xmitHashPolicy", self.xmit_hash_policy),
            number("resendIgmp", self.resend_igmp),
            number("numPeerNotif", self.num_peer_notif),
            number("allSlavesActive", self.all_slaves_active),
            number("minLinks", self.min_links),
            number("packetsPerSlave", self.packets_per_slave),
            choice("lacpRate", self.lacp_rate),
            choice("adSelect", self.ad_select),
            number("tlbDynamicLb", self.tlb_dynamic_lb),
        ];
        all.into_iter().flatten().collect()
    }
}

impl BondPort {
    /// Reads `IFLA_BOND_SLAVE_...` of `linux/if_link.h`.
    pub(crate) fn parse(options: &[u8]) -> Self {
        const STATE: u16 = 1;
        const MII_STATUS: u16 = 2;
        const PERM_HWADDR: u16 = 4;
        let mut port = Self::default();
        for (kind, value) in attributes(options) {
            match kind {
                // `BOND_STATE_ACTIVE`, `BMSR_LSTATUS` that is up: both are 0.
                STATE => port.active = value == [0],
                MII_STATUS => port.up = value == [0],
                PERM_HWADDR => port.mac = mac(value),
                _ => {}
            }
        }
        port
    }
}

impl Net {
    /// Makes one of a bond's ports its primary link.
    ///
    /// # Errors
    /// EINVAL where it is not a port of it.
    pub fn set_primary(&self, bond: &Link, port: u32) -> Result<()> {
        let mut message = LinkRequest::at(bond.index);
        message.info(KIND, |options| options.of(&[InfoBond::Primary(port)]));
        let message = Message::NewLink(message);
        self.request(|| format!("bond {:?}", bond.name), "set the primary link of", message, 0).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_known_by_name_and_by_number() {
        for (number, name) in BondMode::NAMES.iter().enumerate() {
            let of_name = BondMode::of_text(name).unwrap();
            assert_eq!(Some(of_name), BondMode::of_text(&number.to_string()), "{name}");
            assert_eq!((usize::from(of_name.number()), of_name.name()), (number, *name));
        }
        for text in ["", "7", "-1", "Balance-RR", "256"] {
            assert_eq!(BondMode::of_text(text), None, "{text}");
        }
        assert_eq!(XmitHashPolicy::of_text("layer2+3"), Some(XmitHashPolicy::Layer23));
        assert_eq!(XmitHashPolicy::Layer34.number(), 1);
    }

    #[test]
    fn only_what_was_asked_for_is_compared() {
        let wanted = Bond { miimon: Some(100), ..Bond::new(BondMode::ActiveBackup) };
        let found = Bond { num_peer_notif: Some(1), ..wanted.clone() };
        assert_eq!(wanted.difference(&found), None);
        let other = Bond { miimon: Some(50), ..found };
        assert_eq!(wanted.difference(&other), Some(("miimon", "100".to_owned(), "50".to_owned())));
        let targets = Bond { arp_ip_targets: vec![[10, 0, 0, 1].into()], ..wanted };
        assert_eq!(targets.difference(&targets.clone()), None);
        assert_eq!(targets.difference(&other).map(|(name, ..)| name), Some("miimon"));
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        let bond = Bond {
            miimon: Some(100),
            updelay: Some(200),
            fail_over_mac: Some(FailOverMac::Follow),
            xmit_hash_policy: Some(XmitHashPolicy::Encap34),
            arp_validate: Some(ArpValidate::FilterBackup),
            all_slaves_active: Some(true),
            ..Bond::new(BondMode::BalanceAlb)
        };
        let Kind::Device(device) = bond.kind() else { panic!("not a device") };
        assert_eq!(Bond::of(&device.link()), Some(bond));
        assert_eq!(Bond::of(&Link::default()), None);
    }
}
