//! Ports of a bridge: their options, their VLANs, and when they pass frames.

use std::time::Duration;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::{
    AddressFamily,
    link::{
        AfSpecBridge, BridgeFlag, BridgeVlanInfo, BridgeVlanInfoFlags, InfoBridge, InfoBridgePort, InfoData, InfoKind,
        InfoPortData, InfoPortKind, LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage,
    },
};
use nix::errno::Errno;
use rtnetlink::MulticastGroup;

use crate::{Error, Link, Net, Result, message::Message};

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

    fn attributes(self) -> Vec<AfSpecBridge> {
        let mut flags = BridgeVlanInfoFlags::empty();
        flags.set(BridgeVlanInfoFlags::Pvid, self.pvid);
        flags.set(BridgeVlanInfoFlags::Untagged, self.untagged);
        let one = |vid, range| AfSpecBridge::VlanInfo(BridgeVlanInfo { flags: flags | range, vid });
        if self.first == self.last {
            return vec![one(self.first, BridgeVlanInfoFlags::empty())];
        }
        vec![one(self.first, BridgeVlanInfoFlags::RangeBegin), one(self.last, BridgeVlanInfoFlags::RangeEnd)]
    }
}

impl Net {
    /// Changes options of a port of a bridge.
    ///
    /// # Errors
    /// Of the request.
    pub async fn change_port(&self, index: u32, change: PortChange) -> Result<()> {
        let options = [
            change.hairpin.map(InfoBridgePort::HairpinMode),
            change.isolated.map(InfoBridgePort::Isolated),
            change.neigh_suppress.map(InfoBridgePort::NeighSupress),
        ];
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(options.into_iter().flatten().collect())),
        ]));
        let message = Message::NewLink(message);
        self.request(|| format!("port number {index}"), "change", message, 0).await.map(drop)
    }

    /// Makes a bridge filter VLANs.
    ///
    /// # Errors
    /// EOPNOTSUPP where the kernel was built without it.
    pub async fn enable_vlan_filtering(&self, bridge: &Link) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = bridge.index;
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)])),
        ]));
        let message = Message::NewLink(message);
        self.request(|| format!("bridge {:?}", bridge.name), "filter VLANs on", message, 0).await.map(drop)
    }

    /// Adds a VLAN to a port; with `of_bridge` to the bridge's own side instead.
    ///
    /// # Errors
    /// Of the request.
    pub async fn add_vlan(&self, index: u32, vlan: Vlan, of_bridge: bool) -> Result<()> {
        let message = Message::SetLink(vlan_message(index, vlan, of_bridge));
        self.request(|| vlan_name(index, vlan), "add", message, 0).await.map(drop)
    }

    /// Takes a VLAN from a port; with `of_bridge` from the bridge's own side instead.
    ///
    /// # Errors
    /// Of the request.
    pub async fn delete_vlan(&self, index: u32, vlan: Vlan, of_bridge: bool) -> Result<()> {
        let message = Message::DelLink(vlan_message(index, vlan, of_bridge));
        self.request(|| vlan_name(index, vlan), "delete", message, 0).await.map(drop)
    }

    /// The VLANs of a port, or of a bridge's own side, ranges folded.
    ///
    /// # Errors
    /// Of the request.
    pub async fn vlans(&self, index: u32) -> Result<Vec<Vlan>> {
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::BrvlanCompressed]));
        let message = Message::GetLink(message);
        let answers = self.request(|| "VLANs of bridges' ports".to_owned(), "list", message, NLM_F_DUMP).await?;
        let mut vlans = Vec::new();
        for answer in answers {
            let Message::NewLink(link) = answer else { continue };
            if link.header.index != index {
                continue;
            }
            for attribute in link.attributes {
                let LinkAttribute::AfSpecBridge(entries) = attribute else { continue };
                fold(&entries, &mut vlans);
            }
        }
        Ok(vlans)
    }

    /// Waits until the bridge has taken a port into service, which it does a moment after the link got its carrier:
    /// frames that come earlier are lost. A port without carrier would never come, so both ends of a veth must be up.
    ///
    /// # Errors
    /// ENODEV where the link is gone, ETIMEDOUT after five seconds: it normally takes well under one millisecond.
    pub async fn wait_for_port(&self, index: u32) -> Result<Link> {
        let object = format!("port number {index}");
        let look = async || {
            let link = self.link_at(index).await?.ok_or_else(|| Error::new(&object, "wait for", Errno::ENODEV))?;
            let in_service = link.operational && link.port.is_none_or(|port| port.enabled);
            Ok(in_service.then_some(link))
        };
        self.wait(&object, MulticastGroup::Link, Duration::from_secs(5), look).await
    }
}

fn vlan_name(index: u32, vlan: Vlan) -> String {
    format!("VLAN {}-{} of port number {index}", vlan.first, vlan.last)
}

fn vlan_message(index: u32, vlan: Vlan, of_bridge: bool) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = index;
    let mut spec = vlan.attributes();
    if of_bridge {
        spec.insert(0, AfSpecBridge::Flags(BridgeFlag::LowerDev));
    }
    message.attributes.push(LinkAttribute::AfSpecBridge(spec));
    message
}

/// Puts ranges together that the kernel sends as two entries.
fn fold(entries: &[AfSpecBridge], vlans: &mut Vec<Vlan>) {
    let mut first = 0;
    for entry in entries {
        let AfSpecBridge::VlanInfo(info) = entry else { continue };
        if info.flags.contains(BridgeVlanInfoFlags::RangeBegin) {
            first = info.vid;
            continue;
        }
        let in_range = info.flags.contains(BridgeVlanInfoFlags::RangeEnd);
        vlans.push(Vlan {
            first: if in_range { first } else { info.vid },
            last: info.vid,
            pvid: info.flags.contains(BridgeVlanInfoFlags::Pvid),
            untagged: info.flags.contains(BridgeVlanInfoFlags::Untagged),
        });
    }
}
