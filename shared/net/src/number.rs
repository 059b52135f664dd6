//! Looking into other namespaces without entering them: by the numbers under which a namespace knows others (nsid in
//! `ip-netns(8)`). The kernel keeps them, and forgets one with its namespace.

use netlink_packet_core::{NLM_F_DUMP, NLM_F_ECHO};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use nix::errno::Errno;

use crate::{
    Error, Link, Net, Netns, Result,
    link_message::{LinkRequest, ifla},
    links::{links, without_statistics},
    message::Message,
};

/// `NETNSA_NSID_NOT_ASSIGNED` in `linux/net_namespace.h`; in a request: any that is free.
const NOT_ASSIGNED: i32 = -1;

impl Net {
    /// The number of a namespace here, which it is given if it has none: from then on its links can be listed from
    /// here, and links made here can have a parent there.
    ///
    /// # Errors
    /// Of the request.
    pub fn give_number(&self, other: &Netns) -> Result<i32> {
        let wanted = Message::NewNsId(message(vec![fd(other), NsidAttribute::Id(NOT_ASSIGNED)]));
        let new = match self.request(|| other.name().to_owned(), "number", wanted, NLM_F_ECHO) {
            Ok(answers) => numbers(answers).next(),
            Err(error) if error.is(Errno::EEXIST) => None,
            Err(error) => return Err(error),
        };
        // It had one, or the kernel does not echo.
        let number = if new.is_some() { new } else { self.number_of(other)? };
        number.ok_or_else(|| Error::new(other.name(), "find the number of", Errno::ENOENT))
    }

    /// The number that a namespace has here, which may be this very one.
    ///
    /// # Errors
    /// Of the request.
    pub fn number_of(&self, other: &Netns) -> Result<Option<i32>> {
        let message = Message::GetNsId(message(vec![fd(other)]));
        let answers = self.request(|| other.name().to_owned(), "get the number of", message, 0)?;
        Ok(numbers(answers).next())
    }

    /// The numbers of all namespaces that have one here.
    ///
    /// # Errors
    /// Of the request.
    pub fn numbers(&self) -> Result<Vec<i32>> {
        let message = Message::GetNsId(message(vec![]));
        Ok(numbers(self.request(|| "network namespaces".to_owned(), "list", message, NLM_F_DUMP)?).collect())
    }

    /// The links of one type in the namespace with that number; none where the namespace is gone.
    ///
    /// # Errors
    /// Of the request.
    pub fn links_in(&self, number: i32, kind: &str) -> Result<Vec<Link>> {
        let mut request = LinkRequest::default();
        without_statistics(&mut request);
        request.attributes.u32(ifla::TARGET_NETNSID, number.cast_unsigned());
        request.kind(kind);
        let object = || format!("links of network namespace number {number}");
        match self.request(object, "list", Message::GetLink(request), NLM_F_DUMP) {
            // A kernel that does not know the type yet passes over the filter.
            Ok(answers) => Ok(links(answers).filter(|link| link.kind == kind).collect()),
            Err(error) if error.is(Errno::EINVAL) || error.is_absent() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

fn fd(ns: &Netns) -> NsidAttribute {
    NsidAttribute::Fd(ns.raw_fd().unsigned_abs())
}

fn message(attributes: Vec<NsidAttribute>) -> NsidMessage {
    let mut message = NsidMessage::default();
    message.attributes = attributes;
    message
}

fn numbers(answers: Vec<Message>) -> impl Iterator<Item = i32> {
    answers.into_iter().filter_map(|answer| match answer {
        Message::NewNsId(message) => message.attributes.iter().find_map(|attribute| match attribute {
            NsidAttribute::Id(number) if *number != NOT_ASSIGNED => Some(*number),
            _ => None,
        }),
        _ => None,
    })
}
