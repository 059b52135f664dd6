//! What a node looks like, as text, to be compared before and after.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Space, see};

/// The links, addresses, routes, sysctls and rules of some namespaces, and the leases below a directory.
///
/// Left out is what the kernel changes by itself: indices, link-local addresses and their routes, counters; what address
/// plugins keep beside the leases: the lock, the address that was last given, hints; and whether the node forwards, which
/// is set for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Takes one of `spaces` and of the leases below `files`.
    pub fn take(spaces: &[&Space], files: &Path) -> Result<Self> {
        let mut all = Self::without_rules(spaces, files)?;
        for space in spaces {
            // Numbered, for the order of rules matters and equal lines are two rules.
            let rules = space.ruleset()?;
            let line = |(n, line): (usize, &str)| format!("{}: nft {n:04} {}", space.name, line.trim_end());
            all.0.extend(rules.lines().enumerate().map(line));
        }
        Ok(all)
    }

    /// The same without the rules.
    pub fn without_rules(spaces: &[&Space], files: &Path) -> Result<Self> {
        let mut lines = BTreeSet::new();
        for space in spaces {
            for line in space_lines(space)? {
                lines.insert(format!("{}: {line}", space.name));
            }
        }
        file_lines(files, &mut lines)?;
        Ok(Self(lines))
    }

    /// Fails, naming what came and what went, unless `after` is the same.
    pub fn ensure_same(&self, after: &Self) -> Result<()> {
        let gone: Vec<_> = self.0.difference(&after.0).map(|line| format!("- {line}")).collect();
        let new: Vec<_> = after.0.difference(&self.0).map(|line| format!("+ {line}")).collect();
        ensure!(gone.is_empty() && new.is_empty(), "the node was changed:\n{}\n{}", gone.join("\n"), new.join("\n"));
        Ok(())
    }
}

fn space_lines(space: &Space) -> Result<Vec<String>> {
    let (links, addresses, routes) = space.netlink(async |handle| {
        Ok((see::links(&handle).await?, see::addresses(&handle).await?, see::routes(&handle).await?))
    })?;
    let name = |index: Option<u32>| {
        let found = links.iter().find(|link| Some(link.index) == index);
        found.map_or_else(|| "-".to_owned(), |link| link.name.clone())
    };
    let mut lines = Vec::new();
    for link in &links {
        lines.push(format!(
            "link {} {} mac {} mtu {} up {} promisc {} master {} alias {:?} altnames {:?} vlans {} hairpin {} isolated {}",
            link.name,
            link.kind,
            link.mac,
            link.mtu,
            link.up,
            link.promisc,
            name(link.master),
            link.alias,
            link.altnames,
            link.vlan_filtering,
            link.hairpin,
            link.isolated,
        ));
    }
    for address in addresses.iter().filter(|a| !link_local(a.ip)) {
        lines.push(format!("address {}/{} on {}", address.ip, address.prefix, name(Some(address.index))));
    }
    for route in &routes {
        // The kernel's own, one a link with IPv6.
        if route.to == "fe80::/64" || route.to == "ff00::/8" {
            continue;
        }
        lines.push(format!(
            "route {} via {:?} on {} table {} metric {:?}",
            route.to,
            route.via,
            name(route.link),
            route.table,
            route.priority
        ));
    }
    let names = links.iter().map(|link| link.name.as_str());
    lines.extend(sysctl_lines(space, &["all", "default"].into_iter().chain(names).collect::<Vec<_>>())?);
    Ok(lines)
}

/// The sysctls of these links that decide how they answer and what they listen to.
fn sysctl_lines(space: &Space, links: &[&str]) -> Result<Vec<String>> {
    const KEYS: [(&str, &[&str]); 2] = [
        (
            "ipv4",
            &["arp_announce", "arp_filter", "arp_ignore", "arp_notify", "proxy_arp", "route_localnet", "rp_filter"],
        ),
        ("ipv6", &["accept_dad", "accept_ra", "addr_gen_mode", "autoconf", "disable_ipv6", "proxy_ndp"]),
    ];
    let read = |family: &str, link: &str, key: &str| {
        let value = fs::read_to_string(format!("/proc/sys/net/{family}/conf/{link}/{key}"));
        // Without IPv6, or with the link gone meanwhile, there is none.
        value.ok().map(|value| format!("sysctl {family} {link} {key} {}", value.trim()))
    };
    space.ns.run(|| {
        let mut lines = Vec::new();
        for link in links {
            for (family, keys) in KEYS {
                lines.extend(keys.iter().filter_map(|key| read(family, link, key)));
            }
        }
        lines
    })
}

fn link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn file_lines(directory: &Path, lines: &mut BTreeSet<String>) -> Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(directory).with_context(|| format!("{directory:?}: list"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !name.starts_with('.') {
            file_lines(&path, lines)?;
        } else if name.parse::<IpAddr>().is_ok() {
            let content = fs::read(&path).with_context(|| format!("{path:?}: read"))?;
            lines.insert(format!("file {path:?}: {:?}", String::from_utf8_lossy(&content)));
        }
    }
    Ok(())
}
