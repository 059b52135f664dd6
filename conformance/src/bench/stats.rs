//! Medians and percentiles of a series of times.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::launch::Cost;

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

    /// The longest, in milliseconds; 0 of an empty series.
    pub(super) fn max(&self) -> f64 {
        self.at(1.0)
    }

    /// Nearest rank: always a time that was measured.
    fn at(&self, share: f64) -> f64 {
        rank(self.0.clone(), share, Ord::cmp).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }

    /// How many times as long as those of `base` these are: the middle one of the ratios of times that were measured one
    /// after the other. Whatever else the machine does slows down both of most pairs, or one of a few.
    pub(super) fn over(&self, base: &Self) -> f64 {
        let ratios = self.0.iter().zip(&base.0).map(|(over, under)| over.as_secs_f64() / under.as_secs_f64());
        rank(ratios.collect(), 0.5, f64::total_cmp).unwrap_or_default()
    }
}

fn rank<T: Copy>(mut all: Vec<T>, share: f64, order: fn(&T, &T) -> std::cmp::Ordering) -> Option<T> {
    all.sort_unstable_by(order);
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rank = (share * all.len() as f64).ceil() as usize;
    all.get(rank.saturating_sub(1)).copied()
}

impl FromIterator<Duration> for Series {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        Self(times.into_iter().collect())
    }
}

/// What calls of one kind cost.
#[derive(Clone, Debug, Default)]
pub(super) struct Costs {
    pub(super) took: Series,
    settled: Series,
    cpu: Series,
    peak_kb: u64,
}

impl Costs {
    pub(super) fn push(&mut self, cost: &Cost) {
        self.took.push(cost.took());
        self.settled.push(cost.settled());
        self.cpu.push(cost.cpu());
        self.peak_kb = self.peak_kb.max(cost.peak_kb);
    }

    pub(super) fn figures(&self) -> Figures {
        Figures {
            median_ms: self.took.median(),
            p95_ms: Some(self.took.p95()),
            max_ms: Some(self.took.max()),
            settled_ms: Some(self.settled.median()),
            cpu_ms: Some(self.cpu.median()),
            peak_kb: Some(self.peak_kb),
        }
    }
}

/// What calls of one kind cost, in the end. What was not measured is absent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Figures {
    /// As the caller waits.
    pub(super) median_ms: f64,
    pub(super) p95_ms: Option<f64>,
    pub(super) max_ms: Option<f64>,
    /// Until no process of the call was left: the median.
    pub(super) settled_ms: Option<f64>,
    /// Processor time of all processes of the call: the median.
    pub(super) cpu_ms: Option<f64>,
    /// Resident memory of the largest process of all calls.
    pub(super) peak_kb: Option<u64>,
}

impl Figures {
    /// Of times alone.
    pub(super) fn of(times: &Series) -> Self {
        let (p95_ms, max_ms) = (Some(times.p95()), Some(times.max()));
        Self { median_ms: times.median(), p95_ms, max_ms, ..Self::default() }
    }

    /// Of something that was done once.
    pub(super) fn once(took: Duration, settled: Duration, cpu: Duration) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        Self { median_ms: ms(took), settled_ms: Some(ms(settled)), cpu_ms: Some(ms(cpu)), ..Self::default() }
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
        assert_eq!((hundred.median(), hundred.p95(), hundred.max()), (50.0, 95.0, 100.0));
        assert_eq!((series([7]).median(), series([7]).p95()), (7.0, 7.0));
        assert_eq!((series([1, 9]).median(), series([1, 9]).p95()), (1.0, 9.0));
    }

    #[test]
    fn an_empty_series_has_no_times() {
        assert_eq!((series([]).median(), series([]).p95(), series([]).max()), (0.0, 0.0, 0.0));
        assert!(series([]).over(&series([1])).abs() < f64::EPSILON);
    }

    #[test]
    fn what_slows_down_a_pair_or_a_few_calls_does_not_change_the_ratio() {
        let quiet = series([10, 10, 10, 10, 10]);
        let busy = series([11, 110, 11, 11, 500]);
        let as_busy = series([10, 100, 10, 10, 10]);
        assert!((busy.over(&as_busy) - 1.1).abs() < 1e-9);
        assert!((busy.over(&quiet) - 1.1).abs() < 1e-9);
    }
}
