//! What a plugin works with during one call.

use std::{cell::OnceCell, collections::HashSet, path::Path, rc::Rc};

use podwire_net::{Errno, Link, Net, Netns, Termination, nft::Nft};
use podwire_spec::{Command, Env, Mac, NetConf};

use crate::{Error, Label, Result, code, delegate::Delegate, output::to_wire, turn::Turn, undo::Changes, waits::Waits};

/// One call: its parameters, its handles, and what it has changed so far.
#[derive(Debug)]
pub struct Context<C> {
    /// The `CNI_*` variables.
    pub env: Env,
    /// The configuration, the plugin's own options in `conf.plugin`.
    pub conf: NetConf<C>,
    /// The node's namespace.
    pub host: Net,
    pod_ns: Option<Netns>,
    /// Why a namespace that may be there could not be opened, so that DEL does not take it for one that is gone.
    pod_lost: Option<Error>,
    pod: OnceCell<Net>,
    nft: OnceCell<Nft>,
    /// Whose everything is that this call makes.
    pub label: Label,
    pub(crate) delegate: Option<Delegate>,
    /// For delegates that run in-process.
    pub(crate) waits: Waits,
    pub(crate) changes: Changes<C>,
    pub(crate) turn: Turn,
}

impl<C> Context<C> {
    /// Opens both namespaces, after checking that they are two.
    ///
    /// # Errors
    /// Code 3 where ADD or CHECK names a namespace that is not there, code 4 where it is the plugin's own.
    pub(crate) fn open(env: Env, conf: NetConf<C>, termination: Rc<Termination>) -> Result<Self> {
        let own = Netns::of_process()?;
        let mut pod_lost = None;
        let pod = match (env.netns.as_str(), Netns::open(Path::new(&env.netns))) {
            ("", _) => None,
            (_, Ok(pod)) => Some(pod),
            // A container that is gone has given its namespace back already. Else all that is not in there can be removed.
            (_, Err(error)) if env.command == Command::Del => {
                pod_lost = is_out_of_reach(&error).then(|| to_wire(&error.into()));
                None
            }
            (path, Err(error)) => {
                return Err(Error::new(
                    code::UNKNOWN_CONTAINER,
                    format!("CNI_NETNS {path:?}: not a network namespace"),
                )
                .with_details(error.to_string())
                .into());
            }
        };
        if let Some(pod) = pod.as_ref().filter(|_| !env.netns_override)
            && pod.is_same_as(&own)?
        {
            return Err(Error::environment(format!("CNI_NETNS {:?}: is the plugin's own namespace", env.netns))
                .with_details("the pod needs a network namespace of its own; CNI_NETNS_OVERRIDE=true allows this one")
                .into());
        }
        let delegate = conf.ipam.as_deref().map(|kind| Delegate::find(kind, &env.path)).transpose();
        let delegate = match delegate {
            // What cannot be found cannot be asked to release; the rest still can.
            Err(error) if matches!(env.command, Command::Del | Command::Gc) => {
                tracing::warn!("{error:#}");
                conf.ipam.as_ref().map(|kind| Delegate::Missing { kind: kind.clone(), why: Box::new(to_wire(&error)) })
            }
            other => other?,
        };
        let label = Label::new(&conf.name, &env.container_id, &env.ifname);
        Ok(Self {
            host: Net::open(own)?,
            pod_ns: pod,
            pod_lost,
            pod: OnceCell::new(),
            nft: OnceCell::new(),
            env,
            conf,
            label,
            delegate,
            waits: Waits::with(termination),
            changes: Changes::default(),
            turn: Turn::default(),
        })
    }

    /// The pod's namespace, for a message that makes a link in it.
    ///
    /// # Errors
    /// Code 3 where there is none, which only DEL may meet.
    pub fn pod_ns(&self) -> Result<&Netns> {
        self.pod_ns.as_ref().ok_or_else(|| {
            Error::new(code::UNKNOWN_CONTAINER, format!("CNI_NETNS {:?}: not there", self.env.netns)).into()
        })
    }

    /// A connection in the pod's namespace; opened when it is first asked for.
    ///
    /// # Errors
    /// As [`Self::pod_ns`].
    pub fn pod(&self) -> Result<&Net> {
        match self.pod.get() {
            Some(pod) => Ok(pod),
            None => self.pod_after(|| Ok(())),
        }
    }

    /// As [`Self::pod`], after `work` was done in the pod's namespace: on one visit where there was none before.
    ///
    /// # Errors
    /// As [`Self::pod_ns`], and those of `work`.
    pub(crate) fn pod_after(&self, work: impl FnOnce() -> podwire_net::Result<()>) -> Result<&Net> {
        if let Some(pod) = self.pod.get() {
            pod.ns().run(work)??;
            return Ok(pod);
        }
        let (pod, worked) = Net::open_with(self.pod_ns()?.try_clone()?, work)?;
        worked?;
        Ok(self.pod.get_or_init(|| pod))
    }

    /// ADD: whether the pod is still there, which a handle of its namespace does not tell: it keeps that alive.
    ///
    /// # Errors
    /// Code 3 where `CNI_NETNS` does not name the pod's namespace any more; of the kernel.
    pub(crate) fn ensure_pod_stays(&self) -> Result<()> {
        let path = &self.env.netns;
        if self.pod_ns()?.is_at(Path::new(path))? {
            return Ok(());
        }
        Err(Error::new(code::UNKNOWN_CONTAINER, format!("CNI_NETNS {path:?}: gone while the pod was added"))
            .with_details("what the call had done was undone")
            .into())
    }

    /// A connection in the pod's namespace, if that still is there.
    ///
    /// # Errors
    /// If it cannot be opened, or nobody can tell whether it is there.
    pub fn pod_if_any(&self) -> Result<Option<&Net>> {
        match &self.pod_lost {
            Some(error) => Err(error.clone().into()),
            None if self.pod_ns.is_some() => self.pod().map(Some),
            None => Ok(None),
        }
    }

    /// The node's nftables; opened when it is first asked for.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn nft(&self) -> Result<&Nft> {
        if let Some(nft) = self.nft.get() {
            return Ok(nft);
        }
        let nft = Nft::open()?;
        Ok(self.nft.get_or_init(|| nft))
    }

    /// The MAC address that somebody asks for, in the order of the conventions, else `option`.
    pub fn requested_mac(&self, option: Option<Mac>) -> Option<Mac> {
        self.conf.runtime.mac.or(self.conf.args.mac).or(self.env.args.mac).or(option)
    }

    /// The attachments of this network that GC is to keep.
    ///
    /// # Errors
    /// Code 7 where the configuration does not list them: without the list nothing may be removed.
    pub fn valid_attachments(&self) -> Result<HashSet<Label>> {
        let valid = self.conf.valid.as_ref().ok_or_else(|| {
            Error::invalid("cni.dev/valid-attachments", "missing, so nothing was removed")
                .with_details("GC removes what belongs to attachments that are not in this list")
        })?;
        Ok(valid.iter().map(|one| Label::new(&self.conf.name, &one.container_id, &one.ifname)).collect())
    }

    /// Whether a link of the node's belongs to an attachment of this network that is not in `valid`, even if the ADD
    /// that made it was killed before it could say so.
    pub(crate) fn is_dead_link(&self, link: &Link, valid: &HashSet<Label>) -> bool {
        let is_of = |label: &Label| link.is_labelled(&label.to_string());
        let nameless = || {
            link.is_unlabelled_like(&self.label.to_string())
                && self.waits.in_flight().is_empty()
                && !is_of(&self.network_label())
                && !valid.iter().any(is_of)
        };
        self.is_dead(&link.alias, valid) || nameless()
    }

    /// Whether a label's owner is an attachment of this network that is not in `valid` and not being added.
    pub fn is_dead(&self, label: &str, valid: &HashSet<Label>) -> bool {
        Label::parse(label).is_some_and(|label| {
            label.is_of_an_attachment()
                && label.is_of_network_of(&self.label)
                && !valid.contains(&label)
                && !self.is_in_flight(&label)
        })
    }
}

/// Whether a file that could not be opened may be there all the same.
fn is_out_of_reach(error: &podwire_net::Error) -> bool {
    use Errno::{EACCES, EAGAIN, EBUSY, EIO, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, EPERM};
    let errnos = [EACCES, EAGAIN, EBUSY, EIO, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, EPERM];
    errnos.into_iter().any(|errno| error.is(errno))
}
