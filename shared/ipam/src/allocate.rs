//! Which addresses an attachment gets: nothing is written here.

use std::{collections::HashMap, net::IpAddr};

use podwire_spec::{Error, Result, code};

use crate::{
    range::RangeSet,
    store::{Content, Pick, Store},
};

/// How many addresses are looked for one by one. Round robin mostly finds the first one free; where a long run is taken,
/// listing the folder once is cheaper than asking for each of its files.
const PROBES: usize = 64;

/// Picks an address of each set: the one that is asked for, or the first free one after that which was leased last.
///
/// # Errors
/// Code 105 if the address asked for is taken, code 100 if a set has none left.
pub(crate) fn pick(store: &Store, sets: &[RangeSet], asked: &[Option<IpAddr>]) -> Result<Vec<Pick>> {
    let pick = |(set, asked): (usize, &Option<IpAddr>)| {
        let ip = match *asked {
            Some(ip) if store.is_taken(ip)? => return Err(taken(store, ip)),
            Some(ip) => ip,
            None => next_free(store, sets, set)?.ok_or_else(|| exhausted(store, &sets[set]))?,
        };
        Ok(Pick { set, ip })
    };
    asked.iter().enumerate().map(pick).collect()
}

/// The first free address of `sets[at]` after the one that was leased last; `None` if there is none.
pub(crate) fn next_free(store: &Store, sets: &[RangeSet], at: usize) -> Result<Option<IpAddr>> {
    let mut candidates = sets[at].after(store.last(at)).filter(|&ip| sets.iter().all(|set| set.reserved(ip).is_none()));
    for ip in candidates.by_ref().take(PROBES) {
        if !store.is_taken(ip)? {
            return Ok(Some(ip));
        }
    }
    let taken = store.taken()?;
    Ok(candidates.find(|ip| !taken.contains(ip)))
}

fn taken(store: &Store, ip: IpAddr) -> Error {
    let holder = match store.content(ip) {
        Some(Content::Of(owner)) => format!("it is leased to {owner}"),
        _ => "its lease file is unreadable or not a lease; remove it if nobody has the address".to_owned(),
    };
    Error::new(code::EXISTS, format!("address {ip}: taken")).with_details(holder)
}

/// No address left: says how many there are and who has most of them, since that is mostly the one who leaks.
fn exhausted(store: &Store, set: &RangeSet) -> Error {
    let mut held: HashMap<String, usize> = HashMap::new();
    let mut leases = 0;
    for (_, content) in store.all().unwrap_or_default().into_iter().filter(|&(ip, _)| set.range_of(ip).is_some()) {
        leases += 1;
        if let Content::Of(owner) = content {
            *held.entry(owner.container_id).or_default() += 1;
        }
    }
    let most = held.iter().max_by(|a, b| (a.1, b.0).cmp(&(b.1, a.0)));
    let most = most.map_or_else(String::new, |(id, count)| format!(", most of them ({count}) to container {id:?}"));
    Error::new(code::NO_ADDRESS, format!("{}: no address left in {set}", set.path)).with_details(format!(
        "all {} addresses are taken; {leases} are leased{most}; give back what is stale with GC or DEL, or add a range",
        set.usable()
    ))
}
