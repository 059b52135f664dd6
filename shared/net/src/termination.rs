//! SIGTERM as something to wait for beside other things: no handler runs, and none is missed between looking and waiting.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{Error, Result};

/// SIGTERM, caught for as long as the process lives.
#[derive(Debug)]
pub struct Termination(SignalFd);

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// What was waited for.
    Ready,
    /// The time was over.
    TimeOver,
    /// SIGTERM.
    Terminated,
}

impl Termination {
    /// Catches SIGTERM from now on. To be called before the process has a second thread, which would still be ended by it;
    /// the programs that this one starts are ended by it as usual.
    ///
    /// # Errors
    /// EMFILE where the process has too many files open.
    pub fn catch() -> Result<Self> {
        let signals = SigSet::from(Signal::SIGTERM);
        let catch = || {
            signals.thread_block()?;
            SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        };
        catch().map(Self).map_err(|errno| Error::new("SIGTERM", "catch", errno))
    }

    /// Waits for the signal. To be called where tokio runs.
    ///
    /// # Errors
    /// If the kernel cannot say.
    pub async fn recv(&self) -> Result<()> {
        #[expect(deprecated, reason = "what its successor makes the caller promise, that the file stays open, is so")]
        let register = || AsyncFd::with_interest(self.0.as_fd(), Interest::READABLE);
        let waited = async {
            register()?.readable().await?.retain_ready();
            io::Result::Ok(())
        };
        waited.await.map_err(|error| Error::io("SIGTERM", "wait for", &error))?;
        self.take()
    }

    /// Waits until `file` can be read, the time is over, or the signal comes.
    ///
    /// # Errors
    /// If the kernel cannot wait.
    pub fn wait(&self, file: BorrowedFd<'_>, time: Option<Duration>) -> Result<Woken> {
        let end = time.map(|time| Instant::now() + time);
        loop {
            let mut files = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN), PollFd::new(file, PollFlags::POLLIN)];
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            // Rounded up, so that the last part of a millisecond is not spent in a loop.
            let left = left.map(|left| left + Duration::from_micros(999));
            let left = left.map_or(PollTimeout::NONE, |left| left.try_into().unwrap_or(PollTimeout::MAX));
            match poll(&mut files, left) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::new("an event", "wait for", errno)),
                Ok(0) => return Ok(Woken::TimeOver),
                Ok(_) if files[0].any() == Some(true) => return self.take().map(|()| Woken::Terminated),
                Ok(_) => return Ok(Woken::Ready),
            }
        }
    }

    /// Waits for the lock (flock(2), exclusive) on `file`.
    ///
    /// # Errors
    /// Of the lock.
    pub fn lock(&self, file: BorrowedFd<'_>) -> Result<Woken> {
        let failed = |error: io::Error| Error::io("file", "lock", &error);
        // The lock is of the open file, so that a second descriptor serves to wait for it, and closing that keeps it.
        let second = File::from(file.try_clone_to_owned().map_err(failed)?);
        let (reader, mut writer) = io::pipe().map_err(failed)?;
        let waiter = thread::Builder::new().spawn(move || {
            let mut locked = second.lock();
            while locked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
                locked = second.lock();
            }
            drop(second);
            // Nobody reads it who was told to end meanwhile.
            let _ = writer.write_all(b".");
            locked
        });
        let waiter = waiter.map_err(|error| Error::io("file", "start a thread to wait for the lock of", &error))?;
        let woken = self.wait(reader.as_fd(), None)?;
        if woken == Woken::Ready {
            waiter.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())).map_err(failed)?;
        }
        Ok(woken)
    }

    /// Takes the signal, so that what is to be undone can wait again.
    fn take(&self) -> Result<()> {
        loop {
            match self.0.read_signal() {
                Err(Errno::EINTR) => {}
                taken => return taken.map(drop).map_err(|errno| Error::new("SIGTERM", "read", errno)),
            }
        }
    }
}
