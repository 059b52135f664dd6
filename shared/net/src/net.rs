//! A netlink connection in one namespace, and the one way every request takes.

use std::{path::Path, time::Duration};

use futures_util::StreamExt;
use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use rtnetlink::{MulticastGroup, sys::AsyncSocket};
use tokio::runtime;

use crate::{Error, Netns, Result};

/// How often an interrupted dump is repeated: each time means that somebody changed the table while it was read.
const DUMP_ATTEMPTS: u32 = 64;

/// A netlink connection that stays in the namespace where it was opened: `pod.link("eth0")` is just a call.
#[derive(Debug)]
pub struct Net {
    handle: rtnetlink::Handle,
    ns: Netns,
}

impl Net {
    /// A connection in `ns`; must be called on a tokio runtime, which drives it.
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
        let runtime = runtime::Handle::current();
        let connect = || {
            let _on = runtime.enter();
            let worked = work();
            let (mut connection, handle, _unsolicited) = rtnetlink::new_connection_with_strict_check()?;
            // The end of a dump may be what says that it was interrupted.
            connection.set_forward_done(true);
            let socket = connection.socket_mut().socket_mut();
            // The kernel's own words make the best error details; the request itself need not come back.
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            std::io::Result::Ok((connection, handle, worked))
        };
        let (connection, handle, worked) =
            ns.run(connect)?.map_err(|error| Error::io(format!("netlink socket in {}", ns.name()), "open", &error))?;
        runtime.spawn(connection);
        Ok((Self { handle, ns }, worked))
    }

    /// A connection in the namespace that `path` names.
    ///
    /// # Errors
    /// As [`Netns::open`] and [`Net::open`].
    pub fn open_path(path: &Path) -> Result<Self> {
        Self::open(Netns::open(path)?)
    }

    /// The namespace.
    pub fn ns(&self) -> &Netns {
        &self.ns
    }

    /// Waits until `look` finds what it looks for: it is asked again whenever the kernel notifies `group`, so that no
    /// clock decides how long it takes.
    pub(crate) async fn wait<T>(
        &self,
        object: &str,
        group: MulticastGroup,
        patience: Duration,
        look: impl AsyncFn() -> Result<Option<T>>,
    ) -> Result<T> {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        let runtime = runtime::Handle::current();
        let subscribe = || {
            let _on = runtime.enter();
            rtnetlink::new_multicast_connection(&[group])
        };
        // Subscribed before the next look, so that nothing is missed between the two.
        let (connection, _handle, mut events) =
            self.ns.run(subscribe)?.map_err(|error| Error::io(object, "watch", &error))?;
        runtime.spawn(connection);
        let watch = async {
            loop {
                if let Some(found) = look().await? {
                    return Ok(found);
                }
                if events.next().await.is_none() {
                    return Err(Error::new(object, "watch", Errno::ENOBUFS));
                }
            }
        };
        let timed_out = |_| Error::new(object, "wait for", Errno::ETIMEDOUT);
        tokio::time::timeout(patience, watch).await.map_err(timed_out)?
    }

    /// Sends a request and gathers what comes back, the acknowledgement aside. `object` and `operation` are for the
    /// error; a dump that was interrupted is repeated.
    pub(crate) async fn request(
        &self,
        object: impl Fn() -> String,
        operation: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMP_ATTEMPTS {
            match self.once(message.clone(), flags).await {
                Ok(Some(answers)) => return Ok(answers),
                Ok(None) => {}
                Err((errno, words)) => return Err(Error { object: object(), operation, errno, words }),
            }
        }
        let words = format!("interrupted {DUMP_ATTEMPTS} times by changes");
        Err(Error { words, ..Error::new(object(), operation, Errno::EAGAIN) })
    }

    /// One try; `None` for a dump that somebody's change interrupted.
    async fn once(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> std::result::Result<Option<Vec<RouteNetlinkMessage>>, (Option<Errno>, String)> {
        // What is asked for ends by itself; a change is acknowledged.
        let end = if is_question(&message) { 0 } else { NLM_F_ACK };
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | end | flags;
        let mut stream = self.handle.clone().request(message).map_err(|error| (None, error.to_string()))?;
        let (mut answers, mut interrupted) = (Vec::new(), false);
        while let Some(answer) = stream.next().await {
            interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                NetlinkPayload::Error(ErrorMessage { code: Some(code), header, .. }) => {
                    return Err((Some(Errno::from_raw(-code.get())), words(&header)));
                }
                NetlinkPayload::Overrun(_) => return Err((Some(Errno::ENOBUFS), String::new())),
                _ => {}
            }
        }
        Ok((!interrupted).then_some(answers))
    }
}

fn is_question(message: &RouteNetlinkMessage) -> bool {
    matches!(
        message,
        RouteNetlinkMessage::GetLink(_)
            | RouteNetlinkMessage::GetAddress(_)
            | RouteNetlinkMessage::GetRoute(_)
            | RouteNetlinkMessage::GetNeighbour(_)
    )
}

/// The text of an extended acknowledgement: behind the 16 bytes of the request's header stand attributes, of which
/// number 1 (`NLMSGERR_ATTR_MSG` in `linux/netlink.h`) is a sentence.
fn words(header: &[u8]) -> String {
    const MESSAGE: u16 = 1;
    NlasIterator::new(header.get(16..).unwrap_or_default())
        .map_while(std::result::Result::ok)
        .find(|attribute| attribute.kind() == MESSAGE)
        .map(|attribute| String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned())
        .unwrap_or_default()
}
