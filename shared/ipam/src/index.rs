//! A hint beside the lease files: which addresses an attachment has, without reading every file.
//!
//! The lease files are the truth, and the reference plugin changes them without knowing of this. In `DATADIR/.podwire/NETWORK/`,
//! outside of what the reference walks, each attachment has one symbolic link: its name is the owner's key, its text the
//! addresses and the boot that they are of (`10.1.0.5,fd00::5@1a2b3c4d-5e6f7a8b`, see [`crate::origin`]). The text is never
//! followed; it is a link because a link, unlike a file, is made whole by one system call.
//!
//! The hint is *in step* when this folder and the lease folder bear the same time of change, and that time bears our mark.
//! Every change of names in either folder, by anybody, makes the kernel put another time there; whoever finished a change
//! of ours puts the mark back on both. So a call that was killed half-way, a lease that the reference wrote or one that
//! somebody removed by hand leave the hint out of step, and the next call writes it anew from the lease files.

use std::{
    cell::OnceCell,
    collections::HashMap,
    net::IpAddr,
    os::fd::AsFd,
    time::{SystemTime, UNIX_EPOCH},
};

use podwire_spec::Result;
use rustix::{fs::OFlags, io::Errno};

use crate::{
    folder::{self, Folder},
    freed,
    origin::Origin,
};

/// The folder of all hints; a network's name cannot start with a dot.
const FOLDER: &str = ".podwire";
/// A lease while it is being written; no key starts with a plus sign.
const DRAFT: &str = "+draft";
/// The nanoseconds of a time of change that was set by us. The kernel's own times have any; two folders that it touched at
/// the same tick have the same time by chance, and only this tells that from being in step.
const MARK: i64 = 102_030_405;

/// The addresses of each owner, by key.
pub(crate) type Known = HashMap<String, Vec<IpAddr>>;

/// The hint of one network.
#[derive(Debug)]
pub(crate) struct Index {
    folder: Folder,
    here: OnceCell<Option<Origin>>,
}

/// What the hint says of an owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) ips: Vec<IpAddr>,
    /// `None` where it could not be told.
    pub(crate) origin: Option<Origin>,
}

/// A hint that cannot be used: what stands there was not written by us.
#[derive(Debug)]
pub(crate) struct Unusable;

impl Index {
    /// Opens the hint of `network`, and makes it if missing.
    pub(crate) fn make(data: &Folder, network: &str) -> Result<Self> {
        Ok(Self { folder: data.make_sub(FOLDER)?.make_sub(network)?, here: OnceCell::new() })
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// This boot of this machine.
    pub(crate) fn here(&self) -> Option<Origin> {
        *self.here.get_or_init(Origin::here)
    }

    /// Whether the hint holds what `leases` holds.
    pub(crate) fn is_in_step_with(&self, leases: &Folder) -> bool {
        match (self.folder.changed_at(), leases.changed_at()) {
            (Ok(ours), Ok(theirs)) => ours == theirs && ours.1 == MARK,
            _ => false,
        }
    }

    /// Says that the hint holds what `leases` holds now. Where that cannot be said, every call reads the lease files.
    pub(crate) fn mark(&self, leases: &Folder) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed());
        let marked = [&self.folder, leases].into_iter().try_for_each(|folder| folder.set_changed_at((now, MARK)));
        if let Err(errno) = marked {
            tracing::debug!("lease index {:?}: cannot be marked: {errno}", self.folder.path());
        }
    }

    /// What there is of the owner with `key`; no addresses if nothing.
    pub(crate) fn get(&self, key: &str) -> Result<Entry, Unusable> {
        let Some(text) = self.folder.link_text(key).map_err(|_| Unusable)? else { return Ok(Entry::default()) };
        let (ips, origin) = text.split_once('@').map_or((&text[..], None), |(ips, origin)| (ips, Some(origin)));
        Ok(Entry {
            ips: ips.split(',').map(|ip| ip.parse().map_err(|_| Unusable)).collect::<Result<_, _>>()?,
            origin: origin.map(|origin| Origin::parse(origin).ok_or(Unusable)).transpose()?,
        })
    }

    /// Writes the addresses of the owner with `key`, as of this boot; none removes it.
    pub(crate) fn put(&self, key: &str, ips: &[IpAddr]) -> Result<()> {
        if ips.is_empty() {
            return self.folder.remove(key);
        }
        // In the order in which `replace` knows them.
        let mut ips = ips.to_vec();
        ips.sort_unstable();
        let mut text = ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        if let Some(here) = self.here() {
            text.extend(["@", &here.to_string()]);
        }
        let made = match self.folder.link(key, &text) {
            Err(Errno::EXIST) => {
                self.folder.remove(key)?;
                self.folder.link(key, &text)
            }
            made => made,
        };
        made.map_err(|errno| self.folder.failed("write lease index", key, errno))
    }

    /// Makes the hint hold exactly `known`; what calls that were killed left behind goes with the rest.
    pub(crate) fn replace(&self, known: &Known) -> Result<()> {
        for name in self.folder.names()? {
            if !known.contains_key(&name) && name != freed::FILE {
                self.folder.remove(&name)?;
            }
        }
        known.iter().try_for_each(|(key, ips)| match self.get(key) {
            Ok(found) if found.ips == *ips => Ok(()),
            _ => self.put(key, ips),
        })
    }

    /// Makes the file `name` with `content` in `leases`, whole or not at all: `EXIST` if there is one.
    ///
    /// Nothing is synced to the disk: a process that dies cannot tear what the kernel has taken, and after the power fails
    /// the pods are gone as well.
    pub(crate) fn write_new(&self, leases: &Folder, name: &str, content: &str) -> Result<(), Errno> {
        self.write_draft(content)?;
        let moved = match self.folder.move_new(DRAFT, leases, name) {
            // The lease folder is a mount of its own: then as the reference does it.
            Err(Errno::XDEV) => create(leases, name, content),
            moved => return moved.inspect_err(|_| drop(self.folder.remove(DRAFT))),
        };
        drop(self.folder.remove(DRAFT));
        moved
    }

    fn write_draft(&self, content: &str) -> Result<(), Errno> {
        match create(&self.folder, DRAFT, content) {
            Err(Errno::EXIST) => {
                self.folder.remove(DRAFT).map_err(|_| Errno::EXIST)?;
                create(&self.folder, DRAFT, content)
            }
            done => done,
        }
    }
}

/// Makes the file `name` in `folder`, mode 644.
fn create(folder: &Folder, name: &str, content: &str) -> Result<(), Errno> {
    let file = folder.open_file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, 0o644)?;
    folder::write_all(file.as_fd(), content.as_bytes()).inspect_err(|_| drop(folder.remove(name)))
}
