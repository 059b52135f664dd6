//! A DHCPv4 lease.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use podwire_spec::{Cidr, Dns, Route};
use serde::{Deserialize, Serialize};

use crate::Moment;

/// An IPv4 address on loan, and what the server says of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease4 {
    /// The address, with the prefix length of its network: the subnet mask (option 1), else the one of its class.
    pub address: Cidr,
    /// The server that granted it (option 54).
    pub server: Ipv4Addr,
    /// The next hop of the default route.
    pub gateway: Option<Ipv4Addr>,
    /// Every route: the classless ones (option 121, or Microsoft's 249); only where there are none, the static ones (33)
    /// and a default route by the first router (3), as RFC 3442 has it. One without next hop is to neighbours.
    pub routes: Vec<Route>,
    /// The link's MTU in bytes (option 26), 68 at least.
    pub mtu: Option<u16>,
    /// Name servers (option 6), domain (15) and search list (119). Names that no resolver could use are left out.
    pub dns: Dns,
    /// When the request was sent that the server granted; the lease's times count from there.
    pub obtained: Moment,
    /// The same in seconds since 1970, for people.
    pub obtained_at: u64,
    /// Until when it is a lease; [`Moment::NEVER`] where it was granted for ever.
    pub expires: Moment,
    /// When to renew it (option 58, else half its time).
    pub renew: Moment,
    /// When to ask every server (option 59, else seven eighths of its time).
    pub rebind: Moment,
    /// Every option of the server's answer as it came, by code.
    pub options: BTreeMap<u8, Vec<u8>>,
}

impl Lease4 {
    /// Whether what the link needs is the same in both: address, routes, MTU.
    pub fn configures_as(&self, other: &Self) -> bool {
        (self.address, &self.routes, self.mtu) == (other.address, &other.routes, other.mtu)
    }

    /// For how long it was granted.
    pub fn duration(&self) -> Duration {
        self.expires - self.obtained
    }
}
