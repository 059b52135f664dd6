//! The last DEL against the first ADD, a failing ADD against another, and many against many.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::halt::beside;
use super::scene::{BRIDGE, Device, Guest, IPVLAN, MACVLAN, Scene, VLAN, VLAN_SHARED, VXLAN, both};
use crate::runner::{Attachment, Case, Test};
use crate::test;
use crate::topics::scale::at_once;

macro_rules! of_device {
    ($($device:ident $needs:ident => $last:ident $undone:ident $cross:ident,)*) => {
        pub(super) const TESTS: &[Test] = &[
            // Nothing is made or removed there but the pods' own.
            test!(p27_race_vlan_cross, "some go while others come").needs(VLAN).ours().limit(300),
            $(
            test!($last, "the last DEL against the first ADD, halted at each request").needs($needs).ours().limit(300),
            test!($undone, "a first ADD that fails against another, halted at each request").needs($needs).ours().limit(300),
            test!($cross, "some go while others come").needs($needs).ours().limit(300),
        )*];
        fn p27_race_vlan_cross(case: &Case) -> Result<()> {
            some_go_while_others_come(&Scene::new(case, Device::Vlan)?)
        }
        $(
            fn $last(case: &Case) -> Result<()> {
                last_del_meets_first_add(case, &Scene::new(case, Device::$device)?)
            }
            fn $undone(case: &Case) -> Result<()> {
                failing_add_meets_another(case, &Scene::new(case, Device::$device)?)
            }
            fn $cross(case: &Case) -> Result<()> {
                some_go_while_others_come(&Scene::new(case, Device::$device)?)
            }
        )*
    };
}

of_device! {
    Bridge BRIDGE => p27_race_bridge_last_and_first p20_race_bridge_undo p27_race_bridge_cross,
    Vxlan VXLAN => p27_race_vxlan_last_and_first p20_race_vxlan_undo p27_race_vxlan_cross,
    Macvlan MACVLAN => p27_race_macvlan_last_and_first p20_race_macvlan_undo p27_race_macvlan_cross,
    VlanShared VLAN_SHARED
        => p27_race_shared_vlan_last_and_first p20_race_shared_vlan_undo p27_race_shared_vlan_cross,
    Ipvlan IPVLAN => p27_race_ipvlan_last_and_first p20_race_ipvlan_undo p27_race_ipvlan_cross,
}

fn last_del_meets_first_add(case: &Case, scene: &Scene) -> Result<()> {
    let [one, two] = [scene.guest(1)?, scene.guest(2)?];
    let mut met = [0, 0];
    for (way, (halted, beside)) in [("DEL", "ADD"), ("ADD", "DEL")].into_iter().enumerate() {
        for nth in (1..).step_by(scene.device.stride(if halted == "DEL" { 1 } else { 8 })) {
            one.attachment.add()?;
            let of = |command: &str| if command == "DEL" { &one.attachment } else { &two.attachment };
            let other = of(beside).call(beside);
            let (first, second) = super::halt::beside(&case.dir, of(halted).call(halted), nth, &other)?;
            let context = || format!("{beside} after request {nth} of {halted}");
            let first = first.success().with_context(context)?;
            let Some(second) = second else {
                other.succeed()?;
                two.attachment.del()?;
                break;
            };
            let second = second.success().with_context(context)?;
            two.works(if halted == "ADD" { &first } else { &second }).with_context(context)?;
            two.attachment.del()?;
            scene.ensure_clean().with_context(context)?;
            met[way] += 1;
        }
    }
    ensure!(met.iter().all(|met| *met > 0), "calls met {met:?} times");
    scene.ensure_clean()
}

fn failing_add_meets_another(case: &Case, scene: &Scene) -> Result<()> {
    let (fails, comes) = (scene.guest(1)?, scene.guest(2)?);
    let doomed = fails.doomed();
    let mut met = 0;
    for nth in (1..).step_by(scene.device.stride(3)) {
        let (failed, added) = beside(&case.dir, doomed.call("ADD"), nth, &comes.attachment.call("ADD"))?;
        let context = || format!("ADD after request {nth} of one that fails");
        failed.any_failure().with_context(context)?;
        let Some(added) = added else { break };
        comes.works(&added.success().with_context(context)?).with_context(context)?;
        comes.attachment.del()?;
        scene.ensure_clean().with_context(context)?;
        met += 1;
    }
    ensure!(met >= 2, "calls met {met} times");
    scene.ensure_clean()
}

fn some_go_while_others_come(scene: &Scene) -> Result<()> {
    let (count, rounds) = if scene.device.is_common() { (8, 4) } else { (3, 2) };
    let guests = (1..=2 * count).map(|number| scene.guest(number)).collect::<Result<Vec<_>>>()?;
    let (mut here, mut away) = guests.split_at(count);
    for guest in here {
        guest.comes()?;
    }
    for round in 0..rounds {
        swap(here, away, [Duration::ZERO; 2]).with_context(|| format!("round {round}"))?;
        std::mem::swap(&mut here, &mut away);
    }
    // The last and the first: the one and the other ever later, by as long as a call takes.
    let (mut last, mut first) = (&here[..1], &away[..1]);
    for guest in &here[2..] {
        guest.attachment.del()?;
    }
    let begin = Instant::now();
    here[1].attachment.del()?;
    let call = begin.elapsed();
    for late in (0..4 * rounds).map(|nth| call * nth / (4 * rounds)) {
        for lags in [[late, Duration::ZERO], [Duration::ZERO, late]] {
            swap(last, first, lags).with_context(|| format!("DEL and ADD after {lags:?}"))?;
            std::mem::swap(&mut last, &mut first);
        }
    }
    last[0].attachment.del()?;
    scene.ensure_clean()
}

/// Some go and others come, each after the time named.
fn swap(go: &[Guest], come: &[Guest], [lag_go, lag_come]: [Duration; 2]) -> Result<()> {
    let attachments = |guests: &[Guest]| guests.iter().map(|g| g.attachment.clone()).collect::<Vec<_>>();
    let (gone, coming) = (attachments(go), attachments(come));
    let going = || at_once(&gone, Attachment::del).map(drop);
    let ((), results) = both((going, lag_go), (|| at_once(&coming, Attachment::add), lag_come))?;
    ensure!(results.len() == come.len(), "{} results", results.len());
    come.iter().zip(&results).try_for_each(|(guest, result)| guest.works(result))
}
