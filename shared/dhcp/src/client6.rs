//! The DHCPv6 client: questions of [`crate::machine6`], asked on sockets, and what routers say.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use futures_util::future::join;
use podwire_net::{Errno, Link, Net, udp_socket, write_sysctl};
use tokio::net::UdpSocket;

use crate::{
    Error, Event, Lease6, Moment, Options6, Place, Result, Router,
    clock::unix_now,
    exchange::{Wire, exchange},
    keep::{Prolonged, Times, Whom, keep, persist},
    machine6::{Goal, Machine6, Outcome, addresses},
    retry::Dice,
};

const SERVER_PORT: u16 = 547;
const CLIENT_PORT: u16 = 546;
/// `All_DHCP_Relay_Agents_and_Servers` (RFC 8415, section 7.1).
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// For how long a server may take to say that it has an address back.
const FAREWELL: Duration = Duration::from_secs(1);

/// A client of DHCPv6 for one link.
#[derive(Clone, Debug)]
pub struct Client6 {
    place: Place,
    options: Options6,
}

impl Client6 {
    /// A client for a link.
    pub fn new(place: Place, options: Options6) -> Self {
        Self { place, options }
    }

    /// Gets a lease, and asks the routers meanwhile: where there are none, that takes three seconds. A link that is down
    /// is set up first, with IPv6, and waited for.
    ///
    /// # Errors
    /// [`Error::Silent`] where no server gave one within `timeouts.total`; [`Error::Gone`]; [`Error::Unsuitable`].
    pub async fn acquire(&self) -> Result<Lease6> {
        self.acquire_within(Vec::new(), self.options.timeouts.total).await
    }

    /// Gets a lease, however long it takes; the `previous` one's addresses where they can be had again.
    ///
    /// # Errors
    /// [`Error::Gone`]. All else is logged and tried again, ever less often.
    pub async fn acquire_at_last(&self, previous: Option<&Lease6>) -> Result<Lease6> {
        let timeouts = self.options.timeouts;
        let wish = previous.map(addresses).unwrap_or_default();
        persist(timeouts, async || self.acquire_within(wish.clone(), timeouts.patience()).await).await
    }

    /// Sleeps until something happens to the lease, and tells: it asks the server to prolong it, then every server, and
    /// at last gives up; and it asks the routers again. No socket is open until there is something to ask.
    ///
    /// # Errors
    /// [`Error::Gone`]. What could pass is logged and tried again while the lease lasts.
    pub async fn next(&self, lease: &Lease6) -> Result<Event<Lease6>> {
        let times = Times { renew: lease.renew, rebind: lease.rebind, expires: lease.expires };
        keep(Shown(lease), times, async |whom, end| self.prolong(lease, whom, end).await).await
    }

    /// Gives the lease back, and waits up to a second for the server to say that it knows.
    ///
    /// # Errors
    /// [`Error::Gone`] or [`Error::Unsuitable`] where there is no way to tell the server any more; the lease ends by
    /// itself then.
    pub async fn release(&self, lease: &Lease6) -> Result<()> {
        let (net, link) = self.place.link()?;
        let own = tokio::time::timeout(FAREWELL, self.link_local(&net, &link)).await.map_err(|_| {
            Error::Unsuitable(format!("link {:?}: it has no link-local address to speak from", link.name))
        })?;
        let goal = Goal::Release(addresses(lease), lease.server.clone());
        self.ask(&net, &link, own?, goal, Moment::now() + FAREWELL).await.map(drop)
    }

    async fn acquire_within(&self, wish: Vec<Ipv6Addr>, wait: Duration) -> Result<Lease6> {
        let (net, link) = self.ready().await?;
        let own = self.link_local(&net, &link).await?;
        let asked = self.ask(&net, &link, own, Goal::Acquire(wish), Moment::now() + wait);
        let (outcome, router) = join(asked, Router::ask(net.ns(), &link)).await;
        match outcome? {
            Outcome::Bound(lease) => Ok(self.completed(*lease, router, None)),
            Outcome::Released => Err(self.silent(wait, Vec::new())),
            Outcome::Refused(words) => Err(self.silent(wait, vec![words])),
            Outcome::Silent(heard) => Err(self.silent(wait, heard)),
        }
    }

    /// One try to prolong the lease; it ends before `end`.
    async fn prolong(&self, lease: &Lease6, whom: Whom, end: Moment) -> Result<Prolonged<Lease6>> {
        let (net, link) = self.place.link()?;
        let own = self.link_local(&net, &link).await?;
        let until = end.min(Moment::now() + self.options.timeouts.request);
        let server = (whom == Whom::ItsServer).then(|| lease.server.clone());
        let asked = self.ask(&net, &link, own, Goal::Prolong(addresses(lease), server), until);
        let (outcome, router) = join(asked, Router::ask(net.ns(), &link)).await;
        Ok(match outcome? {
            Outcome::Bound(renewed) => Prolonged::Bound(self.completed(*renewed, router, lease.router.clone())),
            Outcome::Refused(words) => Prolonged::Refused(words),
            Outcome::Released => Prolonged::Silent(Vec::new()),
            Outcome::Silent(heard) => Prolonged::Silent(heard),
        })
    }

    /// The lease with what a router said, or had said before.
    fn completed(&self, mut lease: Lease6, router: Result<Option<Router>>, before: Option<Router>) -> Lease6 {
        let router = router.unwrap_or_else(|error| {
            tracing::warn!("link {:?}: no router could be asked: {error}", self.place.ifname());
            None
        });
        if let Some(router) = router.or(before) {
            lease.heed(router);
        }
        Lease6 { obtained_at: unix_now(), ..lease }
    }

    /// Asks from the own link-local address.
    async fn ask(&self, net: &Net, link: &Link, own: Ipv6Addr, goal: Goal, until: Moment) -> Result<Outcome> {
        let wire = Wire6::open(net, link, own)?;
        let mut machine = Machine6::new(self.options.clone(), goal, Moment::now(), until, Dice::new());
        exchange(&mut machine, &wire).await
    }

    /// The link, up and with IPv6.
    async fn ready(&self) -> Result<(Net, Link)> {
        let key = format!("ipv6/conf/{}/disable_ipv6", self.place.ifname());
        match self.place.enter()?.run(|| write_sysctl(&key, "0"))? {
            Err(error) if error.is(Errno::ENOENT) => {
                // The kernel has no IPv6, or the namespace no such link; which, is asked next.
                self.place.link()?;
                let name = self.place.ifname();
                return Err(Error::Unsuitable(format!("link {name:?}: DHCPv6 needs IPv6, which this kernel lacks")));
            }
            other => other?,
        }
        self.place.ready().await
    }

    /// The link's own address, once it may be used: neither servers nor routers can be asked before.
    async fn link_local(&self, net: &Net, link: &Link) -> Result<Ipv6Addr> {
        net.wait_for_link_local(link.index).await.map_err(|error| match error.errno {
            Some(Errno::ETIMEDOUT | Errno::EADDRINUSE) => Error::Unsuitable(format!(
                "link {:?}: DHCPv6 needs a link-local address: {error}; is \"addr_gen_mode\" off, or the MAC address in \
                 use elsewhere?",
                link.name
            )),
            _ => error.into(),
        })
    }

    fn silent(&self, waited: Duration, heard: Vec<String>) -> Error {
        Error::Silent { link: self.place.ifname().to_owned(), waited, heard }
    }
}

/// A lease, for messages.
struct Shown<'a>(&'a Lease6);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = self.0.addresses.iter().map(|address| address.cidr.to_string()).collect();
        f.write_str(&all.join(", "))
    }
}

/// The way to all servers and relays of the link.
struct Wire6 {
    udp: UdpSocket,
    to: SocketAddr,
}

impl Wire6 {
    fn open(net: &Net, link: &Link, own: Ipv6Addr) -> Result<Self> {
        let at = |ip, port| SocketAddr::V6(SocketAddrV6::new(ip, port, 0, link.index));
        let udp = udp_socket(net.ns(), &link.name, at(own, CLIENT_PORT))?;
        Ok(Self { udp, to: at(SERVERS, SERVER_PORT) })
    }
}

impl Wire for Wire6 {
    async fn send(&self, message: &[u8]) -> Result<()> {
        let sent = self.udp.send_to(message, self.to).await;
        sent.map_err(|error| podwire_net::Error::io("DHCPv6 servers", "reach", &error))?;
        Ok(())
    }

    async fn receive<'b>(&self, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>> {
        let received = self.udp.recv_from(buffer).await;
        let (length, from) = received.map_err(|error| podwire_net::Error::io("DHCPv6 servers", "hear", &error))?;
        // Servers and relays speak from a link-local address, or, having ours, from any of theirs.
        let is_unicast = matches!(from.ip(), IpAddr::V6(ip) if !ip.is_multicast());
        Ok(is_unicast.then_some(&buffer[..length]))
    }
}
