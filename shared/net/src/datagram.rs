//! Sockets in another namespace that are used from the own one: a socket stays where it was opened.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;

use crate::{Error, Netns, Result};

/// A UDP socket in `ns` with this local address, for the link `ifname` alone. Others may have the same address. Call it
/// in a tokio runtime.
///
/// # Errors
/// EADDRNOTAVAIL where the namespace has no such address, ENODEV where it has no such link.
pub fn udp_socket(ns: &Netns, ifname: &str, local: SocketAddr) -> Result<UdpSocket> {
    let name = || format!("UDP socket at \"{local}\" of link {ifname:?} in {}", ns.name());
    let open = || {
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        socket.bind_device(Some(ifname.as_bytes()))?;
        socket.bind(&local.into())?;
        io::Result::Ok(socket)
    };
    let socket = ns.run(open)?.and_then(|socket| UdpSocket::from_std(socket.into()));
    socket.map_err(|error| Error::io(name(), "open", &error))
}

/// Asks the routers of a link to advertise themselves, and hears them (RFC 4861).
#[derive(Debug)]
pub struct RouterSocket {
    /// A raw one in truth; what tokio does with it is the same for both.
    socket: UdpSocket,
    index: u32,
    name: String,
}

impl RouterSocket {
    /// Opens one in `ns`. What it receives are router advertisements that this very link was sent by a neighbour; the
    /// kernel has verified their checksum. Call it in a tokio runtime.
    ///
    /// # Errors
    /// EPERM without `CAP_NET_RAW`, ENODEV where there is no such link, EAFNOSUPPORT without IPv6.
    pub fn open(ns: &Netns, ifname: &str, index: u32) -> Result<Self> {
        let name = format!("ICMPv6 socket of link {ifname:?} in {}", ns.name());
        let open = || {
            let socket = Socket::new(Domain::IPV6, Type::RAW.nonblocking(), Some(Protocol::ICMPV6))?;
            socket.attach_filter(&advertisements())?;
            socket.bind_device(Some(ifname.as_bytes()))?;
            socket.set_multicast_hops_v6(NEIGHBOUR)?;
            socket.set_multicast_if_v6(index)?;
            io::Result::Ok(socket)
        };
        let socket = ns.run(open)?.and_then(|socket| UdpSocket::from_std(socket.into()));
        let socket = socket.map_err(|error| Error::io(&name, "open", &error))?;
        Ok(Self { socket, index, name })
    }

    /// Sends an ICMPv6 message to all routers; the kernel fills in its checksum.
    ///
    /// # Errors
    /// EADDRNOTAVAIL where the link has no address that is ready, ENETUNREACH where it is down.
    pub async fn send(&self, message: &[u8]) -> Result<()> {
        const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
        let to = SocketAddrV6::new(ALL_ROUTERS, 0, 0, self.index);
        match self.socket.send_to(message, SocketAddr::from(to)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::io(&self.name, "send", &error)),
        }
    }

    /// Waits for an advertisement, puts its beginning, from the ICMPv6 header on, into `buffer`, and tells how long that
    /// is and who sent it.
    ///
    /// # Errors
    /// Of the socket.
    pub async fn receive(&self, buffer: &mut [u8]) -> Result<(usize, IpAddr)> {
        match self.socket.recv_from(buffer).await {
            Ok((length, from)) => Ok((length, from.ip())),
            Err(error) => Err(Error::io(&self.name, "receive", &error)),
        }
    }
}

/// The hop limit of what cannot have been routed; a neighbour takes no other.
const NEIGHBOUR: u32 = 255;

/// The filter (classic BPF, `Documentation/networking/filter.rst`): router advertisements with [`NEIGHBOUR`].
fn advertisements() -> [SockFilter; 6] {
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const IS: u16 = 0x15; // BPF_JMP | BPF_JEQ
    const RETURN: u16 = 0x06;
    /// `SKF_NET_OFF` in `linux/filter.h`: from here on stands the IPv6 header.
    const NETWORK_HEADER: u32 = (-0x10_0000_i32).cast_unsigned();
    const ROUTER_ADVERTISEMENT: u32 = 134;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, NETWORK_HEADER + 7),
        SockFilter::new(IS, 0, 3, NEIGHBOUR),
        SockFilter::new(LOAD_BYTE, 0, 0, 0),
        SockFilter::new(IS, 0, 1, ROUTER_ADVERTISEMENT),
        SockFilter::new(RETURN, 0, 0, 0xffff),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
