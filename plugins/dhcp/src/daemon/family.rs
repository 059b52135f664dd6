//! What DHCPv4 and DHCPv6 have in common for the daemon.

use std::cell::RefCell;

use podwire_dhcp::{Client4, Client6, Event, Lease4, Lease6, Moment, Result};
use podwire_spec::{Cidr, Route};
use serde::{Deserialize, Serialize};

use super::attachment::Leases;

/// The lease of one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Slot<L> {
    /// None while another one is asked for.
    pub(super) lease: Option<L>,
    /// What the link is still like, where it has to follow yet: a daemon that was killed between lease and link goes on
    /// from there.
    pub(super) before: Option<Setup>,
}

impl<L> Default for Slot<L> {
    fn default() -> Self {
        Self { lease: None, before: None }
    }
}

/// What a lease makes of the pod's link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) addresses: Vec<Cidr>,
    pub(super) routes: Vec<Route>,
    pub(super) mtu: Option<u32>,
}

/// A client, and the kind of lease it gets.
pub(super) trait Family: Clone + 'static {
    type Lease: Clone + 'static;

    async fn acquire(&self) -> Result<Self::Lease>;
    async fn acquire_at_last(&self, previous: Option<&Self::Lease>) -> Result<Self::Lease>;
    async fn next(&self, lease: &Self::Lease) -> Result<Event<Self::Lease>>;
    async fn release(&self, lease: &Self::Lease) -> Result<()>;

    fn setup(lease: &Self::Lease) -> Setup;
    fn expires(lease: &Self::Lease) -> Moment;
    /// Where an attachment has its lease.
    fn slot(leases: &Leases) -> &RefCell<Slot<Self::Lease>>;
}

macro_rules! family {
    ($client:ty, $lease:ty, $slot:ident, $addresses:expr) => {
        impl Family for $client {
            type Lease = $lease;

            async fn acquire(&self) -> Result<$lease> {
                self.acquire().await
            }

            async fn acquire_at_last(&self, previous: Option<&$lease>) -> Result<$lease> {
                self.acquire_at_last(previous).await
            }

            async fn next(&self, lease: &$lease) -> Result<Event<$lease>> {
                self.next(lease).await
            }

            async fn release(&self, lease: &$lease) -> Result<()> {
                self.release(lease).await
            }

            fn setup(lease: &$lease) -> Setup {
                Setup { addresses: $addresses(lease), routes: lease.routes.clone(), mtu: lease.mtu.map(u32::from) }
            }

            fn expires(lease: &$lease) -> Moment {
                lease.expires
            }

            fn slot(leases: &Leases) -> &RefCell<Slot<$lease>> {
                &leases.$slot
            }
        }
    };
}

family!(Client4, Lease4, v4, |lease: &Lease4| vec![lease.address]);
family!(Client6, Lease6, v6, |lease: &Lease6| lease.addresses.iter().map(|address| address.cidr).collect());
