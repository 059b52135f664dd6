//! Links, addresses and routes: the messages, and which of them an ADD and a DEL need at the least.

use std::fs::File;
use std::io::Result;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use nix::libc::{
    AF_INET, AF_INET6, AF_UNSPEC, IFF_UP, NLM_F_CREATE, NLM_F_EXCL, RT_SCOPE_UNIVERSE, RT_TABLE_MAIN, RTM_DELLINK,
    RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE, RTM_SETLINK, RTN_UNICAST, RTPROT_BOOT,
};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::SockProtocol;

use crate::message::{Message, Socket};
use crate::order::{Device, Order};

// linux/if_link.h
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NEW_IFINDEX: u16 = 49;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_BOND_MODE: u16 = 1;
const IFLA_BOND_MIIMON: u16 = 3;
// linux/veth.h
const VETH_INFO_PEER: u16 = 1;
// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 2;
// linux/rtnetlink.h
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

/// The index that the device gets in the pod. Whoever chooses it need not ask for it; no fresh namespace has so many.
const INDEX: i32 = 1000;
/// A port has this and its number: the kernel takes the index of one end of a veth only with that of the other.
const PORTS: i32 = 10_000;

/// Makes the device and gives it addresses and routes.
pub(crate) fn add(order: &Order) -> Result<()> {
    let node = Socket::open(SockProtocol::NetlinkRoute)?;
    let netns = File::open(&order.netns)?;
    make(&node, order, &netns)?;
    let pod = in_the_pod(&netns)?;
    let up = link(RTM_NEWLINK, 0, INDEX, IFF_UP);
    let addresses = order.addresses.iter().map(|(ip, prefix)| address(*ip, *prefix));
    let routes = order.gateways.iter().map(|gateway| default_route(*gateway));
    pod.ask(std::iter::once(up).chain(addresses).chain(routes).collect())
}

/// Deletes the device, and puts back what was lent.
pub(crate) fn del(order: &Order) -> Result<()> {
    if let Device::Port { .. } = order.device {
        let node = Socket::open(SockProtocol::NetlinkRoute)?;
        return node.ask(vec![link(RTM_DELLINK, 0, 0, 0).text(IFLA_IFNAME, &order.port_name())]);
    }
    let here = File::open("/proc/self/ns/net")?;
    let pod = in_the_pod(&File::open(&order.netns)?)?;
    pod.ask(vec![link(RTM_DELLINK, 0, 0, 0).text(IFLA_IFNAME, &order.ifname)])?;
    if let Device::Bond(links) = &order.device {
        for name in links {
            let back = link(RTM_SETLINK, 0, 0, IFF_UP).text(IFLA_IFNAME, name);
            pod.ask(vec![back.with(IFLA_NET_NS_FD, &number(here.as_raw_fd()))])?;
        }
    }
    Ok(())
}

/// Makes the device in the pod, by a message on the node.
fn make(node: &Socket, order: &Order, netns: &File) -> Result<()> {
    let create = NLM_F_CREATE | NLM_F_EXCL;
    let netns = number(netns.as_raw_fd());
    let in_pod = |message: Message| message.text(IFLA_IFNAME, &order.ifname).with(IFLA_NET_NS_FD, &netns);
    let device = || in_pod(link(RTM_NEWLINK, create, INDEX, 0));
    // What the pod's device is above; there is none under a bond.
    let parent = || Ok::<_, std::io::Error>(index(if_nametoindex(order.parent.as_str())?));
    let kind = |message: Message, kind: &str, option: u16, value: &[u8]| {
        message.nest(IFLA_LINKINFO, &[], |info| {
            let info = info.with(IFLA_INFO_KIND, kind.as_bytes());
            info.nest(IFLA_INFO_DATA, &[], |data| data.with(option, value))
        })
    };
    let message = match &order.device {
        Device::Port { bridge } => {
            let bridge = index(if_nametoindex(bridge.as_str())?);
            let port = link(RTM_NEWLINK, create, PORTS + i32::from(order.port), IFF_UP);
            let port = port.text(IFLA_IFNAME, &order.port_name());
            port.with(IFLA_MASTER, &bridge).nest(IFLA_LINKINFO, &[], |info| {
                let info = info.with(IFLA_INFO_KIND, b"veth");
                info.nest(IFLA_INFO_DATA, &[], |data| data.nest(VETH_INFO_PEER, &link_body(INDEX, 0), in_pod))
            })
        }
        Device::MacVlan => {
            let mode_bridge = 4_u32.to_ne_bytes();
            kind(device().with(IFLA_LINK, &parent()?), "macvlan", IFLA_MACVLAN_MODE, &mode_bridge)
        }
        Device::IpVlan => {
            let mode_l2 = 0_u16.to_ne_bytes();
            kind(device().with(IFLA_LINK, &parent()?), "ipvlan", IFLA_IPVLAN_MODE, &mode_l2)
        }
        Device::Vlan(id) => kind(device().with(IFLA_LINK, &parent()?), "vlan", IFLA_VLAN_ID, &id.to_ne_bytes()),
        Device::Bond(links) => {
            let bond = device().nest(IFLA_LINKINFO, &[], |info| {
                let info = info.with(IFLA_INFO_KIND, b"bond");
                info.nest(IFLA_INFO_DATA, &[], |data| {
                    data.with(IFLA_BOND_MODE, &[1]).with(IFLA_BOND_MIIMON, &50_u32.to_ne_bytes())
                })
            });
            node.ask(vec![bond])?;
            return lend(node, links, &netns);
        }
    };
    node.ask(vec![message])
}

/// Moves links of the node to the pod, where they become ports of the bond.
fn lend(node: &Socket, links: &[String], netns: &[u8]) -> Result<()> {
    for (name, index) in links.iter().zip(INDEX + 1..) {
        let port = link(RTM_SETLINK, 0, 0, 0).text(IFLA_IFNAME, name).with(IFLA_NET_NS_FD, netns);
        // The master is looked up where the link is by then.
        node.ask(vec![port.with(IFLA_NEW_IFINDEX, &number(index)).with(IFLA_MASTER, &number(INDEX))])?;
    }
    Ok(())
}

/// A socket in the pod. The process stays there; there is nothing left for it to do on the node.
fn in_the_pod(netns: &File) -> Result<Socket> {
    setns(netns, CloneFlags::CLONE_NEWNET)?;
    Socket::open(SockProtocol::NetlinkRoute)
}

fn link(kind: u16, flags: i32, index: i32, up: i32) -> Message {
    Message::new(kind, flags, &link_body(index, up))
}

/// A `struct ifinfomsg`; `up` is `IFF_UP` or nothing.
fn link_body(index: i32, up: i32) -> [u8; 16] {
    let mut body = [0; 16];
    body[0] = byte(AF_UNSPEC);
    body[4..8].copy_from_slice(&number(index));
    body[8..12].copy_from_slice(&number(up));
    body[12..].copy_from_slice(&number(up));
    body
}

/// A `struct ifaddrmsg` and the address in it. Nobody waits for duplicate-address detection, which IPv4 has not.
fn address(ip: IpAddr, prefix: u8) -> Message {
    let (family, octets) = octets(ip);
    let mut body = [family, prefix, 0, 0, 0, 0, 0, 0];
    body[4..].copy_from_slice(&number(INDEX));
    let message = Message::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body);
    let message = message.with(IFA_LOCAL, &octets).with(IFA_ADDRESS, &octets);
    if ip.is_ipv6() { message.with(IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes()) } else { message }
}

/// A `struct rtmsg` and the gateway.
fn default_route(gateway: IpAddr) -> Message {
    let (family, octets) = octets(gateway);
    let mut body = [0; 12];
    body[0] = family;
    body[4..8].copy_from_slice(&[RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST]);
    let message = Message::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &body);
    message.with(RTA_GATEWAY, &octets).with(RTA_OIF, &number(INDEX))
}

fn octets(ip: IpAddr) -> (u8, Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => (byte(AF_INET), ip.octets().to_vec()),
        IpAddr::V6(ip) => (byte(AF_INET6), ip.octets().to_vec()),
    }
}

fn number(number: i32) -> [u8; 4] {
    number.to_ne_bytes()
}

fn index(index: u32) -> [u8; 4] {
    index.to_ne_bytes()
}

/// Families are ints in C, and one byte in a message.
fn byte(family: i32) -> u8 {
    u8::try_from(family).expect("a family is small")
}
