//! Echo requests from inside a namespace.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

use super::build::echo;
use crate::lab::Space;
use crate::sys;

/// How to ping.
#[derive(Clone, Copy, Debug)]
pub struct Ping {
    /// How many requests.
    pub count: u16,
    /// How long to wait for each reply.
    pub timeout: Duration,
    /// Bytes after the ICMP header.
    pub size: usize,
    /// Forbid fragments, so that a packet larger than the path's MTU is an error.
    pub dont_fragment: bool,
    /// The kernel's priority of the packets (`SO_PRIORITY`).
    pub priority: i32,
    /// Over how many routers it may go, plus one (TTL, hop limit); the kernel's default if absent.
    pub ttl: Option<u8>,
}

impl Default for Ping {
    /// One request of 56 bytes, one second.
    fn default() -> Self {
        Self { count: 1, timeout: Duration::from_secs(1), size: 56, dont_fragment: false, priority: 0, ttl: None }
    }
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Pings {
    /// Requests sent.
    pub sent: u16,
    /// Round-trip time of each that was answered.
    pub times: Vec<Duration>,
}

impl Ping {
    /// Pings `target` from inside `space`. An unreachable network or a packet too large counts as unanswered.
    pub fn run(self, space: &Space, target: IpAddr) -> Result<Pings> {
        let pings = space.ns.run(|| self.inside(target))?;
        pings.with_context(|| format!("ping {target} from {:?}", space.name))
    }

    /// Sends the requests `apart` from each other, the first after that time, whatever becomes of those before, and gives
    /// the number of those that are never answered: not within `timeout` after the last one either.
    pub fn lost(self, space: &Space, target: IpAddr, apart: Duration) -> Result<usize> {
        let lost = space.ns.run(|| {
            let socket = self.socket(target)?;
            let id = id(&socket);
            let mut answered = BTreeSet::new();
            let mut collect = |end: Instant| -> Result<usize> {
                while answered.len() < usize::from(self.count)
                    && let Some(sequence) = next_reply(&socket, target, id, end)?
                {
                    answered.insert(sequence);
                }
                Ok(answered.len())
            };
            for sequence in 1..=self.count {
                collect(Instant::now() + apart)?;
                match socket.send_to(&echo(target, id, sequence, self.size), &SocketAddr::new(target, 0).into()) {
                    Err(e) if !is_answer_no(&e) => return Err(e).context("send"),
                    _ => {}
                }
            }
            Ok(usize::from(self.count) - collect(Instant::now() + self.timeout)?)
        })?;
        lost.with_context(|| format!("pings to {target} from {:?}", space.name))
    }

    fn inside(self, target: IpAddr) -> Result<Pings> {
        let socket = self.socket(target)?;
        let id = id(&socket);
        let mut pings = Pings::default();
        for sequence in 1..=self.count {
            let message = echo(target, id, sequence, self.size);
            let start = Instant::now();
            pings.sent += 1;
            match socket.send_to(&message, &SocketAddr::new(target, 0).into()) {
                Ok(_) => {}
                Err(e) if is_answer_no(&e) => continue,
                Err(e) => return Err(e).context("send"),
            }
            if await_reply(&socket, target, (id, sequence), start + self.timeout)? {
                pings.times.push(start.elapsed());
            }
        }
        Ok(pings)
    }

    fn socket(self, target: IpAddr) -> Result<Socket> {
        let (domain, protocol) = match target {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol)).context("raw socket")?;
        sys::set_option(&socket, libc::SOL_SOCKET, libc::SO_PRIORITY, self.priority)?;
        if self.dont_fragment {
            let (level, name) = match target {
                IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
                IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
            };
            sys::set_option(&socket, level, name, libc::IP_PMTUDISC_DO)?;
        }
        if let Some(ttl) = self.ttl {
            let (level, name) = match target {
                IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TTL),
                IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
            };
            sys::set_option(&socket, level, name, ttl.into())?;
        }
        Ok(socket)
    }
}

/// The kernel's ways to say that nothing will come back.
fn is_answer_no(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::EMSGSIZE
                | libc::ENETDOWN
                | libc::EADDRNOTAVAIL
                | libc::EACCES
                // A device that drops it may say so.
                | libc::ENOBUFS
        )
    )
}

/// Raw sockets see the replies to everybody's requests; the id tells a socket's own.
fn id(socket: &Socket) -> u16 {
    let [.., high, low] = (std::process::id() ^ socket.as_raw_fd().unsigned_abs().rotate_left(8)).to_be_bytes();
    u16::from_be_bytes([high, low])
}

fn await_reply(socket: &Socket, target: IpAddr, (id, wanted): (u16, u16), end: Instant) -> Result<bool> {
    while let Some(sequence) = next_reply(socket, target, id, end)? {
        if sequence == wanted {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The sequence number of the next reply to a request with this id, if one comes before `end`.
fn next_reply(socket: &Socket, target: IpAddr, id: u16, end: Instant) -> Result<Option<u16>> {
    let mut buffer = vec![0; 65536];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        let length = match (&*socket).read(&mut buffer) {
            Ok(length) => length,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => continue,
            // An unreachable network says so here too; the next reply may come all the same.
            Err(e) if is_answer_no(&e) => continue,
            Err(e) => return Err(e).context("receive"),
        };
        let bytes = &buffer[..length];
        // IPv4 raw sockets give the IP header too.
        let start = if target.is_ipv4() { usize::from(bytes[0] & 0x0f) * 4 } else { 0 };
        let reply = if target.is_ipv4() { 0 } else { 129 };
        let message = bytes.get(start..).unwrap_or_default();
        if let [kind, _, _, _, a, b, c, d, ..] = message
            && *kind == reply
            && u16::from_be_bytes([*a, *b]) == id
        {
            return Ok(Some(u16::from_be_bytes([*c, *d])));
        }
    }
}

/// Succeeds as soon as `target` answers `space`. The first few requests may be lost: to address resolution, and to links
/// that the kernel's link watch, which works once a second, has not started yet.
pub fn reaches(space: &Space, target: IpAddr) -> Result<Duration> {
    let ping = Ping { timeout: Duration::from_millis(100), ..Ping::default() };
    for _ in 0..40 {
        let pings = ping.run(space, target)?;
        if let Some(time) = pings.times.first() {
            return Ok(*time);
        }
    }
    bail!("{target} does not answer {:?}: 40 pings, 0.1 s each", space.name)
}

/// Succeeds if `target` answers `space` not once in three requests. Only with a control ping beside it is this a proof.
pub fn isolated(space: &Space, target: IpAddr) -> Result<()> {
    let ping = Ping { count: 3, timeout: Duration::from_millis(300), ..Ping::default() };
    let pings = ping.run(space, target)?;
    if !pings.times.is_empty() {
        bail!("{target} answers {:?}, which it should not", space.name);
    }
    Ok(())
}
