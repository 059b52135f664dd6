//! Bad input: every error has its code, names what is wrong, and leaves the node as it was.

mod config;
mod environment;
mod hostile;
mod limits;
mod requested;

use anyhow::Result;

use crate::cni::{Call, Failure};
use crate::lab::Space;
use crate::runner::{Case, Test};

pub(super) const TESTS: &[&[Test]] =
    &[environment::TESTS, config::TESTS, requested::TESTS, hostile::TESTS, limits::TESTS];

/// Makes the call, expects the code and the words, and that neither `spaces` nor the leases changed.
fn refused(case: &Case, spaces: &[&Space], call: &Call, code: u64, words: &[&str]) -> Result<Failure> {
    let failure = case.unchanged(spaces, || call.fail(code))?;
    failure.says(words)?;
    Ok(failure)
}
