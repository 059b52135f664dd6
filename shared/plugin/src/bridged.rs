//! Bonds as ports of bridges, where some modes do harm.

use podwire_net::{Bond, Choice, Link, Net};

use crate::Result;

/// Warns of every port of a bridge that is a bond of a mode that is no good there.
///
/// # Errors
/// Of the kernel.
pub fn warn_of_bonds_on(net: &Net, bridge: &Link) -> Result<()> {
    for port in net.ports(bridge.index)? {
        warn_of_bond(&port, bridge);
    }
    Ok(())
}

/// Warns if a link that is a port of a bridge is a bond of a mode that is no good there.
pub fn warn_of_bond(port: &Link, bridge: &Link) {
    if let Some((mode, harm)) = Bond::of(port).and_then(|bond| Some((bond.mode.name(), bond.mode.harm_to_bridge()?))) {
        let (bond, bridge) = (&port.name, &bridge.name);
        tracing::warn!(
            "bond {bond:?} of mode {mode:?} is a port of bridge {bridge:?}: {harm}; modes \"active-backup\", \
             \"balance-xor\" and \"802.3ad\" do better there"
        );
    }
}
