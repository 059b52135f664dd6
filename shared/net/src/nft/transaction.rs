//! The connection to nftables: sending transactions and reading sets.

use std::cell::Cell;

use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterProtoFamily as Family,
    nftables::{GenMessage, NfTablesMessage, SetElementList, SetElementMessage},
    none::ControlMessage,
};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use nix::errno::Errno;
use podwire_trace::step;

use super::{
    ATTEMPTS, TABLE,
    answer::{Answer, Content},
    build,
    build::Op,
};
use crate::{Error, Result, socket};

/// `NFNL_SUBSYS_NFTABLES` in `linux/netfilter/nfnetlink.h`.
const SUBSYSTEM: u16 = 10;
/// `NFNL_BATCH_GENID`: the attribute of a batch's beginning that makes it fail if the ruleset changed meanwhile.
const BATCH_GENID: u16 = 1;

/// A connection to nftables in one namespace, for as many requests as a call makes.
///
/// When something was removed the kernel takes a grace period of RCU to free it, and whoever closes a connection
/// meanwhile has to wait. So there is one, and it is closed last: by then the time has passed.
pub struct Nft {
    /// None where the kernel has no nftables.
    socket: Option<Socket>,
    next: Cell<u32>,
}

impl std::fmt::Debug for Nft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nft").finish_non_exhaustive()
    }
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    /// The chain that a verdict map sends the packet to.
    pub(super) goto: Option<String>,
    pub(super) comment: String,
}

impl Element {
    /// The comment as the `nft` tool stores it: type 0, length, text with its NUL.
    pub(super) fn user_data(&self) -> Vec<u8> {
        let mut data = vec![0, u8::try_from(self.comment.len() + 1).unwrap_or(u8::MAX)];
        data.extend(self.comment.bytes().take(usize::from(u8::MAX) - 1).chain([0]));
        data
    }

    pub(super) fn comment_of(user_data: &[u8]) -> String {
        match user_data {
            [0, len, text @ ..] if text.len() >= usize::from(*len) && *len > 0 => {
                String::from_utf8_lossy(&text[..usize::from(*len) - 1]).into_owned()
            }
            _ => String::new(),
        }
    }
}

/// A transaction: all of it or nothing.
pub(super) struct Transaction {
    family: Family,
    ops: Vec<Op>,
    /// The generation of the ruleset that it builds on, where that matters.
    generation: Option<u32>,
}

impl Transaction {
    pub(super) fn new<'a>(family: Family, ops: impl Iterator<Item = &'a Op>) -> Self {
        Self { family, ops: ops.cloned().collect(), generation: None }
    }

    /// Sends it and waits for the kernel's word on the whole.
    pub(super) fn commit(self, nft: &Nft) -> Result<()> {
        let mut batch = Vec::new();
        let begin = match self.generation {
            None => ControlMessage::BatchBegin,
            Some(generation) => ControlMessage::Other {
                message_type: 16,
                attributes: vec![netlink_packet_core::DefaultNla::new(BATCH_GENID, generation.to_be_bytes().to_vec())],
            },
        };
        // The header of a batch's ends carries the subsystem where that of a message has a resource.
        let edge = || NetfilterHeader::new(Family::Unspec, 0, SUBSYSTEM);
        let first = nft.number();
        write(&mut batch, NetfilterMessage::new(edge(), begin), first, 0);
        let count = self.ops.len();
        for (place, op) in self.ops.into_iter().enumerate() {
            let mut flags = if op.creates { NLM_F_CREATE | NLM_F_EXCL } else { 0 };
            if op.appends {
                flags = NLM_F_CREATE | NLM_F_APPEND;
            }
            // Errors of every operation come back unasked; only the end of a success must be acknowledged.
            flags |= if place + 1 == count { NLM_F_ACK } else { 0 };
            let message = NetfilterMessage::new(NetfilterHeader::new(self.family, 0, 0), op.message);
            write(&mut batch, message, nft.number(), flags);
        }
        write(&mut batch, NetfilterMessage::new(edge(), ControlMessage::BatchEnd), nft.number(), 0);
        nft.exchange(&batch, first, "change", |answer| match answer.payload {
            NetlinkPayload::Error(_) => Some(()),
            _ => None,
        })
    }
}

impl Nft {
    /// A connection in the namespace of the calling thread. A kernel without nftables is no error yet.
    ///
    /// # Errors
    /// Of the socket.
    pub fn open() -> Result<Self> {
        let failed = |error: std::io::Error| Error::io(object(), "open", &error);
        let socket = match Socket::new(NETLINK_NETFILTER) {
            Ok(mut socket) => {
                socket.bind_auto().map_err(failed)?;
                Some(socket)
            }
            Err(error) if error.raw_os_error() == Some(Errno::EPROTONOSUPPORT as i32) => None,
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { socket, next: Cell::new(1) })
    }

    /// A number for the next message: answers carry it.
    fn number(&self) -> u32 {
        self.next.replace(self.next.get().wrapping_add(1))
    }

    /// The elements of a set; none where the set or its table is missing, or the kernel has no nftables.
    pub(super) fn elements(&self, family: Family, set: &str) -> Result<Vec<Element>> {
        Ok(self.elements_and_generation(family, set)?.0)
    }

    /// The same, and the lower half of the number of the ruleset that they are of, if there are any.
    pub(super) fn elements_and_generation(&self, family: Family, set: &str) -> Result<(Vec<Element>, Option<u16>)> {
        let message = NfTablesMessage::GetSetElement(SetElementMessage {
            attributes: vec![SetElementList::Table(TABLE.to_owned()), SetElementList::Set(set.to_owned())],
        });
        for _ in 0..ATTEMPTS {
            let (mut found, mut interrupted, mut generation) = (Vec::new(), false, None);
            let done = self.ask(family, message.clone(), NLM_F_DUMP, "list", |answer| {
                interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(part) => {
                        // The parts of a list are made one by one, and the kernel does not flag all changes between.
                        interrupted |= generation.replace(part.generation).is_some_and(|of| of != part.generation);
                        if let Content::Elements(elements) = part.content {
                            found.extend(elements);
                        }
                        None
                    }
                    _ => Some(()),
                }
            });
            match done {
                Ok(()) if interrupted => {}
                Ok(()) => return Ok((found, generation)),
                Err(error) if error.is_absent() || is_no_nftables(&error) => return Ok((Vec::new(), None)),
                Err(error) if error.is(Errno::EAGAIN) || error.is(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(format!("set {set:?}"), "list", Errno::EAGAIN))
    }

    /// Whether a chain of ours exists.
    pub(super) fn has_chain(&self, family: Family, name: &str) -> Result<bool> {
        let message = NfTablesMessage::GetChain(build::chain(name));
        let mut found = false;
        let asked = self.ask(family, message, NLM_F_ACK, "look for a chain in", |answer| match answer.payload {
            NetlinkPayload::InnerMessage(_) => {
                found = true;
                None
            }
            _ => Some(()),
        });
        match asked {
            Ok(()) => Ok(found),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes the table if none of `sets` has an element, and nobody adds one meanwhile.
    pub(super) fn delete_table_if_empty(&self, family: Family, sets: &[&str]) -> Result<()> {
        let generation = match self.generation() {
            Err(error) if is_no_nftables(&error) => return Ok(()),
            other => other?,
        };
        for set in sets {
            if !self.elements(family, set)?.is_empty() {
                return Ok(());
            }
        }
        let mut transaction = Transaction::new(family, [Op::delete_table()].iter());
        transaction.generation = generation;
        match transaction.commit(self) {
            // Changed meanwhile: then it is in use, or another process did it.
            Err(error) if error.is_absent() || error.is(Errno::ERESTART) || error.is(Errno::EBUSY) => Ok(()),
            other => other,
        }
    }

    /// The number of the ruleset as it is; every transaction makes it one more.
    pub(super) fn generation(&self) -> Result<Option<u32>> {
        let message = NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() });
        let mut generation = None;
        self.ask(Family::Unspec, message, NLM_F_ACK, "read the generation of", |answer| match answer.payload {
            NetlinkPayload::InnerMessage(Answer { content: Content::Generation(number), .. }) => {
                generation = number;
                None
            }
            _ => Some(()),
        })?;
        Ok(generation)
    }

    fn ask<T>(
        &self,
        family: Family,
        message: NfTablesMessage,
        flags: u16,
        operation: &'static str,
        each: impl FnMut(NetlinkMessage<Answer>) -> Option<T>,
    ) -> Result<T> {
        let mut request = Vec::new();
        let number = self.number();
        let is_about_nothing = matches!(message, NfTablesMessage::GetGen(_));
        write(&mut request, NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message), number, flags);
        match self.exchange(&request, number, operation, each) {
            // Netfilter without nftables refuses its messages so. There is nothing else that could be wrong with the
            // question for the generation, so that tells.
            Err(error) if error.is(Errno::EINVAL) && (is_about_nothing || self.generation().is_err()) => {
                Err(Error::new(object(), operation, Errno::EOPNOTSUPP))
            }
            other => other,
        }
    }

    /// Sends `request`, whose first message has the number `first`, and hands over the answers, until `each` has what
    /// it wanted or the kernel refuses.
    fn exchange<T>(
        &self,
        request: &[u8],
        first: u32,
        operation: &'static str,
        each: impl FnMut(NetlinkMessage<Answer>) -> Option<T>,
    ) -> Result<T> {
        step(operation, object, Error::why, || self.send_and_hear(request, first, operation, each))
    }

    fn send_and_hear<T>(
        &self,
        request: &[u8],
        first: u32,
        operation: &'static str,
        mut each: impl FnMut(NetlinkMessage<Answer>) -> Option<T>,
    ) -> Result<T> {
        let failed = |error: &std::io::Error| Error::io(object(), operation, error);
        let socket = self.socket.as_ref().ok_or_else(|| Error::new(object(), operation, Errno::EPROTONOSUPPORT))?;
        socket::send(socket, request).map_err(|error| failed(&error))?;
        socket::with_buffer(|buffer| {
            loop {
                for answer in socket::messages(socket::receive(socket, buffer).map_err(|error| failed(&error))?) {
                    let answer = answer.map_err(|error| Error::other(object(), operation, error))?;
                    if answer.header.sequence_number < first {
                        // What an earlier request, that was refused, had still to come.
                        continue;
                    }
                    if let NetlinkPayload::Error(ErrorMessage { code: Some(code), .. }) = &answer.payload {
                        return Err(Error::new(object(), operation, Errno::from_raw(-code.get())));
                    }
                    if let Some(wanted) = each(answer) {
                        return Ok(wanted);
                    }
                }
            }
        })
    }
}

/// Whether the kernel has no nftables.
fn is_no_nftables(error: &Error) -> bool {
    error.is(Errno::EPROTONOSUPPORT) || error.is(Errno::EOPNOTSUPP)
}

fn object() -> String {
    format!("nftables table {TABLE:?}")
}

fn write(buffer: &mut Vec<u8>, message: NetfilterMessage, number: u32, flags: u16) {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = number;
    message.finalize();
    let start = buffer.len();
    buffer.resize(start + message.buffer_len(), 0);
    message.serialize(&mut buffer[start..]);
}
