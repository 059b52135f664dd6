//! What routers say of a link (RFC 4861): DHCPv6 knows neither gateways nor prefix lengths.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use podwire_net::{Link, Netns, RouterSocket};
use podwire_spec::{Cidr, Mac};
use serde::{Deserialize, Serialize};

use crate::Result;

/// How often, and how long after each other, routers are asked. They answer within half a second (section 6.2.6), and a
/// pod should not wait for the ones that are not there.
const TRIES: u32 = 3;
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// The least MTU of an IPv6 network, in bytes (RFC 8200).
const LEAST_MTU: u32 = 1280;
/// The most entries of a kind that are kept.
const MOST: usize = 16;

/// A router's advertisement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    /// Its link-local address.
    pub address: Ipv6Addr,
    /// For how many seconds it is a default gateway; 0 where it is none.
    pub lifetime: u16,
    /// The networks whose hosts are all on this link.
    pub on_link: Vec<Cidr>,
    /// The link's MTU in bytes, 1280 at least.
    pub mtu: Option<u32>,
    /// Name servers (RFC 8106).
    pub dns: Vec<Ipv6Addr>,
}

impl Router {
    /// Asks, and takes the first default gateway that answers; else whoever answered.
    ///
    /// # Errors
    /// Of the socket.
    pub(crate) async fn ask(ns: &Netns, link: &Link) -> Result<Option<Self>> {
        let socket = RouterSocket::open(ns, &link.name, link.index)?;
        let (mut buffer, mut found) = (vec![0; 1500], None);
        for _ in 0..TRIES {
            socket.send(&solicitation(link.mac)).await?;
            let hear = async {
                loop {
                    let (length, from) = socket.receive(&mut buffer).await?;
                    match Self::read(&buffer[..length], from) {
                        Ok(router) if router.lifetime > 0 => return Ok(router),
                        Ok(router) => found = Some(router),
                        Err(why) => tracing::debug!("router {from}: passed over: {why}"),
                    }
                }
            };
            if let Ok(heard) = tokio::time::timeout(BETWEEN_TRIES, hear).await {
                return heard.map(Some);
            }
        }
        Ok(found)
    }

    /// Reads an advertisement, from its ICMPv6 header on; the kernel has verified the checksum (section 6.1.2).
    ///
    /// # Errors
    /// In words, where it is none.
    pub(crate) fn read(bytes: &[u8], from: IpAddr) -> Result<Self, &'static str> {
        let IpAddr::V6(address) = from else { return Err("not IPv6") };
        let Some(([134, 0, _, _, _, _, a, b], rest)) = bytes.split_first_chunk::<8>() else {
            return Err("not an advertisement");
        };
        if !address.is_unicast_link_local() {
            return Err("not from a link-local address");
        }
        let lifetime = u16::from_be_bytes([*a, *b]);
        let mut router = Self { address, lifetime, on_link: Vec::new(), mtu: None, dns: Vec::new() };
        // Behind the times for reachability and retransmission.
        let mut options = rest.get(8..).ok_or("cut off")?;
        while let [kind, units, ..] = *options {
            let length = usize::from(units) * 8;
            if length == 0 || length > options.len() {
                return Err("an option of another length than it says");
            }
            let (option, rest) = options.split_at(length);
            router.take(kind, option);
            options = rest;
        }
        Ok(router)
    }

    fn take(&mut self, kind: u8, option: &[u8]) {
        let address = |at: usize| Some(Ipv6Addr::from(*option.get(at..)?.first_chunk::<16>()?));
        let number = |at: usize| Some(u32::from_be_bytes(*option.get(at..)?.first_chunk::<4>()?));
        match kind {
            // Prefix information, with the flag that it is on this link, and for some time.
            3 if option.len() == 32 && option[3] & 0x80 != 0 && number(4) != Some(0) => {
                let cidr = address(16).and_then(|ip| Cidr::new(ip.into(), option[2]).ok());
                let usable = cidr.filter(|cidr| cidr.prefix() > 0 && is_host(cidr.ip()));
                self.on_link.extend(usable.map(Cidr::network).filter(|_| self.on_link.len() < MOST));
            }
            5 if option.len() == 8 => self.mtu = number(4).filter(|mtu| (LEAST_MTU..=65535).contains(mtu)),
            // Recursive DNS servers, for some time.
            25 if number(4) != Some(0) => {
                let servers = (8..option.len()).step_by(16).filter_map(address);
                let room = MOST.saturating_sub(self.dns.len());
                self.dns.extend(servers.filter(|ip| is_host((*ip).into())).take(room));
            }
            _ => {}
        }
    }
}

/// Whether this can be the address of one host, which others can reach without naming a link.
pub(crate) fn is_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => {
            !ip.is_unspecified()
                && !ip.is_loopback()
                && !ip.is_multicast()
                && !ip.is_unicast_link_local()
                && ip.to_ipv4_mapped().is_none()
        }
    }
}

/// A router solicitation (section 4.1), with the link's MAC address, so that the answer may be for it alone.
fn solicitation(mac: Option<Mac>) -> Vec<u8> {
    let mut message = vec![133, 0, 0, 0, 0, 0, 0, 0];
    if let Some(mac) = mac {
        message.extend([1, 1]);
        message.extend(mac.0);
    }
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROUTER: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

    fn advertisement(options: &[&[u8]]) -> Vec<u8> {
        let header = [134, 0, 0, 0, 64, 0xc0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
        [&header[..], &options.concat()].concat()
    }

    fn prefix(length: u8, flags: u8, valid: u32, ip: &str) -> Vec<u8> {
        let ip: Ipv6Addr = ip.parse().unwrap();
        [&[3, 4, length, flags], &valid.to_be_bytes()[..], &[0; 8], &ip.octets()].concat()
    }

    #[test]
    fn gateway_networks_mtu_and_name_servers_are_read() {
        let dns: Ipv6Addr = "fd00::53".parse().unwrap();
        let dns = [&[25, 3, 0, 0, 0, 0, 0, 9][..], &dns.octets()].concat();
        let bytes = advertisement(&[
            &prefix(64, 0x80, 9, "fd00::"),
            &prefix(64, 0x40, 9, "fd01::"),
            &prefix(64, 0x80, 0, "fd02::"),
            &prefix(129, 0x80, 9, "fd03::"),
            &prefix(0, 0x80, 9, "fd04::"),
            &prefix(10, 0x80, 9, "fe80::"),
            &[5, 1, 0, 0, 0, 0, 5, 0x78],
            &dns,
            &[200, 1, 1, 2, 3, 4, 5, 6],
        ]);
        let router = Router::read(&bytes, ROUTER).unwrap();
        assert_eq!((IpAddr::V6(router.address), router.lifetime, router.mtu), (ROUTER, 1800, Some(1400)), "{router:?}");
        assert_eq!(router.on_link, ["fd00::/64".parse().unwrap()]);
        assert_eq!(router.dns, ["fd00::53".parse::<Ipv6Addr>().unwrap()]);
        for mtu in [0_u32, 1279, 65536] {
            let option = [&[5, 1, 0, 0], &mtu.to_be_bytes()[..]].concat();
            assert_eq!(Router::read(&advertisement(&[&option]), ROUTER).unwrap().mtu, None);
        }
    }

    #[test]
    fn what_is_no_neighbours_advertisement_is_refused() {
        let good = advertisement(&[]);
        assert!(Router::read(&good, ROUTER).is_ok());
        assert!(Router::read(&good, "2001:db8::1".parse().unwrap()).is_err());
        assert!(Router::read(&good[..15], ROUTER).is_err());
        assert!(Router::read(&[&[133], &good[1..]].concat(), ROUTER).is_err());
        // An option of length 0 would be read for ever.
        assert!(Router::read(&advertisement(&[&[1, 0, 0, 0, 0, 0, 0, 0]]), ROUTER).is_err());
        assert!(Router::read(&advertisement(&[&[1, 2, 0, 0, 0, 0, 0, 0]]), ROUTER).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Router::read(&bytes, ROUTER);
            let _ = Router::read(&advertisement(&[&bytes]), ROUTER);
        }
    }
}
