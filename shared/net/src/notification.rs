//! What the kernel says unasked, looked at just closely enough to tell whether it is worth a question.

use crate::{
    attribute::{attributes, number},
    link_message::{ifla, is_operational},
};

/// `nlmsghdr`, before everything that netlink sends.
const HEADER: usize = 16;
/// `ifinfomsg`, and before the attributes of a link.
const LINK_HEADER: usize = 16;
const RTM_DELLINK: u16 = 17;
const AF_UNSPEC: u8 = 0;

/// A datagram to a multicast group of links or addresses, which holds one message. What is cut off has nothing to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notification<'a>(pub(crate) &'a [u8]);

impl Notification<'_> {
    /// Whether it is about this link or an address of it. Of both, `struct ifinfomsg` and `struct ifaddrmsg`
    /// (`man 7 rtnetlink`), the index is the second word.
    pub(crate) fn is_about(self, index: u32) -> bool {
        self.0.get(HEADER + 4..HEADER + 8) == Some(&index.to_ne_bytes())
    }

    /// Whether a link is gone. The same message of another family says that a link has left its bridge.
    pub(crate) fn is_end(self) -> bool {
        self.0.get(4..6) == Some(&RTM_DELLINK.to_ne_bytes()) && self.0.get(HEADER) == Some(&AF_UNSPEC)
    }

    /// Whether a link says that it passes packets.
    pub(crate) fn is_operational(self) -> bool {
        let rest = self.0.get(HEADER + LINK_HEADER..).unwrap_or_default();
        attributes(rest).any(|(kind, value)| kind == ifla::OPERSTATE && is_operational(number(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{link_message::LinkRequest, message::Message, net::acknowledged};

    const DOWN: u8 = 2;
    const UP: u8 = 6;

    fn of_link(message: fn(LinkRequest) -> Message, index: u32, state: u8) -> Vec<u8> {
        let mut link = LinkRequest::named("eth0");
        link.index = index;
        link.attributes.u8(ifla::OPERSTATE, state);
        acknowledged(message(link))
    }

    #[test]
    fn it_is_about_one_link() {
        let bytes = of_link(Message::NewLink, 7, UP);
        assert!(Notification(&bytes).is_about(7));
        assert!(!Notification(&bytes).is_about(8));
        assert!(!Notification(&bytes[..23]).is_about(7));
    }

    #[test]
    fn an_address_is_of_a_link() {
        // RTM_NEWADDR of ::1 on link 7.
        let mut bytes = vec![44, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 128, 128, 254];
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend([20, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!(Notification(&bytes).is_about(7));
        assert!(!Notification(&bytes).is_about(10));
    }

    #[test]
    fn the_end_of_a_link_is_not_its_leaving_a_bridge() {
        let mut bytes = of_link(Message::DelLink, 7, DOWN);
        assert!(Notification(&bytes).is_end());
        bytes[HEADER] = 7;
        assert!(!Notification(&bytes).is_end());
        assert!(!Notification(&of_link(Message::NewLink, 7, DOWN)).is_end());
        assert!(!Notification(&bytes[..HEADER]).is_end());
    }

    #[test]
    fn a_link_passes_packets_or_not() {
        assert!(Notification(&of_link(Message::NewLink, 7, UP)).is_operational());
        assert!(!Notification(&of_link(Message::NewLink, 7, DOWN)).is_operational());
        assert!(!Notification(&[]).is_operational());
    }
}
