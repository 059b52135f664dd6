//! The kernel's clock that nobody can set.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The time since the machine started; that in which it was suspended counts (`CLOCK_BOOTTIME`).
///
/// # Panics
/// On a kernel older than 2.6.39, which has no such clock.
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock since 2.6.39").into()
}
