//! Traffic: the proof that a network does what its configuration says.

mod build;
mod capture;
pub mod dhcp;
mod frame;
mod ping;
mod stream;
mod vxlan;

pub use build::{arp_request, echo_request, ethernet, router_advertisement, udp_broadcast, unsolicited_na};
pub use capture::{Capture, inject, inject_all};
pub use dhcp::Dhcp;
pub use frame::{BROADCAST, Body, Frame, Tag};
pub use ping::{Ping, Pings, isolated, reaches};
pub use stream::{peer_seen_by_tcp, peer_seen_by_udp};
pub use vxlan::Carried;
