//! Every attachment, and what the plugin asks about them.

use std::{cell::RefCell, collections::BTreeMap, path::PathBuf, rc::Rc, sync::Arc};

use futures_util::future::join_all;
use podwire_dhcp::Timeouts;
use podwire_spec::{Error, NetConf, Result, code};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    attachment::Attachment,
    book::{Book, Key},
    watch::Watch,
};
use crate::{
    config::{DhcpConfig, client_id},
    messages::{CmdArgs, Method, from_result},
    rpc::server::Answer,
};

/// How many leases are released at the same time: each has a socket for that moment.
const RELEASES: usize = 64;

/// How the daemon was started.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Put before the paths of namespaces.
    pub(super) host_prefix: String,
    pub(super) broadcast: bool,
    pub(super) timeouts: Timeouts,
}

/// Every attachment.
#[derive(Debug)]
pub(super) struct Registry {
    settings: Settings,
    book: Book,
    watch: Watch,
    all: RefCell<BTreeMap<Key, Rc<Attachment>>>,
    /// Those that a call is about: there is one at a time for each.
    busy: RefCell<BTreeMap<Key, Arc<Mutex<()>>>>,
}

impl Registry {
    pub(super) fn new(settings: Settings, book: Book, watch: Watch) -> Self {
        Self { settings, book, watch, all: RefCell::default(), busy: RefCell::default() }
    }

    /// Answers a call.
    pub(super) async fn answer(self: &Rc<Self>, method: Method, args: CmdArgs) -> Answer {
        match method {
            Method::Allocate => self.allocate(&args).await.map(Some),
            Method::Check => self.check(&args).await.map(Some),
            Method::Release => self.release(&args).await.map(|()| None),
            Method::Collect => self.collect(&args).await.map(|()| None),
            Method::Status => self.book.check_writable().map(|()| None),
        }
    }

    /// Takes up the leases that an earlier daemon left.
    ///
    /// # Errors
    /// Code 5 where they cannot be read.
    pub(super) fn resume(self: &Rc<Self>) -> Result<()> {
        for record in self.book.records()? {
            let key = record.key.clone();
            match Attachment::resume(record, &self.book, &self.settings) {
                Ok(one) => {
                    tracing::info!("{key}: lease taken up again");
                    self.keep(Rc::new(one));
                }
                Err(error @ podwire_dhcp::Error::Gone(_)) => {
                    tracing::warn!("{key}: the pod is gone and its lease forgotten, it ends by itself: {error}");
                    self.book.forget(&key)?;
                }
                // It may be there: the file stays for the next daemon.
                Err(error) => tracing::error!("{key}: lease not taken up: {error}"),
            }
        }
        Ok(())
    }

    /// ADD: a lease, or the one that is there: the reference's plugin asks again for CHECK.
    async fn allocate(self: &Rc<Self>, args: &CmdArgs) -> Result<crate::gob::Value> {
        let (key, conf) = configured(args)?;
        let wanted = conf.plugin.wanted(client_id(&key.container_id, &key.network, &key.ifname), &args.args)?;
        if !args.netns.starts_with('/') {
            return Err(Error::environment(format!(
                "CNI_NETNS {:?}: must be an absolute path for the daemon",
                args.netns
            )));
        }
        let netns = PathBuf::from(format!("{}{}", self.settings.host_prefix, args.netns));
        let _mine = self.lock(&key).await;
        if let Some(one) = self.find(&key) {
            if one.is_at(&netns) && one.has_link() {
                return held(&one);
            }
            // The same container in another namespace: the earlier one is gone.
            self.end(&one).await?;
        }
        let one = Attachment::new(key, &netns, wanted, &self.settings);
        let one = Rc::new(one.map_err(|error| failed(&error, &error.to_string()))?);
        tracing::info!("{}: asking for a lease", one.key);
        one.acquire().await.map_err(|error| failed(&error, &one.words(&error)))?;
        // From here on it is known, whatever becomes of this call: DEL finds it.
        self.keep(Rc::clone(&one));
        let kept = self.book.keep(&one.record(&self.book));
        let outcome = match kept {
            Ok(()) => one.set_mtu().map_err(|error| failed(&error, &one.words(&error))),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            self.end(&one).await?;
            return Err(error);
        }
        let result = one.result();
        let given: Vec<_> = result.ips.iter().map(|ip| ip.address.to_string()).collect();
        tracing::info!("{}: lease of {}", one.key, given.join(", "));
        Ok(from_result(&result))
    }

    /// CHECK: the lease that is there.
    async fn check(&self, args: &CmdArgs) -> Result<crate::gob::Value> {
        let key = key(args)?;
        let _mine = self.lock(&key).await;
        let object = || format!("lease of {key}");
        let one = self.find(&key).ok_or_else(|| Error::differs(object(), "one", "none"))?;
        let netns = PathBuf::from(format!("{}{}", self.settings.host_prefix, args.netns));
        if !one.is_at(&netns) {
            return Err(Error::differs(object(), format!("one for the namespace at {:?}", args.netns), "another's"));
        }
        held(&one)
    }

    /// DEL: success also where nothing is known.
    ///
    /// It is done to its end though whoever asked be gone: half of it would leave an attachment that has no lease.
    async fn release(self: &Rc<Self>, args: &CmdArgs) -> Result<()> {
        let (registry, key) = (Rc::clone(self), key(args)?);
        let work = async move {
            let _mine = registry.lock(&key).await;
            match registry.find(&key) {
                Some(one) => registry.end(&one).await,
                None => registry.book.forget(&key),
            }
        };
        let done = tokio::task::spawn_local(work).await;
        done.unwrap_or_else(|error| Err(Error::new(code::BUG, format!("release: {error}"))))
    }

    /// GC: ends what is of this network and not in its list of valid attachments.
    async fn collect(&self, args: &CmdArgs) -> Result<()> {
        let conf = parse(args)?;
        let valid = conf
            .valid
            .as_deref()
            .ok_or_else(|| Error::invalid("cni.dev/valid-attachments", "missing; nothing was removed"))?;
        let valid: std::collections::HashSet<_> = valid.iter().map(|one| (&*one.container_id, &*one.ifname)).collect();
        let is_dead = |key: &Key| key.network == conf.name && !valid.contains(&(&*key.container_id, &*key.ifname));
        let dead: Vec<Key> = self.all.borrow().keys().filter(|key| is_dead(key)).cloned().collect();
        let mut errors = Vec::new();
        for some in dead.chunks(RELEASES) {
            let ends = some.iter().map(async |key| {
                let _mine = self.lock(key).await;
                match self.find(key) {
                    Some(one) => self.end(&one).await,
                    None => Ok(()),
                }
            });
            errors.extend(join_all(ends).await.into_iter().filter_map(Result::err));
        }
        match errors.len() {
            0 => Ok(()),
            count => {
                Err(Error { msg: format!("{count} leases: the first: {}", errors[0].msg), ..errors.swap_remove(0) })
            }
        }
    }

    /// Looks which pods are gone, of those whose namespace has one of these names, or of all: their leases are released.
    pub(super) async fn look(&self, names: Option<&[std::ffi::OsString]>) {
        let is_named =
            |one: &Attachment| names.is_none_or(|names| names.iter().any(|name| one.netns.file_name() == Some(name)));
        let all: Vec<_> = self.all.borrow().values().filter(|one| is_named(one)).cloned().collect();
        for one in all {
            let netns = one.netns.clone();
            if one.is_at(&netns) && one.has_link() {
                continue;
            }
            let _mine = self.lock(&one.key).await;
            // Meanwhile it may have been deleted, or have become another one.
            if self.find(&one.key).is_some_and(|now| Rc::ptr_eq(&now, &one)) {
                tracing::warn!("{}: the pod is gone, and nobody has said so", one.key);
                if let Err(error) = self.end(&one).await {
                    tracing::error!("{}: {error}", one.key);
                }
            }
        }
    }

    /// Where to hear of namespaces that go.
    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Starts to keep an attachment's leases.
    fn keep(self: &Rc<Self>, one: Rc<Attachment>) {
        self.watch.add(&one.netns);
        let keeper = {
            let (registry, one) = (Rc::clone(self), Rc::clone(&one));
            async move {
                let error = one.keep(&registry.book).await;
                tracing::warn!("{}: lease given up: {}", one.key, one.words(&error));
                let is_it = registry.find(&one.key).is_some_and(|now| Rc::ptr_eq(&now, &one));
                if is_it {
                    registry.drop_from_books(&one);
                }
            }
        };
        one.kept_by(tokio::task::spawn_local(keeper).abort_handle());
        self.all.borrow_mut().insert(one.key.clone(), one);
    }

    /// Ends an attachment: releases, forgets.
    async fn end(&self, one: &Attachment) -> Result<()> {
        one.release().await;
        self.all.borrow_mut().remove(&one.key);
        self.book.forget(&one.key)
    }

    /// The same where there is nothing to release any more.
    fn drop_from_books(&self, one: &Attachment) {
        self.all.borrow_mut().remove(&one.key);
        if let Err(error) = self.book.forget(&one.key) {
            tracing::error!("{}: {error}", one.key);
        }
    }

    fn find(&self, key: &Key) -> Option<Rc<Attachment>> {
        self.all.borrow().get(key).cloned()
    }

    async fn lock(&self, key: &Key) -> Mine<'_> {
        let mutex = Arc::clone(self.busy.borrow_mut().entry(key.clone()).or_default());
        let guard = mutex.lock_owned().await;
        Mine { registry: self, key: key.clone(), guard: Some(guard) }
    }
}

/// The right to change one attachment.
struct Mine<'a> {
    registry: &'a Registry,
    key: Key,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Drop for Mine<'_> {
    fn drop(&mut self) {
        self.guard.take();
        let mut busy = self.registry.busy.borrow_mut();
        // Nobody waits for it.
        if busy.get(&self.key).is_some_and(|mutex| Arc::strong_count(mutex) == 1) {
            busy.remove(&self.key);
        }
    }
}

/// What an attachment holds; code 102 where it has lost a lease and no new one yet.
fn held(one: &Attachment) -> Result<crate::gob::Value> {
    if !one.is_complete() {
        let object = format!("lease of {}", one.key);
        return Err(Error::differs(object, "one", "none: it was lost, and no server has given another one yet"));
    }
    Ok(from_result(&one.result()))
}

/// The attachment that a call is about. Of the configuration only the network's name counts, so that a pod can be
/// deleted though the rest has become wrong.
fn key(args: &CmdArgs) -> Result<Key> {
    let conf: serde_json::Value = serde_json::from_slice(&args.stdin)
        .map_err(|error| Error::new(code::DECODE, format!("network configuration: {error}")))?;
    let name = conf.get("name").and_then(serde_json::Value::as_str);
    let missing = || Error::new(code::DECODE, "network configuration: name: expected the network's, a string");
    Key::new(name.ok_or_else(missing)?, &args.container_id, &args.ifname)
}

/// What is made of a call before anybody is asked for a lease.
///
/// # Errors
/// As the call itself.
pub(crate) fn rehearse(method: Method, args: &CmdArgs) -> Result<()> {
    match method {
        Method::Allocate => {
            let (key, conf) = configured(args)?;
            let id = client_id(&key.container_id, &key.network, &key.ifname);
            conf.plugin.wanted(id, &args.args).map(drop)
        }
        Method::Check | Method::Release => key(args).map(drop),
        Method::Collect => parse(args).map(drop),
        Method::Status => Ok(()),
    }
}

fn parse(args: &CmdArgs) -> Result<NetConf<DhcpConfig>> {
    let text = str::from_utf8(&args.stdin)
        .map_err(|error| Error::new(code::DECODE, format!("network configuration: not UTF-8: {error}")))?;
    NetConf::parse_ipam(text)
}

fn configured(args: &CmdArgs) -> Result<(Key, NetConf<DhcpConfig>)> {
    let conf = parse(args)?;
    Ok((Key::new(&conf.name, &args.container_id, &args.ifname)?, conf))
}

/// An error of the client's in the terms of CNI.
fn failed(error: &podwire_dhcp::Error, words: &str) -> Error {
    use podwire_dhcp::Error as Dhcp;
    let (msg, details) = words.split_once("; ").unwrap_or((words, ""));
    let code = match error {
        Dhcp::Gone(_) => code::UNKNOWN_CONTAINER,
        Dhcp::Silent { .. } => code::TRY_AGAIN,
        Dhcp::Unsuitable(_) => code::INVALID_CONFIG,
        Dhcp::Kernel(_) => code::KERNEL,
    };
    Error::new(code, msg).with_details(details)
}
