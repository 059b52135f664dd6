//! Text for a terminal: headings, JSON, times. Colours only where a person looks at them.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use serde_json::Value;

/// How wide a line of JSON may get before it is broken up.
const WIDTH: usize = 96;

/// Standard output.
pub(super) struct Screen {
    colours: bool,
    steps: Cell<u32>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colours: wanted && std::io::stdout().is_terminal(), steps: Cell::new(0) }
    }

    /// A line in bold.
    pub(super) fn title(&self, text: &str) {
        println!("{}", self.in_colour("1", text));
    }

    /// The heading of the next step, with its number.
    pub(super) fn step(&self, text: &str) {
        self.steps.set(self.steps.get() + 1);
        println!("\n{}", self.in_colour("1;36", &format!("{}. {text}", self.steps.get())));
    }

    /// An ordinary line.
    #[expect(clippy::unused_self, reason = "what goes to the screen is asked of the screen")]
    pub(super) fn say(&self, text: &str) {
        println!("   {text}");
    }

    /// Something that was to be shown, and was.
    pub(super) fn proved(&self, text: &str) {
        println!("   {} {text}", self.in_colour("32", "✓"));
    }

    /// What a person would type, or what a program printed.
    pub(super) fn quote(&self, text: &str) {
        for line in text.lines() {
            println!("     {}", self.in_colour("2", line));
        }
    }

    /// JSON, as compact as it can be read.
    pub(super) fn json(&self, value: &Value) {
        self.quote(&pretty(value, 0));
    }

    /// A drawing, line by line.
    pub(super) fn draw(&self, lines: &[String]) {
        for line in lines {
            println!("   {}", self.in_colour("33", line));
        }
    }

    /// Who reaches whom: a line for each of `names`, a column for each of `columns`.
    pub(super) fn matrix(&self, names: &[&str], columns: &[&str], reaches: impl Fn(usize, usize) -> Option<bool>) {
        let width = names.iter().chain(columns).map(|name| name.chars().count()).max().unwrap_or_default() + 2;
        print!("     {:width$}", "");
        for name in columns {
            print!("{name:<width$}");
        }
        println!();
        for (row, name) in names.iter().enumerate() {
            print!("     {name:<width$}");
            for column in 0..columns.len() {
                let (mark, colour) = match reaches(row, column) {
                    Some(true) => ("✓", "32"),
                    Some(false) => ("✗", "31"),
                    None => ("·", "2"),
                };
                print!("{}{:2$}", self.in_colour(colour, mark), "", width - 1);
            }
            println!();
        }
    }

    fn in_colour(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Milliseconds with as many digits as mean something.
pub(super) fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 1.0 { format!("{ms:.2} ms") } else { format!("{ms:.1} ms") }
}

/// An object or a list goes onto one line where it fits, and is broken up where it does not.
fn pretty(value: &Value, indent: usize) -> String {
    let flat = flat(value);
    let (open, close, parts): (_, _, Vec<String>) = match value {
        Value::Object(object) if !fits(&flat, indent) => {
            let part = |(key, value): (&String, &Value)| format!("\"{key}\": {}", pretty(value, indent + 2));
            ('{', '}', object.iter().map(part).collect())
        }
        Value::Array(list) if !fits(&flat, indent) => {
            ('[', ']', list.iter().map(|value| pretty(value, indent + 2)).collect())
        }
        _ => return flat,
    };
    let mut text = format!("{open}\n");
    for (index, part) in parts.iter().enumerate() {
        let comma = if index + 1 < parts.len() { "," } else { "" };
        let _ = writeln!(text, "{:indent$}  {part}{comma}", "");
    }
    let _ = write!(text, "{:indent$}{close}", "");
    text
}

fn fits(flat: &str, indent: usize) -> bool {
    flat.chars().count() + indent <= WIDTH
}

fn flat(value: &Value) -> String {
    match value {
        Value::Object(object) if !object.is_empty() => {
            let parts: Vec<_> = object.iter().map(|(key, value)| format!("\"{key}\": {}", flat(value))).collect();
            format!("{{ {} }}", parts.join(", "))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(flat).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{ms, pretty};
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn what_fits_stays_on_its_line() {
        let value = json!({ "a": [1, { "b": "c" }], "e": {} });
        assert_eq!(pretty(&value, 0), r#"{ "a": [1, { "b": "c" }], "e": {} }"#);
    }

    #[test]
    fn what_does_not_fit_is_broken_up_and_stays_the_same_json() {
        let value = json!({ "long": "x".repeat(80), "list": [{ "y": "y".repeat(50) }, { "z": "z".repeat(50) }] });
        let text = pretty(&value, 0);
        assert!(text.lines().count() > 3, "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("it is JSON"), value);
    }

    #[test]
    fn short_times_keep_their_digits() {
        assert_eq!(ms(Duration::from_micros(42)), "0.04 ms");
        assert_eq!(ms(Duration::from_micros(4210)), "4.2 ms");
    }
}
