//! System calls that no crate has in a safe form and that no plugin makes: those of programs that look at what plugins
//! do. They are here because all unsafe code is in this crate.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the C library's constants and sizes have other widths than its functions take; the values are small"
)]
#![expect(unsafe_code, reason = "each block says why it has to be and why it is sound")]

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
};

use nix::libc;

/// Opens an `AF_PACKET` socket in the calling thread's namespace that sees every frame of link `index`, both ways; of
/// every link for 0.
///
/// # Errors
/// EPERM without `CAP_NET_RAW`, ENODEV where there is no such link.
pub fn packet_socket(index: u32) -> io::Result<OwnedFd> {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: socket() takes no pointers; the descriptor it returns is new and owned by nobody else.
    let fd = unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol));
        check(fd)?;
        OwnedFd::from_raw_fd(fd)
    };
    let address = link_address(index, protocol);
    // SAFETY: `address` lives across the call and the length is its own. No crate makes such an address without one that
    // was there before.
    let bound =
        unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t) };
    check(bound)?;
    // An 802.1Q tag is taken out of the frame by the kernel and told beside it (PACKET_AUXDATA).
    set_option(&fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
    Ok(fd)
}

/// Receives one frame into `buffer`, if there is one; gives its length and, where the kernel took one out, its outermost
/// VLAN tag: `EtherType` and the 16 bits behind it.
///
/// # Errors
/// EAGAIN where there is none, ENETDOWN where the link went down.
pub fn receive_frame(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Option<(u16, u16)>)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // u64 for the alignment that control messages want.
    let mut control = [0_u64; 16];
    // SAFETY: an all-zero msghdr is valid; its fields differ between C libraries, so that it cannot be written out.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the pointers in `message` are to locals that outlive the call; the kernel writes within the lengths given.
    let got = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    let mut tag = None;
    // SAFETY: the CMSG macros walk only what the kernel wrote, within msg_controllen; a message of this type holds a
    // `tpacket_auxdata`. nix and rustix know this one not, and give no bytes of one that they do not know.
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
///
/// # Errors
/// ENETDOWN where the link is down, EMSGSIZE where the frame is too long for it.
pub fn send_frame(socket: impl AsFd, index: u32, frame: &[u8]) -> io::Result<()> {
    let address = link_address(index, 0);
    // SAFETY: both pointers are to data that lives across the call, with their own lengths.
    let sent = unsafe {
        libc::sendto(
            socket.as_fd().as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets a socket option that is an int.
///
/// # Errors
/// ENOPROTOOPT for one that there is not.
pub fn set_option(socket: impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointer is to a local int and the length is an int's. Of the options that are set with this, socket2 and
    // nix know some only.
    check(unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw const value).cast(), length) })
}

/// Makes the child of `command` die with the thread that starts it, so that nothing outlives a test that is killed.
pub fn die_with_parent(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only what is safe in a signal handler may be called; prctl is a plain system call. std
    // has no other way to do something there.
    unsafe { command.pre_exec(|| check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))) }
}

fn link_address(index: u32, protocol: u16) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
