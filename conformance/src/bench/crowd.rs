//! Many pods on one node: all at once, one more beside many, and the garbage of many.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::cases::{CASES, Case, SIX};
use super::goal::Goal;
use super::report::{Bar, Row};
use super::rig::{Rig, Seat};
use super::stats::{Costs, Figures};
use super::turns::{Each, Plugins, WARM_UP, rigs};

/// Pods that come at once, and how many calls are under way at a time.
const BURST: u16 = 250;
/// Pods on a node that is full; the next one is compared with the first of an empty node. One is there already.
const FULL: u16 = 998;
/// How many calls at a time fill it.
const FILL: usize = 4;
/// How long a kernel is busy with a thousand new links, their addresses and their multicast groups, after the last of them.
const SETTLE: Duration = Duration::from_secs(10);
/// An ADD beside all those may take so many times as much longer as the floor does: a kernel needs longer, too.
const AIM: f64 = 1.2;
/// The reference takes so much longer to fill a node that it is measured in fewer rounds.
const FEWER: usize = 4;
/// The plain bridge, and one with ipMasq.
const CASE: &Case = &CASES[0];
const MASQUERADED: &Case = &CASES[1];
const BURSTS: [(&str, &Case, usize); 4] =
    [(" pods", CASE, 1), (" pods", CASE, 16), (" pods", CASE, 64), (", ipMasq", MASQUERADED, 64)];

/// ADD for all pods, then DEL for all, by one after the other.
pub(super) fn bursts(plugins: Plugins<'_>, leases: &Path) -> Result<Vec<Row>> {
    let seats = (1..=BURST).map(Seat::new).collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    for (index, (what, case, width)) in BURSTS.into_iter().enumerate() {
        let title = format!("{BURST}{what}, {width} in flight");
        eprintln!("{title} ...");
        let rigs = rigs(case, plugins, &leases.join(format!("burst-{index}")))?;
        let one = |rig: &Rig| {
            let add = rig.burst("ADD", &seats, &[], width)?;
            let del = rig.burst("DEL", &seats, &add.results, width)?;
            anyhow::Ok([add, del])
        };
        let bursts = Each {
            floor: rigs.floor.as_ref().map(one).transpose()?,
            ours: one(&rigs.ours)?,
            reference: rigs.reference.as_ref().map(one).transpose()?,
        };
        for (index, verb) in ["ADD", "DEL"].into_iter().enumerate() {
            let aims: &[Goal] = if verb == "ADD" { &[SIX] } else { &[] };
            let all = bursts.map(|burst| burst[index].all.clone());
            rows.push(Row::new(&title, &format!("{verb}, all"), all).held_to(aims));
            let each = bursts.map(|burst| Figures::of(&burst[index].each));
            rows.push(Row::new(&title, &format!("{verb}, each"), each));
        }
    }
    Ok(rows)
}

/// What one more pod cost on a node that is full, and how many times as long it took as on a node with one pod.
struct Full {
    add: Costs,
    del: Costs,
    add_ratio: f64,
    del_ratio: f64,
}

/// The 1,000th pod beside the first, and GC when half of 1,000 are dead.
pub(super) fn crowd(plugins: Plugins<'_>, leases: &Path, rounds: usize) -> Result<(Vec<Row>, Vec<Bar>)> {
    let leases = leases.join("full");
    // One after the other: a node that is being filled is no good neighbour.
    let (floor, _) = fill(&|name| Rig::floor(CASE, plugins.ours, &leases.join("floor").join(name)), rounds)?;
    let (ours, (rig, seats)) = fill(&|name| Rig::plugins(CASE, plugins.ours, &leases.join("ours").join(name)), rounds)?;
    let garbage = garbage(&rig, &seats)?;
    drop((rig, seats));
    let fewer = rounds.div_ceil(FEWER);
    let reference = &|name: &str| Rig::plugins(CASE, plugins.reference, &leases.join("reference").join(name));
    let (reference, _) = fill(reference, fewer)?;

    let all = Each { floor: Some(floor), ours, reference: Some(reference) };
    let title = format!("bridge, pod {}", FULL + 2);
    let rows = vec![
        Row::new(&title, "ADD", all.map(|full| full.add.figures())),
        Row::new(&title, "DEL", all.map(|full| full.del.figures())),
        Row::new("bridge, half of 1,000 dead", "GC", Each { floor: None, ours: garbage, reference: None }),
    ];
    let bar = |verb: &str, of: fn(&Full) -> f64| {
        Bar::new(&format!("{verb} of the 1,000th pod, times that of the first"), all.ours_and_reference(of))
    };
    let floor = all.floor.as_ref().map_or(1.0, |floor| floor.add_ratio);
    // The floor's DEL waits for the kernel to free the link, which takes the same time beside any number of pods.
    let bars = vec![bar("ADD", |full| full.add_ratio).aim(floor * AIM), bar("DEL", |full| full.del_ratio)];
    Ok((rows, bars))
}

/// Fills a node that `rig` makes, and compares it with another that it makes. Gives the full one too, and its pods.
fn fill(rig: &dyn Fn(&str) -> Result<Rig>, rounds: usize) -> Result<(Full, (Rig, Vec<Seat>))> {
    let (empty, full) = (rig("empty")?, rig("full")?);
    eprintln!("{FULL} pods ...");
    let seats = (2..2 + FULL).map(Seat::new).collect::<Result<Vec<_>>>()?;
    full.burst("ADD", &seats, &[], FILL)?;
    thread::sleep(SETTLE);
    let mut nodes = [empty, full].map(|rig| (rig, Costs::default(), Costs::default()));
    let next = Seat::new(1)?;
    for round in 0..WARM_UP + rounds {
        for turn in 0..2 {
            let (rig, adds, dels) = &mut nodes[(round + turn) % 2];
            let (add, del) = rig.add_and_del(&next)?;
            if round >= WARM_UP {
                adds.push(&add);
                dels.push(&del);
            }
        }
    }
    let [(_, first_add, first_del), (rig, add, del)] = nodes;
    let (add_ratio, del_ratio) = (add.took.over(&first_add.took), del.took.over(&first_del.took));
    Ok((Full { add, del, add_ratio, del_ratio }, (rig, seats)))
}

/// GC of the bridge: half of `seats` are valid. The others are dead, and so is the pod that was there first.
fn garbage(rig: &Rig, seats: &[Seat]) -> Result<Figures> {
    eprintln!("GC of {FULL} pods ...");
    let before = rig.ports()?;
    let (valid, dead) = seats.split_at(seats.len() / 2);
    let cost = rig.collect(valid)?;
    let gone = before - rig.ports()?;
    ensure!(gone == dead.len() + 1, "GC removed {gone} ports of {before}, {} wanted", dead.len() + 1);
    Ok(Figures::once(cost.took(), cost.settled(), cost.cpu()))
}
