//! A few system calls under one roof: those that need unsafe code are in `podwire_net`, as all of it.

use std::{io, os::fd::OwnedFd};

use nix::sys::reboot::{RebootMode, reboot};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

pub(crate) use podwire_net::raw::{die_with_parent, packet_socket, receive_frame, send_frame, set_option};

/// A descriptor that becomes readable when the process ends. On a kernel without `pidfd_open` (before 5.3) an error.
pub(crate) fn process_handle(pid: u32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid.cast_signed()).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Ends a guest kernel. Only its first process may call it; it does not return.
pub(crate) fn power_off() -> io::Error {
    nix::unistd::sync();
    match reboot(RebootMode::RB_POWER_OFF) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}
