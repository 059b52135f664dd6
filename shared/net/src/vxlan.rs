//! VXLAN devices: Ethernet frames in UDP packets (RFC 7348).

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use netlink_packet_route::link::{InfoVxlan, VxlanDf};

use crate::{Device, Kind, Link};

/// The type's name.
const KIND: &str = "vxlan";

/// What `tos` of a VXLAN device means "as the packet inside" (`vxlan_xmit_one` in the kernel).
const TOS_INHERIT: u8 = 1;

/// The parameters of a VXLAN device.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the kernel's, independent of the others")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// The VXLAN network identifier, 0 to 2^24-1.
    pub vni: u32,
    /// The index of the link whose traffic carries it, in the namespace of the UDP socket.
    pub dev: Option<u32>,
    /// The address that packets are sent from.
    pub local: Option<IpAddr>,
    /// Where frames go whose destination is not known: one other end, or a multicast group.
    pub peer: Option<IpAddr>,
    /// The packets' IP version is 6. Without an address among the parameters the kernel cannot tell.
    pub ipv6: bool,
    /// The UDP port.
    pub port: u16,
    /// Remember which address frames of a MAC address come from.
    pub learning: bool,
    /// The packets' time to live, or hop limit; 0 for the kernel's choice.
    pub ttl: FromPacket,
    /// The packets' type of service, or traffic class.
    pub tos: FromPacket,
    /// The packets' don't-fragment bit (IPv4).
    pub df: Df,
    /// Packets have a UDP checksum; over IPv6 those without are accepted only if this is off.
    pub udp_csum: bool,
    /// The group policy extension.
    pub gbp: bool,
}

/// A byte of the IP header: a value, or what the packet inside has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromPacket {
    /// This value.
    Value(u8),
    /// The packet's own.
    Inherit,
}

/// The don't-fragment bit of the IPv4 header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Df {
    /// Not set.
    #[default]
    Unset,
    /// Set.
    Set,
    /// As the packet inside has it.
    Inherit,
}

impl fmt::Display for FromPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "{value}"),
            Self::Inherit => f.write_str("inherit"),
        }
    }
}

impl fmt::Display for Df {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unset => "unset",
            Self::Set => "set",
            Self::Inherit => "inherit",
        })
    }
}

impl Vxlan {
    /// How to make such a device.
    pub fn kind(&self) -> Kind<'static> {
        let mut data = vec![
            InfoVxlan::Id(self.vni),
            // Without it the kernel takes 8472, which it had before the protocol had a port.
            InfoVxlan::Port(self.port),
            InfoVxlan::Learning(self.learning),
        ];
        data.extend(self.dev.map(InfoVxlan::Link));
        data.extend(self.local.map(|local| match local {
            IpAddr::V4(ip) => InfoVxlan::Local(ip),
            IpAddr::V6(ip) => InfoVxlan::Local6(ip),
        }));
        match self.peer {
            Some(IpAddr::V4(ip)) => data.push(InfoVxlan::Group(ip)),
            Some(IpAddr::V6(ip)) => data.push(InfoVxlan::Group6(ip)),
            // Says no more than which IP version it is.
            None if self.ipv6 => data.push(InfoVxlan::Group6(Ipv6Addr::UNSPECIFIED)),
            None => {}
        }
        match self.ttl {
            FromPacket::Value(ttl) => data.push(InfoVxlan::Ttl(ttl)),
            FromPacket::Inherit => data.push(InfoVxlan::TtlInheritFlag),
        }
        data.push(InfoVxlan::Tos(match self.tos {
            FromPacket::Value(tos) => tos,
            FromPacket::Inherit => TOS_INHERIT,
        }));
        match self.df {
            // The default, left out for kernels that do not know it.
            Df::Unset => {}
            Df::Set => data.push(InfoVxlan::Df(VxlanDf::Set)),
            Df::Inherit => data.push(InfoVxlan::Df(VxlanDf::Inherit)),
        }
        if self.ipv6 {
            data.extend([InfoVxlan::UDPZeroCsumTX(!self.udp_csum), InfoVxlan::UDPZeroCsumRX(!self.udp_csum)]);
        } else {
            data.push(InfoVxlan::UDPCsum(self.udp_csum));
        }
        if self.gbp {
            data.push(InfoVxlan::Gbp);
        }
        Kind::Device(Device::new(KIND, &data))
    }

    /// The parameters of a device that the kernel has described; `None` for one that is no VXLAN device. Its IP version
    /// is that of its addresses, and otherwise `ipv6`, since the kernel does not tell.
    pub fn of(link: &Link, ipv6: bool) -> Option<Self> {
        let data = link.options(KIND)?;
        let mut device = Self {
            vni: 0,
            dev: None,
            local: None,
            peer: None,
            ipv6,
            port: 0,
            learning: false,
            ttl: FromPacket::Value(0),
            tos: FromPacket::Value(0),
            df: Df::Unset,
            udp_csum: false,
            gbp: false,
        };
        for attribute in &data {
            device.take(attribute);
        }
        if let Some(address) = device.local.or(device.peer) {
            device.ipv6 = address.is_ipv6();
        }
        if device.ipv6 {
            device.udp_csum = !data.contains(&InfoVxlan::UDPZeroCsumTX(true));
        }
        Some(device)
    }

    fn take(&mut self, attribute: &InfoVxlan) {
        match *attribute {
            InfoVxlan::Id(vni) => self.vni = vni,
            InfoVxlan::Link(index) => self.dev = Some(index),
            InfoVxlan::Local(ip) => self.local = Some(ip.into()),
            InfoVxlan::Local6(ip) => self.local = Some(ip.into()),
            InfoVxlan::Group(ip) => self.peer = Some(ip.into()),
            InfoVxlan::Group6(ip) => self.peer = Some(ip.into()),
            InfoVxlan::Port(port) => self.port = port,
            InfoVxlan::Learning(on) => self.learning = on,
            InfoVxlan::Ttl(ttl) if self.ttl != FromPacket::Inherit => self.ttl = FromPacket::Value(ttl),
            InfoVxlan::TtlInheritFlag | InfoVxlan::TtlInherit(1) => self.ttl = FromPacket::Inherit,
            InfoVxlan::Tos(TOS_INHERIT) => self.tos = FromPacket::Inherit,
            InfoVxlan::Tos(tos) => self.tos = FromPacket::Value(tos),
            InfoVxlan::Df(VxlanDf::Set) => self.df = Df::Set,
            InfoVxlan::Df(VxlanDf::Inherit) => self.df = Df::Inherit,
            InfoVxlan::UDPCsum(on) => self.udp_csum = on,
            InfoVxlan::Gbp => self.gbp = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(device: &Vxlan) -> Vxlan {
        let Kind::Device(made) = device.kind() else { panic!("a device") };
        Vxlan::of(&made.link(), device.ipv6).expect("a VXLAN device")
    }

    #[test]
    fn every_parameter_is_read_back() {
        let v4 = Vxlan {
            vni: 0x00ff_ffff,
            dev: Some(7),
            local: Some([192, 0, 2, 1].into()),
            peer: Some([239, 1, 1, 1].into()),
            ipv6: false,
            port: 4789,
            learning: true,
            ttl: FromPacket::Value(64),
            tos: FromPacket::Inherit,
            df: Df::Inherit,
            udp_csum: false,
            gbp: true,
        };
        assert_eq!(read_back(&v4), v4);
        let v6 = Vxlan {
            local: None,
            peer: Some("2001:db8::1".parse().expect("an address")),
            ipv6: true,
            learning: false,
            ttl: FromPacket::Inherit,
            tos: FromPacket::Value(32),
            df: Df::Unset,
            udp_csum: true,
            ..v4
        };
        assert_eq!(read_back(&v6), v6);
    }

    #[test]
    fn another_device_is_none() {
        assert_eq!(Vxlan::of(&Link::default(), false), None);
    }
}
