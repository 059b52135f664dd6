//! Elements of sets of nftables: what a pod adds to rules that are there for all.

use std::io::Result;

use nix::libc::{NLM_F_ACK, NLM_F_CREATE};
use nix::sys::socket::SockProtocol;

use crate::message::{Message, Socket};
use crate::order::Element;

// linux/netfilter/nfnetlink.h
const NFNL_SUBSYS_NFTABLES: u8 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
// linux/netfilter/nf_tables.h
const NFT_MSG_NEWSETELEM: u8 = 12;
const NFT_MSG_DELSETELEM: u8 = 14;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;

/// Adds each element, in a transaction each.
pub(crate) fn add(elements: &[Element]) -> Result<()> {
    send(elements, NFT_MSG_NEWSETELEM, NLM_F_CREATE).map(drop)
}

/// Takes each out, in a transaction each; the socket is to be kept until the process has nothing better to do.
pub(crate) fn del(elements: &[Element]) -> Result<Option<Socket>> {
    send(elements, NFT_MSG_DELSETELEM, 0)
}

fn send(elements: &[Element], verb: u8, flags: i32) -> Result<Option<Socket>> {
    if elements.is_empty() {
        return Ok(None);
    }
    let socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
    for element in elements {
        let kind = u16::from_be_bytes([NFNL_SUBSYS_NFTABLES, verb]);
        let message = Message::new(kind, flags | NLM_F_ACK, &[element.family, 0, 0, 0]);
        let message = message.text(NFTA_SET_ELEM_LIST_TABLE, &element.table);
        let message = message.text(NFTA_SET_ELEM_LIST_SET, &element.set);
        let message = message.nest(NFTA_SET_ELEM_LIST_ELEMENTS, &[], |list| {
            list.nest(NFTA_LIST_ELEM, &[], |one| {
                one.nest(NFTA_SET_ELEM_KEY, &[], |key| key.with(NFTA_DATA_VALUE, &element.key))
            })
        });
        // The batch is the nftables subsystem's: its number, in network order, behind family and version.
        let batch = [0, 0, 0, NFNL_SUBSYS_NFTABLES];
        let (begin, end) = (Message::new(NFNL_MSG_BATCH_BEGIN, 0, &batch), Message::new(NFNL_MSG_BATCH_END, 0, &batch));
        socket.send(vec![begin, message, end])?;
    }
    Ok(Some(socket))
}
