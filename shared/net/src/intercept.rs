//! To be asked about the system calls of a program, `seccomp_unotify(2)`, for those that look at what plugins do. It is
//! here because all unsafe code is in this crate.
#![expect(unsafe_code, reason = "each block says why it has to be and why it is sound")]

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
};

use nix::libc::{self, c_int, c_long, c_uint, seccomp_notif, seccomp_notif_resp, sock_filter, sock_fprog};

use crate::Errno;

/// Where the child keeps the listener until its parent has fetched it; above all that a program opens.
const PLACE: RawFd = 1000;

mod ioctl {
    use nix::libc::{seccomp_notif, seccomp_notif_resp};
    nix::ioctl_readwrite!(receive, b'!', 0, seccomp_notif);
    nix::ioctl_readwrite!(send, b'!', 1, seccomp_notif_resp);
}

/// A program of the kernel's packet filter that lets system calls of these numbers pass, and asks about all others.
#[derive(Clone, Debug)]
pub struct Filter(Vec<sock_filter>);

impl Filter {
    /// One for these.
    pub fn passing(numbers: &[c_long]) -> Self {
        let step = |code: u32, yes: u8, no: u8, value: u32| sock_filter {
            code: u16::try_from(code).unwrap_or_default(),
            jt: yes,
            jf: no,
            k: value,
        };
        // The number is the first word of `seccomp_data`.
        let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
        for &number in numbers {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number));
            program.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
        }
        program.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_USER_NOTIF));
        Self(program)
    }

    /// Has `command` start under the filter. What it starts has to be there: a failed start would ask and not be answered.
    pub fn lay_on(self, command: &mut Command) {
        // SAFETY: the closure makes three system calls and allocates nothing, as has to be between fork and exec.
        unsafe { command.pre_exec(move || self.install()) };
    }

    fn install(&self) -> io::Result<()> {
        let program = sock_fprog {
            len: u16::try_from(self.0.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: the program lives across the call, which copies it.
        let listener = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
                &raw const program,
            )
        };
        let listener = RawFd::try_from(listener).map_err(|_| io::ErrorKind::InvalidData)?;
        // Without O_CLOEXEC, so that it is there after exec; and by number, for the C library may choose another call.
        // SAFETY: dup3 takes three numbers.
        if listener < 0 || unsafe { libc::syscall(libc::SYS_dup3, listener, PLACE, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Where a filtered process and its children ask.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// A system call that waits to be made.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    id: u64,
    /// The thread that makes it.
    pub asker: u32,
    /// Which one.
    pub number: c_long,
    /// With what.
    pub args: [u64; 6],
}

impl Listener {
    /// Fetches it from a process that was started under a [`Filter`].
    ///
    /// # Errors
    /// EBADF where it was not, EPERM where the process is another user's.
    pub fn of(process: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: pidfd_getfd takes three numbers; the descriptor it returns is new and owned by nobody else.
        unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), PLACE, 0 as c_uint);
            let fd = RawFd::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// The next question; `None` where who asked has been killed since.
    ///
    /// # Errors
    /// If the kernel cannot say.
    pub fn receive(&self) -> Result<Option<Question>, Errno> {
        // SAFETY: plain numbers, for which all zeros is a value, and which the kernel wants to see zero.
        let mut question: seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a local of the type that the request is for.
        match unsafe { ioctl::receive(self.0.as_raw_fd(), &raw mut question) } {
            Ok(_) => Ok(Some(Question {
                id: question.id,
                asker: question.pid,
                number: c_long::from(question.data.nr),
                args: question.data.args,
            })),
            Err(Errno::ENOENT | Errno::EINTR) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Answers: the call fails with `errno`, or it is made.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn answer(&self, question: &Question, errno: Option<Errno>) -> Result<(), Errno> {
        /// `SECCOMP_USER_NOTIF_FLAG_CONTINUE` in `linux/seccomp.h`.
        const CONTINUE: c_uint = 1;
        let mut answer = seccomp_notif_resp {
            id: question.id,
            val: 0,
            error: errno.map_or(0, |errno| -(errno as c_int)),
            flags: if errno.is_some() { 0 } else { CONTINUE },
        };
        // SAFETY: as in `receive`.
        match unsafe { ioctl::send(self.0.as_raw_fd(), &raw mut answer) } {
            // Killed meanwhile.
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
