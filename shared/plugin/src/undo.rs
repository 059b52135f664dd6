//! The undo log: what an ADD has changed, in order, so that a failure can put everything back.
//!
//! It reverses this call's own changes and nothing else: what was there before stays, whoever made it.

use podwire_net::nft;
use podwire_spec::{Cidr, Route};

use crate::{Context, Result};

/// How to take back one change.
#[derive(Debug)]
pub enum Undo {
    /// Delete the node's link with this index, which this call made.
    HostLink(u32),
    /// Delete the pod's link with this index, which this call made.
    PodLink(u32),
    /// Delete the shared link with this index, which this call made, unless others have ports on it by now.
    SharedLink(u32),
    /// Delete the shared port of a bridge with this index, which this call made, unless others have ports beside it by
    /// now.
    SharedPort(u32),
    /// Take an address from the shared link `link`, unless others have ports on `bridge` by now, for which it is.
    SharedAddress {
        /// The index of the link with the address.
        link: u32,
        /// The bridge's index; the link itself may be it.
        bridge: u32,
        /// The address.
        address: Cidr,
    },
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
        matches!(self, Self::SharedLink(_) | Self::SharedPort(_) | Self::SharedAddress { .. })
    }

    /// Takes the change back.
    pub(crate) async fn run<C>(self, cx: &Context<C>) -> Result<()> {
        let label = cx.label.to_string();
        match self {
            Self::HostLink(index) => drop(cx.host.delete_link_at(index).await?),
            Self::PodLink(index) => drop(cx.pod()?.delete_link_at(index).await?),
            Self::SharedLink(index) => {
                if cx.is_idle(index).await? {
                    cx.host.delete_link_at(index).await?;
                }
            }
            Self::SharedPort(index) => {
                let bridge = cx.host.link_at(index).await?.and_then(|port| port.master);
                if match bridge {
                    Some(bridge) => cx.is_idle(bridge).await?,
                    None => true,
                } {
                    cx.host.delete_link_at(index).await?;
                }
            }
            Self::SharedAddress { link, bridge, address } => {
                if cx.is_idle(bridge).await? {
                    cx.host.delete_address(link, address).await?;
                }
            }
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
