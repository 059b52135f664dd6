//! The DHCPv6 client.

use crate::{Error, Event, Lease6, Options6, Place, Result};

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

    /// The link.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Gets a lease. A link that is down is set up first, and waited for.
    ///
    /// # Errors
    /// [`Error::Silent`] where no server gave one within `timeouts.total`; [`Error::Gone`]; [`Error::Unsuitable`].
    pub async fn acquire(&self) -> Result<Lease6> {
        Err(self.unwritten())
    }

    /// Gets a lease, however long it takes; the `previous` one's address where it can be had again.
    ///
    /// # Errors
    /// [`Error::Gone`]; [`Error::Unsuitable`]. What could pass is logged and waited for.
    pub async fn acquire_at_last(&self, previous: Option<&Lease6>) -> Result<Lease6> {
        let _ = previous;
        Err(self.unwritten())
    }

    /// Sleeps until something happens to the lease, and tells: it asks the server to prolong it, then every server, and
    /// at last gives up. No socket is open until there is something to ask.
    ///
    /// # Errors
    /// [`Error::Gone`]. What could pass is logged and tried again while the lease lasts.
    pub async fn next(&self, lease: &Lease6) -> Result<Event<Lease6>> {
        let _ = lease;
        Err(self.unwritten())
    }

    /// Asks whether the lease is still good on this network, without waiting for its time to renew.
    ///
    /// # Errors
    /// [`Error::Silent`] where nobody answers within `timeouts.request`: it may be used while it lasts (RFC 2131, section
    /// 4.4.2; RFC 8415, section 18.2.3). [`Error::Gone`].
    pub async fn confirm(&self, lease: &Lease6) -> Result<Event<Lease6>> {
        let _ = lease;
        Err(self.unwritten())
    }

    /// Gives the lease back. The server does not answer, or need not: this is one message.
    ///
    /// # Errors
    /// [`Error::Gone`] where there is no way to tell the server any more; the lease ends by itself then.
    pub async fn release(&self, lease: &Lease6) -> Result<()> {
        let _ = lease;
        Err(self.unwritten())
    }

    fn unwritten(&self) -> Error {
        Error::Unsuitable(format!("link {:?} ({:?}): not written yet", self.place.ifname(), self.options.timeouts))
    }
}
