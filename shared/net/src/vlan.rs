//! VLAN devices: what they send leaves their parent with a tag, what comes to the parent with that tag is theirs.
//!
//! The kernel knows one device for each parent, protocol and id, in whatever namespace it is.

use std::{collections::BTreeMap, fmt};

use netlink_packet_route::link::{self as wire, InfoVlan, VlanFlags, VlanQosMapping};

use crate::{
    Link,
    link::{Device, Kind},
};

/// The type's name.
const KIND: &str = "vlan";

/// A VLAN device's options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanDevice {
    /// The number in the tag, 0 to 4094.
    pub id: u16,
    /// The kind of tag.
    pub protocol: VlanProtocol,
    /// Who looks at the device's frames sees them without the tag.
    pub reorder_header: bool,
    /// The kernel's priority of a packet by the tag's (0 to 7) in which it came; what is not listed gets 0.
    pub ingress: BTreeMap<u32, u32>,
    /// The tag's priority (0 to 7) by the kernel's of a packet that leaves; what is not listed gets 0.
    pub egress: BTreeMap<u32, u32>,
}

/// The kind of tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VlanProtocol {
    /// The customer tag of 802.1Q, `EtherType` 0x8100.
    Q,
    /// The service tag of 802.1ad, `EtherType` 0x88a8, which may have a customer's inside.
    Ad,
}

impl fmt::Display for VlanProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Q => "802.1q",
            Self::Ad => "802.1ad",
        })
    }
}

impl VlanDevice {
    /// A device that tags with `id`, and all else by default.
    pub fn new(id: u16, protocol: VlanProtocol) -> Self {
        Self { id, protocol, reorder_header: true, ingress: BTreeMap::new(), egress: BTreeMap::new() }
    }

    /// The same for the kernel.
    pub fn kind(&self) -> Kind<'static> {
        let protocol = match self.protocol {
            VlanProtocol::Q => wire::VlanProtocol::Ieee8021Q,
            VlanProtocol::Ad => wire::VlanProtocol::Ieee8021Ad,
        };
        let mut flags = VlanFlags::empty();
        flags.set(VlanFlags::ReorderHdr, self.reorder_header);
        let mut data =
            vec![InfoVlan::Id(self.id), InfoVlan::Protocol(protocol), InfoVlan::Flags((flags, VlanFlags::ReorderHdr))];
        let mappings =
            |map: &BTreeMap<u32, u32>| map.iter().map(|(&from, &to)| VlanQosMapping::Mapping(from, to)).collect();
        data.push(InfoVlan::IngressQos(mappings(&self.ingress)));
        data.push(InfoVlan::EgressQos(mappings(&self.egress)));
        Kind::Device(Device::new(KIND, &data))
    }

    /// The options of a link; `None` for one that is no VLAN device.
    pub fn of(link: &Link) -> Option<Self> {
        let data = link.options(KIND)?;
        let mut device = Self { reorder_header: false, ..Self::new(0, VlanProtocol::Q) };
        for option in &data {
            match option {
                InfoVlan::Id(id) => device.id = *id,
                InfoVlan::Protocol(wire::VlanProtocol::Ieee8021Ad) => device.protocol = VlanProtocol::Ad,
                InfoVlan::Flags((flags, _)) => device.reorder_header = flags.contains(VlanFlags::ReorderHdr),
                InfoVlan::IngressQos(mappings) => device.ingress = map(mappings),
                InfoVlan::EgressQos(mappings) => device.egress = map(mappings),
                _ => {}
            }
        }
        Some(device)
    }

    /// Whether both are for the same frames, so that one parent can have only one of them.
    pub fn is_same_vlan(&self, other: &Self) -> bool {
        (self.id, self.protocol) == (other.id, other.protocol)
    }

    /// The first option in which `found` is another: its name in the configuration, what is here, and what is there.
    pub fn difference(&self, found: &Self) -> Option<(&'static str, String, String)> {
        let options = |device: &Self| {
            [
                ("vlanId", device.id.to_string()),
                ("protocol", device.protocol.to_string()),
                ("reorderHeader", device.reorder_header.to_string()),
                ("ingressQosMap", text(&device.ingress)),
                ("egressQosMap", text(&device.egress)),
            ]
        };
        let mut pairs = options(self).into_iter().zip(options(found));
        pairs.find(|(here, there)| here != there).map(|((name, here), (_, there))| (name, here, there))
    }
}

/// What maps to 0, which all does by default, the kernel does not always tell; it is left out.
fn map(mappings: &[VlanQosMapping]) -> BTreeMap<u32, u32> {
    let pairs = mappings.iter().filter_map(|mapping| match mapping {
        VlanQosMapping::Mapping(from, to) if *to != 0 => Some((*from, *to)),
        _ => None,
    });
    pairs.collect()
}

/// As `ip link` writes and reads it: `0:3 6:5`.
fn text(map: &BTreeMap<u32, u32>) -> String {
    let pairs: Vec<_> = map.iter().map(|(from, to)| format!("{from}:{to}")).collect();
    if pairs.is_empty() { "none".to_owned() } else { pairs.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> VlanDevice {
        VlanDevice {
            reorder_header: false,
            ingress: BTreeMap::from([(3, 5)]),
            egress: BTreeMap::from([(0, 3), (6, 5)]),
            ..VlanDevice::new(100, VlanProtocol::Ad)
        }
    }

    #[test]
    fn what_is_asked_for_is_read_back() {
        let Kind::Device(made) = device().kind() else { panic!("a device") };
        assert_eq!(VlanDevice::of(&made.link()), Some(device()));
        assert_eq!(VlanDevice::of(&Link::default()), None);
    }

    #[test]
    fn the_first_difference_is_named() {
        assert_eq!(device().difference(&device()), None);
        let other = VlanDevice { egress: BTreeMap::new(), ..device() };
        let named = ("egressQosMap", "0:3 6:5".to_owned(), "none".to_owned());
        assert_eq!(device().difference(&other), Some(named));
    }
}
