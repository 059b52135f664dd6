//! What is said over `NETLINK_ROUTE` here.

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkPayload, NetlinkSerializable,
    Parseable,
};
use netlink_packet_route::{
    address::AddressMessage, neighbour::NeighbourMessage, nsid::NsidMessage, route::RouteMessage,
};

use crate::{Link, link_message::LinkRequest};

/// A request, or an answer (`Link`, or another of the `New...`).
///
/// `RouteNetlinkMessage` has everything there is. Each program would then carry the traffic classes, rules and
/// statistics that none of them speaks of.
#[derive(Debug)]
pub(crate) enum Message {
    Link(Box<Link>),
    NewLink(LinkRequest),
    DelLink(LinkRequest),
    GetLink(LinkRequest),
    SetLink(LinkRequest),
    NewLinkProp(LinkRequest),
    DelLinkProp(LinkRequest),
    NewAddress(AddressMessage),
    DelAddress(AddressMessage),
    GetAddress(AddressMessage),
    NewRoute(RouteMessage),
    DelRoute(RouteMessage),
    GetRoute(RouteMessage),
    NewNeighbour(NeighbourMessage),
    DelNeighbour(NeighbourMessage),
    GetNeighbour(NeighbourMessage),
    NewNsId(NsidMessage),
    GetNsId(NsidMessage),
}

impl Message {
    /// Whether it asks for something; such a request ends by its answers, and is not acknowledged.
    pub(crate) fn is_question(&self) -> bool {
        matches!(
            self,
            Self::GetLink(_) | Self::GetAddress(_) | Self::GetRoute(_) | Self::GetNeighbour(_) | Self::GetNsId(_)
        )
    }

    /// What is sent; nothing of what is only received.
    fn body(&self) -> &dyn Emitable {
        const NOTHING: &&[DefaultNla] = &(&[] as &[DefaultNla]);
        match self {
            Self::Link(_) => NOTHING,
            Self::NewLink(body)
            | Self::DelLink(body)
            | Self::GetLink(body)
            | Self::SetLink(body)
            | Self::NewLinkProp(body)
            | Self::DelLinkProp(body) => body,
            Self::NewAddress(body) | Self::DelAddress(body) | Self::GetAddress(body) => body,
            Self::NewRoute(body) | Self::DelRoute(body) | Self::GetRoute(body) => body,
            Self::NewNeighbour(body) | Self::DelNeighbour(body) | Self::GetNeighbour(body) => body,
            Self::NewNsId(body) | Self::GetNsId(body) => body,
        }
    }
}

/// `RTM_...` of `linux/rtnetlink.h`.
mod kind {
    pub(super) const NEW_LINK: u16 = 16;
    pub(super) const NEW_ADDRESS: u16 = 20;
    pub(super) const NEW_ROUTE: u16 = 24;
    pub(super) const NEW_NEIGHBOUR: u16 = 28;
    pub(super) const NEW_NSID: u16 = 88;
    pub(super) const NEW_LINK_PROP: u16 = 108;
    // Each family of four: NEW, DEL, GET, SET.
    pub(super) const DEL: u16 = 1;
    pub(super) const GET: u16 = 2;
    pub(super) const SET: u16 = 3;
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        match self {
            Self::Link(_) | Self::NewLink(_) => kind::NEW_LINK,
            Self::DelLink(_) => kind::NEW_LINK + kind::DEL,
            Self::GetLink(_) => kind::NEW_LINK + kind::GET,
            Self::SetLink(_) => kind::NEW_LINK + kind::SET,
            Self::NewLinkProp(_) => kind::NEW_LINK_PROP,
            Self::DelLinkProp(_) => kind::NEW_LINK_PROP + kind::DEL,
            Self::NewAddress(_) => kind::NEW_ADDRESS,
            Self::DelAddress(_) => kind::NEW_ADDRESS + kind::DEL,
            Self::GetAddress(_) => kind::NEW_ADDRESS + kind::GET,
            Self::NewRoute(_) => kind::NEW_ROUTE,
            Self::DelRoute(_) => kind::NEW_ROUTE + kind::DEL,
            Self::GetRoute(_) => kind::NEW_ROUTE + kind::GET,
            Self::NewNeighbour(_) => kind::NEW_NEIGHBOUR,
            Self::DelNeighbour(_) => kind::NEW_NEIGHBOUR + kind::DEL,
            Self::GetNeighbour(_) => kind::NEW_NEIGHBOUR + kind::GET,
            Self::NewNsId(_) => kind::NEW_NSID,
            Self::GetNsId(_) => kind::NEW_NSID + kind::GET,
        }
    }

    fn buffer_len(&self) -> usize {
        self.body().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        self.body().emit(buffer);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(match header.message_type {
            kind::NEW_LINK => Self::Link(Link::parse(payload)?.into()),
            kind::NEW_ADDRESS => Self::NewAddress(AddressMessage::parse(payload)?),
            kind::NEW_ROUTE => Self::NewRoute(RouteMessage::parse(payload)?),
            kind::NEW_NEIGHBOUR => Self::NewNeighbour(NeighbourMessage::parse(payload)?),
            kind::NEW_NSID => Self::NewNsId(NsidMessage::parse(payload)?),
            other => return Err(format!("netlink message of type {other}: nobody asked for one").into()),
        })
    }
}

impl From<Message> for NetlinkPayload<Message> {
    fn from(message: Message) -> Self {
        Self::InnerMessage(message)
    }
}
