//! DHCPv4 messages, out and in. Their format is dhcproto's affair; what is in them, ours.

use std::{collections::BTreeMap, net::Ipv4Addr};

use dhcproto::{
    Decodable, Encodable,
    v4::{
        DhcpOption, Flags, HType, Message, MessageType, Opcode, OptionCode, UnknownOption,
        borrowed::{DhcpOptionIterator, Message as Received},
    },
};
use podwire_spec::Mac;

use crate::Options4;

/// The shortest message that every relay passes on (RFC 1542, section 2.1).
const SHORTEST: usize = 300;
/// The largest answer that we take, in bytes of an IP packet; no Ethernet has to fragment it.
pub(crate) const LARGEST: u16 = 1500;
/// The header and the magic number: the options stand behind it.
const FIXED: usize = 240;

/// Options that the protocol itself uses, so that nobody else may set them.
const OWN: [u8; 10] = [0, 50, 51, 52, 53, 54, 55, 57, 61, 255];

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The link's MAC address.
    pub(crate) mac: Mac,
    /// Whether answers have to be broadcast.
    pub(crate) broadcast: bool,
    /// Everything else.
    pub(crate) options: Options4,
}

/// What is different from one message to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) kind: MessageType,
    pub(crate) xid: u32,
    /// Seconds since the first message of this question.
    pub(crate) secs: u16,
    /// The client's address (`ciaddr`), where it has one.
    pub(crate) own: Option<Ipv4Addr>,
    /// The address that it wants (option 50).
    pub(crate) wanted: Option<Ipv4Addr>,
    /// The server that is meant (option 54).
    pub(crate) server: Option<Ipv4Addr>,
}

impl Question {
    /// The message's bytes, padded.
    pub(crate) fn encode(&self, identity: &Identity) -> Vec<u8> {
        let any = Ipv4Addr::UNSPECIFIED;
        let own = self.own.unwrap_or(any);
        let mut message = Message::new_with_id(self.xid, own, any, any, any, &identity.mac.0);
        message.set_secs(self.secs);
        if identity.broadcast {
            message.set_flags(Flags::default().set_broadcast());
        }
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(self.kind));
        let said = &identity.options;
        if !said.client_id.is_empty() {
            options.insert(DhcpOption::ClientIdentifier(said.client_id.clone()));
        }
        self.wanted.map(|ip| options.insert(DhcpOption::RequestedIpAddress(ip)));
        self.server.map(|ip| options.insert(DhcpOption::ServerIdentifier(ip)));
        // To give an address back, or to refuse it, nothing else may be said (RFC 2131, table 5).
        if !matches!(self.kind, MessageType::Release | MessageType::Decline) {
            options.insert(DhcpOption::MaxMessageSize(LARGEST));
            let codes: Vec<_> = said.request.iter().map(|code| OptionCode::from(*code)).collect();
            if !codes.is_empty() {
                options.insert(DhcpOption::ParameterRequestList(codes));
            }
            for (code, bytes) in said.send.iter().filter(|(code, _)| !OWN.contains(code)) {
                options.insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::from(*code), bytes.clone())));
            }
        }
        // What cannot be encoded is a list of more than 255 addresses or names; there is none here.
        let mut bytes = message.to_vec().unwrap_or_default();
        bytes.resize(bytes.len().max(SHORTEST), 0);
        bytes
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) kind: MessageType,
    /// The address that is offered or granted (`yiaddr`).
    pub(crate) address: Ipv4Addr,
    /// Every option as it came.
    pub(crate) options: BTreeMap<u8, Vec<u8>>,
}

impl Answer {
    /// Reads an answer to the question `xid`; `None` where this is somebody else's, or no DHCP at all.
    pub(crate) fn decode(bytes: &[u8], xid: u32, identity: &Identity) -> Option<Self> {
        // The library reads a hardware address of the length that the message says without a look at the message's.
        if bytes.len() < FIXED || bytes[2] != 6 {
            return None;
        }
        let message = Received::new(bytes).ok()?;
        let is_ours = message.opcode() == Opcode::BootReply
            && message.htype() == HType::Eth
            && message.xid() == xid
            && message.chaddr() == identity.mac.0
            && bytes[236..FIXED] == [99, 130, 83, 99];
        if !is_ours {
            return None;
        }
        let mut options = BTreeMap::new();
        gather(&mut options, &bytes[FIXED..]);
        // The fields for a boot file and a server's name may hold more options (RFC 2132, section 9.3), in this order
        // (RFC 3396, section 5).
        let overload = options.get(&52).and_then(|bytes| bytes.first().copied()).unwrap_or(0);
        if overload & 1 != 0 {
            gather(&mut options, &bytes[108..236]);
        }
        if overload & 2 != 0 {
            gather(&mut options, &bytes[44..108]);
        }
        // Pods on an ipvlan share a MAC address; the transaction number and, where a server sends it back (RFC 6842), the
        // client identifier tell them apart.
        if options.get(&61).is_some_and(|id| *id != identity.options.client_id) {
            return None;
        }
        let kind = MessageType::from(*options.get(&53)?.first()?);
        Some(Self { kind, address: message.yiaddr(), options })
    }

    /// The server's identifier (option 54).
    pub(crate) fn server(&self) -> Option<Ipv4Addr> {
        match decode(54, self.options.get(&54)?)? {
            DhcpOption::ServerIdentifier(ip) => Some(ip),
            _ => None,
        }
    }

    /// The server's words (option 56), without what could forge a line of a log.
    pub(crate) fn words(&self) -> String {
        let bytes = self.options.get(&56).map_or(&[][..], Vec::as_slice);
        String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(120).collect()
    }
}

/// Adds the options in `bytes`; the parts of one that is split are put together (RFC 3396).
fn gather(options: &mut BTreeMap<u8, Vec<u8>>, bytes: &[u8]) {
    for option in DhcpOptionIterator::new(bytes) {
        options.entry(u8::from(option.code())).or_default().extend(option.data());
    }
}

/// What an option of this code says; `None` where it is malformed.
pub(crate) fn decode(code: u8, bytes: &[u8]) -> Option<DhcpOption> {
    let mut encoded = Vec::with_capacity(bytes.len() + 4);
    // As it stands in a message: in parts of 255 bytes.
    for part in bytes.chunks(255) {
        encoded.extend([code, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
        encoded.extend(part);
    }
    DhcpOption::from_bytes(&encoded).ok()
}
