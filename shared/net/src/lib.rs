//! What podwire asks of the kernel: namespaces, links, addresses, routes, sysctls and nftables.
//!
//! The only crate that names `rtnetlink`, `netlink-packet-*` and `nix`, so that a change of theirs ends here.
//!
//! * [`Netns`] is a handle of a network namespace; [`Netns::run`] is the only way into another one.
//! * [`Net`] is a netlink connection that stays in the namespace where it was opened.
//! * [`nft`] programs nftables in one transaction.
//!
//! Every error is an [`Error`] that names object, operation, errno and the kernel's own words.

mod address;
mod attribute;
mod bond;
mod bond_choice;
mod bridge;
mod clock;
mod datagram;
mod error;
mod ethtool;
mod fdb;
pub mod intercept;
mod ipvlan;
mod link;
mod link_message;
mod links;
mod lock;
mod macvlan;
mod memory;
mod message;
mod net;
mod netns;
pub mod nft;
mod note;
mod notification;
mod number;
mod packet;
mod probe;
pub mod raw;
pub mod rehearsal;
mod release;
mod route;
pub mod runtime;
mod socket;
mod sweep;
mod sysctl;
mod termination;
mod vlan;
mod vxlan;

pub use address::Address;
pub use bond::{Bond, BondPort};
pub use bond_choice::{
    AdSelect, ArpValidate, BondMode, Choice, FailOverMac, LacpRate, PrimaryReselect, XmitHashPolicy,
};
pub use bridge::{PortChange, Vlan};
pub use clock::since_boot;
pub use datagram::{RouterSocket, udp_socket};
pub use error::{Error, Result};
pub use ethtool::{set_tx_checksum, tx_checksum};
pub use fdb::{FLOOD, Fdb, FdbFound};
pub use ipvlan::{Flag as IpVlanFlag, IpVlan, Mode as IpVlanMode};
pub use link::{Device, Kind, Link, LinkChange, LinkSpec, Port};
pub use lock::NetnsLock;
pub use macvlan::{MacVlan, Mode as MacVlanMode};
pub use memory::Memory;
pub use net::Net;
pub use netns::Netns;
pub use nix::errno::Errno;
pub use note::is_of_this_build;
pub use packet::PacketSocket;
pub use probe::Prober;
pub use route::RouteEntry;
pub use sysctl::{read as read_sysctl, write as write_sysctl};
pub use termination::{Termination, Woken};
pub use vlan::{VlanDevice, VlanProtocol};
pub use vxlan::{Df, FromPacket, Vxlan};
