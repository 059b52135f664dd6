//! Random numbers that can be had again.

use std::time::{SystemTime, UNIX_EPOCH};

/// The variable that names the seed of a run which is to be repeated.
const SEED: &str = "PODWIRE_SEED";

/// Xorshift.
pub(super) struct Random(u64);

/// A seed that is new each time, or the one asked for.
pub(super) fn seed() -> u64 {
    let given = std::env::var(SEED).ok().and_then(|text| text.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| u64::from(now.subsec_nanos()));
    let seed = given.unwrap_or_else(now);
    // What a test says is shown when it fails.
    println!("{SEED}={seed}");
    seed
}

impl Random {
    /// The `n`th sequence of a seed.
    pub(super) fn new(seed: u64, n: u64) -> Self {
        // Spread over all bits (the golden ratio), and never 0, which xorshift would not leave.
        Self((seed.wrapping_add(n + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or_default() % end
    }
}
