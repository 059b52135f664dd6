//! Horizontal bars as SVG: in groups of three, in two columns, light or dark as the viewer's page.

use std::fmt::Write;

/// The same of the floor, ours and the reference.
pub(super) struct Three {
    pub(super) floor: Option<f64>,
    pub(super) ours: f64,
    pub(super) reference: Option<f64>,
}

/// A group of bars a line.
pub(super) struct Column {
    pub(super) title: String,
    pub(super) bars: Vec<Option<Three>>,
}

/// Lines with a label each and what the columns have for it.
pub(super) struct Section {
    pub(super) title: String,
    pub(super) labels: Vec<String>,
    pub(super) columns: [Column; 2],
    /// Whether a bar of the one column can be compared with one of the other.
    pub(super) one_scale: bool,
}

// In units of the picture, which are pixels where it is shown as large as it is.
const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;
/// Where the columns begin: what is left of the first is for the labels.
const COLUMNS: [f64; 2] = [184.0, 572.0];
/// The longest bar; behind it is room for its figure and a few words.
const LONGEST: f64 = 270.0;
const BAR: f64 = 9.0;
const BETWEEN_BARS: f64 = 2.0;
const BETWEEN_LINES: f64 = 12.0;
/// A bar that is there is seen.
const SHORTEST: f64 = 1.5;

const STYLE: &str = "
  svg { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; }
  .page { fill: #ffffff; } text { fill: #1f2328; } .faint { fill: #59636e; } .line { stroke: #d1d9e0; }
  .floor { fill: #9aa4af; } .ours { fill: #0f7b6c; } .reference { fill: #d08c3f; }
  .title { font-size: 20px; font-weight: 600; } .section { font-size: 14px; font-weight: 600; }
  .figure { font-size: 10px; } .strong { font-weight: 700; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; } text { fill: #e6edf3; } .faint { fill: #9198a1; } .line { stroke: #3d444d; }
    .floor { fill: #656c76; } .ours { fill: #2fb8a3; } .reference { fill: #b87a33; }
  }
";

/// A whole picture.
pub(super) fn page(title: &str, about: &[String], sections: &[Section]) -> String {
    let mut drawing = Drawing { body: String::new(), y: 44.0 };
    drawing.text(MARGIN, "title", title);
    for line in about {
        drawing.y += 18.0;
        drawing.text(MARGIN, "faint", line);
    }
    drawing.legend();
    for section in sections {
        drawing.section(section);
    }
    let height = drawing.y + MARGIN - BETWEEN_LINES;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"{title}: bars, whose figures are in the text\">\n\
         <style>{STYLE}</style>\n<rect class=\"page\" width=\"100%\" height=\"100%\" rx=\"8\"/>\n{}</svg>\n",
        drawing.body,
        title = escaped(title),
    )
}

/// What there is so far, and where the next line goes.
struct Drawing {
    body: String,
    y: f64,
}

impl Drawing {
    fn legend(&mut self) {
        self.y += 26.0;
        let entries = [
            ("floor", "the kernel's work alone (the floor)", 0.0),
            ("ours", "podwire", 230.0),
            ("reference", "the reference plugins", 310.0),
        ];
        for (class, text, x) in entries {
            self.rect(MARGIN + x, self.y - 9.0, 10.0, 10.0, class);
            self.text(MARGIN + x + 15.0, "", text);
        }
        self.text(MARGIN + 476.0, "faint", "medians; a shorter bar is better");
    }

    fn section(&mut self, section: &Section) {
        self.y += 34.0;
        self.text(MARGIN, "section", &section.title);
        let y = self.y + 8.0;
        let (left, right) = (MARGIN, WIDTH - MARGIN);
        self.put(&format!("<line class=\"line\" x1=\"{left}\" x2=\"{right}\" y1=\"{y}\" y2=\"{y}\"/>"));
        self.y += 26.0;
        for (x, column) in COLUMNS.into_iter().zip(&section.columns) {
            self.text(x, "faint strong", &column.title);
        }
        self.y += 10.0;
        let longest =
            |columns: &[Column]| columns.iter().flat_map(|column| &column.bars).flatten().fold(0.0, Three::max);
        let scales = if section.one_scale {
            [longest(&section.columns); 2]
        } else {
            [0, 1].map(|index| longest(&section.columns[index..=index]))
        };
        for (line, label) in section.labels.iter().enumerate() {
            let top = self.y;
            self.y = top + 1.5 * BAR + BETWEEN_BARS + 4.0;
            self.text(MARGIN, "", label);
            let mut bottom = top;
            for ((x, column), scale) in COLUMNS.into_iter().zip(&section.columns).zip(scales) {
                if let Some(three) = &column.bars[line] {
                    bottom = bottom.max(self.three(x, top, three, LONGEST / scale));
                }
            }
            self.y = bottom + BETWEEN_LINES;
        }
    }

    /// The bars of one line of one column; gives where they end.
    fn three(&mut self, x: f64, top: f64, three: &Three, scale: f64) -> f64 {
        let beside = three.reference.map_or(String::new(), |reference| {
            let ratio = reference / three.ours;
            let words =
                if ratio < 1.0 { format!("{:.1} times more", 1.0 / ratio) } else { format!("{ratio:.1} times less") };
            format!("<tspan class=\"faint\" dx=\"5\">{words}</tspan>")
        });
        let bars = [
            ("floor", three.floor, "", ""),
            ("ours", Some(three.ours), "strong", beside.as_str()),
            ("reference", three.reference, "", ""),
        ];
        let mut y = top;
        for (class, value, weight, more) in bars {
            let Some(value) = value else { continue };
            let length = (value * scale).max(SHORTEST);
            self.rect(x, y, length, BAR, class);
            let (end, base) = (x + length + 5.0, y + BAR - 1.0);
            let figure = figure(value);
            self.put(&format!(
                "<text class=\"figure\" x=\"{end:.1}\" y=\"{base:.1}\"><tspan class=\"{weight}\">{figure}</tspan>{more}</text>"
            ));
            y += BAR + BETWEEN_BARS;
        }
        y
    }

    fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str) {
        self.put(&format!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"1.5\"/>"
        ));
    }

    fn text(&mut self, x: f64, class: &str, text: &str) {
        let (y, text) = (self.y, escaped(text));
        self.put(&format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"));
    }

    fn put(&mut self, element: &str) {
        writeln!(self.body, "{element}").expect("a string takes everything");
    }
}

impl Three {
    fn max(so_far: f64, three: &Self) -> f64 {
        [Some(three.ours), three.floor, three.reference].into_iter().flatten().fold(so_far, f64::max)
    }
}

/// Three digits are enough of anything.
fn figure(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::{Column, Section, Three, page};

    #[test]
    fn the_longest_bar_has_its_length_and_the_others_are_to_scale() {
        let three = |floor, ours, reference| Some(Three { floor, ours, reference });
        let column = |title: &str, bars| Column { title: title.to_owned(), bars };
        let columns = [
            column("ADD", vec![three(Some(1.0), 2.0, Some(10.0)), None]),
            column("DEL", vec![None, three(None, 5.0, None)]),
        ];
        let labels = vec!["a & b".to_owned(), "c".to_owned()];
        let section = Section { title: "times".to_owned(), labels, columns, one_scale: true };
        let svg = page("title", &[], &[section]);
        let widths: Vec<_> = svg.lines().filter(|line| line.contains("height=\"9.0\"")).collect();
        assert_eq!(widths.len(), 4, "{svg}");
        for (line, width) in widths.iter().zip(["27.0", "54.0", "270.0", "135.0"]) {
            assert!(line.contains(&format!("width=\"{width}\"")), "{line}");
        }
        assert!(svg.contains("a &amp; b") && svg.contains("5.0 times less"), "{svg}");
    }
}
