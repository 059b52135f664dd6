//! P20, P22: nothing is left by a call that was killed or spoilt, at whichever of its system calls.

mod calls;
mod dhcp;
mod faults;
mod interrupted;
mod kill;
mod scene;
mod terminate;
mod threads;

use crate::runner::Test;

pub(super) const TESTS: &[&[Test]] =
    &[kill::TESTS, faults::TESTS, interrupted::TESTS, terminate::TESTS, threads::TESTS, dhcp::TESTS];
