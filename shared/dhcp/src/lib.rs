//! A DHCP client: a link in a network namespace gets a lease and keeps it.
//!
//! It knows nothing of CNI. [`Client4`] speaks DHCPv4 (RFC 2131), [`Client6`] DHCPv6 (RFC 8415) and listens to routers
//! (RFC 4861). Both have the same three questions:
//!
//! * `acquire`: get a lease;
//! * `next`: sleep until something happens to it, and tell what ([`Event`]);
//! * `release`: give it back.
//!
//! ```no_run
//! # async fn example() -> podwire_dhcp::Result<()> {
//! use podwire_dhcp::{Client4, Event, Options4, Place};
//!
//! let place = Place::new("/run/netns/pod", "eth0")?;
//! let client = Client4::new(place, Options4::new(b"\0container/eth0"));
//! let mut lease = client.acquire().await?;
//! loop {
//!     match client.next(&lease).await? {
//!         // Keep it on disk; make the link follow where `lease` differs.
//!         Event::Renewed(renewed) => lease = renewed,
//!         // Take the address off the link; then try for as long as it takes.
//!         Event::Lost(_) => lease = client.acquire_at_last(Some(&lease)).await?,
//!     }
//! }
//! # }
//! ```
//!
//! Whoever drops a future ends what it did; none can move to another thread (`spawn_local`). Nothing is kept between two
//! calls but what the lease itself says, so a lease that was read from disk by another process is kept on as if nothing had
//! been. A client has sockets, and a handle of the namespace, only while a question is open: a thousand leases that sleep
//! are a thousand timers.
//!
//! Inside: a state machine without I/O or clock for each version (`machine4`, `machine6`), one function that drives it
//! (`exchange`), and sockets of [`podwire_net`]. DHCP's own packets are dhcproto's. The crate mozim, a client of its own,
//! was not used: it opens its sockets in whatever namespace the thread is in when a state is entered, never asks for
//! broadcast answers, which ipvlan needs, and holds timers in file descriptors for as long as a lease sleeps.

mod client4;
mod client6;
mod clock;
mod error;
mod exchange;
mod keep;
mod lease4;
mod lease6;
mod machine4;
mod machine6;
mod message4;
mod message6;
mod names;
mod options;
mod place;
mod ready;
pub mod rehearsal;
mod retry;
mod router;
#[cfg(test)]
mod testing4;
#[cfg(test)]
mod testing6;
mod udp;

pub use client4::Client4;
pub use client6::Client6;
pub use clock::Moment;
pub use error::{Error, Result};
pub use lease4::Lease4;
pub use lease6::{Address6, Lease6};
pub use options::{Options4, Options6, Timeouts, duid_of};
pub use place::Place;
pub use router::Router;

/// What has happened to a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<L> {
    /// The server prolonged it. Whatever else the server says may have changed with it, the address too.
    Renewed(L),
    /// It is no more: the address must not be used any longer (RFC 2131, section 4.4.5).
    Lost(Loss),
}

/// Why a lease is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The server said so, with these words.
    Refused(String),
    /// Its time is over and no server answered.
    Expired,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(words) if words.is_empty() => f.write_str("the server refused it"),
            Self::Refused(words) => write!(f, "the server refused it: {words:?}"),
            Self::Expired => f.write_str("it expired and no server answered"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "the interpreter has no namespaces")]
    fn a_lease_that_sleeps_is_small() {
        // Of a namespace that is always there.
        let place = Place::new("/proc/self/ns/net", "lo").unwrap();
        let (lease4, lease6) = (testing4::lease(), testing6::lease());
        let client4 = Client4::new(place.clone(), Options4::new(b"\0pod/eth0"));
        let client6 = Client6::new(place, Options6::new(b"\0pod/eth0", "eth0"));
        for size in [size_of_val(&client4.next(&lease4)), size_of_val(&client6.next(&lease6))] {
            assert!(size < 1024, "{size} bytes");
        }
    }
}
