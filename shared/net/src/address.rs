//! Addresses of links.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
};
use nix::errno::Errno;
use podwire_spec::Cidr;
use rtnetlink::MulticastGroup;

use crate::{Error, Net, Result, message::Message, notification::Notification};

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address with the prefix length of its network.
    pub cidr: Cidr,
    /// Duplicate-address detection is still under way (IPv6).
    pub tentative: bool,
    /// Duplicate-address detection found another owner (IPv6).
    pub duplicate: bool,
    /// It was not configured by hand but by the kernel or a router: a link-local address, or SLAAC.
    pub automatic: bool,
}

impl Net {
    /// The addresses of the link with this index.
    ///
    /// # Errors
    /// Of the request.
    pub fn addresses(&self, index: u32) -> Result<Vec<Address>> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        let object = || format!("addresses of link number {index}");
        let answers = self.request(object, "list", Message::GetAddress(message), NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                Message::NewAddress(message) if message.header.index == index => address(&message),
                _ => None,
            })
            .collect())
    }

    /// Every address of the namespace, with the index of its link.
    ///
    /// # Errors
    /// Of the request.
    pub fn all_addresses(&self) -> Result<Vec<(u32, Address)>> {
        let message = Message::GetAddress(AddressMessage::default());
        let answers = self.request(|| "addresses".to_owned(), "list", message, NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                Message::NewAddress(message) => Some((message.header.index, address(&message)?)),
                _ => None,
            })
            .collect())
    }

    /// Adds an address; an IPv6 one is usable at once unless `dad` asks for duplicate-address detection (RFC 4862).
    ///
    /// # Errors
    /// EEXIST where the link has it already.
    pub fn add_address(&self, index: u32, cidr: Cidr, dad: bool) -> Result<()> {
        let mut message = message(index, cidr);
        if let (IpAddr::V4(ip), prefix @ 0..=30) = (cidr.ip(), cidr.prefix()) {
            let broadcast = Ipv4Addr::from_bits(ip.to_bits() | u32::MAX.checked_shr(prefix.into()).unwrap_or(0));
            message.attributes.push(AddressAttribute::Broadcast(broadcast));
        } else if cidr.ip().is_ipv6() && !dad {
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let message = Message::NewAddress(message);
        self.request(|| name(index, cidr), "add", message, NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Waits until duplicate-address detection is done with every IPv6 address of the link (RFC 4862, section 5.4).
    ///
    /// # Errors
    /// EADDRINUSE where an address has another owner on the network, ETIMEDOUT after ten seconds.
    pub async fn wait_for_dad(&self, index: u32) -> Result<()> {
        let object = format!("addresses of link number {index}");
        let look = || {
            let addresses = self.addresses(index)?;
            match addresses.iter().find(|address| address.duplicate) {
                Some(taken) => Err(Error::new(format!("address \"{}\"", taken.cidr), "claim", Errno::EADDRINUSE)),
                None => Ok((!addresses.iter().any(|address| address.tentative)).then_some(())),
            }
        };
        let news = |event: Notification<'_>| event.is_about(index);
        self.wait(&object, (MulticastGroup::Ipv6Ifaddr, news), Duration::from_secs(10), look).await
    }

    /// Waits until the link has a link-local address that is ready for use, and gives it (RFC 4862, section 5.3).
    ///
    /// # Errors
    /// EADDRINUSE where it has another owner on the network, ETIMEDOUT after ten seconds.
    pub async fn wait_for_link_local(&self, index: u32) -> Result<Ipv6Addr> {
        let object = format!("link-local address of link number {index}");
        let look = || {
            let addresses = self.addresses(index)?;
            let mut all = addresses.iter().filter_map(|address| match address.cidr.ip() {
                IpAddr::V6(ip) if ip.is_unicast_link_local() => Some((ip, address)),
                _ => None,
            });
            if let Some((ip, _)) = all.clone().find(|(_, address)| !address.tentative && !address.duplicate) {
                return Ok(Some(ip));
            }
            match all.find(|(_, address)| address.duplicate) {
                Some((ip, _)) => Err(Error::new(format!("address \"{ip}\""), "claim", Errno::EADDRINUSE)),
                None => Ok(None),
            }
        };
        let news = |event: Notification<'_>| event.is_about(index);
        self.wait(&object, (MulticastGroup::Ipv6Ifaddr, news), Duration::from_secs(10), look).await
    }

    /// Removes an address. One that is not there is no error: `false`.
    ///
    /// # Errors
    /// Of the request.
    pub fn delete_address(&self, index: u32, cidr: Cidr) -> Result<bool> {
        let message = Message::DelAddress(message(index, cidr));
        match self.request(|| name(index, cidr), "delete", message, 0) {
            Ok(_) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn name(index: u32, cidr: Cidr) -> String {
    format!("address \"{cidr}\" of link number {index}")
}

fn message(index: u32, cidr: Cidr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if cidr.ip().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = cidr.prefix();
    message.header.index = index;
    if matches!(cidr.ip(), IpAddr::V4(ip) if ip.is_link_local()) {
        // Never the node's address for what leaves by another link. (Of IPv6 the kernel knows by itself.)
        message.header.scope = AddressScope::Link;
    }
    message.attributes.extend([AddressAttribute::Local(cidr.ip()), AddressAttribute::Address(cidr.ip())]);
    message
}

fn address(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut address, mut flags) = (None, None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    // On a point-to-point link `address` is the far end; on others both are the same, or only `address` is there.
    let cidr = Cidr::new(local.or(address)?, message.header.prefix_len).ok()?;
    let link_local = matches!(cidr.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
    Some(Address {
        cidr,
        tentative: flags.contains(AddressFlags::Tentative),
        duplicate: flags.contains(AddressFlags::Dadfailed),
        automatic: link_local || !flags.contains(AddressFlags::Permanent),
    })
}
