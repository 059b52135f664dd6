//! Results in every version. 0.1.0 and 0.2.0 know one address a family, 0.3.0 to 0.4.0 name the family of each
//! address, 1.1.0 adds `mtu` and the attributes of routes.

use serde::Deserialize;
use serde_json::Value;

use crate::{
    AddResult, Cidr, Dns, Error, Interface, Ip, Result, Route, Version, address_or_nothing, code,
    decode::{Keys, decode},
    said::Said,
};

impl AddResult {
    /// The result as `version` has it, as text without a trailing newline; what that version cannot say is left out.
    pub fn to_json(&self, version: Version) -> String {
        serde_json::to_string(&Said(self, version))
            .unwrap_or_else(|error| unreachable!("all keys are texts, and a text takes all that is written: {error}"))
    }

    /// Reads a result of any version; `default` is the version of one that does not say.
    ///
    /// # Errors
    /// Code 1 for an unknown version, code 6 for a result that is not one.
    pub fn from_json(value: &Value, default: Version) -> Result<Self> {
        let version = match value.get("cniVersion").and_then(Value::as_str) {
            None => default,
            Some(text) => Version::parse(text)?,
        };
        let read = if version < Version::V0_3_0 {
            decode::<Old>(value, Keys::Exact).map(|(old, _)| Self::from(old))
        } else {
            decode::<New>(value, Keys::Exact).map(|(new, _)| Self::from(new))
        };
        read.map_err(|(why, path)| {
            Error::new(code::DECODE, format!("result: {path}: {why}"))
                .with_details(format!("read as a result of version {version}"))
        })
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
