//! The network configuration from stdin: section "Plugin configuration objects" of the specification.

use std::net::IpAddr;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    AddResult, Cidr, Dns, Error, Mac, Result, Version, code, fields, json, nearest, network_name,
    result::{RequestedIp, address_or_nothing},
    suggest::did_you_mean,
};

/// Keys that belong to the protocol or to a convention without being a field below.
const WELL_KNOWN: [&str; 6] = ["capabilities", "disableCheck", "disableGC", "ipMasq", "logFile", "logLevel"];

/// How many unknown keys are told of; who has more has other worries.
const MOST_UNKNOWN: usize = 64;
/// How much of an unknown key's value is told, in bytes.
const MOST_VALUE: usize = 256;

/// A network configuration: the protocol's fields, checked, and the plugin's own `C`.
#[derive(Clone, Debug)]
pub struct NetConf<C> {
    /// `cniVersion`: the version to answer in.
    pub version: Version,
    /// `name` of the network.
    pub name: String,
    /// `type`: the plugin's binary.
    pub kind: String,
    /// `ipam.type`, where the plugin is to delegate addresses.
    pub ipam: Option<String>,
    /// `dns`.
    pub dns: Dns,
    /// `prevResult`: what the plugins before this one returned, or what ADD had returned.
    pub prev_result: Option<AddResult>,
    /// `runtimeConfig`.
    pub runtime: RuntimeConfig,
    /// `args.cni`.
    pub args: RuntimeConfig,
    /// `cni.dev/valid-attachments`, for GC.
    pub valid: Option<Vec<Attachment>>,
    /// The plugin's own options.
    pub plugin: C,
    /// stdin as it came, for delegates.
    pub text: String,
    /// Keys that neither the protocol nor the plugin knows; the first 64 of them.
    pub unknown: Vec<Unknown>,
    /// Keys that stand more than once in one object: the last one counts.
    pub twice: Vec<String>,
}

/// What a runtime asks for in `runtimeConfig`, and a caller in `args.cni`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RuntimeConfig {
    /// The MAC address wanted.
    pub mac: Option<Mac>,
    /// The addresses wanted.
    pub ips: Option<Vec<RequestedIp>>,
    /// Sets of ranges to take an address of each from, before the configuration's own (host-local).
    #[serde(rename = "ipRanges")]
    pub ip_ranges: Option<Vec<Vec<IpRange>>>,
}

/// A range of addresses, in `ipam.ranges` of host-local and in `runtimeConfig.ipRanges`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpRange {
    /// The network that the addresses are of.
    pub subnet: Cidr,
    /// The first address to give. Default: the one after the network's.
    #[serde(default, deserialize_with = "address_or_nothing")]
    pub range_start: Option<IpAddr>,
    /// The last address to give. Default: the last of the network, before the broadcast address.
    #[serde(default, deserialize_with = "address_or_nothing")]
    pub range_end: Option<IpAddr>,
    /// The gateway, which is not given to a pod. Default: the first address after the network's.
    #[serde(default, deserialize_with = "address_or_nothing")]
    pub gateway: Option<IpAddr>,
}

/// One attachment that GC must keep.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct Attachment {
    /// `CNI_CONTAINERID` of its ADD.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `CNI_IFNAME` of its ADD.
    pub ifname: String,
}

/// The `ipam` object, of which all but the type is the delegate's.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct DelegateKind {
    /// The delegate's binary; none or empty for no delegate.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// A key that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Its JSON path.
    pub path: String,
    /// Its value, as JSON; of a long one the beginning.
    pub value: String,
    /// A known key that is near to it.
    pub near: Option<&'static str>,
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unknown key {:?} (value {})", self.path, self.value)?;
        self.near.map_or(Ok(()), |near| write!(f, ", did you mean {near:?}?"))
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Protocol {
    cni_version: Option<String>,
    name: Option<String>,
    r#type: Option<String>,
    ipam: Option<DelegateKind>,
    dns: Option<Dns>,
    prev_result: Option<Value>,
    args: Option<Args>,
    runtime_config: Option<RuntimeConfig>,
    strict: Option<bool>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid: Option<Vec<Attachment>>,
    /// The name that the specification's text had at first; libcni sends both.
    #[serde(rename = "cni.dev/attachments")]
    valid_old: Option<Vec<Attachment>>,
}

/// The whole configuration as an address plugin sees it.
#[derive(Deserialize)]
#[serde(bound = "C: DeserializeOwned")]
struct Whole<C> {
    ipam: C,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: Option<RuntimeConfig>,
}

impl<C: DeserializeOwned> NetConf<C> {
    /// Reads a configuration.
    ///
    /// # Errors
    /// Code 1 for an unsupported `cniVersion`, 6 for what is not JSON or has a wrong type, 7 for what cannot be, 2 for
    /// an unknown key under `"strict": true`.
    pub fn parse(text: String) -> Result<Self> {
        let (value, twice) = object(&text)?;
        let protocol = Protocol::read(&value)?;
        let (plugin, ignored) = decode::<C>(&value)?;
        let unknown = unknown(&value, of_plugin::<C>(ignored));
        Self::assemble(text, protocol, plugin, (unknown, twice))
    }

    /// Reads a configuration for an address plugin: `C` is the type of the `ipam` object, and unknown keys are looked
    /// for below `ipam` only, since the rest is the interface plugin's.
    ///
    /// # Errors
    /// As [`Self::parse`], and code 7 where there is no `ipam`.
    pub fn parse_ipam(text: String) -> Result<Self> {
        let (value, twice) = object(&text)?;
        let protocol = Protocol::read(&value)?;
        let (whole, ignored) = decode::<Whole<C>>(&value)?;
        let unknown = unknown(&value, of_ipam::<C>(ignored));
        Self::assemble(text, protocol, whole.ipam, (unknown, twice))
    }

    fn assemble(text: String, protocol: Protocol, plugin: C, odd: (Vec<Unknown>, Vec<String>)) -> Result<Self> {
        let version = protocol.version()?;
        let conf = Self {
            version,
            ipam: protocol.ipam(),
            name: protocol.name.unwrap_or_default(),
            kind: protocol.r#type.unwrap_or_default(),
            dns: protocol.dns.unwrap_or_default(),
            prev_result: match protocol.prev_result {
                None | Some(Value::Null) => None,
                Some(value) => Some(
                    AddResult::from_json(value, version)
                        .map_err(|error| Error { msg: format!("prevResult: {}", error.msg), ..error })?,
                ),
            },
            runtime: protocol.runtime_config.unwrap_or_default(),
            args: protocol.args.and_then(|args| args.cni).unwrap_or_default(),
            valid: protocol.valid.or(protocol.valid_old),
            unknown: odd.0,
            twice: odd.1,
            plugin,
            text,
        };
        let oddities: Vec<_> = conf.oddities().collect();
        match oddities.first() {
            Some(first) if protocol.strict == Some(true) => Err(Error::new(code::UNSUPPORTED_FIELD, first)
                .with_details(format!("\"strict\" is true; {}", oddities.join("; ")))),
            _ => Ok(conf),
        }
    }
}

impl<C> NetConf<C> {
    /// What is passed over, in words, unless the configuration is strict.
    pub fn oddities(&self) -> impl Iterator<Item = String> {
        let twice = |key: &String| format!("key {key:?} stands twice in one object, the last one counts");
        self.unknown.iter().map(ToString::to_string).chain(self.twice.iter().map(twice))
    }
}

impl Protocol {
    /// Reads the protocol's own fields and checks the names among them.
    fn read(value: &Value) -> Result<Self> {
        let (protocol, _) = decode::<Self>(value)?;
        protocol.version()?;
        let name = protocol.name.as_deref().unwrap_or_default();
        if !network_name(name) {
            return Err(Error::invalid(
                "name",
                format!(
                    "{name:?}: a network's name starts with a letter or digit, then letters, digits, \"_\", \".\" or \"-\", at most 255"
                ),
            ));
        }
        for (path, kind) in [("type", protocol.r#type.clone()), ("ipam.type", protocol.ipam())] {
            if let Some(kind) = kind.filter(|kind| !network_name(kind)) {
                return Err(Error::invalid(path, format!("{kind:?}: not the name of a plugin")));
            }
        }
        Ok(protocol)
    }

    fn version(&self) -> Result<Version> {
        Version::parse(self.cni_version.as_deref().unwrap_or_default())
    }

    /// The delegate's name; an empty one is none.
    fn ipam(&self) -> Option<String> {
        self.ipam.as_ref().and_then(|ipam| ipam.kind.clone()).filter(|kind| !kind.is_empty())
    }
}

/// Reads `text` as one JSON object; and the keys that stand more than once in one.
fn object(text: &str) -> Result<(Value, Vec<String>)> {
    const EXPECTED: &str = "expected a network configuration, a JSON object, on stdin";
    match json::read(text) {
        Ok((value @ Value::Object(_), twice)) => Ok((value, twice)),
        // serde would take an array for a struct without its keys.
        Ok(_) => Err(Error::new(code::DECODE, "stdin is not a JSON object").with_details(EXPECTED)),
        Err(why) => Err(Error::new(code::DECODE, format!("stdin is not JSON: {why}")).with_details(EXPECTED)),
    }
}

/// The version that a configuration asks for, even if nothing else of it can be read: errors are told in it.
pub fn version_of(text: &str) -> Version {
    let (value, _) = object(text).unwrap_or_default();
    let version = value.get("cniVersion").map_or(Some(""), Value::as_str);
    match version.map(Version::parse) {
        Some(Ok(version)) if value.is_object() => version,
        _ => Version::LATEST,
    }
}

/// Reads `value` as a `T` and lists the paths of the keys that `T` passed over.
fn decode<T: DeserializeOwned>(value: &Value) -> Result<(T, Vec<String>)> {
    let mut ignored = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let read = serde_ignored::deserialize(tracked, |path| ignored.push(path.to_string()));
    // An optional value on the way adds a question mark to the path.
    let ignored = ignored.into_iter().map(|path| path.replace(".?.", ".")).collect();
    read.map(|value| (value, ignored)).map_err(|why| explain(&why, &track.path().to_string()))
}

/// Turns serde's error into ours: which path, what was expected, what was found, what may have been meant.
fn explain(why: &serde_json::Error, path: &str) -> Error {
    let said = why.to_string();
    let path = if path == "." { "stdin" } else { path };
    if said.starts_with("invalid type") {
        return Error::new(code::DECODE, format!("{path}: {said}"));
    }
    // serde quotes in back ticks: the value first, then what may stand there.
    let mut quoted = said.split('`').skip(1).step_by(2);
    let near = match (said.starts_with("unknown variant"), quoted.next()) {
        (true, Some(found)) => did_you_mean(found, quoted),
        _ => String::new(),
    };
    Error::invalid(path, format!("{}{near}", said.replace('`', "\"")))
}

/// A key that was passed over, with the names that may have been meant.
type Stranger = (String, Option<&'static str>);

/// Of the keys that `C` passed over, those that are not the protocol's either.
fn of_plugin<C: DeserializeOwned>(ignored: Vec<String>) -> Vec<Stranger> {
    let own = fields::of::<C>();
    let protocol = fields::of::<Protocol>();
    let is_known = |path: &str| {
        let top = path.split(['.', '[']).next().unwrap_or(path);
        let of_protocol = protocol.contains(&top) || WELL_KNOWN.contains(&top) || path.starts_with("cni.dev/");
        of_protocol && !own.contains(&top)
    };
    let near = |path: &str| nearest(path, own.iter().chain(protocol).copied().chain(WELL_KNOWN));
    let strange = |path| strange(path, "", near);
    ignored.into_iter().filter(|path| !is_known(path)).take(MOST_UNKNOWN).map(strange).collect()
}

/// Of the keys that `C` passed over, those below `ipam`, less the delegate's type.
fn of_ipam<C: DeserializeOwned>(ignored: Vec<String>) -> Vec<Stranger> {
    const PREFIX: &str = "ipam.";
    let known = || fields::of::<C>().iter().chain(fields::of::<DelegateKind>()).copied();
    let is_strange = |path: &str| path.strip_prefix(PREFIX).is_some_and(|key| known().all(|known| known != key));
    let near = |key: &str| nearest(key, known());
    let strange = |path| strange(path, PREFIX, near);
    ignored.into_iter().filter(|path| is_strange(path)).take(MOST_UNKNOWN).map(strange).collect()
}

/// Suggestions are for keys at the top of the plugin's own object: what is below is not known here.
fn strange(path: String, prefix: &str, near: impl Fn(&str) -> Option<&'static str>) -> Stranger {
    let near = path.strip_prefix(prefix).filter(|key| !key.contains('.')).and_then(near);
    (path, near)
}

/// Adds the values to the strangers, and writes their paths as errors do: `vlanTrunk[0].tag`.
fn unknown(whole: &Value, strangers: Vec<Stranger>) -> Vec<Unknown> {
    strangers
        .into_iter()
        .map(|(path, near)| {
            let mut value =
                whole.pointer(&format!("/{}", path.replace('.', "/"))).map_or_else(String::new, Value::to_string);
            if value.len() > MOST_VALUE {
                value.truncate(value.floor_char_boundary(MOST_VALUE));
                value.push('…');
            }
            let mut written = String::new();
            for part in path.split('.') {
                match part.parse::<usize>() {
                    Ok(place) => written.extend(["[", &place.to_string(), "]"]),
                    Err(_) if written.is_empty() => written.push_str(part),
                    Err(_) => written.extend([".", part]),
                }
            }
            Unknown { value, near, path: written }
        })
        .collect()
}

#[cfg(test)]
#[path = "conf_tests.rs"]
mod tests;
