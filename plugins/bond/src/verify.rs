//! CHECK: is the bond as ADD made it?

use podwire_plugin::{
    Context, Error, Result,
    net::{Bond, Link},
    warn_of_bond,
};

use crate::config::Config;

/// Compares mode, options and links with what was asked for; `link` is the pod's.
pub(crate) fn verify(cx: &Context<Config>, link: &Link) -> Result<()> {
    let object = format!("pod's link {:?}", link.name);
    let Some(found) = Bond::of(link) else {
        return Err(Error::differs(object, "a bond", format!("type {:?}", link.kind)).into());
    };
    if let Some((option, wanted, found)) = cx.conf.plugin.bond().difference(&found) {
        return Err(Error::differs(format!("{object}: {option}"), wanted, found).into());
    }
    // Its user in the pod may have bridged it, as a virtual machine's manager does.
    if let Some(master) = link.master
        && let Some(bridge) = cx.pod()?.link_at(master)?
    {
        warn_of_bond(link, &bridge);
    }
    let ports = cx.pod()?.ports(link.index)?;
    let mut down = Vec::new();
    for wanted in &cx.conf.plugin.links {
        let name = &wanted.name;
        let port = port(link, &ports, name)?;
        if !port.bond_port.is_some_and(|state| state.up) {
            down.push(name.as_str());
        }
        if cx.conf.plugin.primary.as_ref() == Some(name) && found.primary != Some(port.index) {
            let other = ports.iter().find(|port| found.primary == Some(port.index));
            let other = other.map_or("none", |port| &port.name);
            return Err(Error::differs(format!("{object}: primary"), name, other).into());
        }
    }
    if down.len() == ports.len() {
        return Err(
            Error::differs(format!("{object}: MII status of its links"), "one up", format!("{down:?} down")).into()
        );
    }
    if !down.is_empty() {
        // What the bond is for: the pod works, and somebody should look after the cable.
        tracing::warn!("{object}: links {down:?} are down, the rest carry the traffic");
    }
    Ok(())
}

/// Whether all links that were asked for are among the ports of the bond.
pub(crate) fn links_are_in(cx: &Context<Config>, bond: &Link, ports: &[Link]) -> Result<()> {
    cx.conf.plugin.links.iter().try_for_each(|wanted| port(bond, ports, &wanted.name).map(drop))
}

/// The port of the bond that has this name.
fn port<'a>(bond: &Link, ports: &'a [Link], name: &str) -> Result<&'a Link> {
    let is_it = |port: &&Link| port.name == name || port.altnames.iter().any(|altname| altname == name);
    ports.iter().find(is_it).ok_or_else(|| {
        let all: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
        let object = format!("pod's link {:?}: link {name:?}", bond.name);
        Error::differs(object, "in the bond", format!("only {all:?}")).into()
    })
}
