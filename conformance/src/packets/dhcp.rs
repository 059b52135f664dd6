//! `DHCPv4` messages taken apart (RFC 2131), as far as the tests look into one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::{Body, Frame};
use crate::lab::mac_text;

/// Kinds of message: the value of option 53.
pub mod kind {
    /// A client looks for servers.
    pub const DISCOVER: u8 = 1;
    /// A client asks for an address, or for more time.
    pub const REQUEST: u8 = 3;
    /// A server confirms.
    pub const ACK: u8 = 5;
    /// A server refuses.
    pub const NAK: u8 = 6;
    /// A client gives its address back.
    pub const RELEASE: u8 = 7;
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dhcp {
    /// Of a client; else of a server.
    pub request: bool,
    /// What ties an answer to its question.
    pub xid: u32,
    /// The client asks for answers by broadcast.
    pub broadcast: bool,
    /// The address that the client has (`ciaddr`).
    pub client: Ipv4Addr,
    /// The address that it is given (`yiaddr`).
    pub yours: Ipv4Addr,
    /// The client's MAC address (`chaddr`).
    pub mac: String,
    /// By number. One that comes in parts is put together (RFC 3396).
    pub options: BTreeMap<u8, Vec<u8>>,
}

impl Dhcp {
    /// The message that `frame` carries, if it does.
    pub fn of(frame: &Frame) -> Option<Self> {
        let Body::Ip { protocol: 17, payload, .. } = &frame.body else { return None };
        let port = |at: usize| Some(u16::from_be_bytes([*payload.get(at)?, *payload.get(at + 1)?]));
        let server = [port(0)?, port(2)?].contains(&67);
        if server { Self::parse(payload.get(8..)?) } else { None }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        const COOKIE: [u8; 4] = [99, 130, 83, 99];
        let four = |at: usize| -> Option<[u8; 4]> { bytes.get(at..at + 4)?.try_into().ok() };
        if four(236)? != COOKIE {
            return None;
        }
        Some(Self {
            request: bytes[0] == 1,
            xid: u32::from_be_bytes(four(4)?),
            broadcast: bytes[10] & 0x80 != 0,
            client: four(12)?.into(),
            yours: four(16)?.into(),
            mac: mac_text(&bytes[28..34]),
            options: options(&bytes[240..])?,
        })
    }

    /// What it is; one of [`kind`], for one.
    pub fn kind(&self) -> Option<u8> {
        self.options.get(&53)?.first().copied()
    }

    /// The value of an option.
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.get(&code).map(Vec::as_slice)
    }

    /// The options that the client asks for.
    pub fn requested(&self) -> &[u8] {
        self.option(55).unwrap_or_default()
    }
}

fn options(mut bytes: &[u8]) -> Option<BTreeMap<u8, Vec<u8>>> {
    let mut all: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    while let [code, rest @ ..] = bytes {
        match code {
            0 => bytes = rest,
            255 => break,
            code => {
                let (length, rest) = rest.split_first()?;
                let value = rest.get(..usize::from(*length))?;
                all.entry(*code).or_default().extend(value);
                bytes = &rest[value.len()..];
            }
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Vec<u8> {
        let mut bytes = vec![0; 240];
        (bytes[0], bytes[10]) = (1, 0x80);
        bytes[4..8].copy_from_slice(&[0, 0, 0, 7]);
        bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
        bytes.extend([53, 1, kind::DISCOVER, 0, 12, 1, b'a', 12, 1, b'b', 255, 9]);
        bytes
    }

    #[test]
    fn a_message_is_taken_apart() {
        let dhcp = Dhcp::parse(&message()).expect("a message");
        assert!(dhcp.request && dhcp.broadcast && dhcp.xid == 7);
        assert_eq!((dhcp.kind(), dhcp.option(12)), (Some(kind::DISCOVER), Some(&b"ab"[..])));
    }

    #[test]
    fn a_message_cut_short_is_no_panic() {
        let bytes = message();
        for length in 0..bytes.len() {
            let _ = Dhcp::parse(&bytes[..length]);
        }
    }
}
