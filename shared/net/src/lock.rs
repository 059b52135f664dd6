//! Locks and marks: how calls on one node keep out of each other's way.
//!
//! Those of the node's namespace are locks on a file that only root can open: on the namespace itself every process that
//! lives in it could hold one, and so keep pods from coming and going.

use std::{
    collections::HashSet,
    fs::{File, TryLockError},
    io,
    ops::Range,
    os::fd::{AsFd, AsRawFd},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl, open},
    libc,
    sys::stat::Mode,
    unistd::mkdir,
};
use podwire_trace::Step;

use crate::{Error, Netns, Result, netns::again, runtime};

/// What is changed under a lock.
#[derive(Clone, Copy)]
enum Lock {
    Links,
    Rules,
}

impl Lock {
    /// How long to wait for somebody else's. A change takes some 20 ms; of rules it does for each pod of a node that is
    /// drained, one after another, as it would in the kernel.
    const fn patience(self) -> Duration {
        Duration::from_secs(match self {
            Self::Links => 10,
            Self::Rules => 60,
        })
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::Links => "lock",
            Self::Rules => "lock the rules of",
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::Links => "node",
            Self::Rules => "rules",
        }
    }
}

/// More marks than one process puts side by side; who locks more than that means to do harm.
const MOST_TOGETHER: usize = 16;

/// Where the files for locks are. Nothing is ever in them.
const FOLDER: &str = "/run/podwire";

impl Netns {
    /// Locks the namespace against everybody else who calls this: whatever one changes that several share can be looked
    /// at and changed in one step. The lock is the kernel's (flock(2)) and ends with the process at the latest.
    ///
    /// # Errors
    /// ETIMEDOUT after ten seconds.
    pub async fn lock(&self) -> Result<NetnsLock> {
        self.lock_by(Lock::Links, File::try_lock, File::lock).await
    }

    /// As [`Self::lock`], by a lock of its own: for those who remove rules, which keeps the kernel for some 10 ms each.
    ///
    /// # Errors
    /// ETIMEDOUT after a minute.
    pub async fn lock_rules(&self) -> Result<NetnsLock> {
        self.lock_by(Lock::Rules, File::try_lock, File::lock).await
    }

    /// As [`Self::lock`], together with all others who call this: for those who add to what is shared, and only have to
    /// be sure that nobody takes it away meanwhile.
    ///
    /// # Errors
    /// As [`Self::lock`].
    pub async fn share(&self) -> Result<NetnsLock> {
        self.lock_by(Lock::Links, File::try_lock_shared, File::lock_shared).await
    }

    async fn lock_by(
        &self,
        lock: Lock,
        attempt: fn(&File) -> Result<(), TryLockError>,
        wait: fn(&File) -> io::Result<()>,
    ) -> Result<NetnsLock> {
        // A file of its own: locks belong to what was opened, not to the process.
        let file = self.lock_file(lock)?;
        let failed = |error| Error::io(self.name(), lock.verb(), &error);
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
        let started = thread::Builder::new().spawn(move || {
            let mut locked = wait(&file);
            while locked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
                locked = wait(&file);
            }
            done.send(locked.map(|()| NetnsLock(file)))
        });
        let outcome = match started {
            Err(error) => Err(Error::io(self.name(), "start a thread to wait for the lock of", &error)),
            Ok(_) => match tokio::time::timeout(lock.patience(), waited).await {
                Ok(Ok(locked)) => locked.map_err(failed),
                Ok(Err(_)) | Err(_) => Err(Error::new(self.name(), lock.verb(), Errno::ETIMEDOUT)),
            },
        };
        if let Some(step) = step {
            step.end("wait for the lock of", self.name(), outcome.as_ref().err().map(Error::why).as_deref());
        }
        outcome
    }

    /// Puts a mark on the namespace, for whoever asks for its [`Self::marks`]. It stays until this handle is
    /// closed, at the end of the process at the latest. A mark is a lock of the kernel's on one byte of the file for locks
    /// (fcntl(2), open file description locks), shared, so that it keeps nobody from anything and never waits.
    ///
    /// # Errors
    /// ENOLCK where the kernel has no room for it.
    pub fn mark(&self, place: u64) -> Result<()> {
        let marked = fcntl(self.marked()?, FcntlArg::F_OFD_SETLK(&bytes(libc::F_RDLCK, &(place..place + 1))));
        marked.map(drop).map_err(|errno| Error::new(self.name(), "mark", errno))
    }

    /// The marks of others in `range`.
    ///
    /// # Errors
    /// If the kernel cannot say.
    pub fn marks(&self, range: Range<u64>) -> Result<HashSet<u64>> {
        let file = self.marked()?;
        let (mut found, mut rest) = (HashSet::new(), vec![range]);
        while let Some(range) = rest.pop() {
            if range.is_empty() {
                continue;
            }
            // The kernel tells one lock that would be in the way of an exclusive one.
            let mut lock = bytes(libc::F_WRLCK, &range);
            fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))
                .map_err(|errno| Error::new(self.name(), "look for marks on", errno))?;
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

    fn marked(&self) -> Result<&File> {
        if let Some(file) = self.marked.get() {
            return Ok(file);
        }
        let file = self.lock_file(Lock::Links)?;
        Ok(self.marked.get_or_init(|| file))
    }

    /// Opens what the namespace is locked by. For the node's it is a file; for a pod's the namespace itself, which keeps
    /// the pod from nothing but what it could spoil anyway.
    fn lock_file(&self, lock: Lock) -> Result<File> {
        if self.is_of_the_process() {
            let path = format!("{FOLDER}/{}-{}.lock", lock.file(), self.number()?.1);
            match root_only(&path) {
                Ok(file) => return Ok(file),
                // An ordinary user's node, or a machine without a place for such files: then there is the namespace.
                Err(Errno::EACCES | Errno::EROFS | Errno::ENOENT | Errno::ENOSPC | Errno::EDQUOT) => {}
                Err(errno) => return Err(Error::new(format!("file {path:?}"), "open", errno)),
            }
        }
        let path = format!("/proc/self/fd/{}", self.as_fd().as_raw_fd());
        File::open(path).map_err(|error| Error::io(self.name(), "open for its lock", &error))
    }
}

/// Opens a file that nobody else can open; what is missing is made.
fn root_only(path: &str) -> nix::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let attempt = || again(|| open(path, flags, Mode::S_IRUSR | Mode::S_IWUSR)).map(File::from);
    match attempt() {
        Err(Errno::ENOENT) => match mkdir(FOLDER, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => attempt(),
            Err(errno) => Err(errno),
        },
        other => other,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "the interpreter has no namespaces")]
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
