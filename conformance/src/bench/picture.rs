//! The figures as a picture: what is shown in it. [`super::svg`] draws.

use super::report::{Report, Row};
use super::stats::Figures;
use super::svg::{Column, Section, Three, page};

/// The picture of a run, as SVG.
pub(super) fn draw(report: &Report) -> String {
    let machine = &report.machine;
    let about = [
        format!("podwire {} beside {}", machine.podwire, machine.reference),
        format!("Linux {}, {} x {}", machine.kernel, machine.processors, machine.processor),
    ];
    page("What a call takes", &about, &sections(&report.rows))
}

fn sections(rows: &[Row]) -> Vec<Section> {
    let here: Vec<_> = rows.iter().filter(|row| row.guest.is_none()).collect();
    let there: Vec<_> = rows.iter().filter(|row| row.guest.is_some()).collect();
    let single = |row: &&Row| !row.case.contains("in flight") && !row.case.contains("1,000") && row.call != "VERSION";
    let one: Vec<_> = here.iter().copied().filter(single).collect();
    let mut all = vec![calls("One pod, milliseconds, with addresses from host-local", &one, ["ADD", "DEL"])];
    if let Some(kernel) = there.first().and_then(|row| row.guest.as_ref()) {
        let title =
            format!("Devices that this kernel lacks, milliseconds in a guest kernel (User-mode Linux {kernel})");
        all.push(calls(&title, &there, ["ADD", "DEL"]));
    }
    let crowds: Vec<_> = here.iter().copied().filter(|row| row.case.contains("in flight")).collect();
    all.push(calls(
        "Many pods at once on a bridge, milliseconds until all are done",
        &crowds,
        ["ADD, all", "DEL, all"],
    ));
    all.extend(process(&here));
    all.retain(|section| !section.labels.is_empty());
    all
}

/// A line a case, ADD beside DEL, on one scale.
fn calls(title: &str, rows: &[&Row], calls: [&str; 2]) -> Section {
    let mut labels: Vec<String> = Vec::new();
    for row in rows.iter().filter(|row| calls.contains(&row.call.as_str())) {
        if !labels.contains(&row.case) {
            labels.push(row.case.clone());
        }
    }
    let column = |call: &str| {
        let of = |case: &String| {
            let row = rows.iter().find(|row| row.call == call && row.case == *case)?;
            three(row, |figures| Some(figures.median_ms))
        };
        Column { title: call.split(',').next().unwrap_or_default().to_owned(), bars: labels.iter().map(of).collect() }
    };
    let columns = calls.map(column);
    Section { title: title.to_owned(), labels, columns, one_scale: true }
}

/// What a process is: how long it takes to start, and its memory.
fn process(rows: &[&Row]) -> Option<Section> {
    let start = rows.iter().find(|row| row.call == "VERSION")?;
    let add = rows.iter().find(|row| row.call == "ADD")?;
    #[expect(clippy::cast_precision_loss, reason = "kilobytes, of which there are no 2^52")]
    let megabytes = |figures: &Figures| figures.peak_kb.map(|kb| kb as f64 / 1e3);
    let column = |title: &str, three| Column { title: title.to_owned(), bars: vec![three] };
    Some(Section {
        title: "The process itself".to_owned(),
        labels: vec![add.case.clone()],
        columns: [
            column("start-up (VERSION), milliseconds", three(start, |figures| Some(figures.median_ms))),
            column("memory of an ADD, MB at the peak", three(add, megabytes)),
        ],
        one_scale: false,
    })
}

fn three(row: &Row, of: impl Fn(&Figures) -> Option<f64>) -> Option<Three> {
    Some(Three {
        floor: row.floor.as_ref().and_then(&of),
        ours: of(&row.ours)?,
        reference: row.reference.as_ref().and_then(&of),
    })
}
