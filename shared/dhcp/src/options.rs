//! What a client asks for, what it says of itself, and how long it is patient.

use std::time::Duration;

use podwire_spec::hash;

/// How long to wait and when to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first message of a question to its repetition; later ones wait twice as long as the one before. A
    /// random second more or less (DHCPv4; RFC 2131, section 4.1) or tenth (DHCPv6; RFC 8415, section 15). 2 seconds
    /// by default: less than the 4 of RFC 2131, which was written for networks that were slow.
    pub first: Duration,
    /// The longest between two repetitions (the reference's `-resendmax`); 62 seconds by default.
    pub longest: Duration,
    /// How long one request to one server, or one try to renew, goes on before something else is tried; 10 seconds by
    /// default.
    pub request: Duration,
    /// How long `acquire` goes on in all; 10 seconds by default.
    pub total: Duration,
}

impl Timeouts {
    /// How long one question goes on of a client that does not give up. After that it looks anew whether its link is as it
    /// should be, and says in the log what it heard.
    pub(crate) fn patience(&self) -> Duration {
        self.longest.saturating_mul(4)
    }

    /// For how long to leave alone a server that has refused its own offer so many times before: not at all the first time,
    /// when somebody else may have been quicker; then longer and longer.
    pub(crate) fn pause(&self, refused: u32) -> Duration {
        self.first.saturating_mul(refused).min(self.longest)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(2),
            longest: Duration::from_secs(62),
            request: Duration::from_secs(10),
            total: Duration::from_secs(10),
        }
    }
}

/// What a DHCPv4 client says and asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options4 {
    /// The client identifier (option 61; RFC 2132, section 9.14): a type, such as 0, and 1 to 254 more bytes.
    pub client_id: Vec<u8>,
    /// The options to ask for, by code (option 55), in order of preference; [`Options4::REQUEST`] by default.
    pub request: Vec<u8>,
    /// More options to send with each message, by code: host name (12), vendor class (60), user class (77), ... The
    /// ones that are the protocol's own (50 to 55, 57, 61, 255 and 0) are passed over.
    pub send: Vec<(u8, Vec<u8>)>,
    /// Ask servers to broadcast their answers (RFC 2131, section 4.1). On an ipvlan that is done in any case: the kernel
    /// gives its devices only what is for their addresses, or for all.
    pub broadcast: bool,
    /// How long to wait.
    pub timeouts: Timeouts,
}

impl Options4 {
    /// What is asked for by default: classless routes, which have to come first (RFC 3442), subnet mask, routers, static
    /// routes, name servers, domain, MTU, broadcast address, search list.
    pub const REQUEST: [u8; 9] = [121, 1, 3, 33, 6, 15, 26, 28, 119];

    /// The defaults for a client that is known by `client_id`.
    pub fn new(client_id: &[u8]) -> Self {
        Self {
            client_id: client_id.to_vec(),
            request: Self::REQUEST.to_vec(),
            send: Vec::new(),
            broadcast: false,
            timeouts: Timeouts::default(),
        }
    }
}

/// What a DHCPv6 client says and asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options6 {
    /// The client's DHCP Unique Identifier (RFC 8415, section 11); see [`duid_of`].
    pub duid: Vec<u8>,
    /// Numbers the link among the client's (RFC 8415, section 12).
    pub iaid: u32,
    /// The options to ask for, by code (option 6); [`Options6::REQUEST`] by default.
    pub request: Vec<u16>,
    /// More options to send with each message, by code: user class (15), vendor class (16), FQDN (39), ... The ones that
    /// are the protocol's own (1 to 9, 13, 14) are passed over.
    pub send: Vec<(u16, Vec<u8>)>,
    /// Whether a server may answer the first message with the lease itself (RFC 8415, section 21.14); so by default.
    pub rapid_commit: bool,
    /// How long to wait.
    pub timeouts: Timeouts,
}

impl Options6 {
    /// What is asked for by default: name servers, search list, and the limit of repetitions (`SOL_MAX_RT`), which every
    /// client has to ask for.
    pub const REQUEST: [u16; 3] = [23, 24, 82];

    /// The defaults for a client that is known by `client_id`, as in DHCPv4, for its link `ifname`.
    pub fn new(client_id: &[u8], ifname: &str) -> Self {
        let [a, b, c, d, ..] = hash(ifname.as_bytes()).to_be_bytes();
        Self {
            duid: duid_of(client_id),
            iaid: u32::from_be_bytes([a, b, c, d]),
            request: Self::REQUEST.to_vec(),
            send: Vec::new(),
            rapid_commit: true,
            timeouts: Timeouts::default(),
        }
    }
}

/// A DUID made of a client identifier, always the same for the same: one of type UUID (RFC 6355), whose number is of
/// version 8, "custom" (RFC 9562).
pub fn duid_of(client_id: &[u8]) -> Vec<u8> {
    let first = hash(client_id).to_be_bytes();
    let second = hash(&[client_id, &first].concat()).to_be_bytes();
    let mut duid = [&[0, 4][..], &first, &second].concat();
    // Version and variant stand at the seventh and the ninth byte of the UUID.
    duid[8] = duid[8] & 0x0f | 0x80;
    duid[10] = duid[10] & 0x3f | 0x80;
    duid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duids_are_uuids_made_of_the_client_id() {
        let duid = duid_of(b"\0container/net/eth0");
        assert_eq!((duid.len(), &duid[..2]), (18, &[0, 4][..]));
        assert_eq!((duid[8] >> 4, duid[10] >> 6), (8, 2));
        assert_eq!(duid, duid_of(b"\0container/net/eth0"));
        assert_ne!(duid, duid_of(b"\0container/net/eth1"));
    }
}
