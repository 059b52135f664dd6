//! `host-local`: addresses from ranges, each leased in a file on the node.

use std::{
    collections::HashSet,
    net::IpAddr,
    path::{Component, Path, PathBuf},
};

use podwire_spec::{AddResult, Error, Ip, IpRange, NetConf, Result, Route, Version, code};
use serde::Deserialize;

use crate::{
    Ipam, Request, allocate, folder,
    lease::Owner,
    probe,
    range::{self, RangeSet},
    requested, resolv,
    store::{Pick, Store},
    valid_attachments,
};

/// The address plugin `host-local`.
#[derive(Debug)]
pub struct HostLocal;

/// The `ipam` object of `host-local`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HostLocalConfig {
    /// Sets of ranges; an attachment gets one address of each set.
    pub ranges: Option<Vec<Vec<IpRange>>>,
    /// The flat form: a set of one range, before those of `ranges`.
    pub subnet: Option<podwire_spec::Cidr>,
    /// Of the flat form, as in [`IpRange`].
    #[serde(deserialize_with = "podwire_spec::address_or_nothing")]
    pub range_start: Option<std::net::IpAddr>,
    /// Of the flat form, as in [`IpRange`].
    #[serde(deserialize_with = "podwire_spec::address_or_nothing")]
    pub range_end: Option<std::net::IpAddr>,
    /// Of the flat form, as in [`IpRange`].
    #[serde(deserialize_with = "podwire_spec::address_or_nothing")]
    pub gateway: Option<std::net::IpAddr>,
    /// Routes for the pod, handed on in the result. Default: none.
    pub routes: Option<Vec<Route>>,
    /// Where the leases are, a folder a network. Default: `/var/lib/cni/networks`.
    pub data_dir: Option<PathBuf>,
    /// A resolv.conf(5) of the node to hand on as `dns` in the result. Default: none.
    pub resolv_conf: Option<PathBuf>,
    /// Ask the pod's network whether somebody else has an address before it is given (podwire's own). Default: no.
    pub probe: bool,
    /// How long to wait for an answer to that, in milliseconds. Default: 300.
    pub probe_wait: Option<u64>,
}

const DATA_DIR: &str = "/var/lib/cni/networks";

impl Ipam for HostLocal {
    const NAME: &'static str = "host-local";
    type Config = HostLocalConfig;

    fn add(rq: &Request<'_, HostLocalConfig>) -> anyhow::Result<AddResult> {
        let (conf, ipam) = (rq.conf, &rq.conf.plugin);
        let data_dir = data_dir(ipam)?;
        let sets = range_sets(conf)?;
        let asked = requested::for_sets(rq.env, conf, &sets)?;
        let resolv_conf = ipam.resolv_conf.as_deref().filter(|path| !path.as_os_str().is_empty());
        let dns = resolv_conf.map(resolv::read).transpose()?.unwrap_or_default();

        let wait = probe::wait(ipam)?;

        let owner = Owner::of(rq.env);
        let store = Store::make(data_dir, &conf.name, rq.runner)?;
        let before = held_beside(&store, &owner, &sets)?;
        let mut picks = allocate::pick(&store, &sets, &asked)?;
        store.reserve(&owner, &before, &picks)?;
        if let Some(wait) = wait {
            drop(store); // Others need not wait for the network as well.
            picks = probe::Probing { rq, data_dir, owner: &owner, sets: &sets, asked: &asked, wait }.proven(picks)?;
        }

        let ip = |pick: &Pick| {
            let range = sets[pick.set].range_of(pick.ip)?;
            Some(Ip { interface: None, address: range.cidr(pick.ip), gateway: Some(range.gateway) })
        };
        let ips = picks.iter().filter_map(ip).collect();
        Ok(AddResult { interfaces: Vec::new(), ips, routes: ipam.routes.clone().unwrap_or_default(), dns })
    }

    // The ranges are not looked at: what a configuration of an earlier day gave must go even if today's is wrong.
    fn del(rq: &Request<'_, HostLocalConfig>) -> anyhow::Result<()> {
        if let Some(store) = Store::open(data_dir(&rq.conf.plugin)?, &rq.conf.name, rq.runner)? {
            store.release(&Owner::of(rq.env))?;
        }
        Ok(())
    }

    fn check(rq: &Request<'_, HostLocalConfig>) -> anyhow::Result<()> {
        let conf = rq.conf;
        let sets = range_sets(conf)?;
        let owner = Owner::of(rq.env);
        let held = match Store::open(data_dir(&conf.plugin)?, &conf.name, rq.runner)? {
            Some(store) => store.find(&owner)?.1,
            None => Vec::new(),
        };
        if held.is_empty() {
            return Err(Error::differs(owner, "a lease", "none").into());
        }
        // What an earlier plugin of the chain gave is of no range of ours and not ours to judge.
        let ips = conf.prev_result.iter().flat_map(|result| &result.ips).map(|ip| ip.address.ip());
        for ip in ips.filter(|&ip| sets.iter().any(|set| set.range_of(ip).is_some())) {
            if !held.contains(&ip) {
                let held: Vec<_> = held.iter().map(ToString::to_string).collect();
                return Err(Error::differs(owner, format!("a lease of {ip}"), held.join(", ")).into());
            }
        }
        Ok(())
    }

    fn gc(rq: &Request<'_, HostLocalConfig>) -> anyhow::Result<()> {
        let valid = valid_attachments(rq.conf)?;
        let attachments: HashSet<_> = valid.iter().map(|one| (&*one.container_id, &*one.ifname)).collect();
        let containers: HashSet<_> = valid.iter().map(|one| &*one.container_id).collect();
        let is_valid = |owner: &Owner| match (&*owner.container_id, &owner.ifname) {
            (id, Some(ifname)) => {
                attachments.contains(&(id, &**ifname)) || rq.runner.is_being_added(&rq.conf.name, id, ifname)
            }
            (id, None) => containers.contains(id),
        };
        if let Some(store) = Store::open(data_dir(&rq.conf.plugin)?, &rq.conf.name, rq.runner)? {
            store.collect(is_valid)?;
        }
        Ok(())
    }

    fn status(rq: &Request<'_, HostLocalConfig>) -> anyhow::Result<()> {
        let unavailable = |error: Error| Error { code: code::NOT_AVAILABLE, ..error };
        let sets = range_sets(rq.conf).map_err(unavailable)?;
        probe::wait(&rq.conf.plugin).map_err(unavailable)?;
        let data_dir = data_dir(&rq.conf.plugin).map_err(unavailable)?;
        folder::check_writable(data_dir).map_err(unavailable)?;
        let Some(store) = Store::open(data_dir, &rq.conf.name, rq.runner).map_err(unavailable)? else {
            return Ok(()); // No lease yet, so every address is free.
        };
        allocate::check(&store, &sets).map_err(unavailable)?;
        Ok(())
    }
}

/// What the attachment has already, of other ranges than these.
///
/// # Errors
/// Code 105 if it has an address of these.
fn held_beside(store: &Store, owner: &Owner, sets: &[RangeSet]) -> Result<Vec<IpAddr>> {
    let (holder, held) = store.find(owner)?;
    let Some(ip) = held.iter().find(|&&ip| sets.iter().any(|set| set.range_of(ip).is_some())) else {
        return Ok(if holder == *owner { held } else { Vec::new() });
    };
    if store.is_stale(&holder, &held) {
        // Some runtimes start a container again under its old id after a boot, and did not get to its DEL before.
        store.release(&holder)?;
        return Ok(Vec::new());
    }
    Err(Error::new(code::EXISTS, format!("{holder}: has address {ip} already"))
        .with_details("an attachment is added once; DEL gives its addresses back"))
}

/// The folder of the leases, which must not depend on where the plugin was started.
fn data_dir(ipam: &HostLocalConfig) -> Result<&Path> {
    let path = ipam.data_dir.as_deref().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new(DATA_DIR));
    let has_nul = path.as_os_str().as_encoded_bytes().contains(&0);
    if !path.is_absolute() || has_nul || path.components().any(|part| part == Component::ParentDir) {
        return Err(Error::invalid(
            "ipam.dataDir",
            format!("{:?}: must be an absolute path without \"..\" or a NUL", path.to_string_lossy()),
        ));
    }
    Ok(path)
}

/// All range sets, in the reference's order: those of the runtime, the flat form, those of the configuration.
fn range_sets(conf: &NetConf<HostLocalConfig>) -> Result<Vec<RangeSet>> {
    let ipam = &conf.plugin;
    let mut sets = sets_at("runtimeConfig.ipRanges", conf.runtime.ip_ranges.as_deref())?;
    if let Some(flat) = ipam.flat() {
        sets.push(RangeSet::new("ipam".to_owned(), [("ipam".to_owned(), &flat)])?);
    }
    sets.extend(sets_at("ipam.ranges", ipam.ranges.as_deref())?);
    if sets.is_empty() {
        return Err(Error::invalid("ipam.ranges", "missing; give \"ranges\" or \"subnet\" to take addresses from"));
    }
    range::few(&sets)?;
    range::disjoint(&sets)?;
    let ipv4 = sets.iter().filter(|set| set.is_ipv4()).count();
    if conf.version < Version::V0_3_0 && (ipv4 > 1 || sets.len() - ipv4 > 1) {
        return Err(Error::invalid(
            "ipam.ranges",
            format!(
                "two sets of one family; cniVersion {} has room for one, 0.3.0 and later for any number",
                conf.version
            ),
        ));
    }
    Ok(sets)
}

/// The range sets that stand at `path`.
fn sets_at(path: &str, sets: Option<&[Vec<IpRange>]>) -> Result<Vec<RangeSet>> {
    let set = |(n, set): (usize, &Vec<IpRange>)| {
        let path = format!("{path}[{n}]");
        let ranges: Vec<_> = set.iter().enumerate().map(|(n, range)| (format!("{path}[{n}]"), range)).collect();
        RangeSet::new(path, ranges)
    };
    sets.unwrap_or_default().iter().enumerate().map(set).collect()
}

impl HostLocalConfig {
    /// The range of the flat form, where it has a subnet.
    fn flat(&self) -> Option<IpRange> {
        let Self { range_start, range_end, gateway, .. } = *self;
        if self.subnet.is_none() && (range_start.or(range_end).or(gateway)).is_some() {
            tracing::warn!(
                "ipam: rangeStart, rangeEnd and gateway mean nothing without \"subnet\" beside them, passed over"
            );
        }
        Some(IpRange { subnet: self.subnet?, range_start, range_end, gateway })
    }
}

#[cfg(test)]
#[path = "host_local_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "upkeep_tests.rs"]
mod upkeep_tests;

#[cfg(test)]
#[path = "hint_tests.rs"]
mod hint_tests;

#[cfg(test)]
#[path = "reclaim_tests.rs"]
mod reclaim_tests;
