//! Letting what else waits have its turn, which is SIGTERM.
//!
//! A call that is ended stops where it waits, and what it has recorded is undone. A request does not wait: whoever made it
//! could not yet have recorded what it did. So a call that only makes requests says where it can be stopped.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use podwire_net::runtime;

use crate::Context;

/// For how long a call goes on without listening. Most calls end before.
const LONG: Duration = Duration::from_millis(10);

/// When others had their turn last.
#[derive(Debug)]
pub(crate) struct Turn(Cell<Instant>);

impl Default for Turn {
    fn default() -> Self {
        Self(Cell::new(Instant::now()))
    }
}

impl<C> Context<C> {
    /// Stops here if that was asked for. To be called where everything that was done is recorded for being undone, between
    /// steps of which one may take long.
    pub async fn turn(&self) {
        if self.turn.0.get().elapsed() > LONG {
            runtime::started().await;
            tokio::task::yield_now().await;
            self.turn.0.set(Instant::now());
        }
    }
}
