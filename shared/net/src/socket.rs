//! Sending and receiving on a netlink socket, whatever comes between.

use std::{io, sync::Mutex};

use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkMessage, NlaBuffer, NlasIterator};
use netlink_sys::{Socket, SocketAddr};
use nix::{
    errno::Errno,
    sys::socket::{
        MsgFlags, setsockopt,
        sockopt::{SndBuf, SndBufForce},
    },
};

/// Sends a request to the kernel. Where a signal comes first, or the socket has no room for so much at once, nothing was
/// sent, and it is sent again.
pub(crate) fn send(socket: &Socket, request: &[u8]) -> io::Result<()> {
    let attempt = || again(|| socket.send_to(request, &SocketAddr::new(0, 0), 0)).map(drop);
    match attempt() {
        Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
            // Who has no privilege on the node gets as much as its administrator lets everybody have.
            setsockopt(socket, SndBufForce, &request.len()).or_else(|_| setsockopt(socket, SndBuf, &request.len()))?;
            attempt()
        }
        other => other,
    }
}

/// Larger than any datagram that the kernel sends: a link may have 64 kB of altnames. What is not used costs nothing.
pub(crate) const BUFFER: usize = 128 * 1024;

/// Lends memory for answers: always the same, unless another thread has it, since to have some mapped costs as much as to
/// ask.
pub(crate) fn with_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    static SHARED: Mutex<[u8; BUFFER]> = Mutex::new([0; BUFFER]);
    match SHARED.try_lock() {
        Ok(mut buffer) => work(&mut *buffer),
        Err(_) => work(&mut vec![0; BUFFER]),
    }
}

/// Receives a datagram into `buffer`; EMSGSIZE where that is too small.
///
/// What was asked for has been done by now, so that an answer must not be missed. Where receiving fails it may be there
/// still, or the kernel had no memory to write it (ENOBUFS): a second look does not wait for what may never come.
pub(crate) fn receive<'a>(socket: &Socket, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut look = |flags: MsgFlags| -> io::Result<usize> {
        loop {
            let (length, from) = again(|| socket.recv_from(&mut &mut *buffer, flags.bits()))?;
            // Not from the kernel, but from a program that may send to others' sockets: of no concern.
            if from.port_number() == 0 {
                return Ok(length);
            }
        }
    };
    let length = look(MsgFlags::MSG_TRUNC)
        .or_else(|error| look(MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT).map_err(|_| error))?;
    buffer.get(..length).ok_or_else(|| Errno::EMSGSIZE.into())
}

/// The messages of a datagram.
pub(crate) fn messages<M>(mut rest: &[u8]) -> impl Iterator<Item = Result<NetlinkMessage<M>, DecodeError>>
where
    M: NetlinkDeserializable,
{
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        // Messages stand at multiples of four bytes; one that is cut off is the last.
        let length = rest.first_chunk().map_or(rest.len(), |length| u32::from_ne_bytes(*length) as usize);
        let (message, more) = rest.split_at(length.next_multiple_of(4).clamp(16.min(rest.len()), rest.len()));
        rest = more;
        Some(NetlinkMessage::deserialize(message))
    })
}

/// The attributes of a message, or of another one, up to the first that is cut off.
pub(crate) fn attributes(list: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(list).map_while(Result::ok)
}

/// Repeats a system call for as long as signals interrupt it.
fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_is_repeated_and_another_failure_is_not() {
        let mut calls = 0;
        let done = again(|| {
            calls += 1;
            if calls < 3 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(calls) }
        });
        assert_eq!(done.unwrap(), 3);
        let failed = again(|| Err::<(), _>(io::ErrorKind::OutOfMemory.into()));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::OutOfMemory);
    }
}
