//! Who is where: the device's forwarding entries, and the addresses that the bridge answers for.
//!
//! The kernel cannot mark a forwarding entry as ours: a flag counts for all the other ends of a MAC address. So each
//! entry that was added is written on the device as an altname, `podwire-fdb:DEVICE:MAC>ADDRESS`, before it is added, and
//! erased after it was removed. What is not written there is somebody else's.

use std::collections::HashSet;

use podwire_plugin::{
    Context, Error, Mac, Result, code,
    net::{FLOOD, Fdb, FdbFound, Link},
};

use crate::{config::Config, device::Underlay};

/// Makes the entries of the network what the configuration says, on its device if that is there and is the one that is
/// wanted. The caller holds the lock of the node's namespace.
///
/// # Errors
/// Code 101 where somebody else's entry sends a MAC address elsewhere.
pub(crate) async fn reconcile(cx: &Context<Config>) -> Result<()> {
    let config = &cx.conf.plugin;
    let device = cx.host.link(&config.device())?;
    let Some(device) = device.filter(|device| device.up && device.kind == "vxlan") else { return Ok(()) };
    let underlay = Underlay::find(cx)?;
    if underlay.difference(cx, &device)?.is_some() {
        return Ok(());
    }
    forwarding(cx, &device, &config.entries(&underlay.own)).await?;
    match device.master {
        Some(bridge) if config.arp_suppress => neighbours(cx, bridge, &underlay),
        _ => Ok(()),
    }
}

/// Takes every entry that podwire added from a device that it leaves.
pub(crate) async fn withdraw(cx: &Context<Config>, device: &Link) -> Result<()> {
    forwarding(cx, device, &[]).await
}

async fn forwarding(cx: &Context<Config>, device: &Link, wanted: &[Fdb]) -> Result<()> {
    let recorded: HashSet<Fdb> = device.altnames.iter().filter_map(|altname| entry(device, altname)).collect();
    if wanted.is_empty() && recorded.is_empty() {
        return Ok(());
    }
    let present = cx.host.fdb(device.index)?;
    let is_there = |wanted: &&Fdb| present.iter().any(|found| found.entry == **wanted && !found.learnt);
    let missing: Vec<Fdb> = wanted.iter().filter(|entry| !is_there(entry)).copied().collect();
    if let Some(foreign) = missing.iter().find_map(|entry| in_the_way(entry, &present, &recorded)) {
        let what = format!("vxlan {:?}: somebody else's forwarding entry \"{foreign}\" is in the way", device.name);
        let how = format!("remove it: bridge fdb del {} dev {} dst {}", foreign.mac, device.name, foreign.dst);
        return Err(Error::new(code::DIFFERENT, what).with_details(how).into());
    }
    let names: Vec<_> =
        missing.iter().filter(|entry| !recorded.contains(entry)).map(|entry| altname(device, *entry)).collect();
    if !names.is_empty() {
        cx.host.add_altnames(device.index, &names)?;
    }
    for entry in missing {
        cx.turn().await;
        cx.host.add_fdb(device.index, entry, device.master.is_some())?;
    }
    for stale in recorded.iter().filter(|entry| !wanted.contains(entry)) {
        // That of a MAC address which is elsewhere now was replaced.
        if stale.mac == FLOOD || !wanted.iter().any(|entry| entry.mac == stale.mac) {
            cx.host.delete_fdb(device.index, *stale)?;
        }
        cx.host.delete_altname(device.index, &altname(device, *stale))?;
    }
    Ok(())
}

/// Somebody else's entry, not one that was learnt, for the MAC address of `wanted`.
fn in_the_way(wanted: &Fdb, present: &[FdbFound], recorded: &HashSet<Fdb>) -> Option<Fdb> {
    let is_foreign =
        |found: &&FdbFound| found.entry.mac == wanted.mac && !found.learnt && !recorded.contains(&found.entry);
    if wanted.mac == FLOOD { None } else { present.iter().find(is_foreign).map(|found| found.entry) }
}

fn neighbours(cx: &Context<Config>, bridge: u32, underlay: &Underlay) -> Result<()> {
    let wanted = cx.conf.plugin.neighbours(&underlay.own);
    let present = cx.host.own_neighbours(bridge)?;
    for &(ip, _) in present.iter().filter(|(ip, _)| !wanted.iter().any(|(other, _)| other == ip)) {
        cx.host.delete_neighbour(bridge, ip)?;
    }
    for &(ip, mac) in wanted.iter().filter(|one| !present.contains(one)) {
        cx.host.add_neighbour(bridge, ip, mac)?;
    }
    Ok(())
}

/// CHECK: is every entry there?
///
/// # Errors
/// Code 102, naming the first that is not.
pub(crate) fn verify(cx: &Context<Config>, in_pod: bool, device: &Link, underlay: &Underlay) -> Result<()> {
    let config = &cx.conf.plugin;
    let net = cx.net(in_pod)?;
    let wanted = config.entries(&underlay.own);
    if !wanted.is_empty() {
        let present = net.fdb(device.index)?;
        if let Some(gone) = wanted.iter().find(|entry| !present.iter().any(|found| found.entry == **entry)) {
            let object = format!("forwarding entry \"{gone}\" of {:?}", device.name);
            return Err(Error::differs(object, "to be there", "none such").into());
        }
    }
    let answered = config.neighbours(&underlay.own);
    if let (false, Some(bridge)) = (answered.is_empty(), device.master) {
        let present = net.own_neighbours(bridge)?;
        let is_gone = |one: &&(std::net::IpAddr, Mac)| !present.contains(one);
        if let Some((ip, mac)) = answered.iter().find(is_gone) {
            let object = format!("neighbour \"{ip}\" at {mac} of bridge {:?}", config.bridge());
            return Err(Error::differs(object, "to be there", "none such").into());
        }
    }
    Ok(())
}

fn altname(device: &Link, entry: Fdb) -> String {
    format!("podwire-fdb:{}:{entry}", device.name)
}

fn entry(device: &Link, altname: &str) -> Option<Fdb> {
    altname.strip_prefix("podwire-fdb:")?.strip_prefix(&device.name)?.strip_prefix(':')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_known_by_its_altname_which_always_fits() {
        let device = Link::known(1, "123456789012345", None);
        let longest = "02:00:00:00:00:07>2001:db8:1111:2222:3333:4444:5555:6666+16777215@65535";
        let name = altname(&device, longest.parse().expect("an entry"));
        assert!(name.len() <= 127, "{name}");
        assert_eq!(entry(&device, &name).map(|entry| entry.to_string()).as_deref(), Some(longest));
        assert_eq!(entry(&Link::known(2, "12345678901234", None), &name), None);
        assert_eq!(entry(&device, "podwire:net:id:eth0"), None);
    }

    #[test]
    fn only_somebody_elses_fixed_entry_is_in_the_way() {
        let entry = |text: &str| text.parse::<Fdb>().expect("an entry");
        let (here, there) = (entry("02:00:00:00:00:07>192.0.2.1"), entry("02:00:00:00:00:07>192.0.2.2"));
        let found = |learnt| [FdbFound { entry: there, learnt }];
        assert_eq!(in_the_way(&here, &found(false), &HashSet::new()), Some(there));
        assert_eq!(in_the_way(&here, &found(true), &HashSet::new()), None);
        assert_eq!(in_the_way(&here, &found(false), &HashSet::from([there])), None);
        let flood = |text: &str| entry(&format!("{FLOOD}>{text}"));
        let other = [FdbFound { entry: flood("192.0.2.2"), learnt: false }];
        assert_eq!(in_the_way(&flood("192.0.2.1"), &other, &HashSet::new()), None);
    }
}
