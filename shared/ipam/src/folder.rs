//! A folder held by its descriptor: names are looked up in it and nowhere else, and no symbolic link is followed.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use podwire_spec::{Error, Result, code};
use rustix::{
    fs::{Access, AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, RenameFlags, Timespec, Timestamps},
    io::{Errno, retry_on_intr},
};

/// Lease files are a few dozen bytes; what is longer than this is none.
pub(crate) const CONTENT_MAX: usize = 4096;

/// An open folder, and its path for messages.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Folder {
    /// Opens a folder by its path, which may lead over symbolic links: it is the admin's. `None` if there is none.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        match retry_on_intr(|| rustix::fs::openat(CWD, path, FOLDER, Mode::empty())) {
            Ok(fd) => Ok(Some(Self { fd, path: path.to_owned() })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed("open folder", path, errno)),
        }
    }

    /// The same; what is missing is made, with mode 755 as the reference does.
    pub(crate) fn make(path: &Path) -> Result<Self> {
        if let Some(folder) = Self::open(path)? {
            return Ok(folder);
        }
        fs::create_dir_all(path).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            failed("create folder", path, errno)
        })?;
        Self::open(path)?.ok_or_else(|| failed("open folder", path, Errno::NOENT))
    }

    /// Opens the folder `name` in this one; `None` if there is none.
    pub(crate) fn sub(&self, name: &str) -> Result<Option<Self>> {
        match retry_on_intr(|| rustix::fs::openat(&self.fd, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())) {
            Ok(fd) => Ok(Some(Self { fd, path: self.path.join(name) })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("open folder", name, errno)),
        }
    }

    /// Opens the folder `name` in this one, which is made if missing.
    pub(crate) fn make_sub(&self, name: &str) -> Result<Self> {
        if let Some(folder) = self.sub(name)? {
            return Ok(folder);
        }
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)) {
            // Several calls start at once on a new node: whoever came first made it.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.failed("create folder", name, errno)),
        }
        self.sub(name)?.ok_or_else(|| self.failed("open folder", name, Errno::NOENT))
    }

    /// Opens the file `name`, never through a symbolic link, and never waiting for the other end of a FIFO.
    pub(crate) fn open_file(&self, name: &str, flags: OFlags, mode: u32) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        retry_on_intr(|| rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(mode)))
    }

    /// The content of the file `name`.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, Errno> {
        let file = self.open_file(name, OFlags::RDONLY, 0)?;
        read_all(file.as_fd())
    }

    /// Whether anything is called `name`.
    pub(crate) fn has(&self, name: &str) -> Result<bool> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.failed("look for file", name, errno)),
        }
    }

    /// The names of everything in the folder. Those that are not UTF-8 are nobody's of ours and left out.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let failed = |errno| failed("list folder", &self.path, errno);
        let mut names = Vec::new();
        for entry in retry_on_intr(|| Dir::read_from(&self.fd)).map_err(failed)? {
            match entry.map_err(failed)?.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }

    /// Removes the file `name`; that it is not there is success.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove file", name, errno)),
        }
    }

    /// Moves the file `name` to `target` in another folder of the same file system, in one step, unless there is
    /// something already: `EXIST` then.
    pub(crate) fn move_new(&self, name: &str, to: &Self, target: &str) -> Result<(), Errno> {
        match rustix::fs::renameat_with(&self.fd, name, &to.fd, target, RenameFlags::NOREPLACE) {
            // Some network file systems cannot do that; a hard link refuses an existing name as well.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(&self.fd, name, &to.fd, target, AtFlags::empty())?;
                rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())
            }
            done => done,
        }
    }

    /// The text of the symbolic link `name`; `None` if there is none.
    pub(crate) fn link_text(&self, name: &str) -> Result<Option<String>, Errno> {
        // One byte more than a link's text can have, so that the first attempt is the last.
        let mut buffer = [0; CONTENT_MAX + 1];
        match rustix::fs::readlinkat_raw(&self.fd, name, &mut buffer[..]) {
            Ok(length) => Ok(Some(String::from_utf8_lossy(&buffer[..length]).into_owned())),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Makes the symbolic link `name`.
    pub(crate) fn link(&self, name: &str, text: &str) -> Result<(), Errno> {
        rustix::fs::symlinkat(text, &self.fd, name)
    }

    /// When the folder's list of names last changed: seconds and nanoseconds.
    pub(crate) fn changed_at(&self) -> Result<(i64, i64), Errno> {
        let stat = rustix::fs::fstat(&self.fd)?;
        // The type of the nanoseconds differs between architectures.
        Ok((stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or_default()))
    }

    /// Says when the folder's list of names last changed.
    pub(crate) fn set_changed_at(&self, (seconds, nanoseconds): (i64, i64)) -> Result<(), Errno> {
        let last_access = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let last_modification = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        rustix::fs::futimens(&self.fd, &Timestamps { last_access, last_modification })
    }

    /// When what is called `name` last changed, be it a file or a link: seconds and nanoseconds.
    pub(crate) fn changed_at_of(&self, name: &str) -> Result<(i64, i64), Errno> {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok((stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or_default()))
    }

    /// Whether it is on a file system that no other machine can have mounted. One that is not known here may be shared.
    pub(crate) fn is_local(&self) -> bool {
        /// `linux/magic.h` and the file systems' own headers: ext2 to 4, XFS, Btrfs, F2FS, ZFS, bcachefs, tmpfs, overlay.
        const LOCAL: [u32; 8] =
            [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x2fc1_2fc1, 0xca45_1a4e, 0x0102_1994, 0x794c_7630];
        // Magic numbers have 32 bits, whatever the field has.
        let kind = rustix::fs::fstatfs(&self.fd).map(|stat| u32::try_from(stat.f_type & 0xffff_ffff));
        matches!(kind, Ok(Ok(kind)) if LOCAL.contains(&kind))
    }

    /// What to say when `operation` on `name` in this folder failed.
    pub(crate) fn failed(&self, operation: &str, name: &str, errno: Errno) -> Error {
        failed(operation, &self.path.join(name), errno)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether files can be made in the folder at `path`, or in the nearest one above it where it would be made.
pub(crate) fn check_writable(path: &Path) -> Result<()> {
    for folder in path.ancestors() {
        match rustix::fs::accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed("write to folder", folder, errno)),
        }
    }
    Err(failed("write to folder", path, Errno::NOENT))
}

/// Reads a small file from its start.
pub(crate) fn read_all(file: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let mut buffer = [0; CONTENT_MAX];
    let mut filled = 0;
    while filled < buffer.len() {
        let rest = &mut buffer[filled..];
        let wanted = rest.len();
        let got = retry_on_intr(|| rustix::io::read(file, &mut *rest))?;
        filled += got;
        if got < wanted {
            // A regular file gives all it has; so a second read, only to see its end, is saved.
            break;
        }
    }
    Ok(buffer[..filled].to_vec())
}

/// Writes all of `content`.
pub(crate) fn write_all(file: BorrowedFd<'_>, mut content: &[u8]) -> Result<(), Errno> {
    while !content.is_empty() {
        match retry_on_intr(|| rustix::io::write(file, content))? {
            0 => return Err(Errno::IO),
            written => content = &content[written..],
        }
    }
    Ok(())
}

/// Takes the lock on `file`, if nobody has it: whether it was taken. It is given up when the descriptor is closed, also
/// by a kill.
pub(crate) fn try_lock(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    match retry_on_intr(|| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// A failed operation on a file: code 5.
pub(crate) fn failed(operation: &str, path: &Path, errno: Errno) -> Error {
    let known = nix::errno::Errno::from_raw(errno.raw_os_error());
    let hint = match errno {
        Errno::NOSPC | Errno::DQUOT => "; free space or inodes on that file system",
        Errno::ROFS | Errno::ACCESS | Errno::PERM => "; the plugin must be able to write there, or set ipam.dataDir",
        Errno::LOOP | Errno::NOTDIR => "; a folder is expected there, not a file or a symbolic link",
        _ => "",
    };
    Error::new(code::IO, format!("cannot {operation} \"{}\": {known:?}", path.display()))
        .with_details(format!("{}{hint}", known.desc()))
}
