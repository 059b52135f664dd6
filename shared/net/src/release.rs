//! Deleting a link without waiting for the kernel to free it.
//!
//! A few milliseconds after `RTM_DELLINK` began nothing of a link is left to be seen: no name, address, route or port, at
//! either end of a pair. The request itself returns some 15 ms later, when no processor can still hold a pointer to it
//! (`rcu_barrier` in the kernel's `netdev_run_todo`). That wait frees memory and nothing else, cannot be interrupted, and
//! is the sender's. So a child is the sender: the call ends when the link is gone, and the child by itself.

use std::{
    io::{self, PipeReader, PipeWriter, Write},
    os::fd::{AsRawFd, OwnedFd},
    pin::pin,
    time::Duration,
};

use futures_util::future::{Either, select};
use nix::{
    libc,
    sys::socket::{MsgFlags, recv},
    unistd::{ForkResult, close, fork},
};
use podwire_trace::Step;
use rtnetlink::{
    MulticastGroup,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};
use tokio::{io::AsyncReadExt, net::unix::pipe::Receiver};

use crate::{
    Errno, Error, Link, Net, Result, link_message::LinkRequest, message::Message, net::acknowledged, netns::again,
    notification::Notification,
};

/// How long a link may take to go; on a node where many others change links too it has to queue.
const PATIENCE: Duration = Duration::from_mins(1);

impl Net {
    /// As [`Self::delete_link`], done when the link is gone rather than when its memory is.
    ///
    /// # Errors
    /// Of the request.
    pub async fn release_link(&self, name: &str) -> Result<bool> {
        let Some(link) = self.link(name)? else { return Ok(false) };
        let step = Step::begin();
        let object = format!("link {name:?}");
        let outcome = self.release(&link, &object).await;
        self.tell(step, "delete", || object, &outcome);
        outcome
    }

    async fn release(&self, link: &Link, object: &str) -> Result<bool> {
        let failed = |error: io::Error| Error::io(object, "delete", &error);
        // Watched before it begins, so that the end is not missed.
        let events = self.watch(object, MulticastGroup::Link).await?;
        let socket = self.ns().run(|| Socket::new(NETLINK_ROUTE))?.map_err(failed)?;
        let request = acknowledged(Message::DelLink(LinkRequest::at(link.index)));
        let (reader, writer) = io::pipe().map_err(failed)?;
        if start(&socket, &request, writer).is_err() {
            // No room for another process: then this one waits.
            return self.delete_link_at(link.index);
        }
        let look = || Ok(self.link_at(link.index)?.is_none().then_some(()));
        let news = |event: Notification<'_>| event.is_end() && event.is_about(link.index);
        let gone = pin!(self.wait_on((&events, news), object, PATIENCE, look));
        match select(pin!(verdict(reader)), gone).await {
            Either::Left((Ok(0), _)) => Ok(true),
            Either::Left((Ok(errno), _)) => {
                let error = Error::new(object, "delete", Errno::from_raw(errno));
                if error.is_absent() { Ok(false) } else { Err(error) }
            }
            // Killed before it could say anything.
            Either::Left((Err(_), _)) => self.delete_link_at(link.index),
            Either::Right((gone, _)) => gone.map(|()| true),
        }
    }
}

/// Starts the child that sends `request`.
fn start(socket: &Socket, request: &[u8], verdict: PipeWriter) -> nix::Result<()> {
    // SAFETY: what the child does until it ends needs no lock that another thread could have held: system calls with
    // what is on its stack, or was made before.
    #[expect(unsafe_code, reason = "nothing but a process of its own can be left waiting in the kernel")]
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(()),
        ForkResult::Child => send(socket, request, verdict),
    }
}

/// The child's life.
fn send(socket: &Socket, request: &[u8], mut verdict: PipeWriter) -> ! {
    // Who started the plugin reads until these are closed.
    for standard in 0..3 {
        let _ = close(standard);
    }
    let exchange = || {
        again(|| socket.send_to(request, &SocketAddr::new(0, 0), 0).map_err(|error| errno_of(&error)))?;
        let mut answer = [0; 256];
        again(|| recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()))?;
        // Behind the header stands the errno, negative.
        answer[16..].first_chunk().map_or(Err(Errno::EBADMSG), |errno| Ok(-i32::from_ne_bytes(*errno)))
    };
    let errno = exchange().unwrap_or_else(|errno| errno as i32);
    // Nobody reads it where the link was gone before.
    let _ = verdict.write_all(&errno.to_ne_bytes());
    // SAFETY: it takes nothing, and does not return.
    #[expect(unsafe_code, reason = "the exit of std would do once more what the caller does at its own")]
    unsafe {
        libc::_exit(0)
    }
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// What the child has to say, when it is done: the errno, or 0.
async fn verdict(reader: PipeReader) -> io::Result<i32> {
    let mut errno = [0; 4];
    Receiver::from_owned_fd(OwnedFd::from(reader))?.read_exact(&mut errno).await?;
    Ok(i32::from_ne_bytes(errno))
}
