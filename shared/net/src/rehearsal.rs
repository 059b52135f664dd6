//! What the kernel's answers meet, for programs that try much input in little time, such as fuzzers. Nothing is asked.

use netlink_packet_core::NetlinkPayload;

use crate::{Bond, IpVlan, MacVlan, VlanDevice, Vxlan, message::Message, net::messages};

/// Reads a datagram of netlink messages, and how many of them could be read.
pub fn datagram(bytes: &[u8]) -> usize {
    let read = messages(bytes).filter_map(Result::ok).inspect(|message| {
        let NetlinkPayload::InnerMessage(Message::Link(link)) = &message.payload else { return };
        // Each module reads the options of its own type.
        drop((Bond::of(link), IpVlan::of(link), MacVlan::of(link), VlanDevice::of(link), Vxlan::of(link, false)));
        drop(link.vlans());
    });
    read.count()
}
