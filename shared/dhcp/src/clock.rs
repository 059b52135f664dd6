//! Time as leases count it.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// The longest sleep without a look at the clock. Tokio's timers stand still while the machine is suspended, a lease does
/// not; so one that ran out meanwhile is noticed this long after the machine woke up.
const LOOK: Duration = Duration::from_mins(1);

/// A moment of this boot, in milliseconds since the machine started; the time that it was suspended counts
/// (`CLOCK_BOOTTIME`), and nobody can set it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(u64);

impl Moment {
    /// Later than all that will be: when what is granted for ever ends.
    pub const NEVER: Self = Self(u64::MAX);

    /// Now.
    pub fn now() -> Self {
        Self::after_boot(podwire_net::since_boot())
    }

    /// So long after the machine started.
    pub fn after_boot(time: Duration) -> Self {
        Self(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    /// For constants of tests.
    #[cfg(test)]
    pub(crate) const fn after_boot_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Sleeps until then; the machine's suspension counts, but is noticed up to a minute late.
    pub async fn reached(self) {
        loop {
            match self - Self::now() {
                Duration::ZERO => return,
                left => tokio::time::sleep(left.min(LOOK)).await,
            }
        }
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// Stays at [`Moment::NEVER`].
    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(Self::after_boot(time).0))
    }
}

impl Sub for Moment {
    type Output = Duration;

    /// The time from `other` to this; none where `other` is later.
    fn sub(self, other: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NEVER => f.write_str("never"),
            Self(ms) => write!(f, "{}.{:03} s after boot", ms / 1000, ms % 1000),
        }
    }
}

/// Seconds since 1970, by the clock that people set.
pub(crate) fn unix_now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs())
}
