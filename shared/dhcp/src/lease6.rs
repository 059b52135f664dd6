//! A DHCPv6 lease, with what a router says.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use dhcproto::v6::{DhcpOption, IANA};
use podwire_spec::{Cidr, Dns, Route};
use serde::{Deserialize, Serialize};

use crate::{
    Moment, Options6, Router,
    message6::{Answer, status},
    names,
    router::is_host,
};

/// A lease that is shorter cannot be kept: it would be asked for all the time.
const SHORTEST: u32 = 4;
/// A time that has no end (RFC 8415, section 7.7).
const FOR_EVER: u32 = u32::MAX;
/// The most addresses that are taken.
const MOST: usize = 16;

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

/// IPv6 addresses on loan (one `IA_NA` of RFC 8415), and what the server and the router say of the network.
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
    /// What a router said when it was asked, at acquisition or the last renewal. One that was silent at a renewal is
    /// taken to say what it said before.
    pub router: Option<Router>,
    /// The link-local address of the router, where it is a default gateway. DHCPv6 has no such option.
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
    /// The gateway, for a list of addresses of both families.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.gateway.map(IpAddr::V6)
    }
}

/// Why an answer gives no lease.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The server says that the client has none; its words.
    Refused(String),
    /// It cannot be used, or the server could not help right now; in words.
    Unusable(String),
}

impl Lease6 {
    /// The lease that an answer offers or grants, for a request that was sent at `obtained`. A router is yet to be heard.
    ///
    /// # Errors
    /// Where there is none, or it cannot be used.
    pub(crate) fn read(answer: &Answer, said: &Options6, obtained: Moment) -> Result<Self, Flaw> {
        let at = |seconds: u32| match seconds {
            FOR_EVER => Moment::NEVER,
            seconds => obtained + Duration::from_secs(seconds.into()),
        };
        answer.status().map_err(Flaw::Unusable)?;
        let none = || Flaw::Unusable("no association of ours (option 3)".to_owned());
        let association = answer.association(said.iaid).ok_or_else(none)?;
        status(association.opts.iter()).map_err(Flaw::Refused)?;
        let (addresses, preferred, valid) = addresses(association, at)?;
        let (renew, rebind) = times(association, preferred, valid).map_err(Flaw::Unusable)?;
        Ok(Self {
            addresses,
            server: answer.server.clone(),
            duid: said.duid.clone(),
            iaid: said.iaid,
            router: None,
            gateway: None,
            routes: Vec::new(),
            mtu: None,
            dns: dns(answer),
            obtained,
            obtained_at: 0,
            expires: at(valid),
            renew: at(renew),
            rebind: at(rebind),
            options: answer.options.clone(),
        })
    }

    /// Adds what a router says: gateway, prefix lengths, MTU; name servers, where the server named none; and that it is to
    /// be asked again before its word ends.
    pub(crate) fn heed(&mut self, router: Router) {
        for address in &mut self.addresses {
            let network = router.on_link.iter().filter(|network| network.contains(address.cidr.ip()));
            if let Some(network) = network.max_by_key(|network| network.prefix()) {
                address.cidr = Cidr::new(address.cidr.ip(), network.prefix()).unwrap_or(address.cidr);
            }
        }
        if router.lifetime > 0 {
            let gateway = IpAddr::V6(router.address);
            self.gateway = Some(router.address);
            self.routes = vec![Route::new(Cidr::default_of(gateway), Some(gateway))];
            let word = Duration::from_secs(u64::from(router.lifetime) * 3 / 4).max(Duration::from_secs(1));
            self.renew = self.renew.min(self.obtained + word);
        }
        if self.dns.nameservers.is_empty() {
            self.dns.nameservers = router.dns.iter().map(ToString::to_string).collect();
        }
        self.mtu = router.mtu;
        self.router = Some(router);
    }
}

/// The addresses that can be used, the shortest time for which one is preferred, and the longest for which one is valid,
/// in seconds.
fn addresses(association: &IANA, at: impl Fn(u32) -> Moment) -> Result<(Vec<Address6>, u32, u32), Flaw> {
    let (mut all, mut shortest, mut longest) = (Vec::<Address6>::new(), FOR_EVER, 0);
    let mut withdrawn = false;
    for option in association.opts.iter() {
        let DhcpOption::IAAddr(address) = option else { continue };
        let (ip, preferred, valid) = (IpAddr::V6(address.addr), address.preferred_life, address.valid_life);
        withdrawn |= valid == 0;
        // A host passes over what cannot be (RFC 8415, section 21.6).
        let is_good = is_host(ip) && preferred <= valid && valid >= SHORTEST && status(address.opts.iter()).is_ok();
        if !is_good || all.len() == MOST || all.iter().any(|other| other.cidr.ip() == ip) {
            continue;
        }
        all.push(Address6 { cidr: Cidr::of_host(ip), preferred: at(preferred), valid: at(valid) });
        // One that is valid, but to be used no more, says nothing of when to renew.
        shortest = shortest.min(if preferred == 0 { valid } else { preferred });
        longest = longest.max(valid);
    }
    match all.is_empty() {
        false => Ok((all, shortest, longest)),
        true if withdrawn => Err(Flaw::Refused("every address is withdrawn".to_owned())),
        true => Err(Flaw::Unusable("no address that can be used".to_owned())),
    }
}

/// T1 and T2 in seconds: the server's, or half and four fifths of the shortest preferred time (RFC 8415, section 21.4).
fn times(association: &IANA, preferred: u32, valid: u32) -> Result<(u32, u32), String> {
    let (t1, t2) = (association.t1, association.t2);
    if t1 > t2 && t2 > 0 {
        return Err(format!("T1 ({t1} s) after T2 ({t2} s)"));
    }
    if preferred == FOR_EVER && t1 == 0 {
        return Ok((FOR_EVER, FOR_EVER));
    }
    let fifth = preferred / 5;
    // Never later than the end, and never at once.
    let rebind = if t2 == 0 { preferred - fifth } else { t2 }.clamp(2, valid);
    let renew = if t1 == 0 { preferred / 2 } else { t1 }.clamp(1, rebind);
    Ok((renew, rebind))
}

fn dns(answer: &Answer) -> Dns {
    let mut dns = Dns::default();
    for option in &answer.read {
        match option {
            DhcpOption::DomainNameServers(servers) => {
                let servers = servers.iter().filter(|ip| is_host(IpAddr::V6(**ip)));
                dns.nameservers.extend(servers.take(MOST).map(ToString::to_string));
            }
            DhcpOption::DomainSearchList(domains) => {
                dns.search = names::of_list(domains);
            }
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
#[path = "lease6_tests.rs"]
mod tests;
