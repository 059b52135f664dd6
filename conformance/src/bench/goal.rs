//! What figures are held against: promises, which fail a run, and aims, which do not ([`super::cases`] says why).

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

/// What is compared.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Measure {
    /// At least so many times as fast as the reference.
    Faster(f64),
    /// At most so many times the floor.
    OfFloor(f64),
    /// At most so many milliseconds.
    Milliseconds(f64),
}

/// A measure, and what it means to miss it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Goal {
    pub(super) measure: Measure,
    pub(super) promised: bool,
}

/// The medians of one call, in milliseconds.
pub(super) struct Medians {
    pub(super) floor: Option<f64>,
    pub(super) ours: f64,
    pub(super) reference: Option<f64>,
}

impl Goal {
    pub(super) const fn promise(measure: Measure) -> Self {
        Self { measure, promised: true }
    }

    pub(super) const fn aim(measure: Measure) -> Self {
        Self { measure, promised: false }
    }

    /// What is measured instead, if that is worse. What there is nothing to compare with misses nothing.
    pub(super) fn missed(&self, medians: &Medians) -> Option<Measure> {
        let Medians { floor, ours, reference } = medians;
        match self.measure {
            Measure::Faster(least) => reference.map(|r| r / ours).filter(|is| *is < least).map(Measure::Faster),
            Measure::OfFloor(most) => floor.map(|floor| ours / floor).filter(|is| *is > most).map(Measure::OfFloor),
            Measure::Milliseconds(most) => (*ours > most).then_some(Measure::Milliseconds(*ours)),
        }
    }
}

impl Display for Measure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Faster(times) => write!(f, "{times:.1} x faster"),
            Self::OfFloor(times) => write!(f, "{times:.2} x floor"),
            Self::Milliseconds(ms) => write!(f, "{ms:.2} ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Goal, Measure, Medians};

    #[test]
    fn a_goal_is_missed_on_its_own_side_only() {
        let medians = Medians { floor: Some(2.0), ours: 3.0, reference: Some(12.0) };
        let missed = |measure| Goal::aim(measure).missed(&medians).map(|is| is.to_string());
        assert_eq!(missed(Measure::Faster(4.0)), None);
        assert_eq!(missed(Measure::Faster(4.1)).as_deref(), Some("4.0 x faster"));
        assert_eq!(missed(Measure::OfFloor(1.5)), None);
        assert_eq!(missed(Measure::OfFloor(1.4)).as_deref(), Some("1.50 x floor"));
        assert_eq!(missed(Measure::Milliseconds(3.0)), None);
        assert_eq!(missed(Measure::Milliseconds(2.9)).as_deref(), Some("3.00 ms"));
    }

    #[test]
    fn what_there_is_nothing_to_compare_with_is_not_missed() {
        let alone = Medians { floor: None, ours: 3.0, reference: None };
        assert!(Goal::promise(Measure::Faster(9.0)).missed(&alone).is_none());
        assert!(Goal::promise(Measure::OfFloor(0.1)).missed(&alone).is_none());
    }
}
