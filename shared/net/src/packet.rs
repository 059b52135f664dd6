//! UDP for a link that has no address yet: whole IP packets, by a packet socket (packet(7)).

use std::io;

use nix::libc;
use socket2::{Domain, SockAddr, SockAddrStorage, SockFilter, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use crate::{Error, Netns, Result};

/// A socket of one link that sends whole IPv4 packets to everybody on its network, and receives the few of one
/// conversation; the kernel passes over all others.
#[derive(Debug)]
pub struct PacketSocket {
    /// No UDP socket in truth; what tokio does to receive is the same for both.
    socket: UdpSocket,
    everybody: SockAddr,
    name: String,
}

impl PacketSocket {
    /// Opens one in `ns` for the link with this index. What it receives are the packets to UDP `port` that carry `word`
    /// as the second 32 bits of their content, as a DHCP message does its transaction number. Call it in a tokio
    /// runtime.
    ///
    /// # Errors
    /// EPERM without `CAP_NET_RAW`, ENODEV where there is no such link.
    pub fn open(ns: &Netns, index: u32, port: u16, word: u32) -> Result<Self> {
        let name = format!("packet socket of link number {index} in {}", ns.name());
        let open = || {
            // Without a protocol it receives nothing: the filter is there before the first packet.
            let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), None)?;
            socket.attach_filter(&filter(port, word))?;
            socket.bind(&address(index))?;
            io::Result::Ok(socket)
        };
        let socket = ns.run(open)?.and_then(|socket| UdpSocket::from_std(socket.into()));
        let socket = socket.map_err(|error| Error::io(&name, "open", &error))?;
        Ok(Self { socket, everybody: address(index), name })
    }

    /// Sends an IPv4 packet in a broadcast frame.
    ///
    /// # Errors
    /// ENETDOWN where the link is down, ENXIO where it is no more.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        match SockRef::from(&self.socket).send_to(packet, &self.everybody) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::io(&self.name, "send", &error)),
        }
    }

    /// Waits for a packet, puts its beginning into `buffer` and tells how long that is.
    ///
    /// # Errors
    /// ENETDOWN where the link went down.
    pub async fn receive(&self, buffer: &mut [u8]) -> Result<usize> {
        self.socket.recv(buffer).await.map_err(|error| Error::io(&self.name, "receive", &error))
    }
}

/// The filter (classic BPF, `Documentation/networking/filter.rst`): UDP, no fragment but a whole packet, to `port`, and
/// `word` at its place. What it loads is what stands behind the link's header.
fn filter(port: u16, word: u32) -> [SockFilter; 11] {
    const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const BEHIND_X: u16 = 0x20; // BPF_ABS to BPF_IND
    const X_IS_HEADER_LENGTH: u16 = 0xb1; // BPF_LDX | BPF_B | BPF_MSH
    const IS: u16 = 0x15; // BPF_JMP | BPF_JEQ
    const HAS: u16 = 0x45; // BPF_JMP | BPF_JSET
    const RETURN: u16 = 0x06;
    const UDP: u32 = libc::IPPROTO_UDP.unsigned_abs();
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 9),
        SockFilter::new(IS, 0, 8, UDP),
        // Further fragments, and first ones: none of DHCP's messages has to be cut.
        SockFilter::new(LOAD_HALF, 0, 0, 6),
        SockFilter::new(HAS, 6, 0, 0x3fff),
        SockFilter::new(X_IS_HEADER_LENGTH, 0, 0, 0),
        SockFilter::new(LOAD_HALF + BEHIND_X, 0, 0, 2),
        SockFilter::new(IS, 0, 3, port.into()),
        SockFilter::new(LOAD_WORD + BEHIND_X, 0, 0, 8 + 4),
        SockFilter::new(IS, 0, 1, word),
        SockFilter::new(RETURN, 0, 0, 0xffff),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// The address of everybody on a link's network, for IPv4. To bind to it is to bind to the link.
fn address(index: u32) -> SockAddr {
    let everybody = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET.unsigned_abs().try_into().unwrap_or_default(),
        sll_protocol: u16::try_from(libc::ETH_P_IP).unwrap_or_default().to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    };
    let mut storage = SockAddrStorage::zeroed();
    let length = size_of_val(&everybody).try_into().unwrap_or_default();
    #[expect(unsafe_code, reason = "no crate makes this kind of address in safe code")]
    // SAFETY: the storage is larger than every address and aligned for each; `sockaddr_ll` is one, of this length.
    unsafe {
        *storage.view_as::<libc::sockaddr_ll>() = everybody;
        SockAddr::new(storage, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_that_of_its_link() {
        let one = address(1);
        assert_eq!(i32::from(one.family()), libc::AF_PACKET);
        assert_eq!(one.len() as usize, size_of::<libc::sockaddr_ll>());
        assert!(one == address(1) && one != address(2));
    }
}
