//! Who is where: the forwarding entries of a VXLAN device (MAC address to other end), and neighbour entries (address to
//! MAC address).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    route::RouteProtocol,
};
use podwire_spec::Mac;

use crate::{Net, Result, message::Message};

/// The MAC address of a flooding entry: where frames go whose destination is not known.
pub const FLOOD: Mac = Mac([0; 6]);

/// What the neighbour entries that we add say of who added them: a number that no routing daemon uses
/// (`RTPROT_*` in `linux/rtnetlink.h`).
const OURS: RouteProtocol = RouteProtocol::Other(112);

/// `NUD_NOARP | NUD_REACHABLE`: what `bridge fdb add ... static` says. It does not age, and the bridge does not take it
/// for an address of its own.
const STATIC: NeighbourState = NeighbourState::Other(0x42);

/// A forwarding entry of a VXLAN device: frames to `mac` go to `dst`. Of [`FLOOD`] there may be several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fdb {
    /// The MAC address, or [`FLOOD`].
    pub mac: Mac,
    /// The other end's address.
    pub dst: IpAddr,
    /// The VNI that it is sent with, where that is not the device's.
    pub vni: Option<u32>,
    /// The UDP port that it is sent to, where that is not the device's.
    pub port: Option<u16>,
}

/// A forwarding entry as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbFound {
    /// The entry.
    pub entry: Fdb,
    /// The device has learnt it from a frame, and will forget it.
    pub learnt: bool,
}

/// `MAC>ADDRESS`, then `+VNI` and `@PORT` where they are not the device's.
impl fmt::Display for Fdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}>{}", self.mac, self.dst)?;
        self.vni.map_or(Ok(()), |vni| write!(f, "+{vni}"))?;
        self.port.map_or(Ok(()), |port| write!(f, "@{port}"))
    }
}

impl FromStr for Fdb {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        fn number<T: FromStr>(text: &str) -> std::result::Result<T, ()> {
            text.parse().map_err(drop)
        }
        let (mac, rest) = text.split_once('>').ok_or(())?;
        let (rest, port) = rest.split_once('@').map_or((rest, None), |(rest, port)| (rest, Some(port)));
        let (dst, vni) = rest.split_once('+').map_or((rest, None), |(dst, vni)| (dst, Some(vni)));
        Ok(Self {
            mac: if mac == FLOOD.to_string() { FLOOD } else { number(mac)? },
            dst: number(dst)?,
            vni: vni.map(number).transpose()?,
            port: port.map(number).transpose()?,
        })
    }
}

impl Net {
    /// The forwarding entries of the VXLAN device with this index.
    ///
    /// # Errors
    /// Of the request.
    pub fn fdb(&self, index: u32) -> Result<Vec<FdbFound>> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.attributes.push(NeighbourAttribute::IfIndex(index));
        let object = || format!("forwarding entries of link number {index}");
        let answers = self.request(object, "list", Message::GetNeighbour(message), NLM_F_DUMP)?;
        Ok(neighbours(answers)
            .filter(|message| message.header.ifindex == index)
            .filter_map(|one| found(&one))
            .collect())
    }

    /// Adds a forwarding entry: one for [`FLOOD`] beside others, any other instead of what is there for its MAC
    /// address. With `in_bridge` the bridge that the device is a port of knows of it too, and does not flood.
    ///
    /// # Errors
    /// EAFNOSUPPORT where the device's packets are of the other IP version.
    pub fn add_fdb(&self, index: u32, entry: Fdb, in_bridge: bool) -> Result<()> {
        let (kind, state) =
            if entry.mac == FLOOD { (NLM_F_APPEND, NeighbourState::Permanent) } else { (NLM_F_REPLACE, STATIC) };
        let mut message = fdb_message(index, entry);
        message.header.state = state;
        message.header.flags.set(NeighbourFlags::Controller, in_bridge && entry.mac != FLOOD);
        let message = Message::NewNeighbour(message);
        self.request(|| name(index, entry), "add", message, NLM_F_CREATE | kind).map(drop)
    }

    /// Removes a forwarding entry, from the device and from its bridge. One that is not there is no error.
    ///
    /// # Errors
    /// Of the request.
    pub fn delete_fdb(&self, index: u32, entry: Fdb) -> Result<()> {
        let places: &[NeighbourFlags] = if entry.mac == FLOOD {
            &[NeighbourFlags::Own]
        } else {
            &[NeighbourFlags::Own, NeighbourFlags::Controller]
        };
        for &place in places {
            let mut message = fdb_message(index, entry);
            message.header.flags = place;
            match self.request(|| name(index, entry), "delete", Message::DelNeighbour(message), 0) {
                // EOPNOTSUPP: it is no port of a bridge.
                Err(error) if !error.is_absent() && !error.is(crate::Errno::EOPNOTSUPP) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The neighbour entries of the link with this index that [`Self::add_neighbour`] made.
    ///
    /// # Errors
    /// Of the request.
    pub fn own_neighbours(&self, index: u32) -> Result<Vec<(IpAddr, Mac)>> {
        let mut all = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = NeighbourMessage::default();
            message.header.family = family;
            message.attributes.push(NeighbourAttribute::IfIndex(index));
            let message = Message::GetNeighbour(message);
            let answers = self.request(|| "neighbours".to_owned(), "list", message, NLM_F_DUMP)?;
            let ours = neighbours(answers).filter(|message| {
                message.header.ifindex == index && message.attributes.contains(&NeighbourAttribute::Protocol(OURS))
            });
            all.extend(ours.filter_map(|message| Some((destination(&message)?, mac(&message)?))));
        }
        Ok(all)
    }

    /// Adds a neighbour entry, which stays until it is removed and is known as ours; one for the same address is
    /// replaced.
    ///
    /// # Errors
    /// Of the request.
    pub fn add_neighbour(&self, index: u32, ip: IpAddr, mac: Mac) -> Result<()> {
        let mut message = neighbour_message(index, ip);
        message.header.state = NeighbourState::Permanent;
        message
            .attributes
            .extend([NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()), NeighbourAttribute::Protocol(OURS)]);
        let message = Message::NewNeighbour(message);
        self.request(|| neighbour(index, ip), "add", message, NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }

    /// Removes a neighbour entry. One that is not there is no error.
    ///
    /// # Errors
    /// Of the request.
    pub fn delete_neighbour(&self, index: u32, ip: IpAddr) -> Result<()> {
        let message = Message::DelNeighbour(neighbour_message(index, ip));
        match self.request(|| neighbour(index, ip), "delete", message, 0) {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(()),
        }
    }
}

fn name(index: u32, entry: Fdb) -> String {
    format!("forwarding entry \"{entry}\" of link number {index}")
}

fn neighbour(index: u32, ip: IpAddr) -> String {
    format!("neighbour \"{ip}\" of link number {index}")
}

fn fdb_message(index: u32, entry: Fdb) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.flags = NeighbourFlags::Own;
    let attributes = &mut message.attributes;
    attributes.push(NeighbourAttribute::LinkLayerAddress(entry.mac.0.to_vec()));
    attributes.push(NeighbourAttribute::Destination(entry.dst.into()));
    attributes.extend(entry.vni.map(NeighbourAttribute::Vni));
    attributes.extend(entry.port.map(NeighbourAttribute::Port));
    message
}

fn neighbour_message(index: u32, ip: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = index;
    message.attributes.push(NeighbourAttribute::Destination(ip.into()));
    message
}

fn neighbours(answers: Vec<Message>) -> impl Iterator<Item = NeighbourMessage> {
    answers.into_iter().filter_map(|answer| match answer {
        Message::NewNeighbour(message) => Some(message),
        _ => None,
    })
}

fn found(message: &NeighbourMessage) -> Option<FdbFound> {
    let mut entry = Fdb { mac: mac(message)?, dst: destination(message)?, vni: None, port: None };
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Vni(vni) => entry.vni = Some(*vni),
            NeighbourAttribute::Port(port) => entry.port = Some(*port),
            _ => {}
        }
    }
    let learnt = matches!(message.header.state, NeighbourState::Reachable | NeighbourState::Stale);
    Some(FdbFound { entry, learnt })
}

fn mac(message: &NeighbourMessage) -> Option<Mac> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok().map(Mac),
        _ => None,
    })
}

/// The library knows which IP version an address is of from the message's family, which says nothing for a bridge's.
fn destination(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some((*ip).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some((*ip).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
            let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(|bytes| Ipv4Addr::from(bytes).into());
            v4.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(|bytes| Ipv6Addr::from(bytes).into())).ok()
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_back_from_its_text() {
        let entry = |mac, dst: &str, vni, port| Fdb { mac, dst: dst.parse().expect("an address"), vni, port };
        let mac = Mac([2, 0, 0, 0, 0, 7]);
        for entry in [
            entry(FLOOD, "192.0.2.1", None, None),
            entry(mac, "2001:db8::1", Some(7), None),
            entry(mac, "192.0.2.1", None, Some(8472)),
            entry(mac, "2001:db8:1111:2222:3333:4444:5555:6666", Some(0x00ff_ffff), Some(65535)),
        ] {
            let text = entry.to_string();
            assert_eq!(text.parse(), Ok(entry), "{text}");
            assert!(text.len() <= 74, "{text}");
        }
        for text in ["", "x", "02:00:00:00:00:07", "02:00:00:00:00:07>", "02:00:00:00:00:07>192.0.2.1+x"] {
            assert_eq!(text.parse::<Fdb>(), Err(()), "{text}");
        }
    }
}
