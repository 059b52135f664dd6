//! Which addresses an attachment gets. Nothing is leased here.

use std::{collections::HashMap, net::IpAddr};

use podwire_spec::{Error, Result, code};
use podwire_trace::step;

use crate::{
    freed,
    lease::Content,
    range::RangeSet,
    store::{Pick, Store},
};

/// How many addresses are looked for one by one. Round robin mostly finds the first one free; where a long run is taken,
/// those that were given back lately are tried, and then listing the folder once is cheaper than asking for each file.
const PROBES: usize = 64;

/// Picks an address of each set: the one that is asked for, or the first free one after that which was leased last.
///
/// # Errors
/// Code 105 if the address asked for is taken, code 100 if a set has none left.
pub(crate) fn pick(store: &Store, sets: &[RangeSet], asked: &[Option<IpAddr>]) -> Result<Vec<Pick>> {
    let pick = |(set, asked): (usize, &Option<IpAddr>)| match *asked {
        Some(ip) if !store.is_taken(ip)? => Ok(Pick { set, ip }),
        // It may be of an earlier boot, as when a pod is started again that always asks for the same one.
        Some(ip) if store.reclaim()? && !store.is_taken(ip)? => Ok(Pick { set, ip }),
        Some(ip) => Err(taken(store, ip)),
        None => next(store, sets, set),
    };
    step(
        "pick",
        || format!("addresses of \"{}\"", store.path().display()),
        Error::to_string,
        || asked.iter().enumerate().map(pick).collect(),
    )
}

/// Picks the next address of `sets[at]`.
///
/// # Errors
/// Code 100 if there is none.
pub(crate) fn next(store: &Store, sets: &[RangeSet], at: usize) -> Result<Pick> {
    let mut free = next_free(store, sets, at)?;
    if free.is_none() && store.reclaim()? {
        free = next_free(store, sets, at)?;
    }
    free.map(|ip| Pick { set: at, ip }).ok_or_else(|| exhausted(store, &sets[at]))
}

/// Whether each set has an address to give, or one that could be reclaimed. No lease is changed.
///
/// # Errors
/// Code 100 if a set has none.
pub(crate) fn check(store: &Store, sets: &[RangeSet]) -> Result<()> {
    for (at, set) in sets.iter().enumerate() {
        let is_free = next_free(store, sets, at)?.is_some();
        if !is_free && !store.reclaimable()?.into_iter().any(|ip| is_given(sets, set, ip)) {
            return Err(exhausted(store, set));
        }
    }
    Ok(())
}

/// Whether `set` has `ip` to give to a pod.
fn is_given(sets: &[RangeSet], set: &RangeSet, ip: IpAddr) -> bool {
    set.range_of(ip).is_some() && sets.iter().all(|set| set.reserved(ip).is_none())
}

/// The first free address of `sets[at]` after the one that was leased last; where a long run is taken there, the one that
/// was given back the longest ago; `None` if there is none.
fn next_free(store: &Store, sets: &[RangeSet], at: usize) -> Result<Option<IpAddr>> {
    let set = &sets[at];
    let mut candidates = set.after(store.last(at)).filter(|&ip| is_given(sets, set, ip));
    for ip in candidates.by_ref().take(PROBES) {
        if !store.is_taken(ip)? {
            return Ok(Some(ip));
        }
    }
    for ip in store.freed().into_iter().filter(|&ip| is_given(sets, set, ip)) {
        if !store.is_taken(ip)? {
            return Ok(Some(ip));
        }
    }
    let taken = store.taken()?;
    let free: Vec<_> = candidates.filter(|ip| !taken.contains(ip)).take(freed::ENOUGH).collect();
    // The next one to search need not list the folder.
    store.note_free(&free);
    Ok(free.first().copied())
}

fn taken(store: &Store, ip: IpAddr) -> Error {
    let holder = match store.content(ip) {
        Some(Content::Of(owner)) => format!("it is leased to {owner}"),
        Some(Content::Quarantine) => "it is in quarantine, another machine answered for it".to_owned(),
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
