//! The DHCPv4 client: questions of [`crate::machine4`], asked on sockets.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use dhcproto::v4::MessageType;
use podwire_net::{IpVlan, Link, Net, PacketSocket, udp_socket};
use tokio::net::UdpSocket;

use crate::{
    Error, Event, Lease4, Moment, Options4, Place, Result,
    clock::unix_now,
    exchange::{Wire, exchange},
    keep::{Prolonged, Times, Whom, keep, persist},
    machine4::{Goal, Machine4, Outcome},
    message4::{Identity, Question},
    retry::Dice,
    udp,
};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// A client of DHCPv4 for one link.
#[derive(Clone, Debug)]
pub struct Client4 {
    place: Place,
    options: Options4,
}

impl Client4 {
    /// A client for a link.
    pub fn new(place: Place, options: Options4) -> Self {
        Self { place, options }
    }

    /// Gets a lease. A link that is down is set up first, and waited for.
    ///
    /// # Errors
    /// [`Error::Silent`] where no server gave one within `timeouts.total`; [`Error::Gone`]; [`Error::Unsuitable`].
    pub async fn acquire(&self) -> Result<Lease4> {
        let (net, link) = self.place.ready().await?;
        self.acquire_on(&net, &link, None, self.options.timeouts.total).await
    }

    /// Gets a lease, however long it takes; the `previous` one's address where it can be had again.
    ///
    /// # Errors
    /// [`Error::Gone`]. All else is logged and tried again, ever less often.
    pub async fn acquire_at_last(&self, previous: Option<&Lease4>) -> Result<Lease4> {
        let timeouts = self.options.timeouts;
        let attempt = async || {
            let (net, link) = self.place.ready().await?;
            self.acquire_on(&net, &link, previous.and_then(own), timeouts.patience()).await
        };
        persist(timeouts, attempt).await
    }

    /// Sleeps until something happens to the lease, and tells: it asks the server to prolong it, then every server, and
    /// at last gives up. No socket is open until there is something to ask.
    ///
    /// # Errors
    /// [`Error::Gone`]. What could pass is logged and tried again while the lease lasts.
    pub async fn next(&self, lease: &Lease4) -> Result<Event<Lease4>> {
        let times = Times { renew: lease.renew, rebind: lease.rebind, expires: lease.expires };
        keep(lease.address, times, async |whom, end| self.prolong(lease, whom, end).await).await
    }

    /// Gives the lease back. The server does not answer: this is one message.
    ///
    /// # Errors
    /// [`Error::Gone`] where there is no way to tell the server any more; the lease ends by itself then.
    pub async fn release(&self, lease: &Lease4) -> Result<()> {
        let Some(own) = own(lease) else { return Ok(()) };
        let (net, link) = self.place.link()?;
        let question = Question {
            kind: MessageType::Release,
            xid: Dice::new().number(),
            secs: 0,
            own: Some(own),
            wanted: None,
            server: Some(lease.server),
        };
        let message = question.encode(&self.identity(&link));
        // A neighbour gets it in a broadcast frame: there may be no time left to ask for its MAC address, since a pod
        // that gives back its lease is about to go. The kernel knows the way to all others.
        let is_neighbour = lease.address.contains(lease.server.into());
        let routed = (!is_neighbour).then_some((own, Some(lease.server)));
        let wire = Wire4 {
            from: SocketAddrV4::new(own, CLIENT_PORT),
            to: SocketAddrV4::new(lease.server, SERVER_PORT),
            ..Wire4::open(&net, &link, question.xid, routed)?
        };
        wire.send(&message).await
    }

    async fn acquire_on(&self, net: &Net, link: &Link, wish: Option<Ipv4Addr>, wait: Duration) -> Result<Lease4> {
        let now = Moment::now();
        let mut machine = self.machine(link, Goal::Acquire(wish), now, now + wait);
        let wire = Wire4::open(net, link, machine.xid(), None)?;
        match exchange(&mut machine, &wire).await? {
            Outcome::Bound(lease) => Ok(stamped(*lease)),
            Outcome::Refused(words) => Err(self.silent(wait, vec![words])),
            Outcome::Silent(heard) => Err(self.silent(wait, heard)),
        }
    }

    /// One try to prolong the lease; it ends before `end`.
    async fn prolong(&self, lease: &Lease4, whom: Whom, end: Moment) -> Result<Prolonged<Lease4>> {
        let Some(own) = own(lease) else { return Ok(Prolonged::Silent(Vec::new())) };
        let (net, link) = self.place.link()?;
        let now = Moment::now();
        let until = end.min(now + self.options.timeouts.request);
        let mut machine = self.machine(&link, Goal::Prolong(own), now, until);
        let server = (whom == Whom::ItsServer).then_some(lease.server);
        let wire = Wire4::open(&net, &link, machine.xid(), Some((own, server)))?;
        Ok(match exchange(&mut machine, &wire).await? {
            Outcome::Bound(lease) => Prolonged::Bound(stamped(*lease)),
            Outcome::Refused(words) => Prolonged::Refused(words),
            Outcome::Silent(heard) => Prolonged::Silent(heard),
        })
    }

    fn machine(&self, link: &Link, goal: Goal, now: Moment, until: Moment) -> Machine4 {
        Machine4::new(self.identity(link), goal, now, until, Dice::new())
    }

    fn identity(&self, link: &Link) -> Identity {
        // Without an address an ipvlan gets only what is broadcast; and as its MAC address is its parent's, a server's
        // answer to that could be for any of its siblings.
        let broadcast = self.options.broadcast || link.kind == IpVlan::KIND;
        Identity { mac: link.mac.unwrap_or(podwire_spec::Mac([0; 6])), broadcast, options: self.options.clone() }
    }

    fn silent(&self, waited: Duration, heard: Vec<String>) -> Error {
        Error::Silent { link: self.place.ifname().to_owned(), waited, heard }
    }
}

/// The lease's address.
fn own(lease: &Lease4) -> Option<Ipv4Addr> {
    match lease.address.ip() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

fn stamped(lease: Lease4) -> Lease4 {
    Lease4 { obtained_at: unix_now(), ..lease }
}

/// The way to servers. All answers come by the packet socket: a refusal is broadcast even to a client that has an address
/// (RFC 2131, section 4.3.2), which a UDP socket that is bound to that address does not get.
struct Wire4 {
    packets: PacketSocket,
    from: SocketAddrV4,
    to: SocketAddrV4,
    /// At the own address. By it the kernel finds the way to a server on another network; and while it is open the kernel
    /// does not answer a server's messages with an error.
    udp: Option<UdpSocket>,
    /// Whether to send by `udp`.
    routed: bool,
}

impl Wire4 {
    /// A wire for the transaction `xid`: to everybody, or from the own address to one server or to everybody.
    fn open(net: &Net, link: &Link, xid: u32, own: Option<(Ipv4Addr, Option<Ipv4Addr>)>) -> Result<Self> {
        let packets = PacketSocket::open(net.ns(), link.index, CLIENT_PORT, xid)?;
        let at = |ip| SocketAddrV4::new(ip, CLIENT_PORT);
        let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
        let Some((own, server)) = own else {
            return Ok(Self { packets, from: at(Ipv4Addr::UNSPECIFIED), to: everybody, udp: None, routed: false });
        };
        // A link that has lost its address is no reason not to ask: everybody is asked then.
        let udp = match udp_socket(net.ns(), &link.name, SocketAddr::V4(at(own))) {
            Ok(udp) => Some(udp),
            Err(error) => {
                tracing::warn!("{error}; everybody is asked");
                None
            }
        };
        let server = server.filter(|_| udp.is_some());
        let to = server.map_or(everybody, |ip| SocketAddrV4::new(ip, SERVER_PORT));
        Ok(Self { packets, from: at(own), to, udp, routed: server.is_some() })
    }
}

impl Wire for Wire4 {
    async fn send(&self, message: &[u8]) -> Result<()> {
        if let Some(udp) = self.udp.as_ref().filter(|_| self.routed) {
            let sent = udp.send_to(message, self.to).await;
            sent.map_err(|error| podwire_net::Error::io(format!("DHCP server \"{}\"", self.to), "reach", &error))?;
            return Ok(());
        }
        Ok(self.packets.send(&udp::wrap(self.from, self.to, message))?)
    }

    async fn receive<'b>(&self, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>> {
        let length = self.packets.receive(buffer).await?;
        match udp::unwrap(&buffer[..length], CLIENT_PORT) {
            Ok((_, message)) => Ok(Some(message)),
            Err(why) => {
                tracing::debug!("passed over: {why}");
                Ok(None)
            }
        }
    }
}
