//! The undo log: what an ADD has changed, in order, so that a failure can put everything back.
//!
//! It reverses this call's own changes and nothing else: what was there before stays, whoever made it. Each change
//! brings its own way back along, so that a plugin carries no other's.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
};

use podwire_net::runtime::Lazy;
use podwire_trace::Step;

use crate::{
    Context, Result,
    output::join,
    run::{bug, no_runtime},
};

/// How to take back one change.
pub(crate) struct Undo<C> {
    /// What that does, for messages: "delete link 7".
    what: String,
    run: Box<Run<C>>,
}

type Run<C> = dyn for<'a> FnOnce(&'a Context<C>) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

impl<C> Undo<C> {
    fn new<T>(what: impl Into<String>, run: impl AsyncFnOnce(&Context<C>) -> Result<T> + 'static) -> Self {
        Self { what: what.into(), run: Box::new(move |cx| Box::pin(async move { run(cx).await.map(drop) })) }
    }
}

impl<C> fmt::Debug for Undo<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// What a call has changed so far.
#[derive(Debug)]
pub(crate) struct Changes<C> {
    own: Vec<Undo<C>>,
    shared: Vec<Undo<C>>,
}

impl<C> Default for Changes<C> {
    fn default() -> Self {
        Self { own: Vec::new(), shared: Vec::new() }
    }
}

impl<C> Context<C> {
    /// Records how to take back what was just done, and what doing so is called: "delete link 7".
    pub fn undo_by<T>(&mut self, what: impl Into<String>, run: impl AsyncFnOnce(&Self) -> Result<T> + 'static) {
        self.changes.own.push(Undo::new(what, run));
    }

    /// Records how to take back what was just made for all to share: after everything of this call's own, when it can
    /// be seen whether others use it. To see that and to remove it is one step: the lock of the node's namespace is held.
    pub fn undo_at_last_by<T>(&mut self, what: impl Into<String>, run: impl AsyncFnOnce(&Self) -> Result<T> + 'static) {
        self.changes.shared.push(Undo::new(what, run));
    }

    /// As [`Self::undo_by`], for a link of the node's that this call made.
    pub(crate) fn undo_host_link(&mut self, index: u32) {
        self.undo_by(format!("delete link {index}"), async move |cx| Ok(cx.host.delete_link_at(index)?));
    }

    /// As [`Self::undo_by`], for a link of the pod's that this call made.
    pub(crate) fn undo_pod_link(&mut self, index: u32) {
        let what = format!("delete the pod's link {index}");
        self.undo_by(what, async move |cx| Ok(cx.pod()?.delete_link_at(index)?));
    }

    /// Takes everything back that this call has done, the last first. All of it is tried, each by itself: one can need a
    /// runtime that does not start, or panic.
    pub(crate) fn roll_back(&mut self, runtime: &Lazy) -> Result<()> {
        let mut errors = Vec::new();
        while let Some(undo) = self.changes.own.pop() {
            errors.extend(alone(runtime, self.take_back(undo)).err());
        }
        if !self.changes.shared.is_empty() {
            let lock = async { Ok(self.host.ns().lock().await?) };
            let _lock = alone(runtime, lock).map_err(|error| errors.push(error));
            while let Some(undo) = self.changes.shared.pop() {
                errors.extend(alone(runtime, self.take_back(undo)).err());
            }
        }
        join(errors)
    }

    async fn take_back(&self, undo: Undo<C>) -> Result<()> {
        let step = Step::begin();
        let outcome = (undo.run)(self).await;
        if let Some(step) = step {
            step.end("undo", &undo.what, outcome.as_ref().err().map(|error| format!("{error:#}")).as_deref());
        }
        outcome.map_err(|error| error.context(format!("undo: {}", undo.what)))
    }
}

fn alone<T>(runtime: &Lazy, step: impl Future<Output = Result<T>>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(|| runtime.run(step))) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Err(no_runtime(&error)),
        Err(_) => Err(bug().into()),
    }
}
