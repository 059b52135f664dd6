//! A DHCPv4 lease.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use dhcproto::v4::DhcpOption;
use podwire_spec::{Cidr, Dns, Route};
use serde::{Deserialize, Serialize};

use crate::{
    Moment,
    message4::{Answer, decode},
    names,
};

/// A lease that is shorter cannot be kept: it would be asked for all the time.
const SHORTEST: u32 = 4;
/// A lease of this many seconds is one for ever (RFC 2131, section 3.3).
const FOR_EVER: u32 = u32::MAX;
/// The least MTU of an IPv4 network, in bytes (RFC 791).
const LEAST_MTU: u16 = 68;
/// The kernel's `RT_SCOPE_LINK`: a route to neighbours.
const SCOPE_LINK: u8 = 253;

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
    /// The lease that an answer offers or grants, for a request that was sent at `obtained`.
    ///
    /// # Errors
    /// In words, where it cannot be used.
    pub(crate) fn read(answer: Answer, obtained: Moment) -> Result<Self, String> {
        let server = answer.server().filter(|ip| is_host(*ip)).ok_or("no server identifier (option 54)")?;
        let because = |why: &str| format!("server {server}: {why}");
        let options = answer.options;
        let address = address(answer.address, &options).map_err(|why| because(&why))?;
        let seconds = match get(&options, 51) {
            Some(DhcpOption::AddressLeaseTime(seconds)) if seconds >= SHORTEST => seconds,
            Some(DhcpOption::AddressLeaseTime(seconds)) => {
                return Err(because(&format!("a lease of {seconds} s, which nobody could keep")));
            }
            _ => return Err(because("no lease time (option 51)")),
        };
        let (renew, rebind) = times(seconds, &options);
        let routes = routes(address, &options);
        let gateway = routes.iter().find(|route| route.dst.is_default()).and_then(|route| match route.gw? {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        });
        let at = |seconds: u32| match seconds {
            FOR_EVER => Moment::NEVER,
            seconds => obtained + Duration::from_secs(seconds.into()),
        };
        Ok(Self {
            address,
            server,
            gateway,
            routes,
            mtu: match get(&options, 26) {
                Some(DhcpOption::InterfaceMtu(mtu)) if mtu >= LEAST_MTU => Some(mtu),
                _ => None,
            },
            dns: dns(&options),
            obtained,
            obtained_at: 0,
            expires: at(seconds),
            renew: at(renew),
            rebind: at(rebind),
            options,
        })
    }
}

type Options = BTreeMap<u8, Vec<u8>>;

fn get(options: &Options, code: u8) -> Option<DhcpOption> {
    decode(code, options.get(&code)?)
}

/// Whether this can be the address of one host.
fn is_host(ip: Ipv4Addr) -> bool {
    // 0.0.0.0/8 is "this network", 240.0.0.0/4 reserved, and 255.255.255.255 among the latter.
    !ip.is_loopback() && (1..224).contains(&ip.octets()[0])
}

/// The prefix length of the class that an address was of, before there were prefix lengths (RFC 791, section 3.2).
fn class(ip: Ipv4Addr) -> u8 {
    match ip.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        192.. => 24,
    }
}

fn address(ip: Ipv4Addr, options: &Options) -> Result<Cidr, String> {
    if !is_host(ip) {
        return Err(format!("{ip} is not a host's address"));
    }
    let prefix = match get(options, 1) {
        // Ones, then zeros.
        Some(DhcpOption::SubnetMask(mask)) if mask.to_bits().count_ones() == mask.to_bits().leading_ones() => {
            mask.to_bits().count_ones()
        }
        Some(mask) => return Err(format!("a subnet mask that is none: {mask:?}")),
        None => class(ip).into(),
    };
    let host = ip.to_bits().checked_shl(prefix).unwrap_or(0) >> prefix.min(31);
    match prefix {
        0 => Err("a subnet mask of 0.0.0.0".to_owned()),
        1..=30 if host == 0 || host == u32::MAX >> prefix => {
            Err(format!("{ip}/{prefix} is the address of a network, or of all its hosts"))
        }
        _ => Cidr::new(ip.into(), u8::try_from(prefix).unwrap_or(32)),
    }
}

/// T1 and T2 in seconds: the server's where they are in order, else the defaults (RFC 2131, section 4.4.5).
fn times(seconds: u32, options: &Options) -> (u32, u32) {
    if seconds == FOR_EVER {
        return (FOR_EVER, FOR_EVER);
    }
    let rebind = match get(options, 59) {
        Some(DhcpOption::Rebinding(t2)) if (2..seconds).contains(&t2) => t2,
        _ => seconds - seconds.div_ceil(8),
    };
    let renew = match get(options, 58) {
        Some(DhcpOption::Renewal(t1)) if (1..rebind).contains(&t1) => t1,
        _ => (seconds / 2).min(rebind - 1),
    };
    (renew, rebind)
}

/// The routes, by the rule of RFC 3442: whoever understands classless routes passes over the other two options.
fn routes(address: Cidr, options: &Options) -> Vec<Route> {
    let classless = [121, 249].into_iter().find_map(|code| match decode(121, options.get(&code)?)? {
        DhcpOption::ClasslessStaticRoute(routes) if !routes.is_empty() => Some(routes),
        _ => None,
    });
    let mut all: Vec<(Ipv4Addr, u8, Ipv4Addr)> = Vec::new();
    if let Some(routes) = classless {
        all.extend(routes.iter().map(|(to, by)| (to.network(), to.prefix_len(), *by)));
    } else {
        if let Some(DhcpOption::StaticRoutingTable(routes)) = get(options, 33) {
            // Without masks: to a network of its class, or else to a host. The default route is not allowed here.
            all.extend(routes.into_iter().filter(|(to, _)| is_host(*to)).map(|(to, by)| {
                let is_network = to.to_bits() << class(to) == 0;
                (to, if is_network { class(to) } else { 32 }, by)
            }));
        }
        if let Some(DhcpOption::Router(routers)) = get(options, 3) {
            let router = routers.into_iter().find(|ip| is_host(*ip));
            all.extend(router.map(|by| (Ipv4Addr::UNSPECIFIED, 0, by)));
        }
    }
    let mut routes: Vec<Route> = Vec::new();
    for (to, prefix, by) in all {
        let Ok(dst) = Cidr::new(to.into(), prefix) else { continue };
        let mut route = Route::new(dst.network(), None);
        if by.is_unspecified() {
            route.scope = Some(SCOPE_LINK);
        } else if is_host(by) && address.ip() != IpAddr::V4(by) {
            route.gw = Some(by.into());
            route.onlink = !address.contains(by.into());
        } else {
            continue;
        }
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    routes
}

fn dns(options: &Options) -> Dns {
    let mut dns = Dns::default();
    if let Some(DhcpOption::DomainNameServer(servers)) = get(options, 6) {
        for server in servers.iter().filter(|ip| is_host(**ip)).map(ToString::to_string) {
            if !dns.nameservers.contains(&server) {
                dns.nameservers.push(server);
            }
        }
    }
    if let Some(DhcpOption::DomainName(text)) = get(options, 15) {
        // Some servers end it with a zero, or give several for a search list.
        let mut domains = text.trim_end_matches('\0').split_ascii_whitespace();
        dns.domain = domains.next().and_then(names::of_text).unwrap_or_default();
    }
    if let Some(DhcpOption::DomainSearch(domains)) = get(options, 119) {
        dns.search = names::of_list(&domains);
    }
    dns
}

#[cfg(test)]
#[path = "lease4_tests.rs"]
mod tests;
