//! The network configuration from stdin: section "Plugin configuration objects" of the specification.

use std::{net::IpAddr, ops::Deref, rc::Rc};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    AddResult, Cidr, Dns, Error, Mac, Result, Version, code,
    decode::{self, Ignored, Keys},
    fields, json, nearest, network_name,
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
    /// What an address plugin that it delegates to reads there as well.
    common: Rc<Common>,
    /// The plugin's own options.
    pub plugin: C,
    /// Keys that neither the protocol nor the plugin knows; the first 64 of them.
    pub unknown: Vec<Unknown>,
}

/// What a configuration says to every plugin that reads it. A [`NetConf`] has it as if it were its own.
#[derive(Debug)]
pub struct Common {
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
    /// stdin as it came, for delegates.
    pub text: String,
    /// Keys that stand more than once in one object: the last one counts.
    pub twice: Vec<String>,
    is_strict: bool,
    whole: Value,
}

impl<C> Deref for NetConf<C> {
    type Target = Common;

    fn deref(&self) -> &Common {
        &self.common
    }
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
    pub fn parse(text: &str) -> Result<Self> {
        let (whole, twice) = object(text)?;
        let read_by = |keys| {
            let protocol = Protocol::read(&whole, keys)?;
            let (plugin, ignored) = read::<C>(&whole, keys)?;
            Ok(((protocol, plugin), of_plugin::<C>(ignored, keys)))
        };
        let ((protocol, plugin), unknown) = in_any_case(read_by)?;
        let common = protocol.complete(text, whole, twice)?;
        Self::assemble(Rc::new(common), plugin, unknown)
    }

    /// Reads a configuration for an address plugin: `C` is the type of the `ipam` object, and unknown keys are looked
    /// for below `ipam` only, since the rest is the interface plugin's.
    ///
    /// # Errors
    /// As [`Self::parse`], and code 7 where there is no `ipam`.
    pub fn parse_ipam(text: &str) -> Result<Self> {
        let (whole, twice) = object(text)?;
        let read_by = |keys| {
            let protocol = Protocol::read(&whole, keys)?;
            let (Whole { ipam }, ignored) = read::<Whole<C>>(&whole, keys)?;
            Ok(((protocol, ipam), of_ipam::<C>(ignored)))
        };
        let ((protocol, ipam), unknown) = in_any_case(read_by)?;
        let common = protocol.complete(text, whole, twice)?;
        Self::assemble(Rc::new(common), ipam, unknown)
    }
}

impl<C> NetConf<C> {
    /// What [`NetConf::parse_ipam`] would make of the same text, without reading it again.
    ///
    /// # Errors
    /// As there.
    pub fn for_ipam<I: DeserializeOwned>(&self) -> Result<NetConf<I>> {
        let read_by = |keys| {
            let (Whole { ipam }, ignored) = read::<Whole<I>>(&self.whole, keys)?;
            Ok((ipam, of_ipam::<I>(ignored)))
        };
        let (ipam, unknown) = in_any_case(read_by)?;
        NetConf::assemble(Rc::clone(&self.common), ipam, unknown)
    }

    fn assemble(common: Rc<Common>, plugin: C, unknown: Vec<Unknown>) -> Result<Self> {
        let conf = Self { common, plugin, unknown };
        let oddities: Vec<_> = conf.oddities().collect();
        match oddities.first() {
            Some(first) if conf.is_strict => Err(Error::new(code::UNSUPPORTED_FIELD, first)
                .with_details(format!("\"strict\" is true; {}", oddities.join("; ")))),
            _ => Ok(conf),
        }
    }

    /// What is passed over, in words, unless the configuration is strict.
    pub fn oddities(&self) -> impl Iterator<Item = String> {
        let twice = |key: &String| format!("key {key:?} stands twice in one object, the last one counts");
        self.unknown.iter().map(ToString::to_string).chain(self.twice.iter().map(twice))
    }
}

impl Protocol {
    /// Reads the protocol's own fields and checks the names among them.
    fn read(value: &Value, keys: Keys) -> Result<Self> {
        let (protocol, _) = read::<Self>(value, keys)?;
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
        for (path, kind) in [("type", protocol.r#type.as_deref()), ("ipam.type", protocol.ipam())] {
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
    fn ipam(&self) -> Option<&str> {
        self.ipam.as_ref().and_then(|ipam| ipam.kind.as_deref()).filter(|kind| !kind.is_empty())
    }

    /// Reads what is left, and joins it with what all was read from.
    fn complete(self, text: &str, whole: Value, twice: Vec<String>) -> Result<Common> {
        let version = self.version()?;
        Ok(Common {
            version,
            ipam: self.ipam().map(str::to_owned),
            name: self.name.unwrap_or_default(),
            kind: self.r#type.unwrap_or_default(),
            dns: self.dns.unwrap_or_default(),
            prev_result: match self.prev_result {
                None | Some(Value::Null) => None,
                Some(value) => Some(
                    AddResult::from_json(&value, version)
                        .map_err(|error| Error { msg: format!("prevResult: {}", error.msg), ..error })?,
                ),
            },
            runtime: self.runtime_config.unwrap_or_default(),
            args: self.args.and_then(|args| args.cni).unwrap_or_default(),
            valid: self.valid.or(self.valid_old),
            text: text.to_owned(),
            twice,
            is_strict: self.strict == Some(true),
            whole,
        })
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

/// Reads by keys as they are; and where that leaves keys that nobody knows, or something is wrong, in any case, as those
/// plugins do that are written in Go.
fn in_any_case<T>(read_by: impl Fn(Keys) -> Result<(T, Vec<Unknown>)>) -> Result<(T, Vec<Unknown>)> {
    match read_by(Keys::Exact) {
        Ok((read, unknown)) if unknown.is_empty() => Ok((read, unknown)),
        _ => read_by(Keys::AnyCase),
    }
}

/// Reads `value` as a `T`, and what `T` passed over.
fn read<T: DeserializeOwned>(value: &Value, keys: Keys) -> Result<(T, Vec<Ignored<'_>>)> {
    decode::decode(value, keys).map_err(|(why, path)| explain(&why, &path))
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

/// Of what `C` passed over, the keys that are not the protocol's either.
fn of_plugin<C: DeserializeOwned>(ignored: Vec<Ignored<'_>>, keys: Keys) -> Vec<Unknown> {
    let own = fields::of::<C>();
    let protocol = fields::of::<Protocol>();
    let is_known = |path: &str| {
        let top = path.split(['.', '[']).next().unwrap_or(path);
        let is_top = |field: &&str| *field == top || keys == Keys::AnyCase && field.eq_ignore_ascii_case(top);
        let of_protocol = protocol.iter().any(is_top) || WELL_KNOWN.contains(&top) || path.starts_with("cni.dev/");
        of_protocol && !own.contains(&top)
    };
    let near = |path: &str| nearest(path, own.iter().chain(protocol).copied().chain(WELL_KNOWN));
    ignored
        .into_iter()
        .filter(|(path, _)| !is_known(path))
        .take(MOST_UNKNOWN)
        .map(|ignored| strange(ignored, "", near))
        .collect()
}

/// Of what `C` passed over, the keys below `ipam`, less the delegate's type.
fn of_ipam<C: DeserializeOwned>(ignored: Vec<Ignored<'_>>) -> Vec<Unknown> {
    const PREFIX: &str = "ipam.";
    let known = || fields::of::<C>().iter().chain(fields::of::<DelegateKind>()).copied();
    let is_strange = |path: &str| path.strip_prefix(PREFIX).is_some_and(|key| known().all(|known| known != key));
    let near = |key: &str| nearest(key, known());
    ignored
        .into_iter()
        .filter(|(path, _)| is_strange(path))
        .take(MOST_UNKNOWN)
        .map(|ignored| strange(ignored, PREFIX, near))
        .collect()
}

/// A key that nobody knows. Suggestions are for those at the top of the plugin's own object: what is below is not known
/// here.
fn strange((path, value): Ignored<'_>, prefix: &str, near: impl Fn(&str) -> Option<&'static str>) -> Unknown {
    let near = path.strip_prefix(prefix).filter(|key| !key.contains('.')).and_then(near);
    let mut value = value.to_string();
    if value.len() > MOST_VALUE {
        value.truncate(value.floor_char_boundary(MOST_VALUE));
        value.push('…');
    }
    Unknown { path, value, near }
}

#[cfg(test)]
#[path = "conf_tests.rs"]
mod tests;
