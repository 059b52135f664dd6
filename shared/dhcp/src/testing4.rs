//! What the tests of DHCPv4 share: a client, and answers as a server would write them.

use std::net::Ipv4Addr;

use dhcproto::{
    Encodable,
    v4::{DhcpOption, Message, MessageType, Opcode, OptionCode, UnknownOption},
};
use podwire_spec::Mac;

use crate::{
    Lease4, Moment, Options4,
    message4::{Answer, Identity},
};

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);
pub(crate) const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

pub(crate) fn identity() -> Identity {
    Identity { mac: MAC, broadcast: false, options: Options4::new(b"\0pod/eth0") }
}

/// An answer, with a server's identifier, a lease of an hour and a mask of 24 bits unless `options` say otherwise: an
/// option in there replaces ours, an empty one takes it away.
pub(crate) fn answer(kind: MessageType, xid: u32, address: Ipv4Addr, options: &[(u8, &[u8])]) -> Vec<u8> {
    let any = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(xid, any, address, SERVER, any, &MAC.0);
    message.set_opcode(Opcode::BootReply);
    let all = message.opts_mut();
    all.insert(DhcpOption::MessageType(kind));
    all.insert(DhcpOption::ServerIdentifier(SERVER));
    all.insert(DhcpOption::AddressLeaseTime(3600));
    all.insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)));
    for (code, bytes) in options {
        let code = OptionCode::from(*code);
        all.remove(code);
        if !bytes.is_empty() {
            all.insert(DhcpOption::Unknown(UnknownOption::new(code, bytes.to_vec())));
        }
    }
    message.to_vec().unwrap()
}

/// A lease of an hour.
pub(crate) fn lease() -> Lease4 {
    let answer = answer(MessageType::Ack, 7, ADDRESS, &[]);
    Lease4::read(Answer::decode(&answer, 7, &identity()).unwrap(), Moment::now()).unwrap()
}
