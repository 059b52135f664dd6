//! The figures as tables on a terminal.

use std::fmt::{self, Display, Formatter};

use comfy_table::{CellAlignment, Table, presets};

use super::machine::Machine;
use super::report::{Bar, Growth, Pair, Report, Row, number};
use super::stats::Figures;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Machine { kernel, processor, processors, load, podwire, reference } = &self.machine;
        writeln!(f, "\npodwire {podwire} and {reference}\nLinux {kernel} on {processors} x {processor}")?;
        writeln!(f, "load before the start {load:.1}: above {processors} the times are those of a busy machine\n")?;
        if !self.rows.is_empty() {
            writeln!(f, "{}", times(&self.rows))?;
            writeln!(
                f,
                "Milliseconds of whole processes, as the caller waits; the floor, ours and the reference in turns."
            )?;
            writeln!(f, "Instructions, in thousands, are ours as recorded (`make instructions`), not of this run.")?;
            writeln!(
                f,
                "The floor is the kernel's work alone. A promise that is missed fails `--assert`, an aim does not.\n"
            )?;
            writeln!(f, "{}", costs(&self.rows))?;
            writeln!(
                f,
                "Processor time of all processes of a call, and when the last of them had ended, medians in milliseconds."
            )?;
            writeln!(f, "Resident memory of the largest of them, at its peak in all calls.\n")?;
        }
        if !self.growth.is_empty() {
            writeln!(f, "{}", growth(&self.growth))?;
            writeln!(f, "host-local alone, milliseconds, all sizes and both sets of plugins in turns\n")?;
        }
        if !self.bars.is_empty() {
            writeln!(f, "{}", numbers(&self.bars))?;
        }
        Ok(())
    }
}

/// Nothing where there is no figure.
fn cell(figure: Option<f64>) -> String {
    match figure {
        None => String::new(),
        // Four digits are enough of anything.
        Some(figure) if figure >= 1000.0 => format!("{figure:.0}"),
        Some(figure) if figure >= 10.0 => format!("{figure:.1}"),
        Some(figure) => format!("{figure:.2}"),
    }
}

fn times(rows: &[Row]) -> Table {
    let header = [
        "",
        "floor",
        "ours",
        "p95",
        "max",
        "reference",
        "p95",
        "max",
        "x floor",
        "x faster",
        "instr., k",
        "promised",
        "aim",
    ];
    let mut table = table(&header);
    for row in rows {
        let reference = |of: fn(&Figures) -> Option<f64>| cell(row.reference.as_ref().and_then(of));
        let goals = |promised| {
            let goals = row.goals.iter().filter(|goal| goal.promised == promised);
            goals.map(|goal| goal.measure.to_string()).collect::<Vec<_>>().join(", ")
        };
        table.add_row([
            row.title(),
            cell(row.floor.as_ref().map(|floor| floor.median_ms)),
            cell(Some(row.ours.median_ms)),
            cell(row.ours.p95_ms),
            cell(row.ours.max_ms),
            reference(|figures| Some(figures.median_ms)),
            reference(|figures| figures.p95_ms),
            reference(|figures| figures.max_ms),
            cell(row.of_floor()),
            row.faster().map_or(String::new(), |faster| format!("{faster:.1}")),
            row.instructions.map_or(String::new(), |count| count.div_ceil(1000).to_string()),
            goals(true),
            goals(false),
        ]);
    }
    table
}

#[expect(clippy::cast_precision_loss, reason = "kilobytes, of which there are no 2^52")]
fn costs(rows: &[Row]) -> Table {
    let header = ["", "floor: CPU", "settled", "MB", "ours: CPU", "settled", "MB", "reference: CPU", "settled", "MB"];
    let mut table = table(&header);
    for row in rows.iter().filter(|row| row.ours.cpu_ms.is_some()) {
        let mut cells = vec![row.title()];
        for figures in [row.floor.as_ref(), Some(&row.ours), row.reference.as_ref()] {
            let of = |what: fn(&Figures) -> Option<f64>| figures.and_then(what);
            cells.push(cell(of(|figures| figures.cpu_ms)));
            cells.push(cell(of(|figures| figures.settled_ms)));
            cells.push(cell(of(|figures| figures.peak_kb.map(|kb| kb as f64 / 1e3))));
        }
        table.add_row(cells);
    }
    table
}

fn growth(all: &[Growth]) -> Table {
    let mut table = table(&["", "ours: ADD", "p95", "DEL", "p95", "reference: ADD", "p95", "DEL", "p95"]);
    for Growth { title, add, del } in all {
        let mut cells = vec![title.clone()];
        for of in [|both: &Pair<Figures>| Some(both.ours.clone()), |both: &Pair<Figures>| both.reference.clone()] {
            for figures in [of(add), of(del)] {
                cells.push(cell(figures.as_ref().map(|figures| figures.median_ms)));
                cells.push(cell(figures.and_then(|figures| figures.p95_ms)));
            }
        }
        table.add_row(cells);
    }
    table
}

fn numbers(bars: &[Bar]) -> Table {
    let mut table = table(&["", "ours", "reference", "promised", "aim"]);
    for bar in bars {
        let limit = |promised| bar.at_most.filter(|_| bar.promised == promised).map_or(String::new(), number);
        let reference = bar.figures.reference.map_or(String::new(), number);
        table.add_row([bar.title.clone(), number(bar.figures.ours), reference, limit(true), limit(false)]);
    }
    table
}

/// A table whose first column is text and whose others are numbers.
fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(header.to_vec());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
