//! Taking back what nobody has any more: at GC, and where no address would be left otherwise.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use podwire_spec::{Mac, Result};

use crate::{
    freed,
    index::{Entry, Index},
    lease::{Content, Owner},
    origin::{Age, Origin},
    store::{Store, joined},
};

/// How long an address that somebody else answered for is kept back: long enough that not every other pod tries it again,
/// short enough that it returns within the day in which somebody put the other machine right.
const QUARANTINE: Duration = Duration::from_hours(1);

impl Store {
    /// GC: removes the leases whose owner is not to be kept, those that have none because they are empty, and
    /// quarantines that are over. Leases that another machine wrote are for its own GC.
    ///
    /// # Errors
    /// Of what could not be read or removed; all are attempted.
    pub(crate) fn collect(&self, keep: impl Fn(&Owner) -> bool) -> Result<()> {
        let (mut all, mut errors, mut others) = (self.all()?, Vec::new(), 0);
        all.retain(|(ip, content)| {
            let stays = match content {
                Content::Of(owner) if keep(owner) => true,
                Content::Of(owner) => {
                    let is_others = self.age(owner, *ip) == Age::AnotherMachine;
                    others += usize::from(is_others);
                    is_others
                }
                Content::Quarantine => !self.is_over(*ip),
                Content::Empty => false,
                Content::Foreign => true,
                // It may be one that has to go.
                Content::Unread(errno) => {
                    errors.push(self.leases.failed("read lease", &ip.to_string(), *errno));
                    true
                }
            };
            if !stays {
                tracing::info!("address {ip}: given back, it was leased to {content:?}");
                errors.extend(self.leases.remove(&ip.to_string()).err());
            }
            stays
        });
        if others > 0 {
            tracing::warn!(
                "{:?}: {others} leases of another machine, which shares the folder, left alone",
                self.path()
            );
        }
        if errors.is_empty() {
            self.write_index(all.iter().map(|(ip, content)| (*ip, content)));
        }
        joined(errors)
    }

    /// The addresses that can be given again although there is a file for each: leases of earlier boots of this machine,
    /// and quarantines that are over.
    ///
    /// Of leases there are none where another machine may use the folder too.
    pub(crate) fn reclaimable(&self) -> Result<Vec<IpAddr>> {
        let (mut over, mut stale, mut is_shared) = (Vec::new(), Vec::new(), !self.leases.is_local());
        for (ip, content) in self.all()? {
            match content {
                Content::Of(owner) => match self.age(&owner, ip) {
                    Age::EarlierBoot => stale.push(ip),
                    Age::AnotherMachine => is_shared = true,
                    Age::Current => {}
                },
                Content::Quarantine if self.is_over(ip) => over.push(ip),
                _ => {}
            }
        }
        if is_shared {
            if !stale.is_empty() {
                tracing::warn!(
                    "{:?}: {} leases of earlier boots left alone, other machines may use the folder",
                    self.path(),
                    stale.len()
                );
            }
            return Ok(over);
        }
        Ok([over, stale].concat())
    }

    /// Gives back all that [`Self::reclaimable`] finds, and tells whether that was anything.
    pub(crate) fn reclaim(&self) -> Result<bool> {
        let ips = self.reclaimable()?;
        for ip in &ips {
            tracing::info!("address {ip}: given back, nobody can have it since the boot");
            self.leases.remove(&ip.to_string())?;
        }
        if !ips.is_empty() {
            self.rebuild()?;
            self.note_free(&ips[..ips.len().min(freed::ENOUGH)]);
        }
        Ok(!ips.is_empty())
    }

    /// Whether all that `owner` has, which is `ips`, is of an earlier boot.
    pub(crate) fn is_stale(&self, owner: &Owner, ips: &[IpAddr]) -> bool {
        self.leases.is_local() && ips.iter().all(|&ip| self.age(owner, ip) == Age::EarlierBoot)
    }

    /// Turns leases of `owner` into quarantines.
    pub(crate) fn quarantine(&self, owner: &Owner, taken: &[(IpAddr, Mac)]) -> Result<()> {
        self.release_of(owner, |ip| taken.iter().any(|(other, _)| *other == ip))?;
        let index = self.index.as_ref().map_err(Clone::clone)?;
        for (ip, mac) in taken {
            let name = ip.to_string();
            index
                .write_new(&self.leases, &name, &Content::quarantine(*mac))
                .map_err(|errno| self.leases.failed("write quarantine", &name, errno))?;
        }
        self.index(|_| Ok(()));
        Ok(())
    }

    /// Whether the quarantine of `ip` has lasted long enough, by the time of its file.
    fn is_over(&self, ip: IpAddr) -> bool {
        let Ok((since, _)) = self.leases.changed_at_of(&ip.to_string()) else { return false };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed());
        now.saturating_sub(since) > QUARANTINE.as_secs().cast_signed()
    }

    /// Of which boot the lease of `ip` is that `owner` has.
    fn age(&self, owner: &Owner, ip: IpAddr) -> Age {
        let of = |index: &Index, here: Origin| {
            let key = owner.key();
            let Ok(Entry { ips, origin: Some(origin) }) = index.get(&key) else { return None };
            // Written after its note: somebody who does not write notes has leased it to the same owner again.
            let is_newer =
                self.leases.changed_at_of(&ip.to_string()).ok()? > index.folder().changed_at_of(&key).ok()?;
            (ips.contains(&ip) && !is_newer).then(|| origin.age(here))
        };
        let index = self.index.as_ref().ok();
        index.and_then(|index| of(index, index.here()?)).unwrap_or(Age::Current)
    }
}
