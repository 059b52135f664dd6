//! Traffic: the proof that a network does what its configuration says.

mod build;
mod capture;
mod frame;
mod ping;
mod stream;

pub use build::{arp_request, echo_request, ethernet, router_advertisement, unsolicited_na};
pub use capture::{Capture, inject};
pub use frame::{BROADCAST, Body, Frame, Tag};
pub use ping::{Ping, Pings, isolated, reaches};
pub use stream::{peer_seen_by_tcp, peer_seen_by_udp};
