//! `dhcp`: addresses from the DHCP servers of the pod's network.
//!
//! A lease has to be renewed for as long as the pod lives, so the plugin, which is started for one call, hands its calls
//! over to a daemon. Both are this program, and either can be exchanged for the reference's: they speak its protocol.
//!
//! * [`Dhcp`]: the plugin, an address plugin as any other.
//! * [`daemon`]: `dhcp daemon`.
//!
//! Between them: `messages` over `rpc` in `gob`. DHCP itself is [`podwire_dhcp`].

mod config;
pub mod daemon;
mod gob;
mod messages;
mod plugin;
pub mod rehearsal;
mod rpc;

pub use config::DhcpConfig;
pub use plugin::Dhcp;
