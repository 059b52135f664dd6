//! When to ask again, and the chance in it.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// Random numbers: transaction numbers, which a stranger must not guess, and waiting times (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Numbers that nobody can foretell: std seeds its hashers from the kernel.
    pub(crate) fn new() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }

    /// The same numbers each time, for tests.
    #[cfg(test)]
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn number(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [a, b, c, d, ..] = (mixed ^ mixed >> 31).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// `middle`, give or take up to `most`.
    pub(crate) fn around(&mut self, middle: Duration, most: Duration) -> Duration {
        let chance = f64::from(self.number()) / f64::from(u32::MAX);
        (middle + most.mul_f64(2.0 * chance)).saturating_sub(most)
    }
}

/// The growing times between repetitions.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        // Whatever was configured, a server is neither asked all the time nor never again.
        let most = Duration::from_hours(24);
        let (first, longest) = (first.max(Duration::from_millis(100)), longest.max(Duration::from_secs(1)));
        Self { next: first.min(most), longest: longest.min(most) }
    }

    /// Twice the one before, give or take a second, or half of it where that is less (RFC 2131, section 4.1).
    pub(crate) fn of_dhcpv4(&mut self, dice: &mut Dice) -> Duration {
        let delay = self.step();
        dice.around(delay, Duration::from_secs(1).min(delay / 2))
    }

    /// Twice the one before, give or take a tenth (RFC 8415, section 15).
    pub(crate) fn of_dhcpv6(&mut self, dice: &mut Dice) -> Duration {
        let delay = self.step();
        dice.around(delay, delay / 10)
    }

    fn step(&mut self) -> Duration {
        let delay = self.next.min(self.longest);
        self.next = delay * 2;
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_with_a_second_of_chance() {
        let mut dice = Dice::seeded(1);
        let mut backoff = Backoff::new(Duration::from_secs(4), Duration::from_secs(62));
        for seconds in [4.0, 8.0, 16.0, 32.0, 62.0, 62.0] {
            let delay = backoff.of_dhcpv4(&mut dice).as_secs_f64();
            assert!((seconds - 1.0..=seconds + 1.0).contains(&delay), "{delay} for {seconds}");
        }
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(2));
        for seconds in [1.0, 2.0, 4.0] {
            let delay = backoff.of_dhcpv6(&mut dice).as_secs_f64();
            assert!((seconds * 0.9..=seconds * 1.1).contains(&delay), "{delay} for {seconds}");
        }
    }

    #[test]
    fn chance_differs_between_clients_and_between_throws() {
        let mut dice = Dice::new();
        assert_ne!((dice.number(), dice.number()), (dice.number(), dice.number()));
        assert_ne!(Dice::new().number(), dice.number());
    }
}
