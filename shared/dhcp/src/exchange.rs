//! How a state machine meets time and sockets.

use std::time::Duration;

use crate::{Moment, Result};

/// The longest packet that is read; of a longer one the rest is lost, and it is refused.
const BUFFER: usize = 2048;

/// What a state machine wants done.
#[derive(Debug, PartialEq)]
pub(crate) enum Step<O> {
    /// Send this message.
    Send(Vec<u8>),
    /// Nothing, until then or until something is received.
    Wait(Moment),
    /// It has come to an end.
    Done(O),
}

/// A question and its answers, without I/O or clock.
pub(crate) trait Machine {
    /// How it ends.
    type Outcome;

    /// What is to be done now.
    fn poll(&mut self, now: Moment) -> Step<Self::Outcome>;

    /// Takes a message in.
    fn receive(&mut self, message: &[u8], now: Moment);
}

/// A socket for a machine's messages.
pub(crate) trait Wire {
    /// Sends a message to whom the wire leads.
    async fn send(&self, message: &[u8]) -> Result<()>;

    /// Waits for a packet, puts it into `buffer`, and gives the message in it, if it has one.
    async fn receive<'b>(&self, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>>;
}

/// Drives a machine to its end.
///
/// # Errors
/// Of the wire.
pub(crate) async fn exchange<M: Machine>(machine: &mut M, wire: &impl Wire) -> Result<M::Outcome> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let now = Moment::now();
        match machine.poll(now) {
            Step::Done(outcome) => return Ok(outcome),
            Step::Send(message) => wire.send(&message).await?,
            Step::Wait(until) => {
                // The clock of `timeout` stands still while the machine is suspended, so it is looked at now and then.
                let left = (until - now).min(Duration::from_mins(1));
                if let Ok(received) = tokio::time::timeout(left, wire.receive(&mut buffer)).await
                    && let Some(message) = received?
                {
                    machine.receive(message, Moment::now());
                }
            }
        }
    }
}

/// What was heard and could not be used, for the error if nothing better comes: the first few, since a hostile network
/// can say a lot.
#[derive(Debug, Default)]
pub(crate) struct Heard(Vec<String>);

impl Heard {
    const MOST: usize = 4;

    pub(crate) fn note(&mut self, what: String) {
        if self.0.len() < Self::MOST && !self.0.contains(&what) {
            tracing::debug!("passed over: {what}");
            self.0.push(what);
        }
    }

    pub(crate) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.0)
    }
}
