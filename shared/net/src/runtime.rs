//! The runtime, tokio, for a process that hardly ever waits.
//!
//! What is asked of the kernel over netlink is done when the request has been sent, so that most calls end without having
//! waited for anything. To start tokio takes 18 system calls and some 30 µs; so it starts when somebody has to wait.

use std::{
    cell::OnceCell,
    future::poll_fn,
    io,
    mem::ManuallyDrop,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use futures_util::future::{Either, select};
use tokio::runtime::{Builder, Handle, Runtime};

/// To be awaited by whoever is about to use tokio's sockets, timers or processes: it comes to an end where these work.
pub async fn started() {
    let look = |cx: &mut Context<'_>| {
        if Handle::try_current().is_ok() {
            return Poll::Ready(());
        }
        // Whoever waits for many asks only those again that want to be.
        cx.waker().wake_by_ref();
        Poll::Pending
    };
    poll_fn(look).await;
}

/// A runtime that starts when it is needed. It is not taken down: the process is about to end.
#[derive(Debug, Default)]
pub struct Lazy(OnceCell<ManuallyDrop<Runtime>>);

impl Lazy {
    /// Does `work`, all of it if need be in the runtime.
    ///
    /// # Errors
    /// If the runtime is needed and cannot start.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> io::Result<T> {
        let mut work = pin!(work);
        match self.begin(work.as_mut()) {
            Poll::Ready(done) => Ok(done),
            Poll::Pending => Ok(self.runtime()?.block_on(work)),
        }
    }

    /// Does `work` until `end` comes to an end, to which nobody listens before there is something to wait for.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_until<T, E>(
        &self,
        end: impl Future<Output = E>,
        work: impl Future<Output = T>,
    ) -> io::Result<Result<T, E>> {
        let mut work = pin!(work);
        match self.begin(work.as_mut()) {
            Poll::Ready(done) => Ok(Ok(done)),
            Poll::Pending => Ok(match self.runtime()?.block_on(select(pin!(end), work)) {
                Either::Left((ended, _)) => Err(ended),
                Either::Right((done, _)) => Ok(done),
            }),
        }
    }

    /// Goes as far as nobody has to wait. A runtime that has started does the rest itself.
    fn begin<F: Future>(&self, work: Pin<&mut F>) -> Poll<F::Output> {
        if self.0.get().is_some() { Poll::Pending } else { work.poll(&mut Context::from_waker(Waker::noop())) }
    }

    fn runtime(&self) -> io::Result<&Runtime> {
        if self.0.get().is_none() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            // Only now, so that what failed can be tried again.
            let _ = self.0.set(ManuallyDrop::new(runtime));
        }
        self.0.get().map(|runtime| &**runtime).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use super::*;

    #[test]
    fn it_starts_for_those_who_wait_and_goes_on_from_where_they_were() {
        let runtime = Lazy::default();
        assert_eq!(runtime.run(async { 7 }).unwrap(), 7);
        assert!(runtime.0.get().is_none());
        let mut begun = 0;
        let work = async {
            begun += 1;
            started().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            begun
        };
        assert_eq!(runtime.run(work).unwrap(), 1);
        assert!(runtime.0.get().is_some());
        // In a runtime from the beginning.
        runtime.run(started()).unwrap();
    }

    #[test]
    fn many_can_begin_to_wait_at_the_same_time() {
        let one = async || {
            started().await;
            tokio::task::yield_now().await;
            Ok::<_, ()>(1)
        };
        let all = futures_util::future::try_join_all((0..40).map(|_| one()));
        assert_eq!(Lazy::default().run(all).unwrap().unwrap().len(), 40);
    }

    #[test]
    fn an_end_is_heard_by_those_who_wait() {
        let runtime = Lazy::default();
        assert_eq!(runtime.run_until(async { "end" }, async { 7 }).unwrap(), Ok(7));
        assert_eq!(runtime.run_until(async { "end" }, pending::<()>()).unwrap(), Err("end"));
    }

    #[test]
    fn whoever_gives_way_is_gone_on_with() {
        let runtime = Lazy::default();
        let work = async {
            tokio::task::yield_now().await;
            Handle::try_current().is_ok()
        };
        assert!(runtime.run(work).unwrap());
    }
}
