//! ADD and DEL of one network, by the floor, ours and the reference in turns.

use std::path::Path;

use anyhow::Result;

use super::cases::Case;
use super::report::Row;
use super::rig::{Rig, Seat};
use super::stats::{Costs, Figures};

/// Rounds before the measured ones: the first start reads the disk.
pub(super) const WARM_UP: usize = 3;

/// Where the plugins are.
#[derive(Clone, Copy)]
pub(super) struct Plugins<'a> {
    pub(super) ours: &'a Path,
    pub(super) reference: &'a Path,
}

/// The same of each; what there is no floor or no reference for has none.
#[derive(Clone, Debug, Default)]
pub(super) struct Each<T> {
    pub(super) floor: Option<T>,
    pub(super) ours: T,
    pub(super) reference: Option<T>,
}

impl<T> Each<T> {
    pub(super) fn map<U>(&self, what: impl Fn(&T) -> U) -> Each<U> {
        Each {
            floor: self.floor.as_ref().map(&what),
            ours: what(&self.ours),
            reference: self.reference.as_ref().map(&what),
        }
    }

    /// Does something with each. The order is another one in every round: whoever comes next meets what the one before
    /// has left the kernel to do.
    pub(super) fn in_turns(&mut self, round: usize, mut work: impl FnMut(&mut T) -> Result<()>) -> Result<()> {
        let mut all: Vec<_> =
            [self.floor.as_mut(), Some(&mut self.ours), self.reference.as_mut()].into_iter().flatten().collect();
        // Of three there are six orders: three to begin with, each of them both ways round.
        let first = (round / 2) % all.len();
        all.rotate_left(first);
        if round % 2 == 1 {
            all.reverse();
        }
        all.into_iter().try_for_each(&mut work)
    }
}

/// One of those that take turns.
struct Player {
    rig: Rig,
    seat: Seat,
    add: Costs,
    del: Costs,
}

/// A rig each.
pub(super) fn rigs(case: &'static Case, plugins: Plugins<'_>, leases: &Path) -> Result<Each<Rig>> {
    let leases = leases.join(case.title);
    let reference =
        case.reference.then(|| Rig::plugins(case, plugins.reference, &leases.join("reference"))).transpose()?;
    Ok(Each {
        floor: Some(Rig::floor(case, plugins.ours, &leases.join("floor"))?),
        ours: Rig::plugins(case, plugins.ours, &leases.join("ours"))?,
        reference,
    })
}

/// Measures `case`: a row for ADD, one for DEL.
pub(super) fn measure(case: &'static Case, plugins: Plugins<'_>, leases: &Path, rounds: usize) -> Result<[Row; 2]> {
    eprintln!("{}: {rounds} rounds ...", case.title);
    let Each { floor, ours, reference } = rigs(case, plugins, leases)?;
    let player = |rig| anyhow::Ok(Player { rig, seat: Seat::new(1)?, add: Costs::default(), del: Costs::default() });
    let mut players = Each {
        floor: floor.map(player).transpose()?,
        ours: player(ours)?,
        reference: reference.map(player).transpose()?,
    };
    for round in 0..WARM_UP + rounds {
        players.in_turns(round, |player| {
            let (add, del) = player.rig.add_and_del(&player.seat)?;
            if round >= WARM_UP {
                player.add.push(&add);
                player.del.push(&del);
            }
            Ok(())
        })?;
    }
    let row = |call, of: fn(&Player) -> Figures, goals| Row::new(case.title, call, players.map(of)).held_to(goals);
    Ok([row("ADD", |player| player.add.figures(), case.add), row("DEL", |player| player.del.figures(), case.del)])
}

/// VERSION, which does nothing but start, print and end.
pub(super) fn start_up(case: &'static Case, plugins: Plugins<'_>, leases: &Path, rounds: usize) -> Result<Each<Costs>> {
    eprintln!("start-up: {rounds} rounds ...");
    let Each { floor, ours, reference } = rigs(case, plugins, &leases.join("start-up"))?;
    let player = |rig| (rig, Costs::default());
    let mut players = Each { floor: floor.map(player), ours: player(ours), reference: reference.map(player) };
    for round in 0..WARM_UP + rounds {
        players.in_turns(round, |(rig, costs)| {
            let cost = rig.version()?;
            if round >= WARM_UP {
                costs.push(&cost);
            }
            Ok(())
        })?;
    }
    Ok(players.map(|(_, costs)| costs.clone()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Each;

    #[test]
    fn six_rounds_have_six_orders() -> anyhow::Result<()> {
        let mut each = Each { floor: Some('f'), ours: 'o', reference: Some('r') };
        let mut orders = BTreeSet::new();
        for round in 0..6 {
            let mut order = String::new();
            each.in_turns(round, |one| {
                order.push(*one);
                Ok(())
            })?;
            assert_eq!(order.chars().collect::<BTreeSet<_>>().len(), 3);
            orders.insert(order);
        }
        assert_eq!(orders.len(), 6);
        Ok(())
    }
}
