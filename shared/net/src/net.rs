//! A netlink connection in one namespace, and the one way every request takes.

use std::{cell::Cell, io, time::Duration};

use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use nix::errno::Errno;
use podwire_trace::{Step, step};
use rtnetlink::{
    MulticastGroup,
    sys::{AsyncSocket, AsyncSocketExt, Socket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE},
};
use tokio::runtime::Handle;

use crate::{Error, Netns, Result, message::Message, notification::Notification, runtime, socket};

/// How often an interrupted dump is repeated: each time means that somebody changed the table while it was read.
const DUMP_ATTEMPTS: u32 = 64;

/// A netlink connection that stays in the namespace where it was opened: `pod.link("eth0")` is just a call.
///
/// The kernel does what is asked of it while the request is sent, and its answer is there when that returns. So
/// nothing is gained by waiting for a socket to become readable, and rtnetlink's connection, which is a task of its
/// own, costs an ADD some 50 system calls: messages and sockets are its, the exchange is ours.
pub struct Net {
    socket: Socket,
    /// The number of the next request; answers carry it.
    next: Cell<u32>,
    ns: Netns,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Net").field(&self.ns).finish()
    }
}

impl Net {
    /// A connection in `ns`.
    ///
    /// # Errors
    /// If the namespace cannot be entered or the socket not opened.
    pub fn open(ns: Netns) -> Result<Self> {
        Self::open_with(ns, || ()).map(|(net, ())| net)
    }

    /// As [`Self::open`], with other work to be done in the namespace on the same visit.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with<T>(ns: Netns, work: impl FnOnce() -> T) -> Result<(Self, T)> {
        let connect = || {
            let worked = work();
            let socket = Socket::new(NETLINK_ROUTE)?;
            // A request that asks for too much is refused rather than answered with more.
            socket.set_netlink_get_strict_chk(true)?;
            // The kernel's own words make the best error details; the request itself need not come back.
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            io::Result::Ok((socket, worked))
        };
        let object = || format!("netlink socket in {}", ns.name());
        let (socket, worked) =
            step("open", object, Error::why, || ns.run(connect)?.map_err(|error| Error::io(object(), "open", &error)))?;
        let net = Self { socket, next: Cell::new(1), ns };
        Ok((net, worked))
    }

    /// The namespace.
    pub fn ns(&self) -> &Netns {
        &self.ns
    }

    /// Waits until `look` finds what it looks for: it is asked again whenever the kernel tells `group` what is `news`,
    /// so that no clock decides how long it takes.
    pub(crate) async fn wait<T>(
        &self,
        object: &str,
        (group, news): (MulticastGroup, impl Fn(Notification<'_>) -> bool),
        patience: Duration,
        look: impl Fn() -> Result<Option<T>>,
    ) -> Result<T> {
        if let Some(found) = look()? {
            return Ok(found);
        }
        // Subscribed before the next look, so that nothing is missed between the two.
        let events = self.watch(object, group).await?;
        match look()? {
            Some(found) => Ok(found),
            None => self.wait_on((&events, news), object, patience, look).await,
        }
    }

    /// A socket that is told of what happens to `group`.
    pub(crate) async fn watch(&self, object: &str, group: MulticastGroup) -> Result<TokioSocket> {
        runtime::started().await;
        let runtime = Handle::current();
        let subscribe = || {
            let _on = runtime.enter();
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
            socket.socket_mut().add_membership(group as u32)?;
            io::Result::Ok(socket)
        };
        self.ns.run(subscribe)?.map_err(|error| Error::io(object, "watch", &error))
    }

    /// Looks whenever `events` has what is `news`.
    pub(crate) async fn wait_on<T>(
        &self,
        (events, news): (&TokioSocket, impl Fn(Notification<'_>) -> bool),
        object: &str,
        patience: Duration,
        look: impl Fn() -> Result<Option<T>>,
    ) -> Result<T> {
        let watch = async {
            let mut event = Vec::with_capacity(socket::BUFFER);
            loop {
                event.clear();
                let is_news = match events.recv(&mut event).await {
                    Ok(()) => news(Notification(&event)),
                    // More has happened than the socket could hold: all the more reason to look.
                    Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => true,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
                    Err(error) => return Err(Error::io(object, "watch", &error)),
                };
                if is_news && let Some(found) = look()? {
                    return Ok(found);
                }
            }
        };
        let timed_out = |_| Error::new(object, "wait for", Errno::ETIMEDOUT);
        let step = Step::begin();
        let outcome = tokio::time::timeout(patience, watch).await.map_err(timed_out).flatten();
        self.tell(step, "wait for", || object.to_owned(), &outcome);
        outcome
    }

    /// Tells of a step that has ended. Many objects have a name that says nothing of whose they are.
    pub(crate) fn tell<T>(
        &self,
        step: Option<Step>,
        operation: &str,
        object: impl FnOnce() -> String,
        outcome: &Result<T>,
    ) {
        let Some(step) = step else { return };
        let mut object = object();
        if !self.ns.is_of_the_process() {
            object.extend([" in ", self.ns.name()]);
        }
        step.end(operation, &object, outcome.as_ref().err().map(Error::why).as_deref());
    }

    /// Sends a request and gathers what comes back, the acknowledgement aside. `object` and `operation` are for the
    /// error; a dump that was interrupted is repeated.
    pub(crate) fn request(
        &self,
        object: impl Fn() -> String,
        operation: &'static str,
        message: Message,
        flags: u16,
    ) -> Result<Vec<Message>> {
        self.step(&object, operation, message, flags)
    }

    /// [`Self::request`], compiled once rather than for every kind of object.
    fn step(
        &self,
        object: &dyn Fn() -> String,
        operation: &'static str,
        message: Message,
        flags: u16,
    ) -> Result<Vec<Message>> {
        let step = Step::begin();
        let outcome = self.exchange(object, operation, message, flags);
        self.tell(step, operation, object, &outcome);
        outcome
    }

    fn exchange(
        &self,
        object: &dyn Fn() -> String,
        operation: &'static str,
        message: Message,
        flags: u16,
    ) -> Result<Vec<Message>> {
        // What is asked for ends by itself; a change is acknowledged.
        let is_question = message.is_question();
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags | if is_question { 0 } else { NLM_F_ACK };
        message.finalize();
        let mut request = vec![0; message.buffer_len()];
        let ask = || {
            message.header.sequence_number = self.next.replace(self.next.get().wrapping_add(1));
            message.serialize(&mut request);
            self.once(&request, message.header.sequence_number, is_question)
        };
        whole(ask).map_err(|(errno, words)| Error { object: object(), operation, errno, words })
    }

    /// One try of the request with this number; `None` for a dump that somebody's change interrupted.
    fn once(&self, request: &[u8], number: u32, is_question: bool) -> Outcome<Option<Vec<Message>>> {
        socket::send(&self.socket, request).map_err(|error| failed(&error))?;
        socket::with_buffer(|buffer| self.answers(number, is_question, buffer))
    }

    fn answers(&self, number: u32, is_question: bool, buffer: &mut [u8]) -> Outcome<Option<Vec<Message>>> {
        let (mut answers, mut interrupted) = (Vec::new(), false);
        loop {
            for answer in socket::messages(self.receive(buffer)?) {
                let answer = answer.map_err(|error| (None, error.to_string()))?;
                // What an earlier request, that ended by an error, had still to come.
                if answer.header.sequence_number != number {
                    continue;
                }
                interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                let is_last = is_question && answer.header.flags & NLM_F_MULTIPART == 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    NetlinkPayload::Error(ErrorMessage { code: Some(code), header, .. }) => {
                        return Err((Some(Errno::from_raw(-code.get())), words(&header)));
                    }
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err((Some(Errno::from_raw(-done.code)), String::new()));
                    }
                    NetlinkPayload::Done(_) | NetlinkPayload::Error(_) => return Ok((!interrupted).then_some(answers)),
                    NetlinkPayload::Overrun(_) => return Err((Some(Errno::ENOBUFS), String::new())),
                    _ => {}
                }
                if is_last {
                    return Ok(Some(answers));
                }
            }
        }
    }

    /// The next datagram.
    fn receive<'a>(&self, buffer: &'a mut [u8]) -> Outcome<&'a [u8]> {
        socket::receive(&self.socket, buffer).map_err(|error| failed(&error))
    }
}

/// The bytes of a change, to be sent over a socket of its own.
pub(crate) fn acknowledged(message: Message) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Asks until the answer is not one that somebody's change has interrupted.
fn whole<T>(mut ask: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    for _ in 0..DUMP_ATTEMPTS {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
    }
    Err((Some(Errno::EAGAIN), format!("interrupted {DUMP_ATTEMPTS} times by changes")))
}

/// What an exchange gives, or errno and words.
type Outcome<T> = std::result::Result<T, (Option<Errno>, String)>;

fn failed(error: &io::Error) -> (Option<Errno>, String) {
    match error.raw_os_error() {
        Some(errno) => (Some(Errno::from_raw(errno)), String::new()),
        None => (None, error.to_string()),
    }
}

/// The text of an extended acknowledgement: behind the 16 bytes of the request's header stand attributes, of which
/// number 1 (`NLMSGERR_ATTR_MSG` in `linux/netlink.h`) is a sentence.
fn words(header: &[u8]) -> String {
    const MESSAGE: u16 = 1;
    socket::attributes(header.get(16..).unwrap_or_default())
        .find(|attribute| attribute.kind() == MESSAGE)
        .map(|attribute| String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link_message::LinkRequest;

    fn messages(bytes: &[u8]) -> impl Iterator<Item = NetlinkMessage<Message>> {
        socket::messages(bytes).filter_map(Result::ok)
    }

    fn datagram(message: Message) -> Vec<u8> {
        let mut message = NetlinkMessage::from(message);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn all_messages_of_a_datagram_are_read() {
        let mut request = LinkRequest::named("eth0");
        request.index = 7;
        let bytes = datagram(Message::NewLink(request));
        let two = [bytes.clone(), bytes].concat();
        let found: Vec<_> = messages(&two).map(|message| message.payload).collect();
        assert_eq!(found.len(), 2);
        for payload in found {
            let NetlinkPayload::InnerMessage(Message::Link(link)) = payload else { panic!("{payload:?}") };
            assert_eq!((link.name.as_str(), link.index), ("eth0", 7));
        }
    }

    #[test]
    fn p27_an_interrupted_dump_is_repeated_but_not_for_ever() {
        let ask_until = |good: u32| {
            let mut asked = 0;
            let ask = || {
                asked += 1;
                Ok((asked == good).then_some(asked))
            };
            let answer = whole(ask);
            (answer, asked)
        };
        assert_eq!(ask_until(3), (Ok(3), 3));
        let (answer, asked) = ask_until(1000);
        let (errno, words) = answer.unwrap_err();
        assert_eq!((errno, asked), (Some(Errno::EAGAIN), DUMP_ATTEMPTS));
        assert!(words.contains("interrupted 64 times"), "{words}");
    }

    #[test]
    fn a_datagram_that_lies_about_lengths_is_an_error_and_no_panic() {
        let bytes = datagram(Message::NewLink(LinkRequest::default()));
        for length in [0_u32, 1, 15, 16, 31, 33, 1 << 31, u32::MAX] {
            let mut bytes = bytes.clone();
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(socket::messages::<Message>(&bytes).count() > 0, "{length}");
        }
        for cut in 0..bytes.len() {
            messages(&bytes[..cut]).for_each(drop);
        }
        let attribute = [&bytes[..], &[255, 255, 3, 0, b'x']].concat();
        messages(&attribute).for_each(drop);
    }
}
