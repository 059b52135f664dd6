//! Ports of a bridge: their options, their VLANs, and when they pass frames.

use std::time::Duration;

use netlink_packet_core::NLM_F_DUMP;
use nix::errno::Errno;
use rtnetlink::MulticastGroup;

use crate::{
    Error, Link, Net, Result,
    attribute::attributes,
    link_message::{LinkRequest, brport, ifla},
    links::links,
    message::Message,
    notification::Notification,
};

/// `RTEXT_FILTER_BRVLAN_COMPRESSED` in `linux/rtnetlink.h`: a bridge's ports with their VLANs, in ranges.
const VLANS_IN_RANGES: u32 = 1 << 2;

/// `IFLA_BRIDGE_...` in `linux/if_bridge.h`, and what they hold.
mod spec {
    pub(super) const FLAGS: u16 = 0;
    pub(super) const OF_BRIDGE: u16 = 1 << 1;
    pub(super) const VLAN_INFO: u16 = 2;
    pub(super) const PVID: u16 = 1 << 1;
    pub(super) const UNTAGGED: u16 = 1 << 2;
    pub(super) const RANGE_BEGIN: u16 = 1 << 3;
    pub(super) const RANGE_END: u16 = 1 << 4;
}

/// Options of a port to change; what is `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct PortChange {
    /// Frames may leave where they came in.
    pub hairpin: Option<bool>,
    /// It talks only to ports that are not isolated.
    pub isolated: Option<bool>,
    /// The bridge answers ARP and neighbour discovery for it where it can, and then does not pass them on to it.
    pub neigh_suppress: Option<bool>,
}

/// VLANs of a port, or of the bridge itself: one id or a range of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vlan {
    /// The first id.
    pub first: u16,
    /// The last id, the same as the first for one.
    pub last: u16,
    /// Frames that come in without a tag are of this VLAN.
    pub pvid: bool,
    /// Frames leave without the tag.
    pub untagged: bool,
}

impl Vlan {
    /// The VLAN of an access port.
    pub fn access(id: u16) -> Self {
        Self { first: id, last: id, pvid: true, untagged: true }
    }

    /// A range of a trunk port.
    pub fn trunk(first: u16, last: u16) -> Self {
        Self { first, last, pvid: false, untagged: false }
    }

    /// `struct bridge_vlan_info`, once or twice: flags and id.
    fn infos(self) -> Vec<[u8; 4]> {
        let flags = if self.pvid { spec::PVID } else { 0 } | if self.untagged { spec::UNTAGGED } else { 0 };
        let one = |id: u16, range: u16| {
            let ([a, b], [c, d]) = ((flags | range).to_ne_bytes(), id.to_ne_bytes());
            [a, b, c, d]
        };
        if self.first == self.last {
            return vec![one(self.first, 0)];
        }
        vec![one(self.first, spec::RANGE_BEGIN), one(self.last, spec::RANGE_END)]
    }
}

impl Net {
    /// Changes options of a port of a bridge.
    ///
    /// # Errors
    /// Of the request.
    pub fn change_port(&self, index: u32, change: PortChange) -> Result<()> {
        let options = [
            (brport::HAIRPIN, change.hairpin),
            (brport::ISOLATED, change.isolated),
            (brport::NEIGH_SUPPRESS, change.neigh_suppress),
        ];
        let mut message = LinkRequest::at(index);
        message.bridge_port(|port| {
            for (option, wanted) in options {
                wanted.inspect(|on| port.u8(option, (*on).into()));
            }
        });
        let message = Message::NewLink(message);
        self.request(|| format!("port number {index}"), "change", message, 0).map(drop)
    }

    /// Makes a bridge filter VLANs.
    ///
    /// # Errors
    /// EOPNOTSUPP where the kernel was built without it.
    pub fn enable_vlan_filtering(&self, bridge: &Link) -> Result<()> {
        let mut message = LinkRequest::at(bridge.index);
        message.filter_vlans();
        let message = Message::NewLink(message);
        self.request(|| format!("bridge {:?}", bridge.name), "filter VLANs on", message, 0).map(drop)
    }

    /// Adds a VLAN to a port; with `of_bridge` to the bridge's own side instead.
    ///
    /// # Errors
    /// Of the request.
    pub fn add_vlan(&self, index: u32, vlan: Vlan, of_bridge: bool) -> Result<()> {
        let message = Message::SetLink(vlan_message(index, vlan, of_bridge));
        self.request(|| vlan_name(index, vlan), "add", message, 0).map(drop)
    }

    /// Takes a VLAN from a port; with `of_bridge` from the bridge's own side instead.
    ///
    /// # Errors
    /// Of the request.
    pub fn delete_vlan(&self, index: u32, vlan: Vlan, of_bridge: bool) -> Result<()> {
        let message = Message::DelLink(vlan_message(index, vlan, of_bridge));
        self.request(|| vlan_name(index, vlan), "delete", message, 0).map(drop)
    }

    /// The VLANs of a port, or of a bridge's own side, ranges folded.
    ///
    /// # Errors
    /// Of the request.
    pub fn vlans(&self, index: u32) -> Result<Vec<Vlan>> {
        let mut message = LinkRequest::about_vlans(0);
        message.attributes.u32(ifla::EXT_MASK, VLANS_IN_RANGES);
        let message = Message::GetLink(message);
        let answers = self.request(|| "VLANs of bridges' ports".to_owned(), "list", message, NLM_F_DUMP)?;
        Ok(links(answers).filter(|link| link.index == index).flat_map(|link| link.vlans()).collect())
    }

    /// Waits until the bridge has taken a port into service, which it does a moment after the link got its carrier:
    /// frames that come earlier are lost. A port without carrier would never come, so both ends of a veth must be up.
    ///
    /// # Errors
    /// ENODEV where the link is gone, ETIMEDOUT after five seconds: it normally takes well under one millisecond.
    pub async fn wait_for_port(&self, index: u32) -> Result<Link> {
        let object = format!("port number {index}");
        let look = || {
            let link = self.link_at(index)?.ok_or_else(|| Error::new(&object, "wait for", Errno::ENODEV))?;
            let in_service = link.operational && link.port.is_none_or(|port| port.enabled);
            Ok(in_service.then_some(link))
        };
        // Before it is operational it cannot be in service, and there is nothing to look at, unless it is gone.
        let news = |event: Notification<'_>| event.is_about(index) && (event.is_operational() || event.is_end());
        self.wait(&object, (MulticastGroup::Link, news), Duration::from_secs(5), look).await
    }
}

fn vlan_name(index: u32, vlan: Vlan) -> String {
    format!("VLAN {}-{} of port number {index}", vlan.first, vlan.last)
}

fn vlan_message(index: u32, vlan: Vlan, of_bridge: bool) -> LinkRequest {
    let mut message = LinkRequest::about_vlans(index);
    message.attributes.nested(ifla::AF_SPEC, |attributes| {
        if of_bridge {
            attributes.u16(spec::FLAGS, spec::OF_BRIDGE);
        }
        vlan.infos().iter().for_each(|info| attributes.bytes(spec::VLAN_INFO, info));
    });
    message
}

impl Link {
    /// For a port of a bridge, or a bridge's own side, where they were asked for: its VLANs. Of a range the kernel tells
    /// the ends.
    pub(crate) fn vlans(&self) -> Vec<Vlan> {
        let (mut vlans, mut first) = (Vec::new(), 0);
        for (_, info) in attributes(&self.vlans).filter(|(kind, _)| *kind == spec::VLAN_INFO) {
            let &[a, b, c, d] = info else { continue };
            let (flags, id) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
            if flags & spec::RANGE_BEGIN != 0 {
                first = id;
                continue;
            }
            vlans.push(Vlan {
                first: if flags & spec::RANGE_END != 0 { first } else { id },
                last: id,
                pvid: flags & spec::PVID != 0,
                untagged: flags & spec::UNTAGGED != 0,
            });
        }
        vlans
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;

    use super::*;

    #[test]
    fn the_vlans_that_are_set_are_read_back() {
        for vlan in
            [Vlan::access(7), Vlan::trunk(100, 200), Vlan::trunk(5, 5), Vlan { untagged: true, ..Vlan::trunk(1, 4094) }]
        {
            for of_bridge in [false, true] {
                let message = vlan_message(3, vlan, of_bridge);
                let mut bytes = vec![0; message.buffer_len()];
                message.emit(&mut bytes);
                assert_eq!(Link::parse(&bytes).unwrap().vlans(), [vlan]);
            }
        }
    }
}
