//! The system calls that touch kernel or disk: by name, which of them can change something, and how each can fail.

use nix::errno::Errno;
use nix::errno::Errno::{EBUSY, EINTR, EIO, ENOBUFS, ENOMEM, ENOSPC, EPERM};
use nix::libc::{self, c_long};

use crate::intercept::Moment;

/// What is known of a system call.
#[derive(Debug)]
struct Known {
    number: c_long,
    name: &'static str,
    /// Whether it can leave something behind when the process has ended.
    changes: bool,
    /// What is injected, in turn. None where a failure cannot be: the kernel or the C library makes up for it.
    errnos: &'static [Errno],
}

macro_rules! known {
    ($($(#[$attribute:meta])* $name:ident $number:ident $changes:literal [$($errno:ident)*])*) => {
        const KNOWN: &[Known] = &[$(
            $(#[$attribute])*
            Known { number: libc::$number, name: stringify!($name), changes: $changes, errnos: &[$($errno),*] },
        )*];
    };
}

// The errnos are those of the seven that the manual names for the call, or that file systems and drivers return from it.
known! {
    socket SYS_socket false [ENOBUFS ENOMEM EPERM]
    // tokio makes one when it starts, and panics without. What was done is undone, but the error cannot name the errno.
    socketpair SYS_socketpair false []
    bind SYS_bind false [ENOMEM EPERM]
    accept4 SYS_accept4 false [ENOBUFS EINTR ENOMEM EPERM]
    listen SYS_listen false []
    connect SYS_connect true [EINTR EPERM ENOMEM]
    setsockopt SYS_setsockopt false [ENOMEM ENOBUFS EPERM]
    getsockopt SYS_getsockopt false [ENOMEM ENOBUFS]
    getsockname SYS_getsockname false [ENOBUFS]
    shutdown SYS_shutdown true [ENOBUFS]
    sendto SYS_sendto true [ENOBUFS EINTR ENOMEM EPERM]
    sendmsg SYS_sendmsg true [ENOBUFS EINTR ENOMEM EPERM]
    recvfrom SYS_recvfrom false [ENOBUFS EINTR ENOMEM EIO]
    recvmsg SYS_recvmsg false [ENOBUFS EINTR ENOMEM EIO]
    openat SYS_openat false [ENOMEM EINTR EIO EPERM EBUSY ENOSPC]
    read SYS_read false [EIO EINTR ENOMEM]
    readv SYS_readv false [EIO EINTR ENOMEM]
    pread64 SYS_pread64 false [EIO EINTR]
    write SYS_write true [ENOSPC EINTR EIO EPERM ENOMEM]
    writev SYS_writev true [ENOSPC EINTR EIO]
    lseek SYS_lseek false [EIO]
    flock SYS_flock false [ENOMEM EINTR EIO]
    fsync SYS_fsync true [EIO ENOSPC EINTR]
    fdatasync SYS_fdatasync true [EIO ENOSPC EINTR]
    ftruncate SYS_ftruncate true [EIO EINTR EPERM ENOSPC]
    renameat SYS_renameat true [ENOSPC EBUSY EIO EPERM ENOMEM]
    renameat2 SYS_renameat2 true [ENOSPC EBUSY EIO EPERM ENOMEM]
    linkat SYS_linkat true [ENOSPC EIO EPERM ENOMEM]
    symlinkat SYS_symlinkat true [ENOSPC EIO EPERM ENOMEM]
    unlinkat SYS_unlinkat true [EBUSY EIO EPERM ENOMEM]
    mkdirat SYS_mkdirat true [ENOSPC EIO EPERM ENOMEM]
    fchmod SYS_fchmod true [EIO EPERM]
    fchmodat SYS_fchmodat true [EIO EPERM ENOMEM]
    utimensat SYS_utimensat true [EPERM EIO]
    getdents64 SYS_getdents64 false [EIO ENOMEM]
    fstat SYS_fstat false [ENOMEM EIO]
    newfstatat SYS_newfstatat false [ENOMEM EIO]
    statx SYS_statx false [ENOMEM EIO]
    statfs SYS_statfs false [EIO EINTR ENOMEM]
    fstatfs SYS_fstatfs false [EIO EINTR ENOMEM]
    faccessat SYS_faccessat false [EIO ENOMEM EPERM]
    readlinkat SYS_readlinkat false [EIO ENOMEM]
    getcwd SYS_getcwd false [ENOMEM]
    fcntl SYS_fcntl false [ENOMEM EPERM]
    ioctl SYS_ioctl false [EIO ENOMEM EPERM EBUSY]
    pipe2 SYS_pipe2 false [ENOMEM]
    setns SYS_setns false [ENOMEM EPERM]
    unshare SYS_unshare false [ENOMEM ENOSPC EPERM]
    eventfd2 SYS_eventfd2 false [ENOMEM]
    signalfd4 SYS_signalfd4 false [ENOMEM]
    timerfd_create SYS_timerfd_create false [ENOMEM]
    timerfd_settime SYS_timerfd_settime false []
    inotify_add_watch SYS_inotify_add_watch false [ENOMEM ENOSPC]
    inotify_rm_watch SYS_inotify_rm_watch false []
    inotify_init1 SYS_inotify_init1 false [ENOMEM]
    epoll_create1 SYS_epoll_create1 false [ENOMEM]
    epoll_ctl SYS_epoll_ctl false [ENOMEM ENOSPC]
    // The kernel waits without taking memory; an interruption is all that can come between.
    epoll_pwait SYS_epoll_pwait false [EINTR]
    ppoll SYS_ppoll false [ENOMEM EINTR]
    clone SYS_clone true [ENOMEM ENOSPC]
    clone3 SYS_clone3 true [ENOMEM ENOSPC]
    wait4 SYS_wait4 false [EINTR]
    waitid SYS_waitid false [EINTR]
    pidfd_open SYS_pidfd_open false [ENOMEM]
    kill SYS_kill true [EPERM]
    exit_group SYS_exit_group true []
    // What musl calls on a machine that has the older ones.
    #[cfg(target_arch = "x86_64")]
    open SYS_open false [ENOMEM EINTR EIO EPERM EBUSY ENOSPC]
    #[cfg(target_arch = "x86_64")]
    stat SYS_stat false [ENOMEM EIO]
    #[cfg(target_arch = "x86_64")]
    lstat SYS_lstat false [ENOMEM EIO]
    #[cfg(target_arch = "x86_64")]
    access SYS_access false [EIO ENOMEM EPERM]
    #[cfg(target_arch = "x86_64")]
    readlink SYS_readlink false [EIO ENOMEM]
    #[cfg(target_arch = "x86_64")]
    rename SYS_rename true [ENOSPC EBUSY EIO EPERM ENOMEM]
    #[cfg(target_arch = "x86_64")]
    unlink SYS_unlink true [EBUSY EIO EPERM ENOMEM]
    #[cfg(target_arch = "x86_64")]
    mkdir SYS_mkdir true [ENOSPC EIO EPERM ENOMEM]
    #[cfg(target_arch = "x86_64")]
    rmdir SYS_rmdir true [EBUSY EIO EPERM ENOMEM]
    #[cfg(target_arch = "x86_64")]
    chmod SYS_chmod true [EIO EPERM ENOMEM]
    #[cfg(target_arch = "x86_64")]
    pipe SYS_pipe false [ENOMEM]
    #[cfg(target_arch = "x86_64")]
    dup2 SYS_dup2 false [EBUSY EINTR]
    // The C library's start-up asks so whether descriptors 0 to 2 are open, and knows these two answers.
    #[cfg(target_arch = "x86_64")]
    poll SYS_poll false [ENOMEM EINTR]
    #[cfg(target_arch = "x86_64")]
    epoll_wait SYS_epoll_wait false [EINTR]
    #[cfg(target_arch = "x86_64")]
    fork SYS_fork true [ENOMEM]
    #[cfg(target_arch = "x86_64")]
    vfork SYS_vfork true [ENOMEM]
}

/// As many errnos as one call has.
pub(super) const MOST_ERRNOS: usize = 6;

fn known(moment: &Moment) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.number == moment.number)
}

/// What it is called.
pub(super) fn name(moment: &Moment) -> String {
    known(moment).map_or_else(|| format!("system call {}", moment.number), |known| known.name.to_owned())
}

/// Whether it can leave something behind when the process has ended. One that nobody here knows can.
pub(super) fn changes(moment: &Moment) -> bool {
    let creates = |flags: u64| flags & u64::from(libc::O_CREAT.cast_unsigned()) != 0;
    match known(moment) {
        Some(Known { name: "openat", .. }) => creates(moment.args[2]),
        Some(Known { name: "open", .. }) => creates(moment.args[1]),
        Some(known) => known.changes,
        None => true,
    }
}

/// Whether it is about links and namespaces, rather than files or the process.
pub(super) fn is_about_links(moment: &Moment) -> bool {
    const SUCH: [&str; 10] =
        ["socket", "bind", "setsockopt", "getsockname", "sendto", "sendmsg", "recvfrom", "recvmsg", "setns", "flock"];
    known(moment).is_some_and(|known| SUCH.contains(&known.name))
}

/// How it can fail.
pub(super) fn errnos(moment: &Moment) -> &'static [Errno] {
    if is_a_wake_up(moment) { &[] } else { known(moment).map_or(&[ENOMEM], |known| known.errnos) }
}

/// Whether it adds to a counter in the kernel (eventfd(2)), by which threads wake each other. That takes neither memory nor
/// disk, and can do nothing but wait where the counter is full; tokio relies on it.
fn is_a_wake_up(moment: &Moment) -> bool {
    let file = || std::fs::read_link(format!("/proc/{}/fd/{}", moment.asker, moment.args[0]));
    moment.number == libc::SYS_write && file().is_ok_and(|file| file.as_os_str() == "anon_inode:[eventfd]")
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

    use nix::sys::eventfd::EventFd;

    use super::*;

    #[test]
    fn each_call_is_known_once_and_each_errno_is_used() {
        for (place, known) in KNOWN.iter().enumerate() {
            assert!(KNOWN[..place].iter().all(|other| other.number != known.number), "{}", known.name);
        }
        assert_eq!(KNOWN.iter().map(|known| known.errnos.len()).max(), Some(MOST_ERRNOS));
        for errno in [ENOBUFS, ENOMEM, EPERM, EBUSY, ENOSPC, EIO, EINTR] {
            assert!(KNOWN.iter().any(|known| known.errnos.contains(&errno)), "{errno}");
        }
    }

    #[test]
    fn an_open_changes_something_only_where_it_creates() {
        let open = |flags: i32| {
            let mut args = [0; 6];
            args[2] = u64::from(flags.cast_unsigned());
            Moment { asker: 0, number: libc::SYS_openat, args }
        };
        assert!(changes(&open(libc::O_WRONLY | libc::O_CREAT)));
        assert!(!changes(&open(libc::O_RDONLY | libc::O_CLOEXEC)));
    }

    #[test]
    fn what_wakes_a_thread_up_does_not_fail_and_other_writes_do() {
        let wake_up = EventFd::new().unwrap();
        let (_, pipe) = nix::unistd::pipe().unwrap();
        let write_to = |file: BorrowedFd<'_>| {
            let mut args = [0; 6];
            args[0] = file.as_raw_fd().try_into().unwrap();
            Moment { asker: std::process::id(), number: libc::SYS_write, args }
        };
        assert!(errnos(&write_to(wake_up.as_fd())).is_empty());
        assert!(errnos(&write_to(pipe.as_fd())).contains(&ENOSPC));
    }
}
