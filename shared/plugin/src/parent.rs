//! The link that a pod's device sits on.

use podwire_net::{Errno, Link, LinkChange, LinkSpec, Net};
use podwire_spec::{Mac, code, did_you_mean};

use crate::{Context, Error, Result};

/// A link to make devices on.
#[derive(Clone, Debug)]
pub struct Parent {
    /// The link.
    pub link: Link,
    /// It is in the pod, and not on the node.
    pub in_pod: bool,
}

impl Parent {
    /// The MTU in bytes of a device on it: `wanted`, where that is given and not 0, else the parent's own.
    ///
    /// # Errors
    /// Code 7 for one above the parent's.
    pub fn mtu(&self, wanted: Option<u32>) -> Result<u32> {
        let Link { name, mtu, .. } = &self.link;
        match wanted.filter(|&wanted| wanted != 0) {
            Some(wanted) if wanted > *mtu => {
                Err(Error::invalid("mtu", format!("{wanted} is above the {mtu} bytes of parent {name:?}"))
                    .with_details("larger frames would be lost there; raise the parent's MTU first, or ask for less")
                    .into())
            }
            wanted => Ok(wanted.unwrap_or(*mtu)),
        }
    }
}

impl<C> Context<C> {
    /// The parent: `master`, in the pod if `in_pod` and else on the node; where it is not named, the first interface
    /// there of the previous plugin's result, else the link of the default route of either IP version.
    ///
    /// # Errors
    /// Code 7 where there is no such link.
    pub fn parent(&self, master: Option<&str>, in_pod: bool) -> Result<Parent> {
        let place = place(in_pod);
        let previous = || {
            let sandbox = if in_pod { self.env.netns.as_str() } else { "" };
            let interfaces = &self.conf.prev_result.as_ref()?.interfaces;
            let interface = interfaces
                .iter()
                .find(|interface| interface.sandbox == sandbox && !(in_pod && interface.name == self.env.ifname))?;
            Some(interface.name.as_str())
        };
        let found = match master.filter(|name| !name.is_empty()).or_else(previous) {
            Some(name) => self.named_link("master", name, in_pod)?,
            None => self.default_link(in_pod)?.ok_or_else(|| {
                Error::invalid("master", format!("missing, and {place} has no default route to take its link from"))
            })?,
        };
        Ok(Parent { link: found, in_pod })
    }

    /// The connection to the pod, or to the node.
    ///
    /// # Errors
    /// As [`Context::pod`].
    pub fn net(&self, in_pod: bool) -> Result<&Net> {
        if in_pod { self.pod() } else { Ok(&self.host) }
    }

    /// The link that an option names, in the pod if `in_pod` and else on the node.
    ///
    /// # Errors
    /// Code 7 where there is no such link.
    pub fn named_link(&self, option: &str, name: &str, in_pod: bool) -> Result<Link> {
        if name.contains('\0') {
            // The kernel would look for what stands before it.
            return Err(Error::invalid(option, format!("{name:?}: not the name of an interface")).into());
        }
        let net = self.net(in_pod)?;
        if let Some(link) = net.link(name)? {
            return Ok(link);
        }
        let links = net.links()?;
        let near = did_you_mean(name, links.iter().map(|link| link.name.as_str()));
        Err(Error::invalid(option, format!("link {name:?}: not found in {}{near}", place(in_pod))).into())
    }

    /// The link of the default route with the lowest metric, of IPv4 or else of IPv6.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn default_link(&self, in_pod: bool) -> Result<Option<Link>> {
        let net = self.net(in_pod)?;
        match default_link_of(net, false)? {
            Some(link) => Ok(Some(link)),
            None => default_link_of(net, true),
        }
    }

    /// Makes the pod's link on a parent, straight in the pod and under its final name; a failure of the call deletes it
    /// again. It has its label as alias, and its namespace a number on the node, so that whoever comes to the same
    /// parent later can see it and say whose it is (see [`Self::siblings`]).
    ///
    /// # Errors
    /// Code 105 where `CNI_IFNAME` is taken; else of the kernel.
    pub fn create_pod_link(&mut self, parent: &Parent, spec: LinkSpec<'_>) -> Result<Link> {
        self.create_in_pod(parent.in_pod, &LinkSpec { parent: Some(parent.link.index), ..spec })
    }

    /// As [`Self::create_pod_link`], for a device that is on no one link; what belongs to it elsewhere, as a UDP
    /// socket, is in the pod if `in_pod` and else on the node.
    ///
    /// # Errors
    /// As [`Self::create_pod_link`].
    pub fn create_in_pod(&mut self, in_pod: bool, spec: &LinkSpec<'_>) -> Result<Link> {
        let pod = self.pod()?;
        if !in_pod {
            self.host.give_number(pod.ns())?;
        }
        let created = if in_pod { pod.create_link(spec) } else { self.host.create_link_in(pod, spec) };
        match created {
            Ok(link) => {
                self.undo_pod_link(link.index);
                let label = self.label.to_string();
                let alias = LinkChange { alias: Some(&label), ..LinkChange::default() };
                self.pod()?.change_link(link.index, &alias)?;
                Ok(link)
            }
            Err(error) if error.is(Errno::EEXIST) && pod.link(spec.name)?.is_some() => {
                Err(Error::new(code::EXISTS, format!("CNI_IFNAME {:?}: exists already in the pod", spec.name))
                    .with_details(error.to_string())
                    .into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl<C> Context<C> {
    /// The kernel's refusal to make a device on a parent, with the names of what is in the way; errors that are not
    /// about the parent as they are.
    pub fn explain_refusal(&self, parent: &Parent, error: anyhow::Error) -> anyhow::Error {
        let refused = error
            .downcast_ref::<podwire_net::Error>()
            .filter(|error| [Errno::EBUSY, Errno::EINVAL].into_iter().any(|errno| error.is(errno)));
        let Some(refused) = refused else { return error };
        let (why, what_to_do) = match self.in_the_way(parent) {
            Ok(found) if !found.is_empty() => (found.join(", "), "remove it, or name another parent"),
            Ok(_) if parent.link.mac.is_none_or(|mac| mac == Mac([0; 6])) => {
                ("it is no Ethernet link".to_owned(), "name another parent")
            }
            Ok(_) => {
                let unseen = "a device that cannot be seen from here has it, in a pod".to_owned();
                (unseen, "remove that one, or name another parent")
            }
            Err(look) => return error.context(format!("{look:#}")),
        };
        let name = &parent.link.name;
        Error::new(code::DIFFERENT, format!("parent {name:?}: takes no such device: {why}"))
            .with_details(format!("{refused}; {what_to_do}"))
            .into()
    }

    /// What sits on a parent, as far as it can be seen from there.
    fn in_the_way(&self, parent: &Parent) -> Result<Vec<String>> {
        let mut found = Vec::new();
        if let Some(index) = parent.link.master
            && let Some(master) = self.net(parent.in_pod)?.link_at(index)?
        {
            found.push(format!("it is a port of {} {:?}", master.kind, master.name));
        }
        for kind in SITTING {
            found.extend(self.siblings(parent, kind)?.iter().map(|sibling| format!("{sibling} is on it")));
        }
        Ok(found)
    }
}

/// The types of devices of which a parent takes one only.
const SITTING: [&str; 4] = ["macvlan", "macvtap", "ipvlan", "ipvtap"];

/// The link of the default route of one IP version with the lowest metric.
pub(crate) fn default_link_of(net: &Net, ipv6: bool) -> Result<Option<Link>> {
    let routes = net.routes(ipv6)?;
    let defaults = routes.iter().filter(|entry| entry.route.dst.is_default() && entry.is_in_main_table());
    match defaults.min_by_key(|entry| entry.route.priority).and_then(|entry| entry.link) {
        Some(index) => Ok(net.link_at(index)?),
        None => Ok(None),
    }
}

fn place(in_pod: bool) -> &'static str {
    if in_pod { "the pod" } else { "the node's namespace" }
}
