//! nftables over netlink.
//!
//! Everything is in tables of our own named [`TABLE`], so that no other program's rules are touched. What belongs to a
//! pod is an element of a set or map, with the attachment's label as its comment: a packet costs one look-up however
//! many pods there are, an ADD is one transaction, and `nft list ruleset` says whose an element is.
//!
//! The skeleton (table, base chain, sets) is made by the first ADD that finds it missing and stays, since the kernel
//! takes some 16 ms to register a base chain; [`collect_skeletons`] removes it when nothing is in it any more.

mod answer;
mod build;
pub mod masquerade;
pub mod spoof;
mod transaction;

use netlink_packet_netfilter::{NetfilterProtoFamily as Family, nftables::DataAttribute};
use nix::errno::Errno;

use crate::{Netns, Result};
pub(crate) use answer::Answer;
use build::Op;
pub use transaction::Nft;
use transaction::{Element, Transaction};

/// The name of every table of ours.
pub const TABLE: &str = "podwire";

/// How often a transaction is tried again when another process changed the same objects.
const ATTEMPTS: u32 = 32;

/// Adds elements, and first what `missing` says is missing of the skeleton. To look costs microseconds; a transaction
/// that fails, and one that takes anything away, costs the kernel a grace period of RCU, some 10 ms.
///
/// Returns whether the table is new.
async fn add_elements(
    nft: &Nft,
    missing: impl Fn() -> Result<Vec<Op>>,
    family: Family,
    elements: &[(String, Element)],
) -> Result<bool> {
    let adds: Vec<Op> = elements.iter().map(|(set, element)| Op::add_element(set, element)).collect();
    let (mut before, mut lock) = (missing()?, None);
    for attempt in 1.. {
        let error = match Transaction::new(family, before.iter().chain(&adds)).commit(nft) {
            Ok(()) => return Ok(before.iter().any(Op::is_table)),
            Err(error) => error,
        };
        before = match error.errno {
            _ if attempt == ATTEMPTS => return Err(error),
            // Another process made or removed the same chains a moment ago; or an element has our key. The address
            // plugin says that the address is ours: whoever has its element is gone without a DEL.
            Some(Errno::ENOENT | Errno::EEXIST | Errno::EBUSY) => {
                if lock.is_none() {
                    lock = Some(Netns::of_process()?.lock_rules().await?);
                }
                let mut ops = missing()?;
                ops.extend(stale(nft, family, elements)?);
                ops
            }
            // The generation changed under us.
            Some(Errno::EAGAIN | Errno::EINTR) => before,
            _ => return Err(error),
        };
    }
    unreachable!("the last attempt returns")
}

/// Operations that delete the elements that have the keys of `elements`.
fn stale(nft: &Nft, family: Family, elements: &[(String, Element)]) -> Result<Vec<Op>> {
    let mut ops = Vec::new();
    for (set, element) in elements {
        let present = nft.elements(family, set)?;
        ops.extend(present.iter().filter(|old| old.key == element.key).map(|old| Op::delete_element(set, old)));
    }
    Ok(ops)
}

/// Removes the elements whose comment `is_doomed`, from all `sets`; `after` adds operations, given what goes and what
/// is left, until one of them turns out to be in use.
///
/// The kernel deletes an element by its key alone. So that it is still the one that was found, and not that of a pod that
/// got the address meanwhile, whoever deletes one holds a lock from the look on; who finds nothing goes without it.
async fn remove_elements(
    nft: &Nft,
    family: Family,
    sets: &[&str],
    is_doomed: impl Fn(&str) -> bool,
    after: impl Fn(&[Element], &[Element]) -> Vec<Op>,
) -> Result<usize> {
    let (mut in_use, mut lock) = (false, None);
    for _ in 0..ATTEMPTS {
        let (mut doomed, mut ops, mut rest, mut seen_at) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for set in sets {
            let (elements, generation) = nft.elements_and_generation(family, set)?;
            seen_at.push(generation);
            for element in elements {
                if is_doomed(&element.comment) {
                    ops.push(Op::delete_element(set, &element));
                    doomed.push(element);
                } else {
                    rest.push(element);
                }
            }
        }
        if doomed.is_empty() {
            return Ok(0);
        }
        if lock.is_none() {
            lock = Some(Netns::of_process()?.lock_rules().await?);
            let now = nft.generation()?;
            if now.is_none() || seen_at.iter().flatten().any(|seen| now.map(low) != Some(*seen)) {
                continue;
            }
        }
        if !in_use {
            ops.extend(after(&doomed, &rest));
        }
        match Transaction::new(family, ops.iter()).commit(nft) {
            Ok(()) => return Ok(doomed.len()),
            Err(error) => match error.errno {
                // Another process uses, or has just removed, what this one wanted to remove: look again.
                Some(Errno::EBUSY) => in_use = true,
                Some(Errno::ENOENT | Errno::EAGAIN | Errno::EINTR) => {}
                _ => return Err(error),
            },
        }
    }
    Err(crate::Error::new(format!("table {TABLE:?}"), "remove elements of", Errno::EAGAIN))
}

/// As much of the number of a generation as the header of an answer has.
const fn low(generation: u32) -> u16 {
    (generation & 0xffff) as u16
}

/// Whether the kernel has nftables, and we may program it.
///
/// # Errors
/// EPROTONOSUPPORT or EOPNOTSUPP where it has not, EPERM without `CAP_NET_ADMIN`.
pub fn is_available(nft: &Nft) -> Result<()> {
    nft.generation().map(drop)
}

/// Removes the tables of ours that hold no element of anybody's any more.
///
/// # Errors
/// Of the requests.
pub fn collect_skeletons(nft: &Nft) -> Result<()> {
    for (family, sets) in [(Family::Inet, masquerade::SETS), (Family::Bridge, spoof::SETS)] {
        nft.delete_table_if_empty(family, &sets)?;
    }
    Ok(())
}

/// A literal as nftables wants it.
fn value(bytes: &[u8]) -> DataAttribute {
    DataAttribute::Value(bytes.to_vec())
}
