//! The devices that sit on a parent already. Most are in pods, where the node cannot see them by just listing its links;
//! but it can list those of every namespace that has a number on the node (see `podwire_net::Net::give_number`): those
//! of podwire's pods have one, and so has every pod that is joined to the node by a veth.

use std::fmt;

use podwire_net::Link;

use crate::{Context, Parent, Result};

/// A device on a parent.
#[derive(Clone, Debug)]
pub struct Sibling {
    /// The device.
    pub link: Link,
    /// The number of its namespace; none for that of the parent.
    pub ns: Option<i32>,
}

impl<C> Context<C> {
    /// The devices of one type on a parent, as far as they can be seen from there.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn siblings(&self, parent: &Parent, kind: &str) -> Result<Vec<Sibling>> {
        let net = self.net(parent.in_pod)?;
        let is_on_it = |link: &Link| link.kind == kind && link.peer == Some(parent.link.index);
        let here = net.links()?.into_iter().filter(|link| is_on_it(link) && link.peer_ns.is_none());
        let mut found: Vec<_> = here.map(|link| Sibling { link, ns: None }).collect();
        if parent.in_pod {
            return Ok(found);
        }
        for number in net.numbers()? {
            let there = net.links_in(number, kind)?.into_iter();
            found.extend(there.filter(is_on_it).map(|link| Sibling { link, ns: Some(number) }));
        }
        if found.iter().any(|sibling| sibling.ns.is_some()) {
            // Links of other namespaces tell by its number where their parent is; while they were listed, the kernel
            // has given the node's own namespace one, if it had none.
            let own = net.number_of(net.ns())?;
            // One that tells none is on a link of its own namespace, whose index only happens to be the same.
            found.retain(|sibling| sibling.ns.is_none() || own.is_some_and(|own| sibling.link.peer_ns == Some(own)));
        }
        Ok(found)
    }
}

impl fmt::Display for Sibling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Link { kind, name, alias, .. } = &self.link;
        write!(f, "{kind} {name:?}")?;
        if let Some(number) = self.ns {
            write!(f, " in network namespace number {number}")?;
        }
        if alias.is_empty() { Ok(()) } else { write!(f, " ({alias:?})") }
    }
}
