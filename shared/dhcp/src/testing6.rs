//! What the tests of DHCPv6 share: a client, and answers as a server would write them.

use std::net::Ipv6Addr;

use dhcproto::{
    Encodable,
    v6::{DhcpOption, IAAddr, IANA, Message, MessageType, StatusCode},
};

use crate::{Lease6, Moment, Options6, message6::Answer};

pub(crate) const SERVER: &[u8] = &[0, 1, 0, 1, 9, 9, 9, 9];
pub(crate) const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x50);

pub(crate) fn said() -> Options6 {
    Options6::new(b"\0pod/eth0", "eth0")
}

/// An address on loan.
pub(crate) fn address(addr: Ipv6Addr, preferred_life: u32, valid_life: u32) -> DhcpOption {
    DhcpOption::IAAddr(IAAddr { addr, preferred_life, valid_life, opts: FromIterator::from_iter([]) })
}

/// The client's association, with T1 and T2 and what is in it.
pub(crate) fn association(t1: u32, t2: u32, options: Vec<DhcpOption>) -> DhcpOption {
    DhcpOption::IANA(IANA { id: said().iaid, t1, t2, opts: options.into_iter().collect() })
}

/// An hour of the usual address.
pub(crate) fn hour() -> DhcpOption {
    association(0, 0, vec![address(ADDRESS, 3600, 7200)])
}

pub(crate) fn status(code: u16, words: &str) -> DhcpOption {
    DhcpOption::StatusCode(StatusCode { status: code.into(), msg: words.to_owned() })
}

/// An answer from `server` to our client.
pub(crate) fn answer_from(server: &[u8], kind: MessageType, xid: [u8; 3], options: Vec<DhcpOption>) -> Vec<u8> {
    let mut message = Message::new_with_id(kind, xid);
    let ids = [DhcpOption::ClientId(said().duid), DhcpOption::ServerId(server.to_vec())];
    ids.into_iter().chain(options).for_each(|option| message.opts_mut().insert(option));
    message.to_vec().unwrap()
}

/// An answer from the usual server.
pub(crate) fn answer(kind: MessageType, xid: [u8; 3], options: Vec<DhcpOption>) -> Vec<u8> {
    answer_from(SERVER, kind, xid, options)
}

/// A lease of two hours.
pub(crate) fn lease() -> Lease6 {
    let answer = answer(MessageType::Reply, [1, 2, 3], vec![hour()]);
    Lease6::read(&Answer::decode(&answer, [1, 2, 3], &said()).unwrap(), &said(), Moment::now()).unwrap()
}
