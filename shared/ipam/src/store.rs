//! The lease folder of one network, `DATADIR/NETWORK/`, shared with the reference plugin, while its lock is held.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use podwire_spec::{Error, Result, code};
use podwire_trace::step;
use rustix::{fs::OFlags, io::Errno};

use crate::{
    Runner,
    folder::{self, Folder},
    index::{Entry, Index, Known, Unusable},
    lease::{Content, Name, Owner},
};

/// The leases of one network. Whoever has one has the lock; dropping it gives the lock up.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) leases: Folder,
    /// Without it everything but taking addresses still works: a broken hint must not keep a pod from being deleted.
    pub(crate) index: Result<Index>,
    _lock: OwnedFd,
}

/// An address to lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pick {
    /// The range set it is for, counted from 0.
    pub(crate) set: usize,
    pub(crate) ip: IpAddr,
}

impl Store {
    /// Opens the leases of `network`, and makes the folder if missing.
    pub(crate) fn make(data_dir: &Path, network: &str, runner: &dyn Runner) -> Result<Self> {
        let data = Folder::make(data_dir)?;
        let leases = data.make_sub(network)?;
        Self::locked(&data, leases, network, runner)
    }

    /// Opens the leases of `network`; `None` if there never were any.
    pub(crate) fn open(data_dir: &Path, network: &str, runner: &dyn Runner) -> Result<Option<Self>> {
        let Some(data) = Folder::open(data_dir)? else { return Ok(None) };
        let Some(leases) = data.sub(network)? else { return Ok(None) };
        Self::locked(&data, leases, network, runner).map(Some)
    }

    fn locked(data: &Folder, leases: Folder, network: &str, runner: &dyn Runner) -> Result<Self> {
        // Flags and mode are the reference's.
        let lock = leases
            .open_file("lock", OFlags::RDONLY | OFlags::CREATE, 0o750)
            .map_err(|errno| leases.failed("open file", "lock", errno))?;
        step(
            "lock",
            || format!("leases \"{}\"", leases.path().display()),
            Error::to_string,
            || {
                if folder::try_lock(lock.as_fd()).map_err(|errno| leases.failed("lock file", "lock", errno))? {
                    return Ok(());
                }
                runner.wait_for_lock(lock.as_fd())
            },
        )?;
        let index = Index::make(data, network)
            .inspect_err(|error| tracing::warn!("no lease index, every lease file is read instead: {error}"));
        Ok(Self { leases, index, _lock: lock })
    }

    /// The folder's, for messages.
    pub(crate) fn path(&self) -> &Path {
        self.leases.path()
    }

    /// Whether there is a file for `ip`, be it a lease or not.
    pub(crate) fn is_taken(&self, ip: IpAddr) -> Result<bool> {
        self.leases.has(&ip.to_string())
    }

    /// Every address that has a file.
    pub(crate) fn taken(&self) -> Result<HashSet<IpAddr>> {
        let ip = |name: String| if let Name::Address(ip) = Name::of(&name) { Some(ip) } else { None };
        Ok(self.leases.names()?.into_iter().filter_map(ip).collect())
    }

    /// What the file for `ip` holds; `None` if there is none.
    pub(crate) fn content(&self, ip: IpAddr) -> Option<Content> {
        match self.leases.read(&ip.to_string()) {
            Ok(text) => Some(Content::parse(&text)),
            Err(Errno::NOENT) => None,
            // A symbolic link, a folder, a FIFO, a device.
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::NODEV) => Some(Content::Foreign),
            Err(errno) => Some(Content::Unread(errno)),
        }
    }

    /// Reads every lease file, and warns about what is none.
    pub(crate) fn all(&self) -> Result<Vec<(IpAddr, Content)>> {
        let mut all = Vec::new();
        for name in self.leases.names()? {
            match Name::of(&name) {
                Name::Own => {}
                Name::Foreign => tracing::warn!("{:?}: not a lease, passed over", self.leases.path().join(&name)),
                Name::Address(ip) => {
                    let Some(content) = self.content(ip) else { continue };
                    let why = match &content {
                        Content::Empty => Some("empty".to_owned()),
                        Content::Foreign => Some("not a lease".to_owned()),
                        Content::Unread(errno) => Some(format!("not readable ({errno})")),
                        Content::Of(_) | Content::Quarantine => None,
                    };
                    if let Some(why) = why {
                        tracing::warn!(
                            "lease {:?}: {why}, its address is not given to anybody until the file is removed",
                            self.leases.path().join(&name),
                        );
                    }
                    all.push((ip, content));
                }
            }
        }
        all.sort_unstable_by_key(|&(ip, _)| ip);
        Ok(all)
    }

    /// The leases of `owner`, and the owner as they name it: those of the reference's old kind are without interface.
    pub(crate) fn find(&self, owner: &Owner) -> Result<(Owner, Vec<IpAddr>)> {
        self.find_among(owner, || self.all())
    }

    fn find_among(
        &self,
        owner: &Owner,
        all: impl FnOnce() -> Result<Vec<(IpAddr, Content)>>,
    ) -> Result<(Owner, Vec<IpAddr>)> {
        step("find", || format!("leases of {owner}"), Error::to_string, || self.find_by_hint(owner, all))
    }

    fn find_by_hint(
        &self,
        owner: &Owner,
        all: impl FnOnce() -> Result<Vec<(IpAddr, Content)>>,
    ) -> Result<(Owner, Vec<IpAddr>)> {
        if let Ok(index) = &self.index
            && index.is_in_step_with(&self.leases)
        {
            if let Ok(found) = self.look_up(index, owner) {
                return Ok(found);
            }
            tracing::warn!("lease index of {:?}: wrong, written anew", self.leases.path());
        }
        let all = all()?;
        let known = self.write_index(all.iter().map(|(ip, content)| (*ip, content)));
        let of = |owner: &Owner| known.get(&owner.key()).cloned().unwrap_or_default();
        let old = owner.without_ifname();
        Ok(match (of(owner), of(&old)) {
            (ips, old_ips) if ips.is_empty() && !old_ips.is_empty() => (old, old_ips),
            (ips, _) => (owner.clone(), ips),
        })
    }

    /// The leases of `owner` by the hint, each compared with its file.
    fn look_up(&self, index: &Index, owner: &Owner) -> Result<(Owner, Vec<IpAddr>), Unusable> {
        for owner in [owner.clone(), owner.without_ifname()] {
            let Entry { ips, .. } = index.get(&owner.key())?;
            if ips.iter().any(|&ip| self.content(ip) != Some(Content::Of(owner.clone()))) {
                return Err(Unusable);
            }
            if !ips.is_empty() {
                return Ok((owner, ips));
            }
        }
        Ok((owner.clone(), Vec::new()))
    }

    /// Reads every lease file and writes the hint from them.
    pub(crate) fn rebuild(&self) -> Result<Known> {
        let all =
            step("read all", || format!("leases \"{}\"", self.path().display()), Error::to_string, || self.all())?;
        Ok(self.write_index(all.iter().map(|(ip, content)| (*ip, content))))
    }

    /// Writes the hint from all leases that there are.
    pub(crate) fn write_index<'a>(&self, all: impl Iterator<Item = (IpAddr, &'a Content)>) -> Known {
        let (mut known, mut is_whole): (Known, _) = (HashMap::new(), true);
        for (ip, content) in all {
            if let Content::Of(owner) = content {
                known.entry(owner.key()).or_default().push(ip);
            }
            is_whole &= !matches!(content, Content::Unread(_));
        }
        // What could not be read may be somebody's: the next call has to look again.
        if is_whole {
            self.index(|index| index.replace(&known));
        }
        known
    }

    /// Changes the hint so that it is in step again; failing that, it stays out of step and the next call finds it so.
    pub(crate) fn index(&self, change: impl FnOnce(&Index) -> Result<()>) {
        let Ok(index) = &self.index else { return };
        match change(index) {
            Ok(()) => index.mark(&self.leases),
            Err(error) => tracing::warn!("lease index is out of step: {error}"),
        }
    }

    /// The address that was leased last for range set `set`, where one was.
    pub(crate) fn last(&self, set: usize) -> Option<IpAddr> {
        let text = self.leases.read(&format!("last_reserved_ip.{set}")).ok()?;
        str::from_utf8(&text).ok()?.trim().parse().ok()
    }

    /// Leases all of `picks` to `owner`, who has `before` already, or none of them.
    pub(crate) fn reserve(&self, owner: &Owner, before: &[IpAddr], picks: &[Pick]) -> Result<()> {
        let index = self.index.as_ref().map_err(Clone::clone)?;
        let content = owner.content();
        for (done, pick) in picks.iter().enumerate() {
            let name = pick.ip.to_string();
            let write = || index.write_new(&self.leases, &name, &content);
            step("write", || format!("lease of {name} for {owner}"), Errno::to_string, write).map_err(|errno| {
                for undone in &picks[..done] {
                    let removed = self.leases.remove(&undone.ip.to_string());
                    removed.unwrap_or_else(|error| tracing::warn!("{error}"));
                }
                match errno {
                    Errno::EXIST => Error::new(code::TRY_AGAIN, format!("address {name}: taken a moment ago"))
                        .with_details("somebody writes leases without the lock; repeat the call"),
                    errno => self.leases.failed("write lease", &name, errno),
                }
            })?;
        }
        for pick in picks {
            self.note_last(pick);
        }
        let ips: Vec<_> = before.iter().copied().chain(picks.iter().map(|pick| pick.ip)).collect();
        self.index(|index| index.put(&owner.key(), &ips));
        Ok(())
    }

    /// Notes where the next search begins. No more than a wish: without it the search begins at the start.
    fn note_last(&self, pick: &Pick) {
        let name = format!("last_reserved_ip.{}", pick.set);
        let text = pick.ip.to_string();
        // Written over, then cut, in this order: ext4 writes a file that was emptied first to the disk when it is closed,
        // which takes milliseconds. A kill in between leaves nonsense, and the search begins at the start.
        let written = self.leases.open_file(&name, OFlags::WRONLY | OFlags::CREATE, 0o644).and_then(|file| {
            folder::write_all(file.as_fd(), text.as_bytes())?;
            rustix::io::retry_on_intr(|| rustix::fs::ftruncate(&file, text.len() as u64))
        });
        if let Err(errno) = written {
            tracing::warn!("{}", self.leases.failed("write file", &name, errno));
        }
    }

    /// As [`Self::find`]; an error where a lease that could not be read may be the one that is looked for.
    fn find_surely(&self, owner: &Owner) -> Result<(Owner, Vec<IpAddr>)> {
        let mut unread = None;
        let found = self.find_among(owner, || {
            let all = self.all()?;
            unread = all.iter().find_map(|(ip, content)| match content {
                Content::Unread(errno) => Some(self.leases.failed("read lease", &ip.to_string(), *errno)),
                _ => None,
            });
            Ok(all)
        })?;
        match unread {
            Some(error) if found.1.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    /// Removes the leases of `owner`; all are attempted.
    pub(crate) fn release(&self, owner: &Owner) -> Result<()> {
        self.release_of(owner, |_| true)
    }

    /// Removes those leases of `owner` that `goes` names; all are attempted.
    pub(crate) fn release_of(&self, owner: &Owner, goes: impl Fn(IpAddr) -> bool) -> Result<()> {
        let (owner, held) = self.find_surely(owner)?;
        let (going, staying): (Vec<_>, Vec<_>) = held.into_iter().partition(|&ip| goes(ip));
        if going.is_empty() {
            return Ok(());
        }
        // The leases first: a kill before the hint is changed leaves it out of step, never short of a lease.
        let remove = |ip: &IpAddr| {
            let object = || format!("lease of {ip} for {owner}");
            step("remove", object, Error::to_string, || self.leases.remove(&ip.to_string()))
        };
        joined(going.iter().filter_map(|ip| remove(ip).err()).collect())?;
        self.index(|index| {
            index.note_freed(&going);
            index.put(&owner.key(), &staying)
        });
        Ok(())
    }

    /// The addresses that were given back lately, the earliest first. What it says is to be verified.
    pub(crate) fn freed(&self) -> Vec<IpAddr> {
        self.index.as_ref().map(Index::freed).unwrap_or_default()
    }

    /// Notes free addresses for later searches, unless the hint is out of step: to write would hide that.
    pub(crate) fn note_free(&self, ips: &[IpAddr]) {
        if self.index.as_ref().is_ok_and(|index| index.is_in_step_with(&self.leases)) {
            self.index(|index| {
                index.note_freed(ips);
                Ok(())
            });
        }
    }
}

/// All of `errors` as one: the first, with the others in its details.
pub(crate) fn joined(errors: Vec<Error>) -> Result<()> {
    let mut errors = errors.into_iter();
    let Some(first) = errors.next() else { return Ok(()) };
    let rest = errors.map(|error| error.to_string());
    let details: Vec<_> = Some(first.details).into_iter().chain(rest).filter(|text| !text.is_empty()).collect();
    Err(Error { details: details.join("; "), ..first })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
