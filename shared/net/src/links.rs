//! Requests about links: make, find, list, name, change, move, delete.

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_DUMP, NLM_F_ECHO, NLM_F_EXCL};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecUnspec, InetDevConf, InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
    Prop,
};
use nix::errno::Errno;

use crate::{Error, Link, LinkChange, LinkSpec, Net, Netns, Result, message::Message};

/// `IFLA_ALT_IFNAME` in `linux/if_link.h`.
const ALT_IFNAME: u16 = 53;

impl Net {
    /// Makes a link in this namespace and returns it as the kernel did: index, and MAC even where the kernel invented
    /// it. The other end of a veth pair may be elsewhere.
    ///
    /// # Errors
    /// EEXIST where a name is taken, on either side; EOPNOTSUPP where the kernel lacks the kind.
    pub async fn create_link(&self, spec: &LinkSpec<'_>) -> Result<Link> {
        let object = || format!("link {:?}", spec.name);
        let message = Message::NewLink(spec.message());
        let answers = self.request(object, "create", message, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO).await?;
        let mut link = if let Some(link) = links(answers).find(|link| link.name == spec.name) {
            link
        } else {
            // A kernel that does not echo: ask.
            match self.link(spec.name).await {
                Ok(link) => link.ok_or_else(|| Error::new(object(), "find after create", Errno::ENODEV))?,
                Err(error) => {
                    self.delete_link(spec.name).await?;
                    return Err(error);
                }
            }
        };
        // The kernel passes over an alias in the message that creates (`rtnl_create_link`), so it gets a second one; the
        // first has a group instead, so that a link whose maker was killed between the two is known.
        if let Some(alias) = spec.alias {
            if let Err(error) = self.label(&link, alias).await {
                self.delete_link_at(link.index).await?;
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
    pub async fn create_link_in(&self, other: &Self, spec: &LinkSpec<'_>) -> Result<Link> {
        let object = || format!("link {:?}", spec.name);
        let message = |index| {
            let mut message = spec.message();
            message.header.index = index;
            message.attributes.push(LinkAttribute::NetNsFd(other.ns().raw_fd()));
            Message::NewLink(message)
        };
        // No echo: the kernel would send it to whichever socket has our number in the other namespace.
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let (mut attempts, mut index) = (0, 0);
        while let Err(error) = self.request(object, "create", message(index), flags).await {
            attempts += 1;
            if attempts > 3 || !error.is(Errno::EEXIST) || !self.is_taken_only_here(other, spec.name).await? {
                return Err(error);
            }
            index = self.free_index(other).await?;
        }
        match other.link(spec.name).await {
            Ok(link) => link.ok_or_else(|| Error::new(object(), "find after create", Errno::ENODEV)),
            Err(error) => {
                other.delete_link(spec.name).await?;
                Err(error)
            }
        }
    }

    /// Whether a name is one of this namespace and not of the other. Older kernels look for the name of a link to be made
    /// here, wherever it is to be; an index that comes with the request keeps them from looking by name.
    async fn is_taken_only_here(&self, other: &Self, name: &str) -> Result<bool> {
        Ok(self.link(name).await?.is_some() && other.link(name).await?.is_none())
    }

    /// An index that no link has in either namespace now.
    async fn free_index(&self, other: &Self) -> Result<u32> {
        let (here, there) = (self.links().await?, other.links().await?);
        Ok(here.iter().chain(&there).map(|link| link.index).max().unwrap_or_default() + 1)
    }

    /// Gives a link its alias, as [`Self::create_link`] does.
    ///
    /// # Errors
    /// Of the request.
    pub async fn label(&self, link: &Link, alias: &str) -> Result<()> {
        let change = LinkChange { alias: Some(alias), group: Some(0), ..LinkChange::default() };
        self.change_link(link.index, &change).await
    }

    /// The link with this name or altname.
    ///
    /// # Errors
    /// Of the request; a link that is not there is `None`.
    pub async fn link(&self, name: &str) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.get_link(|| format!("link {name:?}"), message).await
    }

    /// The link with this altname, which may be longer than a name.
    ///
    /// # Errors
    /// Of the request; a link that is not there is `None`.
    pub async fn link_with_altname(&self, altname: &str) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        let text = [altname.as_bytes(), b"\0"].concat();
        message.attributes.push(LinkAttribute::Other(DefaultNla::new(ALT_IFNAME, text)));
        self.get_link(|| format!("link with altname {altname:?}"), message).await
    }

    /// The link with this index.
    ///
    /// # Errors
    /// Of the request; a link that is not there is `None`.
    pub async fn link_at(&self, index: u32) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.get_link(|| format!("link number {index}"), message).await
    }

    async fn get_link(&self, object: impl Fn() -> String, mut message: LinkMessage) -> Result<Option<Link>> {
        message.attributes.push(without_statistics());
        match self.request(object, "get", Message::GetLink(message), 0).await {
            Ok(answers) => Ok(links(answers).next()),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every link of the namespace.
    ///
    /// # Errors
    /// Of the request.
    pub async fn links(&self) -> Result<Vec<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(without_statistics());
        let message = Message::GetLink(message);
        Ok(links(self.request(|| "links".to_owned(), "list", message, NLM_F_DUMP).await?).collect())
    }

    /// The links whose master has this index.
    ///
    /// # Errors
    /// Of the request.
    pub async fn ports(&self, master: u32) -> Result<Vec<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.extend([without_statistics(), LinkAttribute::Controller(master)]);
        let message = Message::GetLink(message);
        let answers = self.request(|| format!("ports of link number {master}"), "list", message, NLM_F_DUMP).await?;
        Ok(links(answers).filter(|link| link.master == Some(master)).collect())
    }

    /// Changes a link.
    ///
    /// # Errors
    /// Of the request.
    pub async fn change_link(&self, index: u32, change: &LinkChange<'_>) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        for (flag, wanted) in [(LinkFlags::Up, change.up), (LinkFlags::Promisc, change.promisc)] {
            if let Some(on) = wanted {
                message.header.change_mask |= flag;
                message.header.flags.set(flag, on);
            }
        }
        let attributes = &mut message.attributes;
        attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        attributes.extend(change.mtu.map(LinkAttribute::Mtu));
        attributes.extend(change.master.map(LinkAttribute::Controller));
        attributes.extend(change.name.map(|name| LinkAttribute::IfName(name.to_owned())));
        attributes.extend(change.alias.map(|alias| LinkAttribute::IfAlias(alias.to_owned())));
        attributes.extend(change.group.map(LinkAttribute::Group));
        if change.arp_notify {
            let mut conf = InetDevConf::default();
            conf.arp_notify = 1;
            let inet = vec![AfSpecInet::DevConfRequest(conf)];
            attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(inet)]));
        }
        let message = Message::NewLink(message);
        self.request(|| format!("link number {index}"), "change", message, 0).await.map(drop)
    }

    /// Moves a link into another namespace, where it is down, has no master and no addresses, and is named `name`.
    ///
    /// # Errors
    /// EEXIST where the name is taken there; EINVAL for a link that has to stay where it is.
    pub async fn move_link(&self, link: &Link, to: &Netns, name: &str) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.extend([LinkAttribute::NetNsFd(to.raw_fd()), LinkAttribute::IfName(name.to_owned())]);
        let message = Message::NewLink(message);
        self.request(|| format!("link {:?}", link.name), "move", message, 0).await.map(drop)
    }

    /// Gives a link another name, of up to 127 bytes.
    ///
    /// # Errors
    /// EEXIST where the name is taken in the namespace.
    pub async fn add_altname(&self, index: u32, name: &str) -> Result<()> {
        self.add_altnames(index, &[name.to_owned()]).await
    }

    /// Gives a link other names, in one message.
    ///
    /// # Errors
    /// EEXIST where one is taken in the namespace; EINVAL where they all together pass 64 KiB.
    pub async fn add_altnames(&self, index: u32, names: &[String]) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::PropList(names.iter().cloned().map(Prop::AltIfName).collect()));
        let message = Message::NewLinkProp(message);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let object = || format!("altname \"{}\"", names.join("\", \""));
        self.request(object, "add", message, flags).await.map(drop)
    }

    /// Takes an altname from a link. One that is not there is no error: `false`.
    ///
    /// # Errors
    /// Of the request.
    pub async fn delete_altname(&self, index: u32, name: &str) -> Result<bool> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::PropList(vec![Prop::AltIfName(name.to_owned())]));
        let message = Message::DelLinkProp(message);
        match self.request(|| format!("altname {name:?}"), "delete", message, 0).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes a link. One that is not there is no error: `false`.
    ///
    /// # Errors
    /// Of the request.
    pub async fn delete_link(&self, name: &str) -> Result<bool> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.delete(|| format!("link {name:?}"), message).await
    }

    /// Deletes the link with this index. One that is not there is no error: `false`.
    ///
    /// # Errors
    /// Of the request.
    pub async fn delete_link_at(&self, index: u32) -> Result<bool> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.delete(|| format!("link number {index}"), message).await
    }

    async fn delete(&self, object: impl Fn() -> String, message: LinkMessage) -> Result<bool> {
        match self.request(object, "delete", Message::DelLink(message), 0).await {
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
    pub async fn can_create(&self, kind: &str) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.extend([
            LinkAttribute::IfName("podwire-probe".to_owned()),
            LinkAttribute::NumTxQueues(0),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Other(kind.to_owned()))]),
        ]);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let message = Message::NewLink(message);
        match self.request(|| format!("link of type {kind:?}"), "create", message, flags).await {
            Err(error) if matches!(error.errno, Some(Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES)) => Err(error),
            _ => Ok(()),
        }
    }
}

pub(crate) fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

pub(crate) fn links(answers: Vec<Message>) -> impl Iterator<Item = Link> {
    answers.into_iter().filter_map(|answer| match answer {
        Message::NewLink(message) => Some(Link::from(message)),
        _ => None,
    })
}
