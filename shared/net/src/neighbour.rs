//! Neighbours that are written down rather than asked for.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};
use podwire_spec::Mac;

use crate::{Net, Result};

impl Net {
    /// Writes down for good which MAC address `ip` has on the link with this index.
    ///
    /// # Errors
    /// Of the request.
    pub async fn set_neighbour(&self, index: u32, ip: IpAddr, mac: Mac) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message
            .attributes
            .extend([NeighbourAttribute::Destination(ip.into()), NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())]);
        let message = RouteNetlinkMessage::NewNeighbour(message);
        self.request(|| format!("neighbour \"{ip}\""), "set", message, NLM_F_CREATE | NLM_F_REPLACE).await.map(drop)
    }

    /// The neighbours that are written down on the link with this index.
    ///
    /// # Errors
    /// Of the request.
    pub async fn set_neighbours(&self, index: u32) -> Result<Vec<(IpAddr, Mac)>> {
        let message = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let answers = self.request(|| "neighbours".to_owned(), "list", message, NLM_F_DUMP).await?;
        let written = |answer| match answer {
            RouteNetlinkMessage::NewNeighbour(message)
                if message.header.ifindex == index && message.header.state == NeighbourState::Permanent =>
            {
                neighbour(message)
            }
            _ => None,
        };
        Ok(answers.into_iter().filter_map(written).collect())
    }
}

fn neighbour(message: NeighbourMessage) -> Option<(IpAddr, Mac)> {
    let (mut ip, mut mac) = (None, None);
    for attribute in message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some(v4.into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some(v6.into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some((ip?, mac?))
}
