//! Links of the node that several attachments share, and whose users the kernel cannot count for us: they may be devices
//! in pods, which are not seen from the node.
//!
//! Each user is written on the link as an altname (its [`Label::user`]), so that `ip link` shows who they are, DEL finds
//! the link by one request, and GC sees which of them are dead. The last one takes the link away. Looking and
//! changing is one step under the lock of the node's namespace.

use std::collections::HashSet;

use podwire_net::{Errno, Link, LinkSpec};

use crate::{Context, Error, Label, Result, code};

impl<C> Context<C> {
    /// The shared link that `spec` describes, with this attachment among its users: found and accepted, or made. If the
    /// call fails later, the attachment leaves it again.
    ///
    /// # Errors
    /// Those of `accept`, which is asked about a link that exists, and of the kernel.
    pub async fn share(&mut self, spec: &LinkSpec<'_>, accept: impl Fn(&Link) -> Result<()>) -> Result<Link> {
        let _lock = self.host.ns().lock().await?;
        let (link, is_new) = match self.host.link(spec.name)? {
            Some(mut link) => {
                self.relabel(&mut link)?;
                (link, false)
            }
            None => (self.host.create_link(spec)?, true),
        };
        let joined = accept(&link).and_then(|()| match self.host.add_altname(link.index, &self.label.user()) {
            // A repeated ADD of one attachment; what is wrong with that is for the device to say.
            Err(error) if error.is(Errno::EEXIST) => Ok(false),
            // The only thing that the kernel has against a name that is free: they may take 64 KiB.
            Err(error) if error.is(Errno::EINVAL) => {
                let full = format!(
                    "link {:?}: has {} altnames, one a user, and can have no more",
                    link.name,
                    link.altnames.len()
                );
                Err(Error::new(code::TRY_AGAIN, full).with_details(error.to_string()).into())
            }
            other => Ok(other.map(|()| true)?),
        });
        match joined {
            Ok(is_user_now) => {
                if is_user_now {
                    self.undo_by("leave the shared link", async |cx| cx.leave().await);
                }
                Ok(link)
            }
            Err(error) => {
                if is_new {
                    self.host.delete_link_at(link.index)?;
                }
                Err(error)
            }
        }
    }

    /// The shared link that this attachment uses.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn shared(&self) -> Result<Option<Link>> {
        Ok(self.host.link_with_altname(&self.label.user())?)
    }

    /// Ends this attachment's use of its shared link, and the link with its last user.
    ///
    /// # Errors
    /// Of the kernel.
    pub async fn leave(&self) -> Result<()> {
        match self.shared()? {
            Some(link) => self.release(&link, &[self.label.user()]).await,
            None => Ok(()),
        }
    }

    /// GC: the shared links that have dead users of this network, with these.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn dead_users(&self, valid: &HashSet<Label>) -> Result<Vec<(Link, Vec<String>)>> {
        let valid: HashSet<_> = valid.iter().map(Label::user).collect();
        let Some(network) = Label::parse(&self.label.user()) else { return Ok(vec![]) };
        let is_dead = |altname: &&String| {
            Label::parse(altname).is_some_and(|user| {
                user.is_of_an_attachment()
                    && user.is_of_network_of(&network)
                    && !valid.contains(*altname)
                    && !self.is_in_flight(&user)
            })
        };
        let dead = |link: Link| {
            let users: Vec<_> = link.altnames.iter().filter(is_dead).cloned().collect();
            (link, users)
        };
        Ok(self.host.links()?.into_iter().map(dead).filter(|(_, users)| !users.is_empty()).collect())
    }

    /// Takes users from a shared link, and the link away with its last one, if podwire made it.
    ///
    /// # Errors
    /// Of the kernel.
    pub async fn release(&self, link: &Link, users: &[String]) -> Result<()> {
        let _lock = self.host.ns().lock().await?;
        for user in users {
            self.host.delete_altname(link.index, user)?;
        }
        let Some(link) = self.host.link_at(link.index)? else { return Ok(()) };
        let is_made_by_us = Label::parse(&link.alias).is_some() || self.is_of_network(&link);
        let is_used =
            link.altnames.iter().filter_map(|altname| Label::parse(altname)).any(|user| user.is_of_an_attachment());
        if is_made_by_us && !is_used {
            self.host.delete_link_at(link.index)?;
        }
        Ok(())
    }
}
