//! Deleting many links.
//!
//! The kernel keeps the sender of `RTM_DELLINK` for a grace period of RCU, which many senders can sit through together.
//! So several links are deleted at a time, each by a thread with a connection of its own.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{Error, Link, Net, Result, runtime};

/// How many wait at a time.
const WIDTH: usize = 16;
/// After so many, what else waits has its turn, such as SIGTERM.
const TURN: usize = 4 * WIDTH;

impl Net {
    /// Deletes all these links and tells what went wrong. One that is not there is no error.
    pub async fn delete_links(&self, links: &[&Link]) -> Vec<Error> {
        let errors = Mutex::default();
        for some in links.chunks(TURN) {
            let queue = Queue { links: some, next: AtomicUsize::new(0), errors: &errors };
            if some.len() > 1 {
                self.delete_in_threads(&queue);
            }
            // Those that no thread took.
            queue.delete(self);
            if links.len() > TURN {
                runtime::started().await;
                tokio::task::yield_now().await;
            }
        }
        errors.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn delete_in_threads(&self, queue: &Queue<'_>) {
        let ns = self.ns();
        let worker = || -> Result<()> {
            queue.delete(&Self::open(ns.try_clone()?)?);
            Ok(())
        };
        thread::scope(|scope| {
            for _ in 0..WIDTH.min(queue.links.len()) {
                // One that does not start, or gets no connection, leaves its part to the others.
                let _ = thread::Builder::new().spawn_scoped(scope, worker);
            }
        });
    }
}

struct Queue<'a> {
    links: &'a [&'a Link],
    next: AtomicUsize,
    errors: &'a Mutex<Vec<Error>>,
}

impl Queue<'_> {
    fn delete(&self, net: &Net) {
        while let Some(link) = self.links.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = net.delete_link_at(link.index) {
                let error = Error { object: format!("link {:?}", link.name), ..error };
                self.errors.lock().unwrap_or_else(PoisonError::into_inner).push(error);
            }
        }
    }
}
