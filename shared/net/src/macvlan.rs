//! Devices of type macvlan: a MAC address of their own on a parent link.

use std::fmt;

use netlink_packet_route::link::{InfoMacVlan, MacVlanMacAddressMode, MacVlanMode};
use podwire_spec::Mac;

use crate::{Kind, Link, link::Device};

/// The options of a macvlan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacVlan {
    /// Whom it can talk to.
    pub mode: Mode,
    /// How many broadcast frames may wait to be handed to the devices of the parent; the longest of their queues counts
    /// for all. Default: the kernel's, 1000.
    pub broadcast_queue: Option<u32>,
}

/// What a macvlan does with frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes those to other devices of the same parent on at once.
    Bridge,
    /// Sends all out by the parent, and takes none from devices of the same parent.
    Private,
    /// Sends all out by the parent; whoever is to reach another device needs a switch that sends them back.
    Vepa,
    /// Has the parent for itself, with its MAC address.
    Passthru,
    /// Takes only those that come from these MAC addresses, whomever they are for.
    Source(Vec<Mac>),
    /// One that a later kernel may have.
    Other(u32),
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge => f.write_str("bridge"),
            Self::Private => f.write_str("private"),
            Self::Vepa => f.write_str("vepa"),
            Self::Passthru => f.write_str("passthru"),
            Self::Source(macs) => {
                let macs: Vec<_> = macs.iter().map(Mac::to_string).collect();
                write!(f, "source of [{}]", macs.join(", "))
            }
            Self::Other(mode) => write!(f, "number {mode}"),
        }
    }
}

impl MacVlan {
    /// The type's name.
    pub const KIND: &'static str = "macvlan";

    /// For the message that makes one.
    pub fn kind(&self) -> Kind<'static> {
        let mut data = vec![InfoMacVlan::Mode(match &self.mode {
            Mode::Bridge => MacVlanMode::Bridge,
            Mode::Private => MacVlanMode::Private,
            Mode::Vepa => MacVlanMode::Vepa,
            Mode::Passthru => MacVlanMode::Passthrough,
            Mode::Source(_) => MacVlanMode::Source,
            Mode::Other(mode) => MacVlanMode::Other(*mode),
        })];
        if let Mode::Source(macs) = &self.mode {
            let macs = macs.iter().map(|mac| InfoMacVlan::MacAddr(mac.0)).collect();
            data.extend([InfoMacVlan::MacAddrMode(MacVlanMacAddressMode::Set), InfoMacVlan::MacAddrData(macs)]);
        }
        data.extend(self.broadcast_queue.map(InfoMacVlan::BcQueueLen));
        Kind::Device(Device::new(Self::KIND, &data))
    }

    /// The options of a link; `None` for one that is no macvlan. The MAC addresses are in ascending order.
    pub fn of(link: &Link) -> Option<Self> {
        let data = link.options(Self::KIND)?;
        let (mut mode, mut broadcast_queue, mut macs) = (MacVlanMode::Other(0), None, Vec::new());
        for option in &data {
            match option {
                InfoMacVlan::Mode(found) => mode = *found,
                InfoMacVlan::BcQueueLen(length) => broadcast_queue = Some(*length),
                InfoMacVlan::MacAddrData(found) => macs.extend(found.iter().filter_map(|one| match one {
                    InfoMacVlan::MacAddr(bytes) => Some(Mac(*bytes)),
                    _ => None,
                })),
                _ => {}
            }
        }
        macs.sort_unstable();
        let mode = match mode {
            MacVlanMode::Bridge => Mode::Bridge,
            MacVlanMode::Private => Mode::Private,
            MacVlanMode::Vepa => Mode::Vepa,
            MacVlanMode::Passthrough => Mode::Passthru,
            MacVlanMode::Source => Mode::Source(macs),
            other => Mode::Other(other.into()),
        };
        Some(Self { mode, broadcast_queue })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_is_read() {
        let macs = vec![Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
        for mode in [Mode::Bridge, Mode::Private, Mode::Vepa, Mode::Passthru, Mode::Source(macs)] {
            let wanted = MacVlan { mode, broadcast_queue: Some(2000) };
            let Kind::Device(device) = wanted.kind() else { panic!("a device") };
            assert_eq!(MacVlan::of(&device.link()), Some(wanted));
        }
    }
}
