//! Ranges of addresses: checked once, then pure arithmetic.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use podwire_spec::{Cidr, Error, IpRange, Result};

/// How many range sets there may be. An attachment gets an address of each, and a link of the index, which names all of
/// them, has room for about as many.
const MOST_SETS: usize = 64;
/// How many ranges there may be in all sets: each address that somebody asks for is looked up in all.
const MOST_RANGES: usize = 4096;

/// The addresses from `first` to `last`, less the network's own, the broadcast address and the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    subnet: Cidr,
    first: IpAddr,
    last: IpAddr,
    pub(crate) gateway: IpAddr,
}

/// Ranges of one family; an attachment gets one address of the set.
#[derive(Clone, Debug)]
pub(crate) struct RangeSet {
    /// Where it stands in the configuration.
    pub(crate) path: String,
    ranges: Vec<Range>,
}

/// Why an address of a subnet is not given to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reserved {
    Network,
    Broadcast,
    Gateway,
}

impl Range {
    /// Checks a range of the configuration and fills in what it leaves out. `path` is where it stands.
    ///
    /// # Errors
    /// Code 7 for what cannot be, with the path.
    pub(crate) fn new(path: &str, conf: &IpRange) -> Result<Self> {
        let invalid = |field: &str, why: String| Error::invalid(&format!("{path}.{field}"), why);
        let subnet = conf.subnet;
        if let Some(why) = unsuitable(subnet) {
            return Err(invalid("subnet", why));
        }
        let network = number(subnet.ip());
        // The last address of an IPv4 network is for broadcasts; IPv6 has none.
        let end = number(broadcast(subnet)) - u128::from(subnet.ip().is_ipv4());
        let within = |field: &str, given: Option<IpAddr>, default: u128| match given.map(|ip| ip.to_canonical()) {
            None => Ok(address(default, subnet.ip())),
            Some(ip) if subnet.contains(ip) => Ok(ip),
            Some(ip) => Err(invalid(field, format!("{ip}: not in the subnet {subnet}"))),
        };
        let first = within("rangeStart", conf.range_start, network + 1)?;
        let last = within("rangeEnd", conf.range_end, end)?;
        if number(first) > number(last) {
            return Err(invalid("rangeEnd", format!("{last}: before rangeStart, which is {first}")));
        }
        // The gateway may be outside of the subnet: it is then reached by a route of its own.
        let gateway = conf.gateway.map_or(address(network + 1, subnet.ip()), |ip| ip.to_canonical());
        if gateway.is_ipv4() != subnet.ip().is_ipv4() {
            return Err(invalid("gateway", format!("{gateway}: not of the same family as the subnet {subnet}")));
        }
        let range = Self { subnet, first, last, gateway };
        if range.usable() == 0 {
            return Err(invalid(
                "subnet",
                format!(
                    "{subnet}: from {first} to {last} there is no address but the network's, its broadcast and the gateway {gateway}"
                ),
            ));
        }
        Ok(range)
    }

    /// Whether `ip` is from the range's first address to its last.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.first.is_ipv4() && self.numbers().contains(&number(ip))
    }

    /// Why `ip`, which is of the range, is not given to a pod.
    fn reserved(&self, ip: IpAddr) -> Option<Reserved> {
        if ip == self.gateway {
            Some(Reserved::Gateway)
        } else if ip == self.subnet.ip() {
            Some(Reserved::Network)
        } else if ip.is_ipv4() && ip == broadcast(self.subnet) {
            Some(Reserved::Broadcast)
        } else {
            None
        }
    }

    /// How many addresses it has to give.
    fn usable(&self) -> u128 {
        let mut kept_back = vec![self.gateway, self.subnet.ip(), broadcast(self.subnet)];
        kept_back.sort_unstable();
        kept_back.dedup();
        let kept_back = kept_back.into_iter().filter(|&ip| self.contains(ip) && self.reserved(ip).is_some()).count();
        // No subnet has all of the family's addresses, so that the sum fits.
        number(self.last) - number(self.first) + 1 - kept_back as u128
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    fn numbers(&self) -> RangeInclusive<u128> {
        number(self.first)..=number(self.last)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl RangeSet {
    /// Checks a set of the configuration; `paths` tells where each range stands.
    ///
    /// # Errors
    /// Code 7 for an empty set, for a range that cannot be, and for families that differ.
    pub(crate) fn new<'a>(path: String, confs: impl IntoIterator<Item = (String, &'a IpRange)>) -> Result<Self> {
        let mut set = Self { path, ranges: Vec::new() };
        for (path, conf) in confs {
            let range = Range::new(&path, conf)?;
            if let Some(first) = set.ranges.first().filter(|first| first.first.is_ipv4() != range.first.is_ipv4()) {
                return Err(Error::invalid(
                    &format!("{path}.subnet"),
                    format!(
                        "{}: not of the same family as {}; an attachment gets one address of a set, so the other family needs a set of its own",
                        range.subnet, first.subnet
                    ),
                ));
            }
            set.ranges.push(range);
        }
        if set.ranges.is_empty() {
            return Err(Error::invalid(&set.path, "empty; a set needs a range at least"));
        }
        Ok(set)
    }

    /// The range that `ip` is of.
    pub(crate) fn range_of(&self, ip: IpAddr) -> Option<&Range> {
        self.ranges.iter().find(|range| range.contains(ip))
    }

    /// Why `ip` is never given to a pod.
    pub(crate) fn reserved(&self, ip: IpAddr) -> Option<Reserved> {
        // All ranges are asked: one may hold another's gateway.
        self.ranges.iter().find_map(|range| match range.reserved(ip) {
            Some(Reserved::Gateway) => Some(Reserved::Gateway),
            why => why.filter(|_| range.contains(ip)),
        })
    }

    /// Every address of the set once, round robin: those after `last` first, `last` itself at the end.
    pub(crate) fn after(&self, last: Option<IpAddr>) -> impl Iterator<Item = IpAddr> + '_ {
        let at = last.and_then(|last| Some((self.ranges.iter().position(|range| range.contains(last))?, last)));
        let (from, to) = self.ranges.split_at(at.map_or(0, |(at, _)| at));
        let mut spans: Vec<_> = to.iter().chain(from).map(Range::numbers).collect();
        if let Some((_, last)) = at {
            let (first, end) = spans[0].clone().into_inner();
            spans[0] = number(last)..=end;
            spans.push(first..=number(last));
        }
        let like = self.ranges[0].first;
        // Leaving out the first, which is `last`, rather than adding one to it: there may be no next number.
        spans.into_iter().flatten().skip(usize::from(at.is_some())).map(move |n| address(n, like))
    }

    /// How many addresses the set has to give.
    pub(crate) fn usable(&self) -> u128 {
        self.ranges.iter().map(Range::usable).fold(0, u128::saturating_add)
    }

    /// Whether the set is of IPv4.
    pub(crate) fn is_ipv4(&self) -> bool {
        self.ranges[0].first.is_ipv4()
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, range) in self.ranges.iter().enumerate() {
            write!(f, "{}{range}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Range {
    /// `ip`, which is of this range, with the subnet's prefix length.
    pub(crate) fn cidr(&self, ip: IpAddr) -> Cidr {
        Cidr::new(ip, self.subnet.prefix()).unwrap_or_else(|_| unreachable!("the subnet is of the same family"))
    }
}

/// That there are not so many sets or ranges that to give an address takes long.
///
/// # Errors
/// Code 7.
pub(crate) fn few(sets: &[RangeSet]) -> Result<()> {
    let ranges: usize = sets.iter().map(|set| set.ranges.len()).sum();
    if sets.len() <= MOST_SETS && ranges <= MOST_RANGES {
        return Ok(());
    }
    let why = format!("{ranges} ranges in {} sets; at most {MOST_RANGES} in {MOST_SETS}", sets.len());
    Err(Error::invalid("ipam.ranges", why))
}

/// That no two ranges of all sets have an address in common, or which two do.
///
/// # Errors
/// Code 7, naming both.
pub(crate) fn disjoint(sets: &[RangeSet]) -> Result<()> {
    let mut all: Vec<_> = sets.iter().flat_map(|set| set.ranges.iter().map(move |range| (set, range))).collect();
    // In order, so that of two that overlap one follows the other: to compare each with each takes minutes for as many
    // as a configuration has room for. The order among equals is that of the configuration.
    all.sort_by_key(|(_, range)| range.first);
    for pair in all.windows(2) {
        let [(set, range), (other_set, other)] = pair else { continue };
        if range.overlaps(other) {
            return Err(Error::invalid(
                &other_set.path,
                format!("{other} overlaps {range} of {}; an address can be in one range only", set.path),
            ));
        }
    }
    Ok(())
}

/// Why `subnet` cannot be shared by pods.
fn unsuitable(subnet: Cidr) -> Option<String> {
    let bits = if subnet.ip().is_ipv4() { 32 } else { 128 };
    if subnet.ip().to_canonical() != subnet.ip() {
        return Some(format!("{subnet}: an IPv4 network in IPv6 notation; write it as IPv4"));
    }
    if subnet.network() != subnet {
        return Some(format!("{subnet}: has host bits set (did you mean \"{}\"?)", subnet.network()));
    }
    if subnet.prefix() == 0 {
        return Some(format!("{subnet}: holds every address there is; a network of pods is smaller"));
    }
    (subnet.prefix() > bits - 2).then(|| {
        format!("{subnet}: too small, it has no address for a pod beside the network's own and the gateway's; use /{} or a shorter prefix", bits - 2)
    })
}

fn broadcast(subnet: Cidr) -> IpAddr {
    subnet.0.broadcast()
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// The address with this number, of the family that `like` is of.
fn address(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpAddr::V6(_) => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
#[path = "range_tests.rs"]
mod tests;
