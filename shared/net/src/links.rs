//! Requests about links: make, find, list, name, change, move, delete.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_ECHO, NLM_F_EXCL};
use nix::errno::Errno;

use crate::{
    Error, Link, LinkChange, LinkSpec, Net, Netns, Result,
    link_message::{LinkRequest, ifla},
    message::Message,
};

/// `RTEXT_FILTER_SKIP_STATS` in `linux/rtnetlink.h`: what a link has counted is not told.
const SKIP_STATS: u32 = 1 << 3;

impl Net {
    /// Makes a link in this namespace and returns it as the kernel did: index, and MAC even where the kernel invented
    /// it. The other end of a veth pair may be elsewhere.
    ///
    /// # Errors
    /// EEXIST where a name is taken, on either side; EOPNOTSUPP where the kernel lacks the kind.
    pub fn create_link(&self, spec: &LinkSpec<'_>) -> Result<Link> {
        let object = || format!("link {:?}", spec.name);
        let message = Message::NewLink(spec.into());
        let answers = self.request(object, "create", message, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO)?;
        let mut link = if let Some(link) = links(answers).find(|link| link.name == spec.name) {
            link
        } else {
            // A kernel that does not echo: ask.
            match self.link(spec.name) {
                Ok(link) => link.ok_or_else(|| Error::new(object(), "find after create", Errno::ENODEV))?,
                Err(error) => {
                    self.delete_link(spec.name)?;
                    return Err(error);
                }
            }
        };
        // The kernel passes over an alias in the message that creates (`rtnl_create_link`), so it gets a second one; the
        // first has a group instead, so that a link whose maker was killed between the two is known.
        if let Some(alias) = spec.alias {
            if let Err(error) = self.label(&link, alias) {
                self.delete_link_at(link.index)?;
                return Err(error);
            }
            alias.clone_into(&mut link.alias);
        }
        Ok(link)
    }

    /// Makes a link in another namespace, on a parent in this one, and returns it as `other`, a connection there, sees
    /// it.
    ///
    /// # Errors
    /// As [`Self::create_link`].
    pub fn create_link_in(&self, other: &Self, spec: &LinkSpec<'_>) -> Result<Link> {
        let object = || format!("link {:?}", spec.name);
        let message = |index| {
            let mut request = LinkRequest::from(spec);
            request.index = index;
            request.attributes.u32(ifla::NET_NS_FD, other.ns().raw_fd().cast_unsigned());
            Message::NewLink(request)
        };
        // No echo: the kernel would send it to whichever socket has our number in the other namespace.
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let (mut attempts, mut index) = (0, 0);
        while let Err(error) = self.request(object, "create", message(index), flags) {
            attempts += 1;
            if attempts > 3 || !error.is(Errno::EEXIST) || !self.is_taken_only_here(other, spec.name)? {
                return Err(error);
            }
            index = self.free_index(other)?;
        }
        match other.link(spec.name) {
            Ok(link) => link.ok_or_else(|| Error::new(object(), "find after create", Errno::ENODEV)),
            Err(error) => {
                other.delete_link(spec.name)?;
                Err(error)
            }
        }
    }

    /// Whether a name is one of this namespace and not of the other. Older kernels look for the name of a link to be made
    /// here, wherever it is to be; an index that comes with the request keeps them from looking by name.
    fn is_taken_only_here(&self, other: &Self, name: &str) -> Result<bool> {
        Ok(self.link(name)?.is_some() && other.link(name)?.is_none())
    }

    /// An index that no link has in either namespace now.
    fn free_index(&self, other: &Self) -> Result<u32> {
        let (here, there) = (self.links()?, other.links()?);
        Ok(here.iter().chain(&there).map(|link| link.index).max().unwrap_or_default() + 1)
    }

    /// Gives a link its alias, as [`Self::create_link`] does.
    ///
    /// # Errors
    /// Of the request.
    pub fn label(&self, link: &Link, alias: &str) -> Result<()> {
        let change = LinkChange { alias: Some(alias), group: Some(0), ..LinkChange::default() };
        self.change_link(link.index, &change)
    }

    /// The link with this name or altname.
    ///
    /// # Errors
    /// Of the request; a link that is not there is `None`.
    pub fn link(&self, name: &str) -> Result<Option<Link>> {
        self.get_link(|| format!("link {name:?}"), LinkRequest::named(name))
    }

    /// The link with this altname, which may be longer than a name.
    ///
    /// # Errors
    /// Of the request; a link that is not there is `None`.
    pub fn link_with_altname(&self, altname: &str) -> Result<Option<Link>> {
        let mut request = LinkRequest::default();
        request.attributes.text(ifla::ALT_IFNAME, altname);
        self.get_link(|| format!("link with altname {altname:?}"), request)
    }

    /// The link with this index.
    ///
    /// # Errors
    /// Of the request; a link that is not there is `None`.
    pub fn link_at(&self, index: u32) -> Result<Option<Link>> {
        self.get_link(|| format!("link number {index}"), LinkRequest::at(index))
    }

    fn get_link(&self, object: impl Fn() -> String, mut request: LinkRequest) -> Result<Option<Link>> {
        without_statistics(&mut request);
        match self.request(object, "get", Message::GetLink(request), 0) {
            Ok(answers) => Ok(links(answers).next()),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every link of the namespace.
    ///
    /// # Errors
    /// Of the request.
    pub fn links(&self) -> Result<Vec<Link>> {
        let mut request = LinkRequest::default();
        without_statistics(&mut request);
        let message = Message::GetLink(request);
        Ok(links(self.request(|| "links".to_owned(), "list", message, NLM_F_DUMP)?).collect())
    }

    /// The links whose master has this index.
    ///
    /// # Errors
    /// Of the request.
    pub fn ports(&self, master: u32) -> Result<Vec<Link>> {
        let mut request = LinkRequest::default();
        without_statistics(&mut request);
        request.attributes.u32(ifla::MASTER, master);
        let message = Message::GetLink(request);
        let answers = self.request(|| format!("ports of link number {master}"), "list", message, NLM_F_DUMP)?;
        Ok(links(answers).filter(|link| link.master == Some(master)).collect())
    }

    /// Changes a link.
    ///
    /// # Errors
    /// Of the request.
    pub fn change_link(&self, index: u32, change: &LinkChange<'_>) -> Result<()> {
        let message = Message::NewLink(change.of(index));
        self.request(|| format!("link number {index}"), "change", message, 0).map(drop)
    }

    /// Moves a link into another namespace, where it is down, has no master and no addresses, and is named `name`.
    ///
    /// # Errors
    /// EEXIST where the name is taken there; EINVAL for a link that has to stay where it is.
    pub fn move_link(&self, link: &Link, to: &Netns, name: &str) -> Result<()> {
        let change = LinkChange { up: Some(false), name: Some(name), ..LinkChange::default() };
        let mut request = change.of(link.index);
        request.attributes.u32(ifla::NET_NS_FD, to.raw_fd().cast_unsigned());
        let message = Message::NewLink(request);
        self.request(|| format!("link {:?}", link.name), "move", message, 0).map(drop)
    }

    /// Gives a link another name, of up to 127 bytes.
    ///
    /// # Errors
    /// EEXIST where the name is taken in the namespace.
    pub fn add_altname(&self, index: u32, name: &str) -> Result<()> {
        self.add_altnames(index, &[name.to_owned()])
    }

    /// Gives a link other names, in one message.
    ///
    /// # Errors
    /// EEXIST where one is taken in the namespace; EINVAL where they all together pass 64 KiB.
    pub fn add_altnames(&self, index: u32, names: &[String]) -> Result<()> {
        let object = || format!("altname \"{}\"", names.join("\", \""));
        let request = altnames(index, names);
        if request.attributes.as_bytes().len() > usize::from(u16::MAX) {
            // An attribute cannot say that it is as long, and the kernel would take part of it.
            return Err(Error::new(object(), "add", Errno::EINVAL));
        }
        let message = Message::NewLinkProp(request);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.request(object, "add", message, flags).map(drop)
    }

    /// Takes an altname from a link. One that is not there is no error: `false`.
    ///
    /// # Errors
    /// Of the request.
    pub fn delete_altname(&self, index: u32, name: &str) -> Result<bool> {
        let message = Message::DelLinkProp(altnames(index, &[name]));
        match self.request(|| format!("altname {name:?}"), "delete", message, 0) {
            Ok(_) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes a link. One that is not there is no error: `false`.
    ///
    /// # Errors
    /// Of the request.
    pub fn delete_link(&self, name: &str) -> Result<bool> {
        self.delete(|| format!("link {name:?}"), LinkRequest::named(name))
    }

    /// Deletes the link with this index. One that is not there is no error: `false`.
    ///
    /// # Errors
    /// Of the request.
    pub fn delete_link_at(&self, index: u32) -> Result<bool> {
        self.delete(|| format!("link number {index}"), LinkRequest::at(index))
    }

    fn delete(&self, object: impl Fn() -> String, request: LinkRequest) -> Result<bool> {
        match self.request(object, "delete", Message::DelLink(request), 0) {
            Ok(_) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the kernel could make a link of this kind, and we may: asked by a request that cannot succeed, since no
    /// link is without queues, but fails earlier where the kind is unknown.
    ///
    /// # Errors
    /// EOPNOTSUPP where the kernel lacks the kind, EPERM without `CAP_NET_ADMIN`.
    pub fn can_create(&self, kind: &str) -> Result<()> {
        let mut request = LinkRequest::named("podwire-probe");
        request.attributes.u32(ifla::NUM_TX_QUEUES, 0);
        request.kind(kind);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let message = Message::NewLink(request);
        match self.request(|| format!("link of type {kind:?}"), "create", message, flags) {
            Err(error) if matches!(error.errno, Some(Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES)) => Err(error),
            _ => Ok(()),
        }
    }
}

fn altnames(index: u32, names: &[impl AsRef<str>]) -> LinkRequest {
    let mut request = LinkRequest::at(index);
    request.attributes.nested(ifla::PROP_LIST, |list| {
        for name in names {
            list.text(ifla::ALT_IFNAME, name.as_ref());
        }
    });
    request
}

pub(crate) fn without_statistics(request: &mut LinkRequest) {
    request.attributes.u32(ifla::EXT_MASK, SKIP_STATS);
}

pub(crate) fn links(answers: Vec<Message>) -> impl Iterator<Item = Link> {
    answers.into_iter().filter_map(|answer| match answer {
        Message::Link(link) => Some(*link),
        _ => None,
    })
}
