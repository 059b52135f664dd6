//! A frame taken apart, as far as the tests look into one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::lab::mac_text;

/// The Ethernet broadcast address.
pub const BROADCAST: &str = "ff:ff:ff:ff:ff:ff";

/// An Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Destination MAC.
    pub to: String,
    /// Source MAC.
    pub from: String,
    /// Its VLAN tags, the outermost first.
    pub tags: Vec<Tag>,
    /// The number in the outermost tag, if there is one.
    pub vlan: Option<u16>,
    /// What it carries.
    pub body: Body,
}

/// A VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// `EtherType`: [`Tag::Q`] or [`Tag::AD`].
    pub protocol: u16,
    /// 0 to 7.
    pub priority: u8,
    /// The VLAN, 0 to 4095.
    pub id: u16,
}

impl Tag {
    /// IEEE 802.1Q.
    pub const Q: u16 = 0x8100;
    /// IEEE 802.1ad.
    pub const AD: u16 = 0x88a8;

    /// From the two halves of its 32 bits.
    pub fn new(protocol: u16, control: u16) -> Self {
        Self { protocol, priority: (control >> 13) as u8, id: control & 0x0fff }
    }
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// ARP over Ethernet for IPv4 (RFC 826).
    Arp {
        /// 1 request, 2 reply.
        operation: u16,
        /// Sender's MAC as it says.
        sender_mac: String,
        /// Sender's address as it says.
        sender: Ipv4Addr,
        /// Whose MAC is asked for.
        target: Ipv4Addr,
    },
    /// An IP packet of either version.
    Ip {
        /// Source address.
        from: IpAddr,
        /// Destination address.
        to: IpAddr,
        /// 1 ICMP, 6 TCP, 17 UDP, 58 `ICMPv6`.
        protocol: u8,
        /// The bytes after the IP header.
        payload: Vec<u8>,
    },
    /// Anything else, or something cut short.
    Other(u16),
}

impl Frame {
    /// Takes `bytes` apart; `tag` is the outermost one, where the kernel took it out of it already.
    pub fn parse(bytes: &[u8], tag: Option<Tag>) -> Option<Self> {
        let to = mac_text(bytes.get(0..6)?);
        let from = mac_text(bytes.get(6..12)?);
        let mut kind = number(bytes, 12)?;
        let mut rest = bytes.get(14..)?;
        let mut tags = Vec::from_iter(tag);
        while [Tag::Q, Tag::AD].contains(&kind) {
            tags.push(Tag::new(kind, number(rest, 0)?));
            kind = number(rest, 2)?;
            rest = rest.get(4..)?;
        }
        let body = match kind {
            0x0806 => arp(rest),
            0x0800 => ipv4(rest),
            0x86dd => ipv6(rest),
            _ => None,
        };
        let body = body.unwrap_or(Body::Other(kind));
        Some(Self { to, from, vlan: tags.first().map(|tag| tag.id), tags, body })
    }

    /// A gratuitous ARP, request or reply, for `ip`.
    pub fn announces_v4(&self, ip: Ipv4Addr) -> bool {
        matches!(&self.body, Body::Arp { sender, target, .. } if *sender == ip && *target == ip) && self.to == BROADCAST
    }

    /// An unsolicited neighbour advertisement for `ip` to all nodes, with the override flag, so that caches take it.
    pub fn announces_v6(&self, ip: Ipv6Addr) -> bool {
        const ADVERTISEMENT: u8 = 136;
        const SOLICITED: u8 = 0x40;
        const OVERRIDE: u8 = 0x20;
        let Body::Ip { to, protocol: 58, payload, .. } = &self.body else {
            return false;
        };
        let flags = payload.get(4).copied().unwrap_or_default();
        payload.first() == Some(&ADVERTISEMENT)
            && payload.get(8..24) == Some(&ip.octets()[..])
            && flags & SOLICITED == 0
            && flags & OVERRIDE != 0
            && *to == IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1))
    }

    /// An `ICMPv6` message of that type.
    pub fn is_icmpv6(&self, kind: u8) -> bool {
        matches!(&self.body, Body::Ip { protocol: 58, payload, .. } if payload.first() == Some(&kind))
    }

    /// An ICMP or `ICMPv6` echo request from `source`.
    pub fn is_echo_request_from(&self, source: IpAddr) -> bool {
        let Body::Ip { from, protocol, payload, .. } = &self.body else {
            return false;
        };
        *from == source && matches!((protocol, payload.first()), (1, Some(8)) | (58, Some(128)))
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn arp(bytes: &[u8]) -> Option<Body> {
    let address = |at: usize| -> Option<Ipv4Addr> {
        let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(octets.into())
    };
    Some(Body::Arp {
        operation: number(bytes, 6)?,
        sender_mac: mac_text(bytes.get(8..14)?),
        sender: address(14)?,
        target: address(24)?,
    })
}

fn ipv4(bytes: &[u8]) -> Option<Body> {
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets).into())
    };
    let header = usize::from(bytes.first()? & 0x0f) * 4;
    Some(Body::Ip {
        from: address(12)?,
        to: address(16)?,
        protocol: *bytes.get(9)?,
        payload: bytes.get(header..)?.to_vec(),
    })
}

fn ipv6(bytes: &[u8]) -> Option<Body> {
    const HOP_BY_HOP: u8 = 0;
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    let (mut protocol, mut start) = (*bytes.get(6)?, 40);
    if protocol == HOP_BY_HOP {
        protocol = *bytes.get(40)?;
        start = 48 + usize::from(*bytes.get(41)?) * 8;
    }
    Some(Body::Ip { from: address(8)?, to: address(24)?, protocol, payload: bytes.get(start..)?.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packets::{arp_request, router_advertisement, unsolicited_na};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    #[test]
    fn an_arp_request_survives_the_round_trip() {
        let ip = Ipv4Addr::new(10, 0, 0, 7);
        let frame = Frame::parse(&arp_request(MAC, ip, ip), None).expect("a frame");
        assert!(frame.announces_v4(ip), "{frame:?}");
        assert!(!frame.announces_v4(Ipv4Addr::new(10, 0, 0, 8)), "{frame:?}");
    }

    #[test]
    fn an_advertisement_that_was_asked_for_is_not_an_announcement() {
        let ip: Ipv6Addr = "fd00::7".parse().expect("an address");
        let bytes = unsolicited_na(MAC, ip);
        assert!(Frame::parse(&bytes, None).expect("a frame").announces_v6(ip));
        let mut solicited = bytes;
        solicited[14 + 40 + 4] |= 0x40;
        assert!(!Frame::parse(&solicited, None).expect("a frame").announces_v6(ip));
    }

    #[test]
    fn a_tag_is_read_from_the_frame_and_from_beside_it() {
        let bytes = router_advertisement(MAC, "fd00:1::".parse().expect("a prefix"));
        let mut tagged = bytes.clone();
        tagged.splice(12..12, [0x81, 0x00, 0x00, 0x64]);
        let hundred = Tag { protocol: Tag::Q, priority: 0, id: 100 };
        assert_eq!(Frame::parse(&tagged, None).expect("a frame").tags, [hundred]);
        let beside = Frame::parse(&bytes, Some(hundred)).expect("a frame");
        assert_eq!((beside.vlan, &beside.tags), (Some(100), &vec![hundred]));
        let outer = Tag::new(Tag::AD, 0x6007);
        assert_eq!((outer.priority, outer.id), (3, 7));
        assert_eq!(Frame::parse(&tagged, Some(outer)).expect("a frame").tags, [outer, hundred]);
        assert!(beside.is_icmpv6(134), "{beside:?}");
    }

    #[test]
    fn a_frame_cut_short_is_no_panic() {
        let bytes = arp_request(MAC, Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST);
        for length in 0..bytes.len() {
            let _ = Frame::parse(&bytes[..length], None);
        }
    }
}
