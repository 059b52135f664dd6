//! Results on their way out, in the words of a version. The keys of an object stand in the order of the alphabet.

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{AddResult, Dns, Interface, Ip, Route, Version};

/// A part of a result as a version has it.
pub(crate) struct Said<'a, T: ?Sized>(pub(crate) &'a T, pub(crate) Version);

/// The only address of its family in a result of 0.1.0 or 0.2.0, with the routes of that family.
struct Only<'a>(&'a Ip, &'a [Route]);

/// An object to which members are added.
struct Object<M>(M, Version);

impl<M: SerializeMap> Object<M> {
    fn begin<S: Serializer<SerializeMap = M>>(serializer: S, version: Version) -> Result<Self, S::Error> {
        serializer.serialize_map(None).map(|members| Self(members, version))
    }

    /// Adds a member, where it has a value.
    fn add<T: Serialize>(&mut self, key: &str, value: Option<T>) -> Result<(), M::Error> {
        value.map_or(Ok(()), |value| self.0.serialize_entry(key, &value))
    }

    /// Adds a member that 1.1.0 was the first to know.
    fn add_new<T: Serialize>(&mut self, key: &str, value: Option<T>) -> Result<(), M::Error> {
        self.add(key, value.filter(|_| self.1 >= Version::V1_1_0))
    }
}

/// What is said of a text only where it says something.
fn filled(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// The same of a list.
fn some<T>(list: &[T]) -> Option<&[T]> {
    Some(list).filter(|list| !list.is_empty())
}

impl Serialize for Said<'_, AddResult> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &Self(result, version) = self;
        let mut out = Object::begin(serializer, version)?;
        out.add("cniVersion", Some(version.as_str()))?;
        out.add("dns", Some(&result.dns))?;
        if version < Version::V0_3_0 {
            for (key, is_v4) in [("ip4", true), ("ip6", false)] {
                let ip = result.ips.iter().find(|ip| ip.address.ip().is_ipv4() == is_v4);
                out.add(key, ip.map(|ip| Only(ip, &result.routes)))?;
            }
        } else {
            // A delegate makes none, and the specification leaves the key out of its result.
            out.add("interfaces", some(&result.interfaces).map(|interfaces| Said(interfaces, version)))?;
            out.add("ips", Some(Said(&*result.ips, version)))?;
            out.add("routes", some(&result.routes).map(|routes| Said(routes, version)))?;
        }
        out.0.end()
    }
}

impl<T> Serialize for Said<'_, [T]>
where
    for<'a> Said<'a, T>: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|one| Said(one, self.1)))
    }
}

impl Serialize for Said<'_, Interface> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &Self(interface, version) = self;
        let mut out = Object::begin(serializer, version)?;
        out.add("mac", filled(&interface.mac))?;
        out.add_new("mtu", interface.mtu)?;
        out.add("name", Some(&interface.name))?;
        out.add_new("pciID", filled(&interface.pci_id))?;
        out.add("sandbox", filled(&interface.sandbox))?;
        out.add_new("socketPath", filled(&interface.socket_path))?;
        out.0.end()
    }
}

impl Serialize for Said<'_, Ip> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &Self(ip, version) = self;
        let family = if ip.address.ip().is_ipv4() { "4" } else { "6" };
        let mut out = Object::begin(serializer, version)?;
        out.add("address", Some(ip.address))?;
        out.add("gateway", ip.gateway)?;
        out.add("interface", ip.interface)?;
        out.add("version", Some(family).filter(|_| version < Version::V1_0_0))?;
        out.0.end()
    }
}

impl Serialize for Only<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &Self(ip, routes) = self;
        let version = Version::V0_1_0;
        let is_of_family = |route: &&Route| route.dst.ip().is_ipv4() == ip.address.ip().is_ipv4();
        let routes: Vec<_> = routes.iter().filter(is_of_family).map(|route| Said(route, version)).collect();
        let mut out = Object::begin(serializer, version)?;
        out.add("gateway", ip.gateway)?;
        out.add("ip", Some(ip.address))?;
        out.add("routes", some(&routes))?;
        out.0.end()
    }
}

impl Serialize for Said<'_, Route> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &Self(route, version) = self;
        let mut out = Object::begin(serializer, version)?;
        out.add_new("advmss", route.advmss)?;
        out.add("dst", Some(route.dst))?;
        out.add("gw", route.gw)?;
        out.add_new("mtu", route.mtu)?;
        out.add_new("onlink", Some(true).filter(|_| route.onlink))?;
        out.add_new("priority", route.priority)?;
        out.add_new("scope", route.scope)?;
        out.add_new("table", route.table)?;
        out.0.end()
    }
}

/// All that there is to say, for whoever keeps a route between calls.
impl Serialize for Route {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Said(self, Version::LATEST).serialize(serializer)
    }
}

impl Serialize for Dns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = Object::begin(serializer, Version::LATEST)?;
        out.add("domain", filled(&self.domain))?;
        out.add("nameservers", some(&self.nameservers))?;
        out.add("options", some(&self.options))?;
        out.add("search", some(&self.search))?;
        out.0.end()
    }
}
