//! TCP and UDP between namespaces, for what pings do not show: which address the other side sees.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::lab::Space;

const LIMIT: Duration = Duration::from_secs(5);

/// Connects from `client` to `address` in `server`, sends a few bytes each way, and gives the client's address as the
/// server sees it.
pub fn peer_seen_by_tcp(server: &Space, address: IpAddr, client: &Space) -> Result<IpAddr> {
    let listener = server.ns.run(|| TcpListener::bind((address, 0)))?.context("tcp: listen")?;
    let at = listener.local_addr()?;
    std::thread::scope(|scope| {
        let served = scope.spawn(move || -> Result<IpAddr> {
            let (mut stream, from) = accept(&listener)?;
            stream.set_read_timeout(Some(LIMIT))?;
            let mut bytes = [0; 4];
            stream.read_exact(&mut bytes).context("tcp: server reads")?;
            stream.write_all(&bytes).context("tcp: server writes")?;
            Ok(from.ip())
        });
        let called = client.ns.run(|| call(at))?;
        let seen = served.join().unwrap_or_else(|_| Err(anyhow!("tcp: the server panicked")));
        called.with_context(|| format!("tcp from {:?} to {at}", client.name))?;
        seen
    })
}

fn accept(listener: &TcpListener) -> Result<(TcpStream, SocketAddr)> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(LIMIT).context("poll timeout")?;
    ensure!(poll(&mut fds, limit)? > 0, "tcp: nobody connected within {LIMIT:?}");
    listener.accept().context("tcp: accept")
}

fn call(at: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&at, LIMIT).context("connect")?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"ping").context("write")?;
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).context("read")?;
    ensure!(&bytes == b"ping", "got {bytes:?} back");
    Ok(())
}

/// Sends a datagram from `client` to `address` in `server`, and gives the client's address as the server sees it.
pub fn peer_seen_by_udp(server: &Space, address: IpAddr, client: &Space) -> Result<IpAddr> {
    let socket = server.ns.run(|| UdpSocket::bind((address, 0)))?.context("udp: bind")?;
    socket.set_read_timeout(Some(LIMIT))?;
    let at = socket.local_addr()?;
    let any: IpAddr =
        if address.is_ipv4() { std::net::Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let sent = client.ns.run(|| UdpSocket::bind((any, 0))?.send_to(b"ping", at))?;
    sent.with_context(|| format!("udp from {:?} to {at}", client.name))?;
    let (_, from) = socket.recv_from(&mut [0; 16]).context("udp: nothing came")?;
    Ok(from.ip())
}
