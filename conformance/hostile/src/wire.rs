//! What servers, routers and the kernel send.

use std::fmt::Debug;

use podwire_dhcp::rehearsal;
use serde::{Serialize, de::DeserializeOwned};

/// Messages of DHCPv4 servers, one after the other as the client gets them.
pub(crate) fn dhcpv4(data: &[u8]) {
    let messages = messages(data);
    if let Some(lease) = rehearsal::messages4(&messages) {
        assert!(!lease.address.ip().is_unspecified() && lease.address.prefix() > 0, "{lease:?}");
        kept(&lease);
    }
    for message in messages {
        rehearsal::packet4(message);
    }
}

/// Messages of DHCPv6 servers, and advertisements of routers.
pub(crate) fn dhcpv6(data: &[u8]) {
    let messages = messages(data);
    if let Some(lease) = rehearsal::messages6(&messages) {
        assert!(!lease.addresses.is_empty(), "{lease:?}");
        kept(&lease);
    }
    for message in messages {
        if let Some(router) = rehearsal::advertisement(message) {
            kept(&router);
        }
    }
}

/// A datagram of netlink.
pub(crate) fn netlink(data: &[u8]) {
    podwire_net::rehearsal::datagram(data);
}

/// Each message behind its length, two bytes of it.
fn messages(mut data: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let (message, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        messages.push(message);
        data = rest;
    }
    messages
}

/// What is kept on the disk and read by the next daemon has to come out the same.
fn kept<T: Serialize + DeserializeOwned + PartialEq + Debug>(what: &T) {
    let text = serde_json::to_string(what).expect("JSON");
    assert_eq!(&serde_json::from_str::<T>(&text).expect("what was written can be read"), what);
}
