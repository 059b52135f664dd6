//! Network namespaces as handles.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
    sys::{
        stat::{fstat, stat},
        statfs::{NSFS_MAGIC, fstatfs},
    },
};

use crate::{Error, Result};

/// How often a thread tries to return from a visit.
const RETURNS: u32 = 100;

/// A network namespace, kept alive by the handle.
#[derive(Debug)]
pub struct Netns {
    file: File,
    name: String,
    /// It is the namespace that the process lives in, so that there is nothing to enter.
    is_current: bool,
    /// What the marks are on, once there are any.
    pub(crate) marked: OnceLock<File>,
}

impl Netns {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// If `/proc` is not mounted.
    pub fn current() -> Result<Self> {
        let (file, name) = open(Path::new("/proc/thread-self/ns/net"))?;
        Ok(Self::new(file, name))
    }

    fn new(file: File, name: String) -> Self {
        Self { file, name, is_current: false, marked: OnceLock::new() }
    }

    /// The namespace of the calling thread, in a program whose threads are all in it: to work there is no visit.
    ///
    /// # Errors
    /// If `/proc` is not mounted.
    pub fn of_process() -> Result<Self> {
        Ok(Self { is_current: true, ..Self::current()? })
    }

    /// The namespace that `path` names, such as `/run/netns/pod` or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// ENOENT where there is none, EINVAL where the file is not a network namespace.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, name) = open(path)?;
        let kind = again(|| fstatfs(&file)).map_err(|errno| Error::new(&name, "stat", errno))?.filesystem_type();
        if kind != NSFS_MAGIC {
            return Err(Error { words: "not a namespace".to_owned(), ..Error::new(&name, "open", Errno::EINVAL) });
        }
        Ok(Self::new(file, name))
    }

    /// A new namespace, empty but for a loopback that is down. It lives as long as the handle, or what uses it.
    ///
    /// # Errors
    /// EPERM without `CAP_SYS_ADMIN`.
    pub fn create() -> Result<Self> {
        let _back = Back::from_here()?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Error::new("network namespace", "create", errno))?;
        Self::current()
    }

    /// A path that names the namespace for as long as the handle lives; good as `CNI_NETNS`.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// A second handle of the same namespace.
    ///
    /// # Errors
    /// EMFILE where the process has too many files open.
    pub fn try_clone(&self) -> Result<Self> {
        let file = self.file.try_clone().map_err(|error| Error::io(&self.name, "duplicate", &error))?;
        Ok(Self { is_current: self.is_current, ..Self::new(file, self.name.clone()) })
    }

    /// The name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether both are the same namespace.
    ///
    /// # Errors
    /// If the kernel cannot say.
    pub fn is_same_as(&self, other: &Self) -> Result<bool> {
        Ok(self.number()? == other.number()?)
    }

    /// Whether `path` names this namespace, as it did when it was opened there.
    ///
    /// # Errors
    /// If the kernel cannot say.
    pub fn is_at(&self, path: &Path) -> Result<bool> {
        match again(|| stat(path)) {
            Ok(stat) => Ok(self.number()? == (stat.st_dev, stat.st_ino)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(false),
            Err(errno) => Err(Error::new(&self.name, "stat", errno)),
        }
    }

    /// What it is known by among all that exist, device and inode number; one that is made later may get the same.
    ///
    /// # Errors
    /// If the kernel cannot say.
    pub fn number(&self) -> Result<(u64, u64)> {
        let stat = fstat(&self.file).map_err(|errno| Error::new(&self.name, "stat", errno))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Runs `work` inside the namespace. The calling thread is back where it was when this returns, whatever `work` does.
    ///
    /// # Errors
    /// EINVAL where the handle is no network namespace, EPERM without `CAP_SYS_ADMIN`.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        if self.is_current {
            return Ok(work());
        }
        let _back = Back::from_here()?;
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| Error::new(&self.name, "enter", errno))?;
        Ok(work())
    }

    /// Whether the handle was made by [`Self::of_process`].
    pub(crate) fn is_of_the_process(&self) -> bool {
        self.is_current
    }

    /// For netlink attributes that name a namespace.
    pub(crate) fn raw_fd(&self) -> std::os::fd::RawFd {
        self.file.as_raw_fd()
    }
}

/// Opens what may be a namespace; gives the name for messages too.
fn open(path: &Path) -> Result<(File, String)> {
    let name = format!("network namespace {:?}", path.display().to_string());
    // O_NONBLOCK: a hostile path could be a FIFO, on which a plain open would wait for ever.
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK;
    let file = again(|| nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()))
        .map(File::from)
        .map_err(|errno| Error::new(&name, "open", errno))?;
    Ok((file, name))
}

/// Repeats a system call for as long as signals interrupt it.
pub(crate) fn again<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The way back to the namespace that the thread is in: taken when it is dropped, by a panic too.
///
/// A thread of its own for each visit would do as well, and could not be stranded; but to start one and to wait for it
/// wakes two processors, which takes longer than all that is done there.
struct Back(File);

impl Back {
    fn from_here() -> Result<Self> {
        Netns::current().map(|here| Self(here.file))
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        // It takes the kernel some memory, which it may have a moment later.
        let mut back = setns(&self.0, CloneFlags::CLONE_NEWNET);
        for _ in 1..RETURNS {
            if back.is_ok() {
                return;
            }
            thread::yield_now();
            back = setns(&self.0, CloneFlags::CLONE_NEWNET);
        }
        // A thread that cannot return would go on with its work in the wrong namespace; no error can be as bad.
        if let Err(errno) = back {
            eprintln!("cannot return to the network namespace that this thread came from: {errno}");
            std::process::abort();
        }
    }
}
