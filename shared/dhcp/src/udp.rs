//! IPv4 and UDP around a message, for packets that pass the kernel's own by (RFC 791, RFC 768).

use std::net::{Ipv4Addr, SocketAddrV4};

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;

/// A packet with `payload`, of up to 65507 bytes; what is beyond is cut off.
pub(crate) fn wrap(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(usize::from(u16::MAX) - IP_HEADER - UDP_HEADER)];
    let length = |headers: usize| u16::try_from(headers + payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = Vec::with_capacity(IP_HEADER + UDP_HEADER + payload.len());
    // Version 4 and a header of five words; class CS6, network control.
    packet.extend([0x45, 0xc0]);
    packet.extend(length(IP_HEADER + UDP_HEADER));
    // No identification is needed for what may not be fragmented; a TTL of 64 hops; the checksum follows.
    packet.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    let checksum = !sum(0, &packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend(length(UDP_HEADER));
    packet.extend([0, 0]);
    packet.extend(payload);
    let checksum = !sum(pseudo_header(*from.ip(), *to.ip(), length(UDP_HEADER)), &packet[IP_HEADER..]);
    // 0 would say that there is none.
    let checksum = if checksum == 0 { u16::MAX } else { checksum };
    packet[IP_HEADER + 6..IP_HEADER + 8].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// Who sent a packet to UDP `port`, and what is in it.
///
/// # Errors
/// In words, for a packet that is cut off, damaged, a fragment, or something else.
pub(crate) fn unwrap(packet: &[u8], port: u16) -> Result<(SocketAddrV4, &[u8]), &'static str> {
    let word = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let first = *packet.first().ok_or("an empty packet")?;
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < IP_HEADER || packet.len() < header + UDP_HEADER {
        return Err("a packet that is not IPv4, or cut off");
    }
    let total = usize::from(word(packet, 2));
    // Behind it there may be the padding of a short frame.
    if total < header + UDP_HEADER || total > packet.len() {
        return Err("a packet of another length than it says");
    }
    if sum(0, &packet[..header]) != u16::MAX {
        return Err("a packet with a wrong IP checksum");
    }
    if packet[9] != UDP || word(packet, 6) & 0x3fff != 0 {
        return Err("a fragment, or not UDP");
    }
    let ip = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    let (from, to, datagram) = (ip(12), ip(16), &packet[header..total]);
    let length = usize::from(word(datagram, 4));
    if length < UDP_HEADER || length > datagram.len() {
        return Err("a datagram of another length than it says");
    }
    if word(datagram, 2) != port {
        return Err("a datagram to another port");
    }
    let datagram = &datagram[..length];
    let pseudo_header = pseudo_header(from, to, [datagram[4], datagram[5]]);
    let checksum = word(datagram, 6);
    // A sender on this machine leaves the checksum to a device, and between namespaces there is none: then the field
    // holds what the kernel prepared for it, the pseudo-header's sum alone (`CHECKSUM_PARTIAL` in `linux/skbuff.h`).
    if checksum != 0 && checksum != pseudo_header && sum(pseudo_header, datagram) != u16::MAX {
        return Err("a datagram with a wrong checksum");
    }
    Ok((SocketAddrV4::new(from, word(datagram, 0)), &datagram[UDP_HEADER..]))
}

/// The sum of what a UDP checksum takes in besides the datagram.
fn pseudo_header(from: Ipv4Addr, to: Ipv4Addr, length: [u8; 2]) -> u16 {
    let [a, b] = length;
    sum(sum(sum(0, &from.octets()), &to.octets()), &[0, UDP, a, b])
}

/// Adds 16-bit numbers in ones' complement (RFC 1071); an odd byte at the end counts as if a zero followed.
fn sum(start: u16, bytes: &[u8]) -> u16 {
    let mut sum = u64::from(start);
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FROM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 67);
    const TO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);

    #[test]
    fn checksums_are_those_of_rfc_1071() {
        // Both were computed apart from this code, in another language.
        let expected = [
            0x45, 0xc0, 0, 31, 0, 0, 0x40, 0, 64, 17, 0x30, 0x0e, 10, 0, 0, 1, 255, 255, 255, 255, 0, 67, 0, 68, 0, 11,
            0x30, 0xee, b'a', b'b', b'c',
        ];
        assert_eq!(wrap(FROM, TO, b"abc"), expected);
    }

    #[test]
    fn a_checksum_may_be_missing_or_unfinished_but_not_wrong() {
        let whole = wrap(FROM, TO, b"abcd");
        assert_eq!(unwrap(&whole, 68), Ok((FROM, &b"abcd"[..])));
        let with = |checksum: u16| {
            let mut packet = whole.clone();
            packet[26..28].copy_from_slice(&checksum.to_be_bytes());
            packet
        };
        let prepared = pseudo_header(*FROM.ip(), *TO.ip(), [0, 12]);
        for fine in [0, prepared] {
            assert_eq!(unwrap(&with(fine), 68), Ok((FROM, &b"abcd"[..])), "{fine:#x}");
        }
        let right = u16::from_be_bytes([whole[26], whole[27]]);
        for wrong in [1, right ^ 1, right ^ 0x8000, !right, prepared ^ 1] {
            assert!(unwrap(&with(wrong), 68).is_err(), "{wrong:#x}");
        }
    }

    #[test]
    fn padding_behind_a_packet_is_no_part_of_it() {
        let padded = [wrap(FROM, TO, b"abc"), vec![0; 20]].concat();
        assert_eq!(unwrap(&padded, 68), Ok((FROM, &b"abc"[..])));
        assert!(unwrap(&padded, 67).is_err());
    }

    proptest! {
        #[test]
        fn what_is_wrapped_is_unwrapped(payload: Vec<u8>, from: u16) {
            let from = SocketAddrV4::new(*FROM.ip(), from);
            let packet = wrap(from, TO, &payload);
            prop_assert_eq!(unwrap(&packet, 68), Ok((from, &payload[..])));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = unwrap(&bytes, 68);
        }

        #[test]
        fn no_change_of_a_header_makes_it_panic(at in 0_usize..28, byte: u8, cut in 0_usize..40) {
            let mut packet = wrap(FROM, TO, b"0123456789");
            packet[at] = byte;
            let _ = unwrap(&packet[..cut.min(packet.len())], 68);
        }
    }
}
