//! `"probe": true`: no address is given that somebody on the pod's network answers for.

use std::{net::IpAddr, path::Path, time::Duration};

use podwire_spec::{Error, Mac, Result, code};

use crate::{
    HostLocalConfig, Request, allocate,
    lease::Owner,
    range::RangeSet,
    store::{Pick, Store},
};

/// In milliseconds; `probeWait` says how it was chosen.
const WAIT: u64 = 300;
/// In milliseconds: runtimes give an ADD some minutes, and it may take [`ATTEMPTS`] waits.
const LONGEST: u64 = 10_000;
/// After so many addresses in a row that others have, something is wrong with the range rather than with an address.
const ATTEMPTS: usize = 10;

/// How long to wait for an answer; `None` where nobody is to be asked.
///
/// # Errors
/// Code 7 for a wait that cannot be.
pub(crate) fn wait(ipam: &HostLocalConfig) -> Result<Option<Duration>> {
    let wait = ipam.probe_wait.unwrap_or(WAIT);
    if !(1..=LONGEST).contains(&wait) {
        return Err(Error::invalid("ipam.probeWait", format!("{wait}: expected 1 to {LONGEST} milliseconds")));
    }
    if !ipam.probe && ipam.probe_wait.is_some() {
        tracing::warn!("ipam.probeWait: means nothing without \"probe\": true beside it, passed over");
    }
    Ok(ipam.probe.then(|| Duration::from_millis(wait)))
}

/// An ADD whose addresses are leased and to be proven.
pub(crate) struct Probing<'a> {
    pub(crate) rq: &'a Request<'a, HostLocalConfig>,
    pub(crate) data_dir: &'a Path,
    pub(crate) owner: &'a Owner,
    pub(crate) sets: &'a [RangeSet],
    /// What the caller asked for, by set.
    pub(crate) asked: &'a [Option<IpAddr>],
    pub(crate) wait: Duration,
}

impl Probing<'_> {
    /// `picks`, each replaced if somebody else has it until nobody has.
    ///
    /// # Errors
    /// Code 105 where somebody has an address that was asked for, code 100 where none is left, code 11 where too many were
    /// taken, and those of [`crate::Runner::probe`]. None of them is leased any more then.
    pub(crate) fn proven(&self, mut picks: Vec<Pick>) -> Result<Vec<Pick>> {
        let proven = self.prove(&mut picks);
        if let Err(error) = proven {
            let released = self.store().and_then(|store| {
                let given = |ip| self.sets.iter().any(|set| set.range_of(ip).is_some());
                store.release_of(self.owner, given)
            });
            released.unwrap_or_else(|error| tracing::warn!("{error}"));
            return Err(error);
        }
        Ok(picks)
    }

    fn prove(&self, picks: &mut [Pick]) -> Result<()> {
        let mut unproven: Vec<_> = (0..picks.len()).collect();
        for _ in 0..ATTEMPTS {
            let ips: Vec<_> = unproven.iter().map(|&at| picks[at].ip).collect();
            let answers = self.rq.runner.probe(self.rq.env, &ips, self.wait)?;
            let others = unproven.iter().zip(answers).filter_map(|(&at, mac)| Some((at, mac?)));
            let others: Vec<(usize, Mac)> = others.collect();
            if others.is_empty() {
                return Ok(());
            }
            self.replace(picks, &others)?;
            unproven = others.into_iter().map(|(at, _)| at).collect();
        }
        Err(Error::new(code::TRY_AGAIN, format!("{ATTEMPTS} addresses in a row are in use by others")).with_details(
            "each is in quarantine now; is the range also given by somebody else, such as a DHCP server?",
        ))
    }

    /// Puts those of `picks` that `others` have into quarantine, and others in their place.
    fn replace(&self, picks: &mut [Pick], others: &[(usize, Mac)]) -> Result<()> {
        for &(at, mac) in others {
            let ip = picks[at].ip;
            if self.asked[picks[at].set].is_some() {
                return Err(Error::new(code::EXISTS, format!("address {ip}: in use by {mac}"))
                    .with_details("it was asked for, and that machine answers for it on the pod's network"));
            }
            tracing::warn!("address {ip}: in use by {mac}, which answered a probe; in quarantine, another is taken");
        }
        let store = self.store()?;
        let taken: Vec<_> = others.iter().map(|&(at, mac)| (picks[at].ip, mac)).collect();
        store.quarantine(self.owner, &taken)?;
        let (_, held) = store.find(self.owner)?;
        let fresh = others.iter().map(|&(at, _)| allocate::next(&store, self.sets, picks[at].set));
        let fresh: Vec<_> = fresh.collect::<Result<_>>()?;
        store.reserve(self.owner, &held, &fresh)?;
        for (&(at, _), pick) in others.iter().zip(fresh) {
            picks[at] = pick;
        }
        Ok(())
    }

    fn store(&self) -> Result<Store> {
        Store::make(self.data_dir, &self.rq.conf.name, self.rq.runner)
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
