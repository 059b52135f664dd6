//! What the kernel's answers meet, for programs that try much input in little time, such as fuzzers. Nothing is asked.

use netlink_packet_core::NetlinkPayload;

use crate::{Bond, IpVlan, MacVlan, VlanDevice, Vxlan, message::Message, nft::Answer, socket::messages};

/// Reads a datagram of netlink messages, of rtnetlink and of nftables. Gives how many of them could be read as the former.
pub fn datagram(bytes: &[u8]) -> usize {
    messages::<Answer>(bytes).for_each(drop);
    let read = messages(bytes).filter_map(Result::ok).inspect(|message| {
        let NetlinkPayload::InnerMessage(Message::Link(link)) = &message.payload else { return };
        // Each module reads the options of its own type.
        drop((Bond::of(link), IpVlan::of(link), MacVlan::of(link), VlanDevice::of(link), Vxlan::of(link, false)));
        drop(link.vlans());
    });
    read.count()
}
