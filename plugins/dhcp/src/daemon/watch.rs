//! Tells when a namespace's name is taken away, by inotify(7) on the folder that it is in.
//!
//! Names in /proc, where a namespace may be found by a process, come and go without a word; those are looked at from time
//! to time, as are all others.

use std::{ffi::OsString, io, mem::MaybeUninit, os::fd::OwnedFd, os::unix::ffi::OsStringExt, path::Path};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;

/// The folders that are watched.
#[derive(Debug)]
pub(super) struct Watch {
    /// None where the kernel has no more of them, or none at all: the daemon does without.
    fd: Option<AsyncFd<OwnedFd>>,
}

impl Watch {
    pub(super) fn new() -> Self {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(io::Error::from);
        #[expect(deprecated, reason = "unsound only where a type's descriptor can change, and an OwnedFd's cannot")]
        let fd = fd.and_then(AsyncFd::new);
        Self { fd: fd.inspect_err(|error| tracing::warn!("namespaces cannot be watched: {error}")).ok() }
    }

    /// Watches the folder of a namespace. One that is watched already is watched once.
    pub(super) fn add(&self, netns: &Path) {
        let (Some(fd), Some(folder)) = (&self.fd, netns.parent()) else { return };
        if folder.starts_with("/proc") {
            return;
        }
        let flags = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::ONLYDIR;
        if let Err(errno) = inotify::add_watch(fd.get_ref(), folder, flags) {
            tracing::warn!("folder \"{}\": cannot be watched: {errno}", folder.display());
        }
    }

    /// The names that were taken away since the last time; none where more happened than the kernel could keep, so that
    /// all have to be looked at. Waits until there is something to tell.
    pub(super) async fn next(&self) -> Option<Vec<OsString>> {
        let Some(fd) = &self.fd else { return std::future::pending().await };
        loop {
            match fd.readable().await {
                Ok(mut ready) => match ready.try_io(|fd| names(fd.get_ref())) {
                    Ok(Ok(names)) => return names,
                    Ok(Err(error)) => tracing::warn!("watched namespaces: {error}"),
                    Err(_) => {}
                },
                Err(error) => tracing::warn!("watched namespaces: {error}"),
            }
        }
    }
}

fn names(fd: &OwnedFd) -> io::Result<Option<Vec<OsString>>> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(fd, &mut buffer);
    let mut names = Vec::new();
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(rustix::io::Errno::AGAIN) if !names.is_empty() => return Ok(Some(names)),
            Err(errno) => return Err(errno.into()),
        };
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            return Ok(None);
        }
        names.extend(event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec())));
    }
}
