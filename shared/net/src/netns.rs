//! Network namespaces as handles.

use std::{
    collections::HashSet,
    fs::{File, TryLockError},
    io,
    ops::Range,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
    sched::{CloneFlags, setns, unshare},
    sys::{
        stat::{fstat, stat},
        statfs::{NSFS_MAGIC, fstatfs},
    },
};

use podwire_trace::Step;

use crate::{Error, Result, runtime};

/// How long to wait for somebody else's lock; a change under it takes some 20 ms.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a thread tries to return from a visit.
const RETURNS: u32 = 100;

/// More marks than one process puts side by side; who locks more than that means to do harm.
const MOST_TOGETHER: usize = 16;

/// A network namespace, kept alive by the handle.
#[derive(Debug)]
pub struct Netns {
    file: File,
    name: String,
    /// It is the namespace that the process lives in, so that there is nothing to enter.
    is_current: bool,
}

impl Netns {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// If `/proc` is not mounted.
    pub fn current() -> Result<Self> {
        let (file, name) = open(Path::new("/proc/thread-self/ns/net"))?;
        Ok(Self { file, name, is_current: false })
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
        Ok(Self { file, name, is_current: false })
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
        Ok(Self { file, name: self.name.clone(), is_current: self.is_current })
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

    /// Locks the namespace against everybody else who calls this: whatever one changes that several share can be looked
    /// at and changed in one step. The lock is the kernel's, on the namespace itself (flock(2)): it needs no file, and
    /// ends with the process at the latest.
    ///
    /// # Errors
    /// ETIMEDOUT after ten seconds.
    pub async fn lock(&self) -> Result<NetnsLock> {
        self.lock_by(File::try_lock, File::lock).await
    }

    /// As [`Self::lock`], together with all others who call this: for those who add to what is shared, and only have to
    /// be sure that nobody takes it away meanwhile.
    ///
    /// # Errors
    /// As [`Self::lock`].
    pub async fn share(&self) -> Result<NetnsLock> {
        self.lock_by(File::try_lock_shared, File::lock_shared).await
    }

    async fn lock_by(
        &self,
        attempt: fn(&File) -> Result<(), TryLockError>,
        wait: fn(&File) -> io::Result<()>,
    ) -> Result<NetnsLock> {
        // A file of its own: locks belong to what was opened, not to the process.
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let failed = |error| Error::io(&self.name, "lock", &error);
        let file = File::open(path).map_err(|io| Error::io(&self.name, "open for its lock", &io))?;
        loop {
            match attempt(&file) {
                Ok(()) => return Ok(NetnsLock(file)),
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        // Somebody has it: a thread waits, so that this one can be told to end meanwhile.
        let step = Step::begin();
        runtime::started().await;
        let (done, waited) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut locked = wait(&file);
            while locked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
                locked = wait(&file);
            }
            done.send(locked.map(|()| NetnsLock(file)))
        });
        let outcome = match tokio::time::timeout(PATIENCE, waited).await {
            Ok(Ok(locked)) => locked.map_err(failed),
            Ok(Err(_)) | Err(_) => Err(Error::new(&self.name, "lock", Errno::ETIMEDOUT)),
        };
        if let Some(step) = step {
            step.end("wait for the lock of", &self.name, outcome.as_ref().err().map(Error::why).as_deref());
        }
        outcome
    }

    /// Whether the handle was made by [`Self::of_process`].
    pub(crate) fn is_of_the_process(&self) -> bool {
        self.is_current
    }

    /// Puts a mark on the namespace, for whoever asks for its [`Self::marks`]. It stays until this handle and its clones are
    /// closed, at the end of the process at the latest. A mark is a lock of the kernel's on one byte of the namespace's file
    /// (fcntl(2), open file description locks), shared, so that it keeps nobody from anything and never waits.
    ///
    /// # Errors
    /// ENOLCK where the kernel has no room for it.
    pub fn mark(&self, place: u64) -> Result<()> {
        let marked = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&bytes(libc::F_RDLCK, &(place..place + 1))));
        marked.map(drop).map_err(|errno| Error::new(&self.name, "mark", errno))
    }

    /// The marks of others in `range`.
    ///
    /// # Errors
    /// If the kernel cannot say.
    pub fn marks(&self, range: Range<u64>) -> Result<HashSet<u64>> {
        let (mut found, mut rest) = (HashSet::new(), vec![range]);
        while let Some(range) = rest.pop() {
            if range.is_empty() {
                continue;
            }
            // The kernel tells one lock that would be in the way of an exclusive one.
            let mut lock = bytes(libc::F_WRLCK, &range);
            fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut lock))
                .map_err(|errno| Error::new(&self.name, "look for marks on", errno))?;
            if i32::from(lock.l_type) != libc::F_UNLCK {
                // Marks of one process that lie side by side are one lock to the kernel, of which a part may be in the range.
                let number = |number: i64| u64::try_from(number).unwrap_or_default();
                let end = if lock.l_len == 0 { u64::MAX } else { number(lock.l_start) + number(lock.l_len) };
                let marks = number(lock.l_start).clamp(range.start, range.end)..end.clamp(range.start, range.end);
                if marks.is_empty() {
                    // The kernel tells of no lock outside of the range; but this loop has to end.
                    continue;
                }
                found.extend(marks.clone().take(MOST_TOGETHER));
                rest.extend([range.start..marks.start, marks.end..range.end]);
            }
        }
        Ok(found)
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

/// The request for a lock of that type on a range of bytes.
fn bytes(kind: i32, range: &Range<u64>) -> libc::flock {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    libc::flock {
        l_type: i16::try_from(kind).unwrap_or_default(),
        l_whence: 0,
        l_start: number(range.start),
        l_len: number(range.end - range.start),
        l_pid: 0,
    }
}

/// A namespace is locked for as long as this lives.
#[derive(Debug)]
pub struct NetnsLock(File);

impl Drop for NetnsLock {
    fn drop(&mut self) {
        // A child may have the file too, so that to close it is not enough; but where this fails, it is the best there is.
        let _ = self.0.unlock();
    }
}

/// Repeats a system call for as long as signals interrupt it.
fn again<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
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
            std::thread::yield_now();
            back = setns(&self.0, CloneFlags::CLONE_NEWNET);
        }
        // A thread that cannot return would go on with its work in the wrong namespace; no error can be as bad.
        if let Err(errno) = back {
            eprintln!("cannot return to the network namespace that this thread came from: {errno}");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_seen_by_others_until_their_handle_is_closed() {
        let [one, two] = [(); 2].map(|()| Netns::current().unwrap());
        for place in [7, 1 << 40, (1 << 40) + 1] {
            one.mark(place).unwrap();
        }
        two.mark(9).unwrap();
        assert_eq!(two.marks(0..1 << 62).unwrap(), HashSet::from([7, 1 << 40, (1 << 40) + 1]));
        assert_eq!(two.marks(8..1 << 40).unwrap(), HashSet::new());
        assert_eq!(one.marks(0..1 << 62).unwrap(), HashSet::from([9]));
        drop(one);
        assert_eq!(two.marks(0..1 << 62).unwrap(), HashSet::new());
    }
}
