//! Leases on disk: one file an attachment, which is there whole or not at all.
//!
//! They have to outlive the daemon, not the machine's boot: no pod does. So by default they are on /run.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use podwire_dhcp::{Lease4, Lease6};
use podwire_spec::{Error, Result, code, container_id, hash, interface_name, network_name};
use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::family::Slot;
use crate::config::Wanted;

/// A lease with every option of its server, in JSON, is some kilobytes; what is longer than this is none.
const MAX_RECORD: usize = 1 << 20;
/// What is being written, until it is whole.
const UNFINISHED: &str = ".unfinished";

/// Whose lease it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) network: String,
    pub(super) container_id: String,
    pub(super) ifname: String,
}

impl Key {
    /// # Errors
    /// Code 4 or 7 for what can be no such name, or be no part of a path.
    pub(super) fn new(network: &str, id: &str, ifname: &str) -> Result<Self> {
        if !container_id(id) || !interface_name(ifname) {
            return Err(Error::environment(format!("container id {id:?}, interface {ifname:?}: not such names")));
        }
        if !network_name(network) {
            return Err(Error::invalid("name", format!("{network:?}: not the name of a network")));
        }
        Ok(Self { network: network.to_owned(), container_id: id.to_owned(), ifname: ifname.to_owned() })
    }

    /// The name of its file: the key itself, so that it can be found by eye, or a hash of one that is too long.
    fn file(&self) -> String {
        let Self { network, container_id, ifname } = self;
        // None of the three may hold a colon.
        let name = format!("{network}:{container_id}:{ifname}");
        if name.len() <= 200 {
            name
        } else {
            format!("{:016x}:{:016x}", hash(name.as_bytes()), hash(&[name.as_bytes(), b"\0"].concat()))
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.network, self.container_id, self.ifname)
    }
}

/// What is kept of an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(super) key: Key,
    /// The path of the pod's namespace, and its device and inode number.
    pub(super) netns: PathBuf,
    pub(super) number: (u64, u64),
    /// The boot that the leases' times count from.
    pub(super) boot: String,
    pub(super) wanted: Wanted,
    pub(super) v4: Slot<Lease4>,
    pub(super) v6: Slot<Lease6>,
}

/// The folder of leases, open and locked: it is one daemon's.
#[derive(Debug)]
pub(super) struct Book {
    folder: OwnedFd,
    path: PathBuf,
    boot: String,
}

impl Book {
    /// Opens the folder, which is made if missing. Another daemon that has it may be about to end, so it is waited for.
    ///
    /// # Errors
    /// Code 5, also where others than this user can write there, and where another daemon has it.
    pub(super) fn open(path: &Path, patience: Duration) -> Result<Self> {
        let failed = |operation: &str, errno: rustix::io::Errno| failed(operation, path, errno);
        if let Some(parent) = path.parent() {
            // It may be the socket's folder too, which is root's alone.
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|error| {
                failed("create", rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))
            })?;
        }
        match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(failed("create", errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let folder = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| failed("open", errno))?;
        let stat = rustix::fs::fstat(&folder).map_err(|errno| failed("stat", errno))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o022 != 0 {
            return Err(Error::new(code::IO, format!("state folder \"{}\": others can write there", path.display()))
                .with_details("leases from there would be believed; give it to root, with mode 0700"));
        }
        if !locked(&folder, patience).map_err(|errno| failed("lock", errno))? {
            return Err(Error::new(code::IO, format!("state folder \"{}\": another daemon uses it", path.display()))
                .with_details("stop that one, or give this one another -statedir and -socketpath"));
        }
        Ok(Self { folder, path: path.to_owned(), boot: boot() })
    }

    /// The number of this boot.
    pub(super) fn boot(&self) -> &str {
        &self.boot
    }

    /// Whether leases can be written.
    ///
    /// # Errors
    /// Code 5 where they cannot.
    pub(super) fn check_writable(&self) -> Result<()> {
        self.write(UNFINISHED, b"")
            .and_then(|()| rustix::fs::unlinkat(&self.folder, UNFINISHED, AtFlags::empty()))
            .map_err(|errno| self.failed("write to", UNFINISHED, errno))
    }

    /// Keeps a record, in the place of the one before.
    ///
    /// # Errors
    /// Code 5; the one before is there still then.
    pub(super) fn keep(&self, record: &Record) -> Result<()> {
        let name = record.key.file();
        let text =
            serde_json::to_vec_pretty(record).map_err(|error| Error::new(code::BUG, format!("lease: {error}")))?;
        // Written to its end before it gets its name. There is one writer, so one unfinished name is enough. No fsync: what
        // a power cut would take is of a boot that is over.
        self.write(UNFINISHED, &text)
            .and_then(|()| rustix::fs::renameat(&self.folder, UNFINISHED, &self.folder, &name))
            .map_err(|errno| self.failed("write", &name, errno))
    }

    /// Forgets a record; that there is none is success.
    ///
    /// # Errors
    /// Code 5.
    pub(super) fn forget(&self, key: &Key) -> Result<()> {
        match rustix::fs::unlinkat(&self.folder, key.file(), AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove", &key.file(), errno)),
        }
    }

    /// Every record. What is none is reported and passed over.
    ///
    /// # Errors
    /// Code 5 where the folder cannot be listed.
    pub(super) fn records(&self) -> Result<Vec<Record>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.folder).map_err(|errno| failed("list", &self.path, errno))? {
            let entry = entry.map_err(|errno| failed("list", &self.path, errno))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !matches!(name.as_str(), "." | ".." | UNFINISHED) {
                names.push(name);
            }
        }
        Ok(names
            .into_iter()
            .filter_map(|name| self.read(&name).inspect_err(|error| tracing::warn!("{error}")).ok())
            .collect())
    }

    fn read(&self, name: &str) -> Result<Record> {
        let no_lease = |why: String| {
            Error::new(
                code::DECODE,
                format!("file \"{}\" is not a lease and is passed over: {why}", self.path.join(name).display()),
            )
        };
        // NONBLOCK: a FIFO would have an open wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, name, flags, Mode::empty())
            .map_err(|errno| no_lease(errno.to_string()))?;
        let mut text = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(std::fs::File::from(file), MAX_RECORD as u64), &mut text)
            .map_err(|error| no_lease(error.to_string()))?;
        let record = record(&text).map_err(no_lease)?;
        if record.key.file() != name {
            return Err(no_lease(format!("it says that it is {}'s", record.key)));
        }
        Ok(record)
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), rustix::io::Errno> {
        // Left by a kill, or put there by somebody: never written through.
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, name, flags, Mode::from_raw_mode(0o600))?;
        let mut rest = content;
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(file.as_fd(), rest))?;
            rest = &rest[written..];
        }
        Ok(())
    }

    fn failed(&self, operation: &str, name: &str, errno: rustix::io::Errno) -> Error {
        failed(operation, &self.path.join(name), errno)
    }
}

/// Reads a record.
///
/// # Errors
/// In words, where it is none.
pub(crate) fn record(text: &[u8]) -> Result<Record, String> {
    let record: Record = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let Key { network, container_id, ifname } = &record.key;
    Key::new(network, container_id, ifname).map_err(|error| error.msg)?;
    Ok(record)
}

fn failed(operation: &str, path: &Path, errno: rustix::io::Errno) -> Error {
    Error::new(code::IO, format!("state folder: cannot {operation} \"{}\": {errno}", path.display()))
}

/// Locks the folder; false where another process has it for longer than that.
fn locked(folder: &OwnedFd, patience: Duration) -> Result<bool, rustix::io::Errno> {
    match rustix::fs::flock(folder, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) if patience.is_zero() => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            // A second descriptor of the same opening, whose lock it is.
            let folder = rustix::io::fcntl_dupfd_cloexec(folder, 0)?;
            let (done, wait) = std::sync::mpsc::channel();
            std::thread::Builder::new()
                .spawn(move || done.send(rustix::fs::flock(folder, FlockOperation::LockExclusive)))
                .map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::AGAIN))?;
            wait.recv_timeout(patience).map_or(Ok(false), |locked| locked.map(|()| true))
        }
        other => other.map(|()| true),
    }
}

/// The number of this boot; leases of another one are over.
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
