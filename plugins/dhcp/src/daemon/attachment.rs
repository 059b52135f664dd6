//! One pod's interface and its leases.

use std::{
    cell::{Cell, RefCell},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use futures_util::future::{join, try_join};
use podwire_dhcp::{Client4, Client6, Error, Event, Lease4, Lease6, Moment, Options4, Options6, Place};
use podwire_net::Netns;
use podwire_spec::{AddResult, Dns, Ip, Route};
use tokio::task::AbortHandle;

use super::{
    book::{Book, Key, Record},
    family::{Family, Setup, Slot},
    link,
    registry::Settings,
};
use crate::config::Wanted;

/// After an error that is no loss of the pod, for how long to let it be.
const RETRY: Duration = Duration::from_secs(30);

/// What is held.
#[derive(Debug, Default)]
pub(super) struct Leases {
    pub(super) v4: RefCell<Slot<Lease4>>,
    pub(super) v6: RefCell<Slot<Lease6>>,
}

/// A pod's interface.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) key: Key,
    /// Where the namespace was when the pod was added.
    pub(super) netns: PathBuf,
    number: (u64, u64),
    /// The namespace itself: as long as it is held, a lease can be released even though the pod is gone. It is noticed
    /// soon that nothing is at `netns` any more, and then this is dropped and the kernel takes the namespace down.
    ns: Rc<Netns>,
    place: Place,
    wanted: Wanted,
    options4: Options4,
    options6: Options6,
    leases: Leases,
    keeper: RefCell<Option<AbortHandle>>,
    /// It was forgotten: whatever its keeper does meanwhile is not written down.
    over: Cell<bool>,
}

impl Attachment {
    /// The interface of the namespace that is at `netns` now; still without leases.
    ///
    /// # Errors
    /// Where no namespace is there.
    pub(super) fn new(key: Key, netns: &Path, wanted: Wanted, settings: &Settings) -> podwire_dhcp::Result<Self> {
        let ns = Netns::open(netns).map_err(|error| Error::Gone(error.to_string()))?;
        let options4 = Options4 {
            request: wanted.request.clone(),
            send: wanted.send.clone(),
            broadcast: settings.broadcast,
            timeouts: settings.timeouts,
            ..Options4::new(&wanted.client_id)
        };
        Ok(Self {
            // By way of the handle, so that it is found though its name is gone.
            place: Place::new(ns.path(), &key.ifname)?,
            number: ns.number()?,
            options6: Options6 { timeouts: settings.timeouts, ..Options6::new(&wanted.client_id, &key.ifname) },
            options4,
            key,
            netns: netns.to_owned(),
            ns: Rc::new(ns),
            wanted,
            leases: Leases::default(),
            keeper: RefCell::default(),
            over: Cell::default(),
        })
    }

    /// The same from a record, leases and all.
    ///
    /// # Errors
    /// Where the namespace or the link is gone, or another one has its place.
    pub(super) fn resume(record: Record, book: &Book, settings: &Settings) -> podwire_dhcp::Result<Self> {
        if record.boot != book.boot() {
            return Err(Error::Gone("the node was started anew since".to_owned()));
        }
        let one = Self::new(record.key, &record.netns, record.wanted, settings)?;
        if one.number != record.number {
            return Err(Error::Gone(format!("{}: it is another namespace by now", one.netns.display())));
        }
        one.place.link()?;
        one.leases.v4.replace(record.v4);
        one.leases.v6.replace(record.v6);
        Ok(one)
    }

    /// Gets the leases that are wanted: all or none.
    ///
    /// # Errors
    /// See [`Client4::acquire`].
    pub(super) async fn acquire(&self) -> podwire_dhcp::Result<()> {
        let v4 =
            async { if self.wanted.dhcp4 { Held::get(self.client4(), &self.ns).await.map(Some) } else { Ok(None) } };
        let v6 =
            async { if self.wanted.dhcp6 { Held::get(self.client6(), &self.ns).await.map(Some) } else { Ok(None) } };
        let (v4, v6) = try_join(v4, v6).await?;
        self.leases.v4.borrow_mut().lease = v4.map(Held::keep);
        self.leases.v6.borrow_mut().lease = v6.map(Held::keep);
        Ok(())
    }

    /// Sets the MTU of the link to the lease's.
    ///
    /// # Errors
    /// Where the link is gone.
    pub(super) fn set_mtu(&self) -> podwire_dhcp::Result<()> {
        let v4 = self.leases.v4.borrow().lease.as_ref().and_then(|lease| lease.mtu.map(u32::from));
        let v6 = self.leases.v6.borrow().lease.as_ref().and_then(|lease| lease.mtu);
        // One link: what fits both.
        link::set_mtu(&self.place, v4.into_iter().chain(v6).min())
    }

    /// Keeps the leases for as long as the pod is there.
    pub(super) async fn keep(&self, book: &Book) -> Error {
        let v4 = async { if self.wanted.dhcp4 { self.keep_one(self.client4(), book).await } else { Ok(()) } };
        let v6 = async { if self.wanted.dhcp6 { self.keep_one(self.client6(), book).await } else { Ok(()) } };
        match try_join(v4, v6).await {
            Err(gone) => gone,
            Ok(_) => Error::Unsuitable("nothing to keep".to_owned()),
        }
    }

    async fn keep_one<F: Family>(&self, client: F, book: &Book) -> podwire_dhcp::Result<()> {
        let slot = F::slot(&self.leases);
        let setup = |lease: &Option<F::Lease>| lease.as_ref().map(F::setup).unwrap_or_default();
        let mut last = None;
        loop {
            let Slot { lease: held, before } = slot.borrow().clone();
            if let Some(before) = before {
                self.change(&before, &setup(&held))?;
                slot.borrow_mut().before = None;
                self.note(book);
            }
            let outcome = match &held {
                Some(lease) => client.next(lease).await,
                None => client.acquire_at_last(last.as_ref()).await.map(Event::Renewed),
            };
            let now = match outcome {
                Ok(Event::Renewed(lease)) => Some(lease),
                Ok(Event::Lost(why)) => {
                    tracing::warn!("{}: lease lost: {why}; the address is removed, another one asked for", self.key);
                    None
                }
                Err(gone @ Error::Gone(_)) => return Err(gone),
                Err(error) => {
                    tracing::warn!("{}: {}; trying again in {} s", self.key, self.words(&error), RETRY.as_secs());
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            let (before, after) = (setup(&held), setup(&now));
            if let Some(lease) = &now {
                let verb = if held.is_some() { "renewed" } else { "given" };
                tracing::info!("{}: lease of {} {verb}{}", self.key, listed(&after), in_words(F::expires(lease)));
            }
            last = now.clone().or(held);
            slot.replace(Slot { lease: now, before: (before != after).then_some(before) });
            self.note(book);
        }
    }

    /// Makes the link follow a change, and says so.
    fn change(&self, before: &Setup, after: &Setup) -> podwire_dhcp::Result<()> {
        tracing::info!("{}: address was {}, is {}", self.key, listed(before), listed(after));
        let with_priority = |setup: &Setup| Setup { routes: self.routes(&setup.routes), ..setup.clone() };
        match link::follow(&self.place, &with_priority(before), &with_priority(after)) {
            Err(Error::Kernel(error)) => tracing::error!("{}: the link could not follow: {error}", self.key),
            other => other?,
        }
        Ok(())
    }

    /// Writes the leases down; a failure is told and no more, since they are good all the same.
    fn note(&self, book: &Book) {
        if !self.over.get()
            && let Err(error) = book.keep(&self.record(book))
        {
            tracing::error!("{}: after a restart this daemon would not know this lease: {error}", self.key);
        }
    }

    pub(super) fn record(&self, book: &Book) -> Record {
        Record {
            key: self.key.clone(),
            netns: self.netns.clone(),
            number: self.number,
            boot: book.boot().to_owned(),
            wanted: self.wanted.clone(),
            v4: self.leases.v4.borrow().clone(),
            v6: self.leases.v6.borrow().clone(),
        }
    }

    /// Ends the keeping, and gives the leases back to their servers.
    pub(super) async fn release(&self) {
        self.stop();
        let (v4, v6) = (self.leases.v4.take().lease, self.leases.v6.take().lease);
        join(self.give_back(self.client4(), v4), self.give_back(self.client6(), v6)).await;
    }

    async fn give_back<F: Family>(&self, client: F, lease: Option<F::Lease>) {
        let Some(lease) = lease else { return };
        let what = listed(&F::setup(&lease));
        match client.release(&lease).await {
            Ok(()) => tracing::info!("{}: lease of {what} released", self.key),
            Err(error) => {
                let until = in_words(F::expires(&lease));
                tracing::warn!("{}: lease of {what} cannot be released{until}: {}", self.key, self.words(&error));
            }
        }
    }

    /// Ends the keeping.
    fn stop(&self) {
        self.over.set(true);
        if let Some(keeper) = self.keeper.take() {
            keeper.abort();
        }
    }

    pub(super) fn kept_by(&self, keeper: AbortHandle) {
        self.keeper.replace(Some(keeper));
    }

    /// An error in words that name the namespace as the runtime does.
    pub(super) fn words(&self, error: &Error) -> String {
        error.to_string().replace(&*self.place.netns().to_string_lossy(), &self.netns.to_string_lossy())
    }

    /// Whether the pod's namespace is where it was.
    pub(super) fn is_at(&self, netns: &Path) -> bool {
        rustix::fs::stat(netns).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.number)
    }

    /// Whether the pod's link is there. Where that cannot be found out, it is.
    pub(super) fn has_link(&self) -> bool {
        !matches!(self.place.link(), Err(Error::Gone(_)))
    }

    /// Whether every lease that is wanted is held.
    pub(super) fn is_complete(&self) -> bool {
        (!self.wanted.dhcp4 || self.leases.v4.borrow().lease.is_some())
            && (!self.wanted.dhcp6 || self.leases.v6.borrow().lease.is_some())
    }

    /// What the plugin is told.
    pub(super) fn result(&self) -> AddResult {
        let mut result = AddResult::default();
        if let Some(lease) = &self.leases.v4.borrow().lease {
            result.ips.push(Ip { interface: None, address: lease.address, gateway: lease.gateway.map(Into::into) });
            result.routes.extend(self.routes(&lease.routes));
            result.dns = lease.dns.clone();
        }
        if let Some(lease) = &self.leases.v6.borrow().lease {
            let ip = |cidr| Ip { interface: None, address: cidr, gateway: lease.gateway.map(Into::into) };
            result.ips.extend(lease.addresses.iter().map(|address| ip(address.cidr)));
            result.routes.extend(self.routes(&lease.routes));
            merge(&mut result.dns, &lease.dns);
        }
        result
    }

    /// The routes with the metric that the configuration says.
    fn routes(&self, routes: &[Route]) -> Vec<Route> {
        let with = |route: &Route| Route { priority: route.priority.or(self.wanted.priority), ..route.clone() };
        routes.iter().map(with).collect()
    }

    fn client4(&self) -> Client4 {
        Client4::new(self.place.clone(), self.options4.clone())
    }

    fn client6(&self) -> Client6 {
        Client6::new(self.place.clone(), self.options6.clone())
    }
}

fn merge(dns: &mut Dns, more: &Dns) {
    let add = |all: &mut Vec<String>, more: &[String]| {
        let new: Vec<_> = more.iter().filter(|one| !all.contains(one)).cloned().collect();
        all.extend(new);
    };
    add(&mut dns.nameservers, &more.nameservers);
    add(&mut dns.search, &more.search);
    if dns.domain.is_empty() {
        dns.domain.clone_from(&more.domain);
    }
}

fn listed(setup: &Setup) -> String {
    let all: Vec<_> = setup.addresses.iter().map(ToString::to_string).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// When a lease ends, as the end of a sentence.
fn in_words(expires: Moment) -> String {
    match expires {
        Moment::NEVER => ", it never ends".to_owned(),
        expires => format!(", it ends in {} s", (expires - Moment::now()).as_secs()),
    }
}

/// A lease that nobody keeps yet. Where the work on it ends early, by an error or since the plugin was killed, it is given
/// back.
struct Held<F: Family> {
    client: F,
    lease: Option<F::Lease>,
    /// The client finds the link by it.
    ns: Rc<Netns>,
}

impl<F: Family> Held<F> {
    async fn get(client: F, ns: &Rc<Netns>) -> podwire_dhcp::Result<Self> {
        let lease = client.acquire().await?;
        Ok(Self { client, lease: Some(lease), ns: Rc::clone(ns) })
    }

    fn keep(mut self) -> F::Lease {
        self.lease.take().unwrap_or_else(|| unreachable!("only this and drop take it"))
    }
}

impl<F: Family> Drop for Held<F> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            let (client, ns) = (self.client.clone(), Rc::clone(&self.ns));
            tokio::task::spawn_local(async move {
                let what = listed(&F::setup(&lease));
                match client.release(&lease).await {
                    Ok(()) => tracing::info!("lease of {what} released, since its ADD did not end well"),
                    Err(error) => tracing::warn!("lease of {what}, which nobody wants, cannot be released: {error}"),
                }
                drop(ns);
            });
        }
    }
}
