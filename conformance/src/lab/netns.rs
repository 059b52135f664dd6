//! Network namespaces as values: made and entered on threads of their own, so that no thread is ever left in a foreign one.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace. It lives as long as a clone of this does, or something in it.
#[derive(Clone, Debug)]
pub struct Netns(Arc<File>);

impl Netns {
    /// The calling thread's own.
    pub fn current() -> Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// The one a path stands for: a bind mount, or something below `/proc`.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("netns {path:?}: open"))?;
        Ok(Self(Arc::new(file)))
    }

    /// A new one, empty but for a loopback that is down.
    pub fn create() -> Result<Self> {
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("new netns: unshare")?;
            Self::current()
        })?
    }

    /// Runs `work` inside, on a thread of its own, and waits for it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_a_thread(|| {
            setns(&*self.0, CloneFlags::CLONE_NEWNET).context("netns: setns")?;
            anyhow::Ok(work())
        })?
    }

    /// A path that stands for it to any process while this value lives; what the tests give as `CNI_NETNS`.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// Gives it a name below the file system, as a container runtime does. `path` is made.
    pub fn mount(&self, path: &Path) -> Result<Mounted> {
        File::create_new(path).with_context(|| format!("{path:?}: make"))?;
        let nothing = None::<&str>;
        mount(Some(&self.path()), path, nothing, MsFlags::MS_BIND, nothing)
            .with_context(|| format!("{path:?}: mount"))?;
        Ok(Mounted(path.to_owned()))
    }

    /// The descriptor, for netlink messages that name a namespace.
    pub fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// A namespace's name in the file system, which is taken away when this is dropped.
#[derive(Debug)]
pub struct Mounted(PathBuf);

impl Mounted {
    /// What is given as `CNI_NETNS`.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What is left goes with the mount namespace of the test.
        umount2(&self.0, MntFlags::MNT_DETACH).ok();
        std::fs::remove_file(&self.0).ok();
    }
}

/// A panic in `work` (a failed assertion, say) goes on in the caller with its own message.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work).map_err(|e| anyhow!("thread: {e}"))?;
        match thread.join() {
            Ok(value) => Ok(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
