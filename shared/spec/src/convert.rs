//! Results in every version. 0.1.0 and 0.2.0 know one address a family, 0.3.0 to 0.4.0 name the family of each
//! address, 1.1.0 adds `mtu` and the attributes of routes.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{AddResult, Cidr, Dns, Error, Interface, Ip, Result, Route, Version, address_or_nothing, code};

impl AddResult {
    /// The result as `version` has it; what that version cannot say is left out.
    pub fn to_json(&self, version: Version) -> Value {
        let mut out = Map::new();
        out.insert("cniVersion".to_owned(), version.as_str().into());
        if version < Version::V0_3_0 {
            for (key, is_v4) in [("ip4", true), ("ip6", false)] {
                if let Some(ip) = self.ips.iter().find(|ip| ip.address.ip().is_ipv4() == is_v4) {
                    out.insert(key.to_owned(), self.to_old_ip(ip));
                }
            }
        } else {
            // A delegate makes none, and the specification leaves the key out of its result.
            if !self.interfaces.is_empty() {
                out.insert("interfaces".to_owned(), self.interfaces.iter().map(|i| interface_to(i, version)).collect());
            }
            out.insert("ips".to_owned(), self.ips.iter().map(|ip| ip_to(ip, version)).collect());
            if !self.routes.is_empty() {
                out.insert("routes".to_owned(), self.routes.iter().map(|route| route_to(route, version)).collect());
            }
        }
        out.insert("dns".to_owned(), json!(self.dns));
        Value::Object(out)
    }

    /// Reads a result of any version; `default` is the version of one that does not say.
    ///
    /// # Errors
    /// Code 1 for an unknown version, code 6 for a result that is not one.
    pub fn from_json(value: Value, default: Version) -> Result<Self> {
        let version = match value.get("cniVersion").and_then(Value::as_str) {
            None => default,
            Some(text) => Version::parse(text)?,
        };
        let read = |why: serde_path_to_error::Error<serde_json::Error>| {
            Error::new(code::DECODE, format!("result: {}: {}", why.path(), why.inner()))
                .with_details(format!("read as a result of version {version}"))
        };
        if version < Version::V0_3_0 {
            serde_path_to_error::deserialize::<_, Old>(value).map(Self::from).map_err(read)
        } else {
            serde_path_to_error::deserialize::<_, New>(value).map(Self::from).map_err(read)
        }
    }

    fn to_old_ip(&self, ip: &Ip) -> Value {
        let is_v4 = ip.address.ip().is_ipv4();
        let routes: Vec<_> = self
            .routes
            .iter()
            .filter(|route| route.dst.ip().is_ipv4() == is_v4)
            .map(|route| route_to(route, Version::V0_1_0))
            .collect();
        let mut out = Map::new();
        out.insert("ip".to_owned(), json!(ip.address));
        if let Some(gateway) = ip.gateway {
            out.insert("gateway".to_owned(), json!(gateway));
        }
        if !routes.is_empty() {
            out.insert("routes".to_owned(), Value::Array(routes));
        }
        Value::Object(out)
    }
}

fn interface_to(interface: &Interface, version: Version) -> Value {
    let mut out = json!(interface);
    if version < Version::V1_1_0 {
        strip(&mut out, &["mtu", "socketPath", "pciID"]);
    }
    out
}

fn ip_to(ip: &Ip, version: Version) -> Value {
    let mut out = json!(ip);
    if let (true, Value::Object(out)) = (version < Version::V1_0_0, &mut out) {
        out.insert("version".to_owned(), if ip.address.ip().is_ipv4() { "4" } else { "6" }.into());
    }
    out
}

fn route_to(route: &Route, version: Version) -> Value {
    let mut out = json!(route);
    if version < Version::V1_1_0 {
        strip(&mut out, &["mtu", "advmss", "priority", "table", "scope", "onlink"]);
    }
    out
}

fn strip(value: &mut Value, keys: &[&str]) {
    if let Value::Object(object) = value {
        object.retain(|key, _| !keys.contains(&key.as_str()));
    }
}

/// A result of 0.3.0 and later. Other plugins write `null` for an empty list.
#[derive(Deserialize)]
struct New {
    #[serde(default)]
    interfaces: Option<Vec<Interface>>,
    #[serde(default)]
    ips: Option<Vec<Ip>>,
    #[serde(default)]
    routes: Option<Vec<Route>>,
    #[serde(default)]
    dns: Option<Dns>,
}

impl From<New> for AddResult {
    fn from(new: New) -> Self {
        Self {
            interfaces: new.interfaces.unwrap_or_default(),
            ips: new.ips.unwrap_or_default(),
            routes: new.routes.unwrap_or_default(),
            dns: new.dns.unwrap_or_default(),
        }
    }
}

/// A result of 0.1.0 and 0.2.0.
#[derive(Deserialize)]
struct Old {
    ip4: Option<OldIp>,
    ip6: Option<OldIp>,
    #[serde(default)]
    dns: Option<Dns>,
}

#[derive(Deserialize)]
struct OldIp {
    ip: Cidr,
    #[serde(default, deserialize_with = "address_or_nothing")]
    gateway: Option<std::net::IpAddr>,
    #[serde(default)]
    routes: Option<Vec<Route>>,
}

impl From<Old> for AddResult {
    fn from(old: Old) -> Self {
        let mut result = Self { dns: old.dns.unwrap_or_default(), ..Self::default() };
        for ip in [old.ip4, old.ip6].into_iter().flatten() {
            result.ips.push(Ip { interface: None, address: ip.ip, gateway: ip.gateway });
            result.routes.extend(ip.routes.unwrap_or_default());
        }
        result
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
