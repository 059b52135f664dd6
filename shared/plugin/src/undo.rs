//! The undo log: what an ADD has changed, in order, so that a failure can put everything back.
//!
//! It reverses this call's own changes and nothing else: what was there before stays, whoever made it.

use podwire_net::{Link, Net, nft};
use podwire_spec::{Cidr, Route};

use crate::{Context, Label, Result};

/// How to take back one change.
#[derive(Debug)]
pub enum Undo {
    /// Delete the node's link with this index, which this call made.
    HostLink(u32),
    /// Delete the pod's link with this index, which this call made.
    PodLink(u32),
    /// Delete the shared link with this index, which this call made, unless others have ports on it by now.
    SharedLink(u32),
    /// Delete the link `link`, which this call made to serve all who have a port on `bridge`, unless others have one by
    /// now.
    SharedService {
        /// Its index.
        link: u32,
        /// The bridge's index.
        bridge: u32,
    },
    /// Take an address from the shared link with this index, unless others have ports on it by now.
    SharedAddress(u32, Cidr),
    /// Stop being a user of a shared link (see `share.rs`).
    SharedUse,
    /// Give back a link that was lent (see `lend.rs`).
    Lent {
        /// Its name.
        name: String,
        /// It was in the pod before.
        in_pod: bool,
    },
    /// Remove a route of the node's by the link with this index.
    HostRoute(u32, Route),
    /// Give an address back to the node's link with this index.
    RemovedHostAddress(u32, Cidr),
    /// Ask the delegate to release what it gave.
    Delegate,
    /// Remove the masquerading of this attachment.
    Masquerade,
    /// Remove the source checks of this attachment.
    SourceCheck,
}

impl Undo {
    /// Whether it concerns what others may use by now.
    pub(crate) fn is_of_shared(&self) -> bool {
        matches!(self, Self::SharedLink(_) | Self::SharedService { .. } | Self::SharedAddress(..))
    }

    /// Takes the change back.
    pub(crate) async fn run<C>(self, cx: &Context<C>) -> Result<()> {
        let label = cx.label.to_string();
        match self {
            Self::HostLink(index) => drop(cx.host.delete_link_at(index).await?),
            Self::PodLink(index) => drop(cx.pod()?.delete_link_at(index).await?),
            Self::SharedLink(index) if is_unused(&cx.host, index).await? => drop(cx.host.delete_link_at(index).await?),
            Self::SharedAddress(index, address) if is_unused(&cx.host, index).await? => {
                cx.host.delete_address(index, address).await?;
            }
            Self::SharedService { link, bridge } if serves_nobody(&cx.host, bridge).await? => {
                cx.host.delete_link_at(link).await?;
            }
            Self::SharedLink(_) | Self::SharedService { .. } | Self::SharedAddress(..) => {}
            Self::SharedUse => cx.leave().await?,
            Self::Lent { name, in_pod } => cx.give_back_one(&name, in_pod).await?,
            Self::HostRoute(index, route) => drop(cx.host.delete_route(index, &route).await?),
            Self::RemovedHostAddress(index, address) => cx.host.add_address(index, address, false).await?,
            Self::Delegate => cx.delegate_del().await?,
            Self::Masquerade => drop(nft::masquerade::remove(cx.nft()?, |comment| comment == label)?),
            Self::SourceCheck => drop(nft::spoof::remove(cx.nft()?, |comment| comment == label)?),
        }
        Ok(())
    }
}

/// Whether nobody has a port on a shared link. Whoever comes later makes anew what is removed then: an ADD that shares
/// it looks at it again after its own port is there.
async fn is_unused(host: &Net, index: u32) -> Result<bool> {
    Ok(host.ports(index).await?.is_empty())
}

/// Whether no port of a bridge is anybody's: those that podwire made for a network as a whole are nobody's.
///
/// # Errors
/// Of the kernel.
pub async fn serves_nobody(host: &Net, bridge: u32) -> Result<bool> {
    let is_networks = |link: &Link| Label::parse(&link.alias).is_some_and(|label| !label.is_of_an_attachment());
    Ok(host.ports(bridge).await?.iter().all(is_networks))
}
