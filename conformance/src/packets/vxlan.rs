//! What a VXLAN packet carries (RFC 7348, section 5).

use std::net::IpAddr;

use super::{Body, Frame};

/// A frame on its way through an underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The other end that it goes to.
    pub to: IpAddr,
    /// The UDP port that it goes to.
    pub port: u16,
    /// The UDP checksum, 0 for none.
    pub checksum: u16,
    /// The VXLAN network identifier.
    pub vni: u32,
    /// The frame itself.
    pub frame: Frame,
}

impl Frame {
    /// The frame in this one, if it is a VXLAN packet to whichever port.
    pub fn carried(&self) -> Option<Carried> {
        const UDP: u8 = 17;
        /// The VNI is valid.
        const FLAG_I: u8 = 8;
        let Body::Ip { to, protocol: UDP, payload, .. } = &self.body else { return None };
        let number = |at: usize| Some(u16::from_be_bytes(payload.get(at..at + 2)?.try_into().ok()?));
        let header = payload.get(8..16)?;
        let frame = Self::parse(payload.get(16..)?, None)?;
        let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
        (header[0] & FLAG_I != 0).then_some(Carried { to: *to, port: number(2)?, checksum: number(6)?, vni, frame })
    }

    /// Whether it is a VXLAN packet that carries an ARP message or a neighbour solicitation.
    pub fn carries_a_question(&self) -> bool {
        const SOLICITATION: u8 = 135;
        self.carried()
            .is_some_and(|inner| matches!(inner.frame.body, Body::Arp { .. }) || inner.frame.is_icmpv6(SOLICITATION))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::packets::arp_request;

    #[test]
    fn the_carried_frame_is_taken_apart() {
        let inner = arp_request([2, 0, 0, 0, 0, 7], Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST);
        let mut payload = vec![0xc0, 0, 0x12, 0xb5, 0, 0, 0xab, 0xcd, 8, 0, 0, 0, 0x12, 0x34, 0x56, 0];
        payload.extend(&inner);
        let (from, to) = (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::new(192, 0, 2, 2).into());
        let mut outer = Frame::parse(&inner, None).expect("a frame");
        assert_eq!(outer.carried(), None);
        outer.body = Body::Ip { from, to, protocol: 17, payload };
        let carried = outer.carried().expect("a VXLAN packet");
        assert_eq!((carried.port, carried.vni, carried.checksum, carried.to), (4789, 0x0012_3456, 0xabcd, to));
        assert!(carried.frame.announces_v4(Ipv4Addr::LOCALHOST) && outer.carries_a_question());
    }
}
