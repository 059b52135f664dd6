//! Steps: what a call asks of the kernel, the disk and its delegates, each with its duration and its outcome.
//!
//! Whoever asks wraps the question in [`step`], or begins a [`Step`] before and ends it after. Where they go is the
//! subscriber's business (`tracing`); nothing is known of files or JSON here. While nobody listens to steps, one costs
//! a comparison: no clock is read and nothing is formatted.

use std::time::{Duration, Instant};

use tracing::Level;

/// The target of the events that steps are.
pub const TARGET: &str = "podwire::step";

/// The names of an event's fields.
pub mod field {
    /// What was asked for, such as `create`.
    pub const OPERATION: &str = "operation";
    /// Of what, such as `link "eth0"`.
    pub const OBJECT: &str = "object";
    /// How long it took, in microseconds.
    pub const MICROSECONDS: &str = "us";
    /// Why it failed; not there where it did not.
    pub const FAILURE: &str = "failure";
}

/// A step that has begun.
#[derive(Debug)]
#[must_use = "a step is told when it ends"]
pub struct Step(Instant);

impl Step {
    /// Begins a step; `None` while nobody listens.
    #[inline]
    pub fn begin() -> Option<Self> {
        tracing::enabled!(target: TARGET, Level::DEBUG).then(|| Self(Instant::now()))
    }

    /// Tells of the step: `failure` says why it failed.
    #[cold]
    pub fn end(self, operation: &str, object: &str, failure: Option<&str>) {
        let us = microseconds(self.0.elapsed());
        tracing::debug!(target: TARGET, operation, object, us, failure);
    }
}

/// Does `work` as one step. `why` puts a failure into words, which need not name object and operation.
///
/// # Errors
/// Those of `work`.
#[inline]
pub fn step<T, E>(
    operation: &str,
    object: impl FnOnce() -> String,
    why: impl FnOnce(&E) -> String,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let step = Step::begin();
    let outcome = work();
    if let Some(step) = step {
        step.end(operation, &object(), outcome.as_ref().err().map(why).as_deref());
    }
    outcome
}

/// A duration as it is told.
pub fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
