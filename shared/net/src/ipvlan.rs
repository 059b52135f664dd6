//! Devices of type ipvlan: addresses of their own on a parent link, whose MAC address they all have.

use netlink_packet_route::link::{InfoIpVlan, IpVlanFlags, IpVlanMode};

use crate::{Kind, Link, link::Device};

/// The options of an ipvlan. The kernel keeps them once for all devices of a parent: the last one made decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpVlan {
    /// At which layer it works.
    pub mode: Mode,
    /// Whether devices of the same parent reach each other.
    pub flag: Flag,
}

/// At which layer an ipvlan works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Frames: the pod is a neighbour on the parent's network, with ARP, broadcast and multicast.
    L2,
    /// Packets: the node's routes lead them out, there is neither ARP nor multicast, and netfilter sees only those that
    /// leave.
    L3,
    /// As `L3`, and netfilter on the node sees those that come in too (`CONFIG_IPVLAN_L3S`).
    L3s,
    /// One that a later kernel may have.
    Other(u16),
}

/// Whether devices of the same parent reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// They do, inside the node.
    Bridge,
    /// They do not.
    Private,
    /// Only by way of what is outside: a switch that sends frames back to where they came from, or a router.
    Vepa,
}

impl IpVlan {
    /// The type's name.
    pub const KIND: &'static str = "ipvlan";

    /// For the message that makes one.
    pub fn kind(self) -> Kind<'static> {
        let mode = match self.mode {
            Mode::L2 => IpVlanMode::L2,
            Mode::L3 => IpVlanMode::L3,
            Mode::L3s => IpVlanMode::L3S,
            Mode::Other(mode) => IpVlanMode::Other(mode),
        };
        let flags = match self.flag {
            Flag::Bridge => IpVlanFlags::empty(),
            Flag::Private => IpVlanFlags::Private,
            Flag::Vepa => IpVlanFlags::Vepa,
        };
        let data = vec![InfoIpVlan::Mode(mode), InfoIpVlan::Flags(flags)];
        Kind::Device(Device::new(Self::KIND, &data))
    }

    /// The options of a link; `None` for one that is no ipvlan.
    pub fn of(link: &Link) -> Option<Self> {
        let data = link.options(Self::KIND)?;
        let (mut mode, mut flag) = (None, Flag::Bridge);
        for option in &data {
            match option {
                InfoIpVlan::Mode(IpVlanMode::L2) => mode = Some(Mode::L2),
                InfoIpVlan::Mode(IpVlanMode::L3) => mode = Some(Mode::L3),
                InfoIpVlan::Mode(IpVlanMode::L3S) => mode = Some(Mode::L3s),
                InfoIpVlan::Mode(other) => mode = Some(Mode::Other((*other).into())),
                InfoIpVlan::Flags(flags) if flags.contains(IpVlanFlags::Private) => flag = Flag::Private,
                InfoIpVlan::Flags(flags) if flags.contains(IpVlanFlags::Vepa) => flag = Flag::Vepa,
                _ => {}
            }
        }
        mode.map(|mode| Self { mode, flag })
    }
}

impl std::fmt::Display for IpVlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.mode {
            Mode::L2 => f.write_str("l2")?,
            Mode::L3 => f.write_str("l3")?,
            Mode::L3s => f.write_str("l3s")?,
            Mode::Other(mode) => write!(f, "number {mode}")?,
        }
        f.write_str(match self.flag {
            Flag::Bridge => "",
            Flag::Private => " private",
            Flag::Vepa => " vepa",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_is_read() {
        for mode in [Mode::L2, Mode::L3, Mode::L3s] {
            for flag in [Flag::Bridge, Flag::Private, Flag::Vepa] {
                let wanted = IpVlan { mode, flag };
                let Kind::Device(device) = wanted.kind() else { panic!("a device") };
                assert_eq!(IpVlan::of(&device.link()), Some(wanted));
            }
        }
        assert_eq!(IpVlan::of(&Link::default()), None);
    }
}
