//! The few system calls that neither std, nix nor socket2 has in a safe form.
#![allow(
    unsafe_code,
    reason = "packet sockets, one socket option, the parent-death signal and the power switch have no safe wrapper"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the C library's constants and sizes have other widths than its functions take; the values are small"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;

/// Opens an `AF_PACKET` socket in the calling thread's namespace that sees every frame of link `index`, both ways.
pub(crate) fn packet_socket(index: u32) -> io::Result<OwnedFd> {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: socket() takes no pointers; the descriptor it returns is new and owned by nobody else.
    let fd = unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol));
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    let address = link_address(index, protocol);
    // SAFETY: `address` lives across the call and the length is its own.
    let bound =
        unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t) };
    check(bound)?;
    // An 802.1Q tag is taken out of the frame by the kernel and told beside it (PACKET_AUXDATA).
    set_option(fd.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
    Ok(fd)
}

/// Receives one frame into `buffer`; gives its length and, where the kernel took one out, its outermost VLAN tag:
/// `EtherType` and the 16 bits behind it.
pub(crate) fn receive_frame(fd: RawFd, buffer: &mut [u8]) -> io::Result<(usize, Option<(u16, u16)>)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // u64 for the alignment that control messages want.
    let mut control = [0_u64; 16];
    // SAFETY: an all-zero msghdr is valid; its pointers are to locals that outlive the call.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: see above; the kernel writes within the lengths given.
    let got = unsafe { libc::recvmsg(fd, &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    let mut tag = None;
    // SAFETY: the CMSG macros walk only what the kernel wrote, within msg_controllen.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_PACKET && (*header).cmsg_type == libc::PACKET_AUXDATA {
                let aux: libc::tpacket_auxdata =
                    libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned();
                if aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                    tag = Some((aux.tp_vlan_tpid, aux.tp_vlan_tci));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok((length, tag))
}

/// Sends `frame`, Ethernet header included, out of link `index`.
pub(crate) fn send_frame(fd: RawFd, index: u32, frame: &[u8]) -> io::Result<()> {
    let address = link_address(index, 0);
    // SAFETY: both pointers are to data that lives across the call, with their own lengths.
    let sent = unsafe {
        libc::sendto(
            fd,
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sets a socket option that is an int.
pub(crate) fn set_option(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer is to a local int and the length is an int's.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size_of::<i32>() as libc::socklen_t) })
}

/// Makes the child of `command` die with the thread that starts it, so that nothing outlives a test that is killed.
pub(crate) fn die_with_parent(command: &mut Command) -> &mut Command {
    // SAFETY: prctl is a plain system call, allowed between fork and exec.
    unsafe { command.pre_exec(|| check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))) }
}

/// A descriptor that becomes readable when the process ends. On a kernel without `pidfd_open` (before 5.3) an error.
pub(crate) fn process_handle(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers; the descriptor it returns is new and owned by nobody else.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Ends a guest kernel. Only its first process may call it; it does not return.
pub(crate) fn power_off() -> io::Error {
    // SAFETY: reboot() takes a number; sync() nothing.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    io::Error::last_os_error()
}

fn link_address(index: u32, protocol: u16) -> libc::sockaddr_ll {
    // SAFETY: sockaddr_ll is plain integers, for which all zeros is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index as i32;
    address
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
