//! `static`: the addresses that the configuration or the caller names, the same for every call.

use std::{collections::HashSet, net::IpAddr};

use podwire_spec::{AddResult, Cidr, Dns, Env, Error, Ip, NetConf, RequestedIp, Result, Route, Version};
use serde::Deserialize;

use crate::{Ipam, Request, valid_attachments};

/// `RT_SCOPE_LINK`: a route to what is on the link itself.
const SCOPE_LINK: u8 = 253;

/// The address plugin `static`.
#[derive(Debug)]
pub struct Static;

/// The `ipam` object of `static`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct StaticConfig {
    /// The addresses of the pod. Default: none.
    pub addresses: Option<Vec<StaticAddress>>,
    /// Routes for the pod, handed on in the result. Default: none.
    pub routes: Option<Vec<Route>>,
    /// Resolver configuration, handed on in the result. Default: none.
    pub dns: Option<Dns>,
}

/// An address of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct StaticAddress {
    /// The address with its prefix length.
    pub address: Cidr,
    /// The gateway of its network. Default: none.
    #[serde(default, deserialize_with = "podwire_spec::address_or_nothing")]
    pub gateway: Option<IpAddr>,
    /// The gateway is on the link although the address's network does not hold it (podwire's own). Default: no.
    #[serde(default)]
    pub onlink: bool,
}

impl Ipam for Static {
    const NAME: &'static str = "static";
    type Config = StaticConfig;

    fn add(rq: &Request<'_, StaticConfig>) -> anyhow::Result<AddResult> {
        let ipam = &rq.conf.plugin;
        let ips = addresses(rq.env, rq.conf)?;
        if ips.is_empty() {
            tracing::warn!("static: no address in ipam.addresses, CNI_ARGS, args.cni.ips or runtimeConfig.ips");
        }
        let dns = ipam.dns.clone().unwrap_or_default();
        Ok(AddResult { interfaces: Vec::new(), ips, routes: routes(ipam), dns })
    }

    // Nothing is kept, so nothing is given back.
    fn del(_: &Request<'_, StaticConfig>) -> anyhow::Result<()> {
        Ok(())
    }

    fn check(rq: &Request<'_, StaticConfig>) -> anyhow::Result<()> {
        let ips = addresses(rq.env, rq.conf)?;
        let Some(result) = &rq.conf.prev_result else {
            return Err(Error::invalid("prevResult", "missing; CHECK compares with what ADD returned").into());
        };
        for ip in ips {
            let object = format!("address {}", ip.address);
            let Some(found) = result.ips.iter().find(|found| found.address == ip.address) else {
                let found: Vec<_> = result.ips.iter().map(|found| found.address.to_string()).collect();
                return Err(Error::differs(object, "it in prevResult", format!("[{}]", found.join(", "))).into());
            };
            // Without one of its own, the interface plugin may have chosen a gateway.
            if ip.gateway.is_some() && found.gateway != ip.gateway {
                let text = |gateway: Option<IpAddr>| gateway.map_or("none".to_owned(), |gateway| gateway.to_string());
                return Err(
                    Error::differs(format!("gateway of {object}"), text(ip.gateway), text(found.gateway)).into()
                );
            }
        }
        for route in rq.conf.plugin.routes.iter().flatten() {
            let is_it = |found: &&Route| found.dst == route.dst && (route.gw.is_none() || found.gw == route.gw);
            if !result.routes.iter().any(|found| is_it(&found)) {
                let found: Vec<_> = result.routes.iter().map(|found| found.dst.to_string()).collect();
                let object = format!("route to {}", route.dst);
                return Err(Error::differs(object, "it in prevResult", format!("[{}]", found.join(", "))).into());
            }
        }
        Ok(())
    }

    fn gc(rq: &Request<'_, StaticConfig>) -> anyhow::Result<()> {
        valid_attachments(rq.conf)?;
        Ok(())
    }

    fn status(rq: &Request<'_, StaticConfig>) -> anyhow::Result<()> {
        configured(rq.conf)?;
        Ok(())
    }
}

/// The pod's addresses: those of `runtimeConfig.ips` alone, else those of `args.cni.ips` alone, else those of the
/// configuration and of `IP` in `CNI_ARGS` together; so does the reference.
///
/// # Errors
/// Code 7 for what cannot be.
fn addresses(env: &Env, conf: &NetConf<StaticConfig>) -> Result<Vec<Ip>> {
    few(conf)?;
    let given = |ips: &Option<Vec<RequestedIp>>| ips.clone().filter(|ips| !ips.is_empty());
    let ips = if let Some(ips) = given(&conf.runtime.ips) {
        with_prefix("runtimeConfig.ips", &ips)?
    } else if let Some(ips) = given(&conf.args.ips) {
        with_prefix("args.cni.ips", &ips)?
    } else {
        let mut ips = configured(conf)?;
        ips.extend(of_args(env)?);
        ips
    };
    let mut seen = HashSet::new();
    if let Some(ip) = ips.iter().find(|ip| !seen.insert(ip.address.ip())) {
        return Err(Error::invalid("ipam.addresses", format!("{}: given twice", ip.address)));
    }
    let ipv4 = ips.iter().filter(|ip| ip.address.ip().is_ipv4()).count();
    if conf.version < Version::V0_3_0 && (ipv4 > 1 || ips.len() - ipv4 > 1) {
        return Err(Error::invalid(
            "ipam.addresses",
            format!("two of one family; cniVersion {} has room for one, 0.3.0 and later for any number", conf.version),
        ));
    }
    Ok(ips)
}

/// `ipam.addresses`.
fn configured(conf: &NetConf<StaticConfig>) -> Result<Vec<Ip>> {
    few(conf)?;
    let ip = |(n, own): (usize, &StaticAddress)| {
        if let Some(gateway) = own.gateway {
            own.check(gateway, conf.plugin.routes.as_deref().unwrap_or_default())
                .map_err(|why| Error::invalid(&format!("ipam.addresses[{n}].gateway"), format!("{gateway}: {why}")))?;
        }
        Ok(Ip { interface: None, address: own.address, gateway: own.gateway })
    };
    conf.plugin.addresses.iter().flatten().enumerate().map(ip).collect()
}

/// That no list is so long that to look through it for each entry of another takes long.
///
/// # Errors
/// Code 7.
fn few(conf: &NetConf<StaticConfig>) -> Result<()> {
    const MOST: usize = 4096;
    let StaticConfig { addresses, routes, .. } = &conf.plugin;
    let count = |ips: &Option<Vec<RequestedIp>>| ips.as_ref().map_or(0, Vec::len);
    for (path, count) in [
        ("ipam.addresses", addresses.as_ref().map_or(0, Vec::len)),
        ("ipam.routes", routes.as_ref().map_or(0, Vec::len)),
        ("runtimeConfig.ips", count(&conf.runtime.ips)),
        ("args.cni.ips", count(&conf.args.ips)),
    ] {
        if count > MOST {
            return Err(Error::invalid(path, format!("{count} of them, at most {MOST}")));
        }
    }
    Ok(())
}

impl StaticAddress {
    /// Whether `gateway` can be reached from the address, or why not.
    fn check(&self, gateway: IpAddr, routes: &[Route]) -> Result<(), String> {
        let address = self.address;
        if gateway.is_ipv4() != address.ip().is_ipv4() {
            return Err(format!("not of the same family as {address}"));
        }
        let is_link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
        let leads_there = |route: &Route| {
            let is_onlink = route.onlink && route.gw == Some(gateway);
            is_onlink || route.scope == Some(SCOPE_LINK) && route.dst.contains(gateway)
        };
        if address.contains(gateway) || is_link_local || self.onlink || routes.iter().any(leads_there) {
            return Ok(());
        }
        Err(format!(
            "not of the network {} of {address}; correct either, or add \"onlink\": true if the gateway is on the link all the same",
            address.network()
        ))
    }
}

/// `ipam.routes`. Those by a gateway that the address's network does not hold must say so, or the kernel refuses them.
fn routes(ipam: &StaticConfig) -> Vec<Route> {
    let mut routes = ipam.routes.clone().unwrap_or_default();
    let addresses = || ipam.addresses.iter().flatten();
    for route in &mut routes {
        // A route without a gateway gets the first one of its family.
        let of_family = |own: &&StaticAddress| own.gateway.is_some_and(|gw| gw.is_ipv4() == route.dst.ip().is_ipv4());
        let gateway = route.gw.or_else(|| addresses().find(of_family)?.gateway);
        if route.scope != Some(SCOPE_LINK)
            && addresses().any(|own| own.onlink && own.gateway == gateway && gateway.is_some())
        {
            route.gw = gateway;
            route.onlink = true;
        }
    }
    routes
}

/// `IP` of `CNI_ARGS`, each with that `GATEWAY` which is of its network.
fn of_args(env: &Env) -> Result<Vec<Ip>> {
    let mut ips = with_prefix("CNI_ARGS IP", &env.args.ips)?;
    for ip in &mut ips {
        ip.gateway = env.args.gateways.iter().copied().find(|&gateway| ip.address.contains(gateway));
    }
    for gateway in &env.args.gateways {
        if !ips.iter().any(|ip| ip.gateway == Some(*gateway)) {
            tracing::warn!("CNI_ARGS GATEWAY {gateway}: of no network of CNI_ARGS IP, passed over");
        }
    }
    Ok(ips)
}

/// Addresses that somebody asks for, who must say their prefix length: nobody else knows it.
fn with_prefix(source: &str, ips: &[RequestedIp]) -> Result<Vec<Ip>> {
    let ip = |asked: &RequestedIp| {
        let prefix = asked.prefix.ok_or_else(|| {
            Error::invalid(source, format!("{}: needs a prefix length, such as {}/24", asked.ip, asked.ip))
        })?;
        let address = Cidr::new(asked.ip, prefix).map_err(|why| Error::invalid(source, why))?;
        Ok(Ip { interface: None, address, gateway: None })
    };
    ips.iter().map(ip).collect()
}

#[cfg(test)]
#[path = "static_tests.rs"]
mod tests;
