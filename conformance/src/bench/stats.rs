//! Medians and percentiles of a series of times.

use std::time::Duration;

/// Times of the same call, made again and again.
#[derive(Clone, Debug, Default)]
pub(super) struct Series(Vec<Duration>);

impl Series {
    pub(super) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The middle one, in milliseconds; 0 of an empty series.
    pub(super) fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// The one that 95 of 100 do not exceed, in milliseconds; 0 of an empty series.
    pub(super) fn p95(&self) -> f64 {
        self.at(0.95)
    }

    /// The one that 10 of 100 do not exceed, in milliseconds; 0 of an empty series. A busy machine adds to many of the
    /// calls, as long as a turn of somebody else takes, but hardly to all: so this is what the call itself takes.
    pub(super) fn quick(&self) -> f64 {
        self.at(0.1)
    }

    /// Nearest rank: always a time that was measured.
    fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }
}

impl FromIterator<Duration> for Series {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        Self(times.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Series;
    use std::time::Duration;

    fn series(times: impl IntoIterator<Item = u64>) -> Series {
        times.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn ranks_are_times_that_were_measured() {
        let hundred = series((1..=100).rev());
        assert_eq!((hundred.quick(), hundred.median(), hundred.p95()), (10.0, 50.0, 95.0));
        assert_eq!((series([7]).median(), series([7]).p95()), (7.0, 7.0));
        assert_eq!((series([1, 9]).median(), series([1, 9]).p95()), (1.0, 9.0));
    }

    #[test]
    fn an_empty_series_has_no_times() {
        assert_eq!((series([]).median(), series([]).p95()), (0.0, 0.0));
    }
}
