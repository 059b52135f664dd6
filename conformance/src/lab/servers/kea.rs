//! Kea: a file of JSON, and directories by the environment.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Offer, SOON, Software, command, unpacked};
use crate::lab::service::Service;
use crate::lab::{Address, Space, mac_text};

pub(super) fn start(software: Software, space: &Space, link: &str, directory: &Path, offer: &Offer) -> Result<Service> {
    let name = software.program();
    let configuration = directory.join("kea.json");
    fs::write(&configuration, self::configuration(software, link, directory, offer)?.to_string())
        .with_context(|| format!("{configuration:?}: write"))?;
    let mut command = command(software)?;
    command.arg("-c").arg(&configuration);
    for directory_of in ["KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR", "KEA_DHCP_DATA_DIR", "KEA_LOG_FILE_DIR"] {
        command.env(directory_of, directory);
    }
    if let Some(root) = unpacked() {
        command.env("KEA_LFC_EXECUTABLE", root.join("usr/sbin/kea-lfc"));
    }
    if software == Software::Kea6 {
        // It serves by the link-local address, which the kernel tries for a second or two first.
        let index = space.link(link)?.index;
        let usable = |address: &Address| address.index == index && !address.tentative && is_link_local(address);
        ensure!(space.await_address(SOON, usable)?, "link {link:?}: no link-local address within {SOON:?}");
    }
    let service = Service::start(name, space, command)?;
    // It goes on without sockets if its link is not up.
    let end = |line: &str| ["_STARTED ", "NO_SOCKETS_OPEN"].iter().any(|word| line.contains(word));
    let line = service.await_line(SOON, "that it serves", end)?;
    if line.contains("NO_SOCKETS_OPEN") {
        bail!("{name}: serves nobody: {line}");
    }
    Ok(service)
}

fn is_link_local(address: &Address) -> bool {
    matches!(address.ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn configuration(software: Software, link: &str, directory: &Path, offer: &Offer) -> Result<Value> {
    let (root, data) = match software {
        Software::Kea6 => ("Dhcp6", options6(offer)),
        _ => ("Dhcp4", options4(offer)?),
    };
    let reserved = offer.reserved.iter().map(|(mac, ip)| match software {
        Software::Kea6 => json!({ "hw-address": mac, "ip-addresses": [ip] }),
        _ => json!({ "hw-address": mac, "ip-address": ip }),
    });
    let mut server = json!({
        "interfaces-config": { "interfaces": [link] },
        "lease-database": { "type": "memfile", "persist": true, "name": directory.join("leases.csv") },
        "valid-lifetime": offer.seconds,
        "renew-timer": offer.seconds / 2,
        "rebind-timer": offer.seconds * 7 / 8,
        "loggers": [{ "name": software.program(), "severity": "INFO", "output_options": [{ "output": "stdout" }] }],
    });
    let mut subnet = json!({
        "id": 1,
        "subnet": offer.subnet,
        "pools": [{ "pool": offer.pool.join(" - ") }],
        "option-data": data,
        "reservations": reserved.collect::<Vec<_>>(),
    });
    if software == Software::Kea6 {
        server["preferred-lifetime"] = json!(offer.seconds);
        // Else it would make one and keep it in a directory of the machine. The number is for examples (RFC 5612).
        server["server-id"] = json!({ "type": "EN", "enterprise-id": 32473, "identifier": "0715", "persist": false });
        subnet["interface"] = json!(link);
        server["subnet6"] = json!([subnet]);
    } else {
        // One that is asked for an address that it does not know says no instead of nothing.
        server["authoritative"] = json!(true);
        server["subnet4"] = json!([subnet]);
    }
    Ok(json!({ root: server }))
}

fn options4(offer: &Offer) -> Result<Vec<Value>> {
    let fixed: Vec<String> = offer.fixed.iter().map(|(to, via)| format!("{to}, {via}")).collect();
    let mut all = Vec::new();
    let mut option = |name: &str, value: String| {
        if !value.is_empty() {
            all.push(json!({ "name": name, "data": value }));
        }
    };
    option("routers", offer.router.clone().unwrap_or_default());
    option("static-routes", fixed.join(", "));
    option("interface-mtu", offer.mtu.map(|mtu| mtu.to_string()).unwrap_or_default());
    option("domain-name-servers", offer.dns.join(", "));
    option("domain-name", offer.domain.clone().unwrap_or_default());
    option("domain-search", offer.search.join(", "));
    if !offer.classless.is_empty() {
        // Kea knows the option by its name from version 2.5 only.
        all.push(json!({ "code": 121, "csv-format": false, "data": hex(&classless(&offer.classless)?) }));
    }
    Ok(all)
}

fn options6(offer: &Offer) -> Vec<Value> {
    let all = [("dns-servers", offer.dns.join(", ")), ("domain-search", offer.search.join(", "))];
    let present = all.into_iter().filter(|(_, value)| !value.is_empty());
    present.map(|(name, value)| json!({ "name": name, "data": value })).collect()
}

/// RFC 3442: the prefix length, as many octets of the destination as it covers, the router.
fn classless(routes: &[(String, String)]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (to, via) in routes {
        let (ip, prefix) = to.split_once('/').with_context(|| format!("{to:?}: not ADDRESS/PREFIX"))?;
        let (ip, prefix): (std::net::Ipv4Addr, u8) = (ip.parse()?, prefix.parse()?);
        bytes.push(prefix);
        bytes.extend(&ip.octets()[..usize::from(prefix.div_ceil(8))]);
        bytes.extend(via.parse::<std::net::Ipv4Addr>()?.octets());
    }
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    mac_text(bytes).replace(':', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classless_routes_are_as_in_the_rfc() {
        let route = |to: &str, via: &str| (to.to_owned(), via.to_owned());
        let bytes = classless(&[route("10.0.0.0/8", "10.0.0.1"), route("10.17.0.0/16", "10.0.0.2")]).expect("routes");
        assert_eq!(bytes, [8, 10, 10, 0, 0, 1, 16, 10, 17, 10, 0, 0, 2]);
        assert_eq!(hex(&bytes[..3]), "080a0a");
    }
}
