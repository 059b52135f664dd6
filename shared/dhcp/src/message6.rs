//! DHCPv6 messages, out and in. Their format is dhcproto's affair; what is in them, ours.

use std::{collections::BTreeMap, net::Ipv6Addr};

use dhcproto::{
    Decodable, Encodable,
    v6::{DhcpOption, IAAddr, IANA, Message, MessageType, ORO, OptionCode, StatusCode, UnknownOption},
};

use crate::Options6;

/// Options that the protocol itself uses, so that nobody else may set them.
const OWN: [u16; 11] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14];

const CLIENT_ID: u16 = 1;
const SERVER_ID: u16 = 2;
const IA_NA: u16 = 3;
const IA_ADDRESS: u16 = 5;
const STATUS: u16 = 13;

/// The longest DUID, with its type (RFC 8415, section 11.1).
const LONGEST_DUID: usize = 130;

/// What is different from one message to the next.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) kind: MessageType,
    pub(crate) xid: [u8; 3],
    /// Hundredths of a second since the first message of this question.
    pub(crate) elapsed: u16,
    /// The DUID of the server that is meant.
    pub(crate) server: Option<Vec<u8>>,
    /// The addresses that it is about.
    pub(crate) addresses: Vec<Ipv6Addr>,
}

impl Question {
    /// The message's bytes.
    pub(crate) fn encode(&self, said: &Options6) -> Vec<u8> {
        let mut message = Message::new_with_id(self.kind, self.xid);
        let options = message.opts_mut();
        options.insert(DhcpOption::ClientId(said.duid.clone()));
        if let Some(server) = &self.server {
            options.insert(DhcpOption::ServerId(server.clone()));
        }
        let address = |addr: &Ipv6Addr| {
            let none = FromIterator::from_iter([]);
            DhcpOption::IAAddr(IAAddr { addr: *addr, preferred_life: 0, valid_life: 0, opts: none })
        };
        let opts = self.addresses.iter().map(address).collect();
        options.insert(DhcpOption::IANA(IANA { id: said.iaid, t1: 0, t2: 0, opts }));
        options.insert(DhcpOption::ElapsedTime(self.elapsed));
        if self.kind == MessageType::Solicit && said.rapid_commit {
            options.insert(DhcpOption::RapidCommit);
        }
        if self.kind != MessageType::Release {
            let opts = said.request.iter().map(|code| OptionCode::from(*code)).collect();
            options.insert(DhcpOption::ORO(ORO { opts }));
        }
        for (code, bytes) in said.send.iter().filter(|(code, _)| !OWN.contains(code)) {
            options.insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::from(*code), bytes.clone())));
        }
        // No option of ours is one that cannot be encoded.
        message.to_vec().unwrap_or_default()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) kind: MessageType,
    /// The DUID of the server.
    pub(crate) server: Vec<u8>,
    /// Whether it is the lease itself that answers a solicitation.
    pub(crate) rapid: bool,
    /// The message's options that we read.
    pub(crate) read: Vec<DhcpOption>,
    /// Every option as it came; of several with one code the first.
    pub(crate) options: BTreeMap<u16, Vec<u8>>,
}

impl Answer {
    /// Reads an answer to the question `xid`; `None` where this is somebody else's, or malformed.
    pub(crate) fn decode(bytes: &[u8], xid: [u8; 3], said: &Options6) -> Option<Self> {
        let (head, body) = bytes.split_first_chunk::<4>()?;
        if head[1..] != xid {
            return None;
        }
        let mut options = BTreeMap::new();
        for (code, bytes) in parts(body)? {
            options.entry(code).or_insert_with(|| bytes.to_vec());
        }
        let server = options.get(&SERVER_ID)?;
        if options.get(&CLIENT_ID) != Some(&said.duid) || !(3..=LONGEST_DUID).contains(&server.len()) {
            return None;
        }
        let message = Message::from_bytes(&[head, &sift(body, Level::Message)?[..]].concat()).ok()?;
        Some(Self {
            kind: message.msg_type(),
            server: server.clone(),
            rapid: options.contains_key(&14),
            read: message.opts().iter().cloned().collect(),
            options,
        })
    }

    /// What the server says of the whole message.
    pub(crate) fn status(&self) -> Result<(), String> {
        status(self.read.iter())
    }

    /// The association with this number.
    pub(crate) fn association(&self, iaid: u32) -> Option<&IANA> {
        self.read.iter().find_map(|option| match option {
            DhcpOption::IANA(association) if association.id == iaid => Some(association),
            _ => None,
        })
    }
}

/// What a status among these options says; none is success (RFC 8415, section 21.13).
///
/// # Errors
/// In words, for every other.
pub(crate) fn status<'a>(mut options: impl Iterator<Item = &'a DhcpOption>) -> Result<(), String> {
    match options.find_map(|option| match option {
        DhcpOption::StatusCode(StatusCode { status, msg }) => Some((*status, msg)),
        _ => None,
    }) {
        None => Ok(()),
        Some((status, _)) if u16::from(status) == 0 => Ok(()),
        Some((status, words)) if words.is_empty() => Err(format!("{status:?}")),
        Some((status, words)) => Err(format!("{status:?} ({words:?})")),
    }
}

/// Where options stand.
#[derive(Clone, Copy, Debug)]
enum Level {
    Message,
    Association,
    Address,
}

/// The options that we read, and nothing else, each of a length that it can have. The library takes lengths from each
/// other without a look, descends as deep as a message goes, and stops without a word at what it cannot read.
fn sift(bytes: &[u8], level: Level) -> Option<Vec<u8>> {
    let mut kept = Vec::with_capacity(bytes.len());
    for (code, bytes) in parts(bytes)? {
        let inner = |header: usize, level| {
            let (header, options) = bytes.split_at_checked(header)?;
            Some([header, &sift(options, level)?[..]].concat())
        };
        let bytes = match (level, code) {
            (Level::Message, IA_NA) => inner(12, Level::Association)?,
            (Level::Association, IA_ADDRESS) => inner(24, Level::Address)?,
            (_, STATUS) => {
                let (status, words) = bytes.split_first_chunk::<2>()?;
                let words = String::from_utf8_lossy(words);
                let words: String = words.chars().filter(|c| !c.is_control()).take(120).collect();
                [status, words.as_bytes()].concat()
            }
            // Preference; name servers; search list.
            (Level::Message, 7) if bytes.len() == 1 => bytes.to_vec(),
            (Level::Message, 23) if bytes.len() % 16 == 0 => bytes.to_vec(),
            (Level::Message, 24) => bytes.to_vec(),
            _ => continue,
        };
        kept.extend(code.to_be_bytes());
        kept.extend(u16::try_from(bytes.len()).ok()?.to_be_bytes());
        kept.extend(bytes);
    }
    Some(kept)
}

/// The options in `bytes`; `None` where the last one is cut off.
fn parts(mut bytes: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let ([a, b, c, d], rest) = bytes.split_first_chunk::<4>()?;
        let (option, rest) = rest.split_at_checked(u16::from_be_bytes([*c, *d]).into())?;
        all.push((u16::from_be_bytes([*a, *b]), option));
        bytes = rest;
    }
    Some(all)
}
