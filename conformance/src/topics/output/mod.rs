//! What a plugin prints: results in the version asked for, and always JSON.

mod ends;
mod results;

use crate::runner::Test;

pub(super) const TESTS: &[&[Test]] = &[results::TESTS, ends::TESTS];
