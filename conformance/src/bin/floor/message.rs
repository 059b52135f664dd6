//! Netlink messages as bytes, and the sockets that carry them.

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc::{NLA_F_NESTED, NLM_F_ACK, NLM_F_REQUEST};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

/// Length of a `struct nlmsghdr`.
const HEADER: usize = 16;

/// One message (`man 7 netlink`).
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// A request of that type with the fixed part `body`. Errors come back in any case; an acknowledgement only for
    /// what [`Socket::ask`] sends last.
    pub(crate) fn new(kind: u16, flags: i32, body: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend(body);
        let mut message = Self(bytes);
        message.flag(NLM_F_REQUEST | flags);
        message
    }

    /// With an attribute.
    pub(crate) fn with(mut self, kind: u16, data: &[u8]) -> Self {
        let start = self.0.len();
        self.0.extend([0, 0]);
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(data);
        self.close(start);
        self
    }

    /// With an attribute that is text, closed with a NUL as the kernel wants it.
    pub(crate) fn text(self, kind: u16, text: &str) -> Self {
        self.with(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// With an attribute whose data is `head` and then more attributes.
    pub(crate) fn nest(mut self, kind: u16, head: &[u8], fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.0.len();
        self.0.extend([0, 0]);
        self.0.extend((kind | flag(NLA_F_NESTED)).to_ne_bytes());
        self.0.extend(head);
        let mut filled = fill(self);
        filled.close(start);
        filled
    }

    /// Writes the length of the attribute that begins at `start`, and pads it.
    fn close(&mut self, start: usize) {
        let len = u16::try_from(self.0.len() - start).expect("an attribute is short");
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn flag(&mut self, flags: i32) {
        let all = u16::from_ne_bytes([self.0[6], self.0[7]]) | flag(flags);
        self.0[6..8].copy_from_slice(&all.to_ne_bytes());
    }
}

/// Flags are 16 bits of an int in C.
fn flag(flags: i32) -> u16 {
    u16::try_from(flags).expect("flags have 16 bits")
}

/// A netlink socket in the namespace that the thread was in when it was opened.
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// `protocol` is rtnetlink or nfnetlink.
    pub(crate) fn open(protocol: SockProtocol) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        Ok(Self(socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?))
    }

    /// Sends all messages at once and waits for the kernel's word on them: done, or the first that was refused. The
    /// kernel works on them in the order given and stops at none.
    pub(crate) fn ask(&self, mut messages: Vec<Message>) -> Result<()> {
        if let Some(last) = messages.last_mut() {
            last.flag(NLM_F_ACK);
        }
        self.send(messages)
    }

    /// The same where the message that is acknowledged is not the last: whoever sends has said which
    /// ([`Message::new`] with `NLM_F_ACK`).
    pub(crate) fn send(&self, messages: Vec<Message>) -> Result<()> {
        let mut bytes = Vec::with_capacity(1024);
        for mut message in messages {
            let len = u32::try_from(message.0.len()).expect("a message is short");
            message.0[..4].copy_from_slice(&len.to_ne_bytes());
            bytes.extend(message.0);
        }
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.0.as_raw_fd(), &bytes, &kernel, MsgFlags::empty())?;
        let mut answer = [0; 4096];
        let len = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        // A struct nlmsgerr: the errno, negated, or 0 of an acknowledgement.
        let errno = answer[..len].get(HEADER..HEADER + 4).map(|four| [four[0], four[1], four[2], four[3]]);
        match errno.map(i32::from_ne_bytes) {
            Some(0) => Ok(()),
            Some(errno) => Err(Error::from_raw_os_error(-errno)),
            None => Err(Error::other("netlink: an answer that is too short")),
        }
    }
}
