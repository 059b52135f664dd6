//! dnsmasq: everything on its command line.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Offer, SOON, Software};
use crate::lab::Space;
use crate::lab::service::Service;

fn command() -> Result<Command> {
    let mut command = super::command(Software::Dnsmasq)?;
    command
        // With `--port=0` it is no name server.
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-", "--pid-file", "--port=0"])
        // It stays who it is: without root of the machine it could not become another.
        .args(["--user=", "--group="]);
    Ok(command)
}

pub(super) fn relay(space: &Space, own: &str, server: &str) -> Result<Service> {
    let mut command = command()?;
    command.arg(format!("--dhcp-relay={own},{server}"));
    let service = Service::start("the relay", space, command)?;
    service.await_line(SOON, "that it relays", |line| line.contains("DHCP relay"))?;
    Ok(service)
}

pub(super) fn start(space: &Space, link: &str, directory: &Path, offer: &Offer) -> Result<Service> {
    let mut command = command()?;
    command
        // No ping before an offer, which takes three seconds: a pod's address is nobody else's here.
        .args(["--no-ping", "--dhcp-authoritative", "--log-dhcp"])
        .arg(format!("--interface={link}"))
        .arg(format!("--dhcp-leasefile={}", directory.join("leases").display()))
        .args(arguments(offer));
    let service = Service::start("dnsmasq", space, command)?;
    // Said when its sockets are open.
    service.await_line(SOON, "that it serves", |line| line.contains("DHCP") && line.contains("IP range"))?;
    if offer.advertise {
        service.await_line(SOON, "that it advertises", |line| line.contains("router advertisement"))?;
    }
    Ok(service)
}

fn arguments(offer: &Offer) -> Vec<String> {
    let [first, last] = &offer.pool;
    let v6 = first.contains(':');
    let prefix = offer.subnet.split('/').nth(1).filter(|_| v6).map(|bits| format!("{bits},")).unwrap_or_default();
    let options = if v6 { options6(offer) } else { options4(offer) };
    let options = options.into_iter().filter(|(_, value)| !value.is_empty());
    let mut all = vec![format!("--dhcp-range={first},{last},{prefix}{}s", offer.seconds)];
    all.extend(options.map(|(name, value)| format!("--dhcp-option={name},{value}")));
    if offer.router.is_none() && !v6 {
        // Else dnsmasq would say that it is the router itself.
        all.push("--dhcp-option=3".to_owned());
    }
    all.extend(offer.reserved.iter().map(|(mac, ip)| format!("--dhcp-host={mac},{ip}")));
    if offer.advertise {
        all.push("--enable-ra".to_owned());
    }
    all
}

fn options4(offer: &Offer) -> Vec<(&'static str, String)> {
    let list = |pairs: &[(String, String)]| {
        let parts: Vec<String> = pairs.iter().map(|(to, via)| format!("{to},{via}")).collect();
        parts.join(",")
    };
    vec![
        ("3", offer.router.clone().unwrap_or_default()),
        ("121", list(&offer.classless)),
        ("33", list(&offer.fixed)),
        ("26", offer.mtu.map(|mtu| mtu.to_string()).unwrap_or_default()),
        ("6", offer.dns.join(",")),
        ("15", offer.domain.clone().unwrap_or_default()),
        ("119", offer.search.join(",")),
        ("58", offer.renew.map(|seconds| format!("{seconds}s")).unwrap_or_default()),
    ]
}

fn options6(offer: &Offer) -> Vec<(&'static str, String)> {
    let servers: Vec<String> = offer.dns.iter().map(|ip| format!("[{ip}]")).collect();
    vec![("option6:dns-server", servers.join(",")), ("option6:domain-search", offer.search.join(","))]
}
