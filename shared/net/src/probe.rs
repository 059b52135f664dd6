//! Whether somebody else on a link's network has an address: ARP probes (RFC 5227, section 2.1) and the neighbour
//! solicitations of duplicate-address detection (RFC 4862, section 5.4).
//!
//! Neither says that the sender has the address: who gets one learns nothing from it, and no cache is changed.
#![expect(
    clippy::cast_possible_truncation,
    reason = "the C library's constants have other widths than its fields; lengths and sums here fit what they are cut to"
)]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, bind, recvfrom, sendto, socket,
    },
};
use podwire_spec::Mac;
use podwire_trace::step;

use crate::{Errno, Error, Link, Result, Termination, termination::Woken};

/// How often each is asked for: as often as RFC 5227 does (`PROBE_NUM`). A frame may be lost, and the first ones are where a
/// switch has not taken the link into service.
const ROUNDS: u32 = 3;
/// Larger than what is looked for.
const FRAME: usize = 256;
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// A packet socket on a link.
#[derive(Debug)]
pub struct Prober {
    socket: OwnedFd,
    index: u32,
    mac: Mac,
    name: String,
}

impl Prober {
    /// A prober on `link`, which is of the calling thread's namespace and up.
    ///
    /// # Errors
    /// EOPNOTSUPP for a link without MAC address; EPERM without `CAP_NET_RAW`.
    pub fn open(link: &Link) -> Result<Self> {
        let failed = |errno| Error::new(format!("link {:?}", link.name), "probe", errno);
        let mac = link.mac.ok_or_else(|| failed(Errno::EOPNOTSUPP))?;
        // Without a protocol nothing is received until it is bound.
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
                .map_err(failed)?;
        let prober = Self { socket, index: link.index, mac, name: link.name.clone() };
        bind(prober.socket.as_raw_fd(), &address(prober.index)).map_err(failed)?;
        Ok(prober)
    }

    /// Who else has each of `ips`; one answer for each. Waits for all of `wait` unless everyone has answered before.
    ///
    /// # Errors
    /// EINTR if the process is to end; those of sending and receiving.
    pub fn who_has(&self, ips: &[IpAddr], wait: Duration, termination: &Termination) -> Result<Vec<Option<Mac>>> {
        step("ask who has", || format!("{ips:?}"), Error::why, || self.ask(ips, wait, termination))
    }

    fn ask(&self, ips: &[IpAddr], wait: Duration, termination: &Termination) -> Result<Vec<Option<Mac>>> {
        let mut answers = vec![None; ips.len()];
        let start = Instant::now();
        for round in 1..=ROUNDS {
            for (ip, _) in ips.iter().zip(&answers).filter(|(_, answer)| answer.is_none()) {
                self.send(&question(self.mac, *ip))?;
            }
            let end = start + wait * round / ROUNDS;
            while answers.contains(&None) {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    // Not left to the wait, which always finds something where frames come faster than they are read.
                    break;
                }
                match termination.wait(self.socket.as_fd(), Some(left))? {
                    Woken::Ready => self.receive(ips, &mut answers)?,
                    Woken::TimeOver => break,
                    Woken::Terminated => return Err(self.failed(Errno::EINTR)),
                }
            }
        }
        Ok(answers)
    }

    fn send(&self, frame: &[u8]) -> Result<()> {
        match sendto(self.socket.as_raw_fd(), frame, &address(self.index), MsgFlags::empty()) {
            // A queue that is full for a moment; there is another round.
            Ok(_) | Err(Errno::ENOBUFS | Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(self.failed(errno)),
        }
    }

    fn receive(&self, ips: &[IpAddr], answers: &mut [Option<Mac>]) -> Result<()> {
        let mut buffer = [0; FRAME];
        let (length, from) = match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
            received => received.map_err(|errno| self.failed(errno))?,
        };
        let is_own = from.is_some_and(|from| from.pkttype() == libc::PACKET_OUTGOING);
        if let Some((ip, mac)) = claim(&buffer[..length]).filter(|_| !is_own) {
            for (_, answer) in ips.iter().zip(answers).filter(|(asked, answer)| **asked == ip && answer.is_none()) {
                *answer = Some(mac);
            }
        }
        Ok(())
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::new(format!("link {:?}", self.name), "probe", errno)
    }
}

/// The link as a packet socket knows it (packet(7)), for frames of every protocol.
fn address(index: u32) -> LinkAddr {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).ok();
    // SAFETY: the pointer is to a local that outlives the call, and the length is its own.
    #[expect(unsafe_code, reason = "there is no other way to such an address")]
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), length) };
    address.unwrap_or_else(|| unreachable!("family and length are right"))
}

/// The frame that asks who has `ip`.
fn question(mac: Mac, ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => {
            // Ethernet, IPv4, their lengths, request; a sender without an address.
            let head = [0, 1, 8, 0, 6, 4, 0, 1];
            [&[0xff; 6][..], &mac.0, &ARP, &head, &mac.0, &[0; 4], &[0; 6], &ip.octets()].concat()
        }
        IpAddr::V6(ip) => {
            let last = ip.octets();
            // The solicited-node multicast address (RFC 4291, section 2.7.1) and its MAC address (RFC 2464).
            let mut group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).octets();
            group[13..].copy_from_slice(&last[13..]);
            let to = [&[0x33, 0x33][..], &group[12..]].concat();
            let mut message = [&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0][..], &last].concat();
            let length = [0, message.len() as u8];
            let sum = checksum(&[&[0; 16][..], &group, &[0, 0], &length, &[0, 0, 0, ICMPV6], &message].concat());
            message[2..4].copy_from_slice(&sum);
            // Hop limit 255: neighbour discovery with less has come through a router.
            [&to[..], &mac.0, &IPV6, &[0x60, 0, 0, 0], &length, &[ICMPV6, 255], &[0; 16], &group, &message].concat()
        }
    }
}

/// The address that the sender of a frame has or is about to take, and the sender's MAC address.
fn claim(frame: &[u8]) -> Option<(IpAddr, Mac)> {
    let body = frame.get(14..)?;
    let mac = |bytes: &[u8]| bytes.try_into().ok().map(Mac);
    if frame[12..14] == ARP && body.starts_with(&[0, 1, 8, 0, 6, 4]) {
        let ip = |at: usize| body.get(at..at + 4)?.try_into().ok().map(|bytes: [u8; 4]| Ipv4Addr::from(bytes));
        let (sender, target) = (ip(14)?, ip(24)?);
        // Without an address of its own it probes, as we do.
        let claimed = if sender.is_unspecified() { target } else { sender };
        return Some((claimed.into(), mac(&body[8..14])?));
    }
    let (header, message) = body.split_at_checked(40)?;
    if frame[12..14] != IPV6 || header[6..8] != [ICMPV6, 255] {
        return None;
    }
    let target: [u8; 16] = message.get(8..24)?.try_into().ok()?;
    let claims = match message[0] {
        ADVERTISEMENT => true,
        // From nobody: duplicate-address detection, as ours.
        SOLICITATION => header[8..24] == [0; 16],
        _ => false,
    };
    claims.then_some((Ipv6Addr::from(target).into(), mac(&frame[6..12])?))
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    (!(sum as u16)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn a_link_is_addressed_by_its_number() {
        let address = address(0x0102_0304);
        assert_eq!((address.ifindex(), address.halen()), (0x0102_0304, 0));
        assert_eq!(address.protocol().to_be(), libc::ETH_P_ALL as u16, "frames of every protocol");
        assert_eq!(address.len() as usize, size_of::<libc::sockaddr_ll>());
    }

    #[test]
    fn a_probe_of_ipv4_claims_what_it_asks_for_and_no_more() {
        let ip = "10.1.0.2".parse().unwrap();
        let frame = question(OWN, ip);
        assert_eq!((frame.len(), &frame[..6]), (42, &[0xff; 6][..]));
        assert_eq!(frame[28..32], [0; 4], "the sender's address: RFC 5227");
        assert_eq!(claim(&frame), Some((ip, OWN)), "to another prober it is a claim");
    }

    #[test]
    fn a_probe_of_ipv6_is_that_of_duplicate_address_detection() {
        let ip: IpAddr = "fd00::12:3456".parse().unwrap();
        let frame = question(OWN, ip);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(frame[38..54], "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap().octets());
        let pseudo = [&frame[22..54], &[0, 0, 0, 24, 0, 0, 0, 58], &frame[54..]].concat();
        assert_eq!(checksum(&pseudo), [0, 0], "the sum over a message with its sum");
        assert_eq!(claim(&frame), Some((ip, OWN)));
    }

    #[test]
    fn an_answer_names_who_has_the_address() {
        let other = Mac([2, 0, 0, 0, 0, 7]);
        let mut reply = question(other, "10.1.0.9".parse().unwrap());
        reply[21] = 2;
        reply[28..32].copy_from_slice(&[10, 1, 0, 2]);
        assert_eq!(claim(&reply), Some(("10.1.0.2".parse().unwrap(), other)));
        let mut advertisement = question(other, "fd00::2".parse().unwrap());
        advertisement[54] = ADVERTISEMENT;
        advertisement[22] = 0xfd;
        assert_eq!(claim(&advertisement), Some(("fd00::2".parse().unwrap(), other)));
        // Somebody with an address of its own looks for its neighbour.
        advertisement[54] = SOLICITATION;
        assert_eq!(claim(&advertisement), None);
    }

    #[test]
    fn a_frame_that_is_cut_short_or_forwarded_is_no_answer() {
        for ip in ["10.1.0.2", "fd00::2"] {
            let frame = question(OWN, ip.parse().unwrap());
            for cut in 0..frame.len() {
                assert_eq!(claim(&frame[..cut]), None, "{ip} cut to {cut}");
            }
        }
        let mut forwarded = question(OWN, "fd00::2".parse().unwrap());
        forwarded[21] = 254;
        assert_eq!(claim(&forwarded), None);
    }
}
