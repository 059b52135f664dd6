//! P22: nothing is left by a call that was killed, at whichever of its system calls.

mod kill;
mod scene;

use crate::runner::Test;

pub(super) const TESTS: &[&[Test]] = &[kill::TESTS];
