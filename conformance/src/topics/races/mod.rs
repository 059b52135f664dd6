//! P20, P22, P24, P27: calls that meet each other, and things that go or change while a call works.

mod address;
mod collect;
mod crowd;
mod gone;
mod halt;
mod mac;
mod meet;
mod outsider;
mod random;
mod scene;

use crate::runner::Test;

pub(super) const TESTS: &[&[Test]] =
    &[meet::TESTS, collect::TESTS, crowd::TESTS, gone::TESTS, mac::TESTS, outsider::TESTS, address::TESTS];
