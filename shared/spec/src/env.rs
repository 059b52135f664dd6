//! The environment of a call: section "Parameters" of the specification.

use std::{ffi::OsString, path::PathBuf, str::FromStr};

use crate::{Error, Mac, Result, did_you_mean, names, result::RequestedIp};

/// What the runtime asks for, from `CNI_COMMAND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Attach a container to a network.
    Add,
    /// Detach it.
    Del,
    /// Compare an attachment with what ADD had made.
    Check,
    /// Remove what belongs to attachments that are no longer valid.
    Gc,
    /// Tell whether an ADD could be served.
    Status,
    /// List the supported versions.
    Version,
}

impl Command {
    const ALL: [(&str, Self); 6] = [
        ("ADD", Self::Add),
        ("DEL", Self::Del),
        ("CHECK", Self::Check),
        ("GC", Self::Gc),
        ("STATUS", Self::Status),
        ("VERSION", Self::Version),
    ];

    /// The command as it stands in `CNI_COMMAND`.
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|&(_, command)| command == self).map_or("", |(name, _)| name)
    }

    /// Whether the command speaks of one attachment and so needs a container id and an interface name.
    const fn is_of_an_attachment(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }
}

impl FromStr for Command {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|&(name, _)| name == text).map(|(_, command)| command).ok_or_else(|| {
            let near = did_you_mean(text, Self::ALL.map(|(name, _)| name));
            format!("CNI_COMMAND {text:?}: expected ADD, DEL, CHECK, GC, STATUS or VERSION{near}")
        })
    }
}

/// The pod that Kubernetes started the container for, from `CNI_ARGS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct K8sPod {
    /// `K8S_POD_NAMESPACE`.
    pub namespace: String,
    /// `K8S_POD_NAME`.
    pub name: String,
}

/// What `CNI_ARGS` says: the keys that podwire's plugins know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodArgs {
    /// `MAC`: the MAC address wanted.
    pub mac: Option<Mac>,
    /// `IP`: the addresses wanted, separated by commas, each with or without a prefix length.
    pub ips: Vec<RequestedIp>,
    /// `GATEWAY`: a gateway for each of the addresses (static).
    pub gateways: Vec<std::net::IpAddr>,
    /// The pod, where both its keys are given.
    pub pod: Option<K8sPod>,
}

/// The `CNI_*` variables, all checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Env {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// `CNI_CONTAINERID`; empty for GC, STATUS and VERSION.
    pub container_id: String,
    /// `CNI_NETNS` as given; empty where it was not.
    pub netns: String,
    /// `CNI_IFNAME`; empty for GC, STATUS and VERSION.
    pub ifname: String,
    /// `CNI_ARGS`.
    pub args: PodArgs,
    /// The folders of `CNI_PATH`, in order.
    pub path: Vec<PathBuf>,
    /// `CNI_NETNS_OVERRIDE` is true: `CNI_NETNS` may be the plugin's own namespace.
    pub netns_override: bool,
}

impl Env {
    /// Reads the variables through `get`.
    ///
    /// # Errors
    /// Code 4, naming every variable that is missing or ill-formed at once.
    pub fn read(get: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let mut wrong = Vec::new();
        let mut text = |name: &str| match get(name).map(OsString::into_string) {
            None => String::new(),
            Some(Ok(text)) => text,
            Some(Err(bytes)) => {
                wrong.push(format!("{name} {:?}: not UTF-8", bytes.to_string_lossy()));
                String::new()
            }
        };
        let [command, container_id, netns, ifname, args, path, over] =
            ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH", "CNI_NETNS_OVERRIDE"]
                .map(&mut text);

        let command = if command.is_empty() {
            Err("CNI_COMMAND: missing (ADD, DEL, CHECK, GC, STATUS or VERSION)".to_owned())
        } else {
            command.parse()
        };
        let mut env = Self {
            command: Command::Version,
            container_id,
            netns,
            ifname,
            args: PodArgs::default(),
            path: path.split(':').filter(|dir| !dir.is_empty()).map(PathBuf::from).collect(),
            netns_override: boolean(&over).unwrap_or(false),
        };
        match command {
            Ok(Command::Version) => return Ok(env),
            Ok(command) => env.command = command,
            Err(why) => wrong.push(why),
        }
        if env.command.is_of_an_attachment() {
            wrong.extend(env.wrong_attachment());
            match PodArgs::parse(&args) {
                Ok(args) => env.args = args,
                Err(why) => wrong.push(why),
            }
        } else {
            // GC and STATUS speak of the node; whatever a caller left in these is not looked at.
            env = Self { container_id: String::new(), netns: String::new(), ifname: String::new(), ..env };
        }
        if wrong.is_empty() { Ok(env) } else { Err(Error::environment(wrong.join("; "))) }
    }

    /// What is wrong with the variables that name an attachment.
    fn wrong_attachment(&self) -> impl Iterator<Item = String> {
        let container_id = match self.container_id.as_str() {
            "" => Some("CNI_CONTAINERID: missing".to_owned()),
            id if names::container_id(id) => None,
            id => Some(format!(
                "CNI_CONTAINERID {id:?}: must start with a letter or digit, then letters, digits, \"_\", \".\" or \"-\""
            )),
        };
        let ifname = match self.ifname.as_str() {
            "" => Some("CNI_IFNAME: missing".to_owned()),
            name if names::interface_name(name) => None,
            name => Some(format!(
                "CNI_IFNAME {name:?}: must be 1 to 15 bytes, not \".\" or \"..\", without \"/\", \":\", \"%\" or white space"
            )),
        };
        let netns = match self.netns.as_str() {
            "" if self.command != Command::Del => Some("CNI_NETNS: missing".to_owned()),
            netns if netns.contains('\0') => Some(format!("CNI_NETNS {netns:?}: holds a NUL")),
            _ => None,
        };
        [container_id, netns, ifname].into_iter().flatten()
    }
}

impl PodArgs {
    /// Reads `CNI_ARGS`: `KEY=VALUE` pairs separated by semicolons.
    fn parse(text: &str) -> Result<Self, String> {
        let pairs = text
            .split(';')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').ok_or_else(|| format!("CNI_ARGS {pair:?}: expected KEY=VALUE")))
            .collect::<Result<Vec<_>, _>>()?;
        let ignore_unknown = pairs.iter().any(|&(key, value)| key == "IgnoreUnknown" && boolean(value) == Some(true));
        let (mut args, mut namespace, mut name) = (Self::default(), "", "");
        for (key, value) in pairs {
            let wrong = |why: String| format!("CNI_ARGS {key}={value}: {why}");
            match key {
                "MAC" => args.mac = Some(value.parse().map_err(wrong)?),
                "IP" => args.ips = list(value).map_err(wrong)?,
                "GATEWAY" => args.gateways = list(value).map_err(wrong)?,
                "K8S_POD_NAMESPACE" => namespace = value,
                "K8S_POD_NAME" => name = value,
                "IgnoreUnknown" if boolean(value).is_none() => return Err(wrong("expected true or false".to_owned())),
                "IgnoreUnknown" => {}
                key if key.starts_with("K8S_POD_") || ignore_unknown => {}
                key => {
                    let near = did_you_mean(key, ["MAC", "IP", "GATEWAY", "IgnoreUnknown"]);
                    return Err(wrong(format!("unknown key{near}; IgnoreUnknown=true passes over such keys")));
                }
            }
        }
        if !namespace.is_empty() && !name.is_empty() {
            args.pod = Some(K8sPod { namespace: namespace.to_owned(), name: name.to_owned() });
        }
        Ok(args)
    }
}

fn list<T: FromStr<Err: ToString>>(text: &str) -> Result<Vec<T>, String> {
    text.split(',')
        .filter(|item| !item.is_empty())
        .map(|item| item.parse().map_err(|e: T::Err| e.to_string()))
        .collect()
}

/// A boolean as the field writes it in environment variables: `1`, `true`, `0`, `false`, in any case.
fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code;

    fn read(pairs: &[(&str, &str)]) -> Result<Env> {
        Env::read(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value)))
    }

    const ADD: [(&str, &str); 4] =
        [("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c1"), ("CNI_NETNS", "/run/netns/c1"), ("CNI_IFNAME", "eth0")];

    #[test]
    fn p01_an_unknown_or_missing_command_is_code_4_and_named() {
        for (pairs, said) in [(&[][..], "CNI_COMMAND"), (&[("CNI_COMMAND", "ADDD")], "did you mean \"ADD\"")] {
            let error = read(pairs).unwrap_err();
            assert_eq!(error.code, code::ENVIRONMENT);
            assert!(error.msg.contains(said), "{error}");
        }
    }

    #[test]
    fn p02_every_missing_variable_is_named_at_once() {
        let error = read(&[("CNI_COMMAND", "ADD")]).unwrap_err();
        assert_eq!(error.code, code::ENVIRONMENT);
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
            assert!(error.msg.contains(name), "{error}");
        }
        assert!(read(&[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")]).is_ok());
        let env = read(&[("CNI_COMMAND", "GC"), ("CNI_NETNS", "/nowhere"), ("CNI_IFNAME", "a/b")]).unwrap();
        assert_eq!((env.netns.as_str(), env.ifname.as_str()), ("", ""));
        assert!(read(&ADD).is_ok());
    }

    #[test]
    fn p09_unknown_args_are_an_error_unless_told_otherwise() {
        let with = |args| read(&[&ADD[..], &[("CNI_ARGS", args)]].concat());
        assert!(with("FOO=bar").unwrap_err().msg.contains("FOO"));
        assert!(with("IgnoreUnknown=1;FOO=bar").is_ok());
        assert!(with("FOO").unwrap_err().msg.contains("KEY=VALUE"));
        assert!(with("MAC=zz").is_err());
        let env = with("K8S_POD_NAMESPACE=ns;K8S_POD_NAME=pod;K8S_POD_UID=7;IP=10.0.0.1,fd00::1/64").unwrap();
        assert_eq!(env.args.pod, Some(K8sPod { namespace: "ns".into(), name: "pod".into() }));
        assert_eq!(env.args.ips.len(), 2);
    }

    #[test]
    fn p14_version_needs_nothing_else() {
        let env = read(&[("CNI_COMMAND", "VERSION"), ("CNI_ARGS", "nonsense"), ("CNI_IFNAME", "a/b")]).unwrap();
        assert_eq!(env.command, Command::Version);
    }
}
