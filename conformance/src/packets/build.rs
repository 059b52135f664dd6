//! Frames made by hand: what a pod that misbehaves sends, and what a router sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// An Ethernet frame.
pub fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, body: &[u8]) -> Vec<u8> {
    [&to[..], &from[..], &kind.to_be_bytes(), body].concat()
}

/// A broadcast ARP request by `mac` at `sender` for `target`; gratuitous if both are the same.
pub fn arp_request(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, 1];
    body.extend(mac);
    body.extend(sender.octets());
    body.extend([0; 6]);
    body.extend(target.octets());
    ethernet([0xff; 6], mac, ARP, &body)
}

/// An ICMP echo request in a frame whose MACs are the caller's choice.
pub fn echo_request(to: [u8; 6], from: [u8; 6], source: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut icmp = vec![8, 0, 0, 0, 0x70, 0x64, 0, 1];
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0];
    packet.extend(source.octets());
    packet.extend(target.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(icmp);
    ethernet(to, from, IPV4, &packet)
}

/// A UDP packet to everybody on the link, without a checksum, which IPv4 allows.
pub fn udp_broadcast(mac: [u8; 6], source: Ipv4Addr, (from, to): (u16, u16), payload: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = vec![0x45, 0];
    packet.extend(length(28 + payload.len()));
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(source.octets());
    packet.extend([0xff; 4]);
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(from.to_be_bytes());
    packet.extend(to.to_be_bytes());
    packet.extend(length(8 + payload.len()));
    packet.extend([0, 0]);
    packet.extend(payload);
    ethernet([0xff; 6], mac, IPV4, &packet)
}

/// A router advertisement by `mac` that offers itself as default router and `prefix`/64 for autoconfiguration.
pub fn router_advertisement(mac: [u8; 6], prefix: Ipv6Addr) -> Vec<u8> {
    // Type, code, checksum, hop limit 64, flags, router lifetime 1800 s, reachable and retransmission time.
    let mut body = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    body.extend([1, 1]);
    body.extend(mac);
    // Prefix information: on-link and autonomous, both lifetimes 3600 s.
    body.extend([3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0]);
    body.extend(prefix.octets());
    icmpv6(mac, link_local(mac), body)
}

/// An unsolicited neighbour advertisement by `mac` for `ip`, to all nodes, with the override flag.
pub fn unsolicited_na(mac: [u8; 6], ip: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    body.extend(ip.octets());
    body.extend([2, 1]);
    body.extend(mac);
    icmpv6(mac, ip, body)
}

/// The link-local address that belongs to a MAC (RFC 4291, appendix A).
fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[8..11].copy_from_slice(&mac[..3]);
    octets[8] ^= 2;
    octets[11..13].copy_from_slice(&[0xff, 0xfe]);
    octets[13..].copy_from_slice(&mac[3..]);
    octets.into()
}

fn icmpv6(mac: [u8; 6], source: Ipv6Addr, mut body: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a message made here is short");
    let pseudo =
        [&source.octets()[..], &ALL_NODES.octets(), &u32::from(length).to_be_bytes(), &[0, 0, 0, 58], &body].concat();
    let sum = checksum(&pseudo);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    // Hop limit 255: a neighbour-discovery message with less has been forwarded and is ignored.
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([58, 255]);
    packet.extend(source.octets());
    packet.extend(ALL_NODES.octets());
    packet.extend(body);
    ethernet(ALL_NODES_MAC, mac, IPV6, &packet)
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default())).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

/// An ICMP or `ICMPv6` echo request without its IP header; the kernel adds the checksum of the latter.
pub(super) fn echo(target: IpAddr, id: u16, sequence: u16, size: usize) -> Vec<u8> {
    let kind = if target.is_ipv4() { 8 } else { 128 };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(id.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.resize(8 + size, 0x5a);
    if target.is_ipv4() {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_message_with_its_checksum_is_zero() {
        let message = echo(Ipv4Addr::LOCALHOST.into(), 7, 1, 3);
        assert_eq!(checksum(&message), 0);
    }

    #[test]
    fn the_link_local_address_flips_the_universal_bit() {
        let address = link_local([0x02, 0, 0, 0, 0, 7]);
        assert_eq!(address.to_string(), "fe80::ff:fe00:7");
    }
}
