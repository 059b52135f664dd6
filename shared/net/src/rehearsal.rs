//! What the kernel's answers meet, for programs that try much input in little time, such as fuzzers. Nothing is asked.

use netlink_packet_core::NetlinkPayload;

use crate::{Link, message::Message, net::messages};

/// Reads a datagram of netlink messages, and how many of them could be read.
pub fn datagram(bytes: &[u8]) -> usize {
    let read = messages(bytes).filter_map(Result::ok).inspect(|message| {
        if let NetlinkPayload::InnerMessage(Message::NewLink(link)) = &message.payload {
            drop(Link::from(link.clone()));
        }
    });
    read.count()
}
