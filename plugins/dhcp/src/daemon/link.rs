//! The pod's link, kept as the lease says.

use podwire_dhcp::Place;
use podwire_net::{Errno, LinkChange};
use podwire_spec::Route;

use super::family::Setup;

/// Sets the MTU that the server says, where it says one. What the link cannot have is told in the log and no failure:
/// the address is good with the other MTU, too.
///
/// # Errors
/// Where namespace or link are no more.
pub(super) fn set_mtu(place: &Place, mtu: Option<u32>) -> podwire_dhcp::Result<()> {
    let Some(mtu) = mtu else { return Ok(()) };
    let (net, link) = place.link()?;
    if link.mtu != mtu
        && let Err(error) = net.change_link(link.index, &LinkChange { mtu: Some(mtu), ..LinkChange::default() })
    {
        tracing::warn!("link {:?}: the MTU {mtu} that the DHCP server says cannot be set: {error}", link.name);
    }
    Ok(())
}

/// Makes of a link that is as `before` says one that is as `after` says. What somebody else has removed or made already
/// is left as it is; of the rest everything is tried, and the first error told.
///
/// # Errors
/// Of the kernel, and where namespace or link are no more.
pub(super) fn follow(place: &Place, before: &Setup, after: &Setup) -> podwire_dhcp::Result<()> {
    let (net, link) = place.link()?;
    let mut errors = Vec::new();
    for route in before.routes.iter().filter(|route| !after.routes.contains(route)) {
        errors.extend(net.delete_route(link.index, route).err());
    }
    // First those that go: to remove an address takes along every later one of its network.
    for address in before.addresses.iter().filter(|address| !after.addresses.contains(address)) {
        errors.extend(net.delete_address(link.index, *address).err());
    }
    for address in after.addresses.iter().filter(|address| !before.addresses.contains(address)) {
        errors.extend(net.add_address(link.index, *address, false).err());
    }
    // All of them, since those that stay may have gone along with an address.
    let (on_link, by_gateway): (Vec<&Route>, Vec<_>) = after.routes.iter().partition(|route| route.gw.is_none());
    for route in on_link.into_iter().chain(by_gateway) {
        errors.extend(net.add_route(link.index, route).err());
    }
    set_mtu(place, after.mtu.filter(|_| after.mtu != before.mtu))?;
    errors.retain(|error| !error.is(Errno::EEXIST));
    errors.into_iter().next().map_or(Ok(()), |error| Err(error.into()))
}
