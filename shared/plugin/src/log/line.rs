//! One line of the log: a flat JSON object, and the time in it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use podwire_spec::brief;

/// A JSON object to which members are added.
#[derive(Clone, Debug)]
pub(super) struct Line(String);

impl Line {
    /// An object without members.
    pub(super) fn new() -> Self {
        Self("{".to_owned())
    }

    /// Adds a text. `key` is written as it is.
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.member(key, &serde_json::Value::from(brief(value)).to_string());
    }

    /// Adds a number.
    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.member(key, &value.to_string());
    }

    /// Adds the members of another one, which has some.
    pub(super) fn append(&mut self, other: &Self) {
        self.0.extend([",", &other.0[1..]]);
    }

    fn member(&mut self, key: &str, value: &str) {
        let comma = if self.0 == "{" { "" } else { "," };
        self.0.extend([comma, "\"", key, "\":", value]);
    }

    /// The whole, as it is written.
    pub(super) fn end(mut self) -> String {
        self.0.push_str("}\n");
        self.0
    }
}

/// `time` in UTC as RFC 3339 has it, with microseconds.
pub(super) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", since.subsec_micros())
}

/// The date so many days after 1970-01-01. Years are counted from March here, so that a leap day is the last of one, and
/// in cycles of 400 of them, which are 146,097 days.
fn date(days: u64) -> (u64, u64, u64) {
    const CYCLE: u64 = 146_097;
    /// From 0000-03-01 to 1970-01-01.
    const BEFORE: u64 = 719_468;
    let days = days + BEFORE;
    let (cycle, day_of_cycle) = (days / CYCLE, days % CYCLE);
    // Less a day for each four years, but for each hundred, but for the last.
    let leaps = day_of_cycle / 1_460 - day_of_cycle / 36_524 + day_of_cycle / (CYCLE - 1);
    let year = (day_of_cycle - leaps) / 365;
    let day_of_year = day_of_cycle - (365 * year + year / 4 - year / 100);
    // From March on the months have 31, 30, 31, 30, 31 days, twice and a bit: 153 in five.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (cycle * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        // As `date --utc --date=@SECONDS` has them.
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000007Z"),
            (951_782_400, "2000-02-29T00:00:00.000007Z"),
            (951_868_799, "2000-02-29T23:59:59.000007Z"),
            (951_868_800, "2000-03-01T00:00:00.000007Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000007Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000007Z"),
            (1_764_270_610, "2025-11-27T19:10:10.000007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000007Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::new(seconds, 7_999)), expected);
        }
    }

    #[test]
    fn days_follow_each_other() {
        let mut before = date(0);
        for days in 1..200_000 {
            let (year, month, day) = date(days);
            let follows = match before {
                (y, m, d) if d + 1 == day => (y, m) == (year, month) && day <= 31,
                (y, 12, 31) => (y + 1, 1, 1) == (year, month, day),
                (y, m, d) => d >= 28 && (y, m + 1, 1) == (year, month, day),
            };
            assert!(follows, "{before:?}, then {year}-{month}-{day}");
            before = (year, month, day);
        }
    }

    #[test]
    fn whatever_a_text_holds_the_line_is_one_object_on_one_line() {
        let odd = "\"}\n\r\0\u{7f}\u{2028}\\ü{";
        let (mut line, mut more) = (Line::new(), Line::new());
        line.text("object", odd);
        more.text("more", "");
        line.append(&more);
        line.number("us", u64::MAX);
        line.text("long", &"ü".repeat(1 << 20));
        let text = line.end();
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["object"], &value["us"]), (&odd.into(), &u64::MAX.into()));
        assert!(value["long"].as_str().unwrap().len() < 1 << 13);
    }
}
