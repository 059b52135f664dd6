//! A DHCPv6 lease, with what a router says.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use podwire_spec::{Cidr, Dns, Route};
use serde::{Deserialize, Serialize};

use crate::Moment;

/// An IPv6 address on loan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address6 {
    /// The address. DHCPv6 knows no prefix length: it is that of the network that a router says is on this link, and 128
    /// where none does.
    pub cidr: Cidr,
    /// Until when new connections may use it.
    pub preferred: Moment,
    /// Until when it may be used at all.
    pub valid: Moment,
}

/// IPv6 addresses on loan (one IA_NA of RFC 8415), and what the server and the router say of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease6 {
    /// The addresses, one at least.
    pub addresses: Vec<Address6>,
    /// The server's DUID.
    pub server: Vec<u8>,
    /// The client's DUID.
    pub duid: Vec<u8>,
    /// The number of the association.
    pub iaid: u32,
    /// The link-local address of the router that is the default gateway. DHCPv6 has no such option: it comes from router
    /// advertisements, which the client asks for at every acquisition and renewal.
    pub gateway: Option<Ipv6Addr>,
    /// The default route by the gateway, where there is one.
    pub routes: Vec<Route>,
    /// The link's MTU in bytes, where the router says one; 1280 at least.
    pub mtu: Option<u32>,
    /// Name servers (option 23, else the router's) and search list (24). Names that no resolver could use are left out.
    pub dns: Dns,
    /// When the request was sent that the server granted; the lease's times count from there.
    pub obtained: Moment,
    /// The same in seconds since 1970, for people.
    pub obtained_at: u64,
    /// When the last address ends.
    pub expires: Moment,
    /// When to renew it (T1): before the router's word ends, too.
    pub renew: Moment,
    /// When to ask every server (T2).
    pub rebind: Moment,
    /// Every option of the server's answer as it came, by code; of several with one code the first.
    pub options: BTreeMap<u16, Vec<u8>>,
}

impl Lease6 {
    /// Whether what the link needs is the same in both: addresses, routes, MTU.
    pub fn configures_as(&self, other: &Self) -> bool {
        let addresses = |lease: &Self| lease.addresses.iter().map(|address| address.cidr).collect::<Vec<_>>();
        (addresses(self), &self.routes, self.mtu) == (addresses(other), &other.routes, other.mtu)
    }

    /// For how long it was granted.
    pub fn duration(&self) -> Duration {
        self.expires - self.obtained
    }

    /// The gateway, for a list of addresses of both families.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.gateway.map(IpAddr::V6)
    }
}
