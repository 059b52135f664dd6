//! Which boot of which machine a lease is of.
//!
//! No network namespace outlives a boot, so that nobody can have an address any more that was leased in an earlier one.
//! Clocks do not decide which that is: many a machine boots with a wrong one. The hint beside the leases says it, for each
//! attachment, in the kernel's own word for the boot. A lease that somebody else wrote counts as of the boot in which it
//! was first seen.

use std::{fmt, path::Path};

use rustix::{
    fs::{CWD, Mode, OFlags},
    io::Errno,
};
use std::os::fd::AsFd;

use crate::{folder, lease};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// machine-id(5). Where the unit tests run there may be none.
const MACHINE_ID: &str = if cfg!(test) { BOOT_ID } else { "/etc/machine-id" };

/// Hashes of both ids: the machine's is not to be shown around, and short texts keep a link inside its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    boot: u32,
    machine: u32,
}

/// How the boot that a lease is of relates to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// This boot, or nobody knows.
    Current,
    /// Another boot of this machine, which can only be an earlier one.
    EarlierBoot,
    /// A boot of another machine that shares the folder.
    AnotherMachine,
}

impl Origin {
    /// This boot of this machine; `None` where either cannot be told.
    pub(crate) fn here() -> Option<Self> {
        Some(Self { boot: hash_of(BOOT_ID)?, machine: hash_of(MACHINE_ID)? })
    }

    /// Reads what [`fmt::Display`] wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (boot, machine) = text.split_once('-')?;
        let number = |text| u32::from_str_radix(text, 16).ok();
        Some(Self { boot: number(boot)?, machine: number(machine)? })
    }

    /// How old what bears this is for somebody at `here`.
    pub(crate) fn age(self, here: Self) -> Age {
        match (self.machine == here.machine, self.boot == here.boot) {
            (false, _) => Age::AnotherMachine,
            (true, false) => Age::EarlierBoot,
            (true, true) => Age::Current,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:08x}", self.boot, self.machine)
    }
}

fn hash_of(path: &str) -> Option<u32> {
    let read = || -> Result<Vec<u8>, Errno> {
        let open = || rustix::fs::openat(CWD, Path::new(path), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let file = rustix::io::retry_on_intr(open)?;
        folder::read_all(file.as_fd())
    };
    let text = read().ok()?;
    let text = text.trim_ascii();
    // An image that was not booted yet has no id of its own; machine-id(5) has this word for it.
    let is_id = !text.is_empty() && text != b"uninitialized";
    u32::try_from(lease::hash(text) & 0xffff_ffff).ok().filter(|_| is_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_as_it_is_written() {
        let here = Origin { boot: 0x1a, machine: 0xffff_fffe };
        assert_eq!(here.to_string(), "0000001a-fffffffe");
        assert_eq!(Origin::parse("0000001a-fffffffe"), Some(here));
        for not in ["", "-", "1a", "1a-", "-1a", "x-1", "100000000-1", "1-2-3"] {
            assert_eq!(Origin::parse(not), None, "{not:?}");
        }
    }

    #[test]
    fn only_another_boot_of_the_same_machine_is_an_earlier_one() {
        let here = Origin { boot: 1, machine: 1 };
        assert_eq!(here.age(here), Age::Current);
        assert_eq!(Origin { boot: 2, machine: 1 }.age(here), Age::EarlierBoot);
        assert_eq!(Origin { boot: 1, machine: 2 }.age(here), Age::AnotherMachine);
        assert_eq!(Origin { boot: 2, machine: 2 }.age(here), Age::AnotherMachine);
    }

    #[test]
    #[cfg_attr(miri, ignore = "the interpreter cannot open files the way rustix does")]
    fn this_boot_is_the_same_each_time() {
        assert_eq!(Origin::here(), Origin::here());
        assert_eq!(hash_of("/nowhere"), None);
    }
}
