//! Sending and receiving on a netlink socket, whatever comes between.

use std::io;

use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::MsgFlags;

/// Sends a request to the kernel. Where a signal comes first nothing was sent, and it is sent again.
pub(crate) fn send(socket: &Socket, request: &[u8]) -> io::Result<()> {
    again(|| socket.send_to(request, &SocketAddr::new(0, 0), 0)).map(drop)
}

/// Receives a datagram into `buffer`, which is empty; gives the length that it had.
///
/// What was asked for has been done by now, so that an answer must not be missed. Where receiving fails it may be there
/// still, or the kernel had no memory to write it (ENOBUFS): a second look does not wait for what may never come.
pub(crate) fn receive(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut look = |flags: MsgFlags| again(|| socket.recv(&mut *buffer, flags.bits()));
    look(MsgFlags::MSG_TRUNC).or_else(|error| look(MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT).map_err(|_| error))
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
