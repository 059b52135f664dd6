//! Links that are there already and that a pod gets for as long as it lives: lent, and given back as they were.
//!
//! What a link was like is written on the loopback of the namespace that lends it, as altnames: there it outlives the
//! pod, `ip link show lo` tells it, and nobody in the pod can rewrite it. One line says whose the link is now, one what
//! it was like, and one each of its addresses; the link's name, which no colon can be in, is the key:
//!
//! ```text
//! podwire-lent:eth1:owner,NETWORK:CONTAINERID:IFNAME
//! podwire-lent:eth1:link,KIND,PERMANENT,MAC,MTU,up
//! podwire-lent:eth1:address,192.0.2.1/24
//! ```

use std::{collections::HashSet, str::FromStr};

use anyhow::Context as _;
use podwire_net::{Errno, Link, LinkChange, Net};
use podwire_spec::{Cidr, Mac, code, interface_name};

use crate::{Context, Error, Label, Result, join};

const PREFIX: &str = "podwire-lent:";
const LOOPBACK: &str = "lo";
/// The fact that is noted first and forgotten last.
const OWNER: &str = "owner";

/// A link that is lent, and what it was like.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Loan {
    name: String,
    owner: String,
    /// Its type; empty for hardware.
    kind: String,
    permanent: Option<Mac>,
    mac: Option<Mac>,
    mtu: u32,
    up: bool,
    addresses: Vec<Cidr>,
}

impl Loan {
    /// The altnames that tell it.
    fn notes(&self) -> Vec<String> {
        let Self { name, owner, kind, mtu, .. } = self;
        let [permanent, mac] =
            [self.permanent, self.mac].map(|mac| mac.map_or_else(String::new, |mac| mac.to_string()));
        let state = if self.up { "up" } else { "down" };
        let mut notes = vec![
            format!("{PREFIX}{name}:{OWNER},{owner}"),
            format!("{PREFIX}{name}:link,{kind},{permanent},{mac},{mtu},{state}"),
        ];
        notes.extend(self.addresses.iter().map(|address| format!("{PREFIX}{name}:address,{address}")));
        notes
    }

    /// The loans that the altnames of a loopback tell. One that misses a line, since the call that wrote it was killed
    /// half-way, had not been carried out.
    fn all(altnames: &[String]) -> Vec<Self> {
        let notes: Vec<_> = altnames.iter().filter_map(|altname| split(altname)).collect();
        let of = |name: &str, fact: &str| -> Vec<&str> {
            notes.iter().filter(|note| note.0 == name && note.1 == fact).map(|note| note.2).collect()
        };
        let names = notes.iter().filter(|note| note.1 == OWNER).map(|note| note.0);
        names.filter_map(|name| Self::read(name, of(name, OWNER)[0], &of(name, "link"), &of(name, "address"))).collect()
    }

    fn read(name: &str, owner: &str, link: &[&str], addresses: &[&str]) -> Option<Self> {
        let mut fields = link.first()?.split(',');
        let mut next = || fields.next();
        let (kind, permanent, mac, mtu, state) = (next()?, next()?, next()?, next()?, next()?);
        Some(Self {
            name: interface_name(name).then(|| name.to_owned())?,
            owner: owner.to_owned(),
            kind: kind.to_owned(),
            permanent: Mac::from_str(permanent).ok(),
            mac: Mac::from_str(mac).ok(),
            mtu: mtu.parse().ok()?,
            up: state == "up",
            addresses: addresses.iter().filter_map(|address| address.parse().ok()).collect(),
        })
    }

    /// Whether `link` is the one that was lent, whatever it is called now: hardware by the address that is burnt in,
    /// which nobody can change, anything else by name or address.
    fn is(&self, link: &Link) -> bool {
        let same = if self.permanent.is_some() {
            link.permanent_mac == self.permanent
        } else {
            link.name == self.name || (self.mac.is_some() && link.mac == self.mac)
        };
        link.kind == self.kind && same
    }

    /// The link among `links`: the one with its name, if there are several.
    fn find(&self, links: Vec<Link>) -> Option<Link> {
        let mut found: Vec<_> = links.into_iter().filter(|link| self.is(link)).collect();
        found.sort_by_key(|link| link.name != self.name);
        found.into_iter().next()
    }
}

/// Link, fact and value of a note.
fn split(altname: &str) -> Option<(&str, &str, &str)> {
    let (name, note) = altname.strip_prefix(PREFIX)?.split_once(':')?;
    let (fact, value) = note.split_once(',')?;
    Some((name, fact, value))
}

impl<C> Context<C> {
    /// Takes a link for the pod and returns it as it is there, down: moved to it from the node, or, `in_pod`, left where
    /// it is. A failure of the call gives it back.
    ///
    /// # Errors
    /// EEXIST where the pod has a link of that name; else of the kernel.
    pub async fn lend(&mut self, link: &Link, in_pod: bool) -> Result<Link> {
        self.announce_flight(&self.label.borrower()).await?;
        let home = self.net(in_pod)?;
        let _lock = home.ns().lock().await?;
        let loopback = loopback(home)?;
        let link = &self.as_it_was(home, &loopback, link, in_pod)?;
        let addresses = home.addresses(link.index).with_context(|| format!("link {:?}: lend", link.name))?;
        let addresses = addresses.into_iter().filter(|address| !address.automatic);
        let loan = Loan {
            name: link.name.clone(),
            owner: self.label.borrower(),
            kind: link.kind.clone(),
            permanent: link.permanent_mac,
            mac: link.mac,
            mtu: link.mtu,
            up: link.up,
            addresses: addresses.map(|address| address.cidr).collect(),
        };
        let name = loan.name.clone();
        self.undo_by(format!("give back link {name:?}"), async move |cx| cx.give_back_one(&name, in_pod).await);
        let home = self.net(in_pod)?;
        for note in loan.notes() {
            home.add_altname(loopback.index, &note)?;
        }
        if in_pod {
            home.change_link(link.index, &LinkChange { up: Some(false), ..LinkChange::default() })?;
            return Ok(link.clone());
        }
        match home.move_link(link, self.pod_ns()?, &link.name) {
            Err(error) if error.is(Errno::EEXIST) => {
                Err(Error::new(code::EXISTS, format!("link {:?}: the pod has one of that name already", link.name))
                    .with_details(error.to_string())
                    .into())
            }
            Err(error) => Err(error.into()),
            Ok(()) => {
                let moved = self.pod()?.link(&link.name)?;
                moved.ok_or_else(|| Error::new(code::KERNEL, format!("link {:?}: lost on its way", link.name)).into())
            }
        }
    }

    /// A link that is here, and so is not lent whatever its notes say. If there are any, the call that was to bring it
    /// home or to take it was killed, or the kernel has returned it: it becomes what it was before it is lent again.
    fn as_it_was(&self, home: &Net, notes: &Link, link: &Link, in_pod: bool) -> Result<Link> {
        if !notes.altnames.iter().filter_map(|altname| split(altname)).any(|note| note.0 == link.name) {
            return Ok(link.clone());
        }
        if let Some(loan) = Loan::all(&notes.altnames).iter().find(|loan| loan.name == link.name && loan.is(link)) {
            self.take_home(home, notes, loan, in_pod)?;
        }
        forget(home, &loopback(home)?, &link.name)?;
        let gone = || Error::new(code::KERNEL, format!("link {:?}: lost while it was put in order", link.name));
        Ok(home.link(&link.name)?.ok_or_else(gone)?)
    }

    /// Who has a link of the node that is lent; a container and its interface.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn borrower_of(&self, name: &str) -> Result<Option<String>> {
        let loans = Loan::all(&loopback(&self.host)?.altnames);
        Ok(loans.into_iter().find(|loan| loan.name == name).map(|loan| loan.owner))
    }

    /// DEL: gives back every link that was lent to this attachment, the last first. What the pod had of them must be gone
    /// by then.
    ///
    /// # Errors
    /// Of the kernel; all are attempted.
    pub async fn give_back(&self) -> Result<()> {
        let owner = self.label.borrower();
        let mut errors = self.give_back_from(true, |loan| loan.owner == owner).await;
        errors.extend(self.give_back_from(false, |loan| loan.owner == owner).await);
        join(errors)
    }

    /// GC: gives back to the node what was lent to attachments of this network that are not `valid`, and what the kernel
    /// has returned since, with their namespaces.
    ///
    /// # Errors
    /// Of the kernel; all are attempted.
    pub async fn give_back_dead(&self, valid: &HashSet<Label>) -> Result<()> {
        let valid: HashSet<_> = valid.iter().map(Label::borrower).collect();
        let network = self.label.borrower();
        let network = network.split(':').next();
        let is_in_flight = |loan: &Loan| self.waits.in_flight().has(&self.conf.name, &loan.owner);
        let is_dead = |loan: &Loan| {
            loan.owner.split(':').next() == network && !valid.contains(&loan.owner) && !is_in_flight(loan)
        };
        join(self.give_back_from(false, is_dead).await)
    }

    /// Gives back one link, as it was before this call.
    pub(crate) async fn give_back_one(&self, name: &str, in_pod: bool) -> Result<()> {
        let owner = self.label.borrower();
        join(self.give_back_from(in_pod, |loan| loan.name == name && loan.owner == owner).await)
    }

    async fn give_back_from(&self, in_pod: bool, is_meant: impl Fn(&Loan) -> bool) -> Vec<anyhow::Error> {
        let attempt = async {
            let home = if in_pod { self.pod_if_any()? } else { Some(&self.host) };
            let Some(home) = home else { return Ok(vec![]) };
            let _lock = home.ns().lock().await?;
            let loopback = loopback(home)?;
            let mut errors = Vec::new();
            for loan in Loan::all(&loopback.altnames).iter().filter(|loan| is_meant(loan)).rev() {
                self.turn().await;
                let returned = self.take_home(home, &loopback, loan, in_pod);
                errors.extend(returned.with_context(|| format!("give back link {:?}", loan.name)).err());
            }
            // Half a note is of a call that was killed before it changed anything.
            let whole = Loan::all(&loopback.altnames);
            for (name, _, owner) in loopback.altnames.iter().filter_map(|altname| split(altname)) {
                if owner == self.label.borrower() && whole.iter().all(|loan| loan.name != name) {
                    forget(home, &loopback, name)?;
                }
            }
            Ok(errors)
        };
        attempt.await.unwrap_or_else(|error: anyhow::Error| vec![error])
    }

    /// Brings a link home, makes it what it was, and forgets that it was away.
    fn take_home(&self, home: &Net, loopback: &Link, loan: &Loan, in_pod: bool) -> Result<()> {
        // A call that was killed before it moved the link has left it here.
        let is_here = |link: &Link| loan.is(link) && link.name == loan.name && link.mac == loan.mac;
        if !in_pod
            && !home.links()?.iter().any(is_here)
            && let Some(pod) = self.pod_if_any()?
            && let Some(link) = loan.find(pod.links()?)
        {
            let alone = LinkChange { up: Some(false), master: link.master.map(|_| 0), ..LinkChange::default() };
            pod.change_link(link.index, &alone)?;
            pod.move_link(&link, home.ns(), &loan.name)?;
        }
        let Some(mut link) = loan.find(home.links()?) else {
            let hardware = loan.kind.is_empty();
            let known: Vec<_> = loan.addresses.iter().map(ToString::to_string).collect();
            tracing::warn!("link {:?} with {known:?}: neither in the pod nor on the node", loan.name);
            // What software made has ended with the pod; hardware comes back when the last who uses its namespace ends.
            return if hardware { Ok(()) } else { forget(home, loopback, &loan.name) };
        };
        let change = LinkChange {
            up: Some(false),
            master: link.master.map(|_| 0),
            name: (link.name != loan.name).then_some(loan.name.as_str()),
            ..LinkChange::default()
        };
        // A name and some drivers' addresses can be changed only while the link is down.
        if change.name.is_some() || change.master.is_some() || link.mac != loan.mac {
            home.change_link(link.index, &change)?;
            // What it leaves, a bond for one, may give it another address or MTU.
            link = home.link_at(link.index)?.unwrap_or(link);
        }
        // A pod can write on a link, and so call it anybody's. On the node labels are believed.
        let is_label = |name: &str| !in_pod && Label::parse(name).is_some();
        for altname in link.altnames.iter().filter(|name| is_label(name)) {
            home.delete_altname(link.index, altname)?;
        }
        let state = LinkChange {
            alias: is_label(&link.alias).then_some(""),
            mac: loan.mac.filter(|mac| link.mac != Some(*mac)),
            mtu: Some(loan.mtu).filter(|mtu| link.mtu != *mtu),
            up: Some(loan.up),
            ..LinkChange::default()
        };
        home.change_link(link.index, &state)?;
        for address in &loan.addresses {
            match home.add_address(link.index, *address, false) {
                Err(error) if !error.is(Errno::EEXIST) => return Err(error.into()),
                _ => {}
            }
        }
        forget(home, loopback, &loan.name)
    }
}

/// Whether `link` is noted among `links` as one that is lent, or is hardware, which nobody of podwire's ever makes.
pub(crate) fn is_lent(link: &Link, links: &[Link]) -> bool {
    let notes = links.iter().filter(|link| link.name == LOOPBACK).flat_map(|loopback| Loan::all(&loopback.altnames));
    link.kind.is_empty() || notes.into_iter().any(|loan| loan.is(link))
}

fn loopback(net: &Net) -> Result<Link> {
    let link = net.link(LOOPBACK)?;
    link.ok_or_else(|| Error::new(code::KERNEL, format!("link {LOOPBACK:?}: not there to keep notes on")).into())
}

/// Removes the notes about one link: whose it is the last, for by that whoever goes on after a kill finds the others.
fn forget(home: &Net, loopback: &Link, name: &str) -> Result<()> {
    let notes = || loopback.altnames.iter().filter_map(|altname| Some((altname, split(altname)?)));
    for is_last in [false, true] {
        for (altname, _) in notes().filter(|(_, note)| note.0 == name && (note.1 == OWNER) == is_last) {
            home.delete_altname(loopback.index, altname)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loan() -> Loan {
        Loan {
            name: "eth1,x".to_owned(),
            owner: Label::new("net", "0a1b", "bond0").borrower(),
            kind: "veth".to_owned(),
            permanent: None,
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            mtu: 9000,
            up: true,
            addresses: vec!["192.0.2.1/24".parse().unwrap(), "2001:db8::1/64".parse().unwrap()],
        }
    }

    #[test]
    fn a_loan_is_read_back_among_others() {
        let other = Loan { name: "eth2".to_owned(), mac: None, up: false, addresses: vec![], ..loan() };
        let mut notes = loan().notes();
        notes.extend(other.notes());
        notes.push("podwire:net:0a1b:bond0".to_owned());
        assert_eq!(Loan::all(&notes), [loan(), other]);
        assert!(notes.iter().all(|note| Label::parse(note).is_none() || !note.starts_with(PREFIX)));
    }

    #[test]
    fn the_longest_notes_fit_an_altname() {
        let label = Label::new(&"n".repeat(255), &"c".repeat(300), "123456789012345");
        let address = "2001:db8:1111:2222:3333:4444:5555:6666/128".parse().unwrap();
        let name = "123456789012345".to_owned();
        let long = Loan { name, owner: label.borrower(), permanent: loan().mac, addresses: vec![address], ..loan() };
        assert!(long.notes().iter().all(|note| note.len() <= 127), "{:?}", long.notes());
        assert_eq!(Loan::all(&long.notes()), [long]);
    }

    #[test]
    fn half_a_note_is_none() {
        for kept in [0..1, 1..2, 2..4] {
            assert_eq!(Loan::all(&loan().notes()[kept.clone()]), [], "{kept:?}");
        }
    }

    #[test]
    fn hardware_is_known_by_what_is_burnt_in() {
        let burnt = Some(Mac([0, 1, 2, 3, 4, 5]));
        let hardware = Loan { kind: String::new(), permanent: burnt, ..loan() };
        let mut renamed = Link::known(7, "dev7", None);
        renamed.permanent_mac = burnt;
        let impostor = Link::known(8, &hardware.name, hardware.mac);
        assert!(hardware.is(&renamed) && !hardware.is(&impostor));
        assert_eq!(hardware.find(vec![impostor.clone(), renamed.clone()]), Some(renamed));
        assert!(!loan().is(&impostor), "of another type");
        let mut veth = impostor;
        veth.kind = "veth".to_owned();
        let mut renamed = veth.clone();
        "x".clone_into(&mut renamed.name);
        assert_eq!(loan().find(vec![renamed, veth.clone()]), Some(veth));
    }
}
