//! The `ipam` object, and what of it goes to a DHCP server.

use std::path::{Component, PathBuf};

use podwire_dhcp::Options4;
use podwire_spec::{Error, Result, did_you_mean, hash};
use serde::{Deserialize, Serialize};

/// Where the daemon listens unless told otherwise; the reference's path.
pub(crate) const SOCKET: &str = "/run/cni/dhcp.sock";
/// The longest path that the address of a socket has room for (unix(7)), less its terminating zero.
const SOCKET_MAX: usize = 107;
/// The longest client identifier with its type, and the longest value of any option: its length is one byte.
const OPTION_MAX: usize = 255;

/// The `ipam` object of `dhcp`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DhcpConfig {
    /// The daemon's socket. Default: [`SOCKET`].
    daemon_socket_path: Option<String>,
    /// Metric of the routes. Default: the kernel's.
    pub(crate) priority: Option<u32>,
    /// Options to send. Default: the client identifier.
    provide: Option<Vec<Provide>>,
    /// Options to ask for. Default: those that are of use here.
    request: Option<Vec<Request>>,
    /// Whether to get an IPv4 address (podwire's own). Default: true.
    dhcp4: Option<bool>,
    /// Whether to get an IPv6 address (podwire's own). Default: false.
    dhcp6: Option<bool>,
}

/// An option to send.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Provide {
    /// Its name or number.
    option: String,
    /// Its value, byte for byte.
    #[serde(default)]
    value: String,
    /// The key of `CNI_ARGS` whose value it gets, where the caller gives one.
    #[serde(default)]
    from_arg: String,
}

/// An option to ask for.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    /// Ask for the ones in this list only, not for the default ones too; it is enough to say so once.
    #[serde(default)]
    skip_default: bool,
    /// Its name or number; an entry with nothing but `skipDefault` has none.
    #[serde(default)]
    option: String,
}

/// What an attachment asks of its servers, all resolved; kept on disk with its lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// Option 61, type and all.
    pub(crate) client_id: Vec<u8>,
    /// The codes of option 55.
    pub(crate) request: Vec<u8>,
    /// Other options to send.
    pub(crate) send: Vec<(u8, Vec<u8>)>,
    pub(crate) priority: Option<u32>,
    pub(crate) dhcp4: bool,
    pub(crate) dhcp6: bool,
}

impl DhcpConfig {
    /// The daemon's socket.
    ///
    /// # Errors
    /// Code 7 for a path that is none.
    pub(crate) fn socket(&self) -> Result<PathBuf> {
        let given = self.daemon_socket_path.as_deref().filter(|path| !path.is_empty());
        let path = PathBuf::from(given.unwrap_or(SOCKET));
        let wrong = |why: &str| Err(Error::invalid("ipam.daemonSocketPath", format!("\"{}\": {why}", path.display())));
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return wrong("must be an absolute path without \"..\"");
        }
        if path.as_os_str().len() > SOCKET_MAX || path.as_os_str().as_encoded_bytes().contains(&0) {
            return wrong("too long for a socket, or with a NUL in it");
        }
        Ok(path)
    }

    /// What to ask for, and to say, on behalf of this attachment.
    ///
    /// # Errors
    /// Code 7 for an option that is not known, is the protocol's own, or is too long; or without any address family.
    pub(crate) fn wanted(&self, client_id: Vec<u8>, cni_args: &str) -> Result<Wanted> {
        let (dhcp4, dhcp6) = (self.dhcp4.unwrap_or(true), self.dhcp6.unwrap_or(false));
        if !dhcp4 && !dhcp6 {
            return Err(Error::invalid("ipam.dhcp6", "false, as is \"dhcp4\": there is no address to ask for"));
        }
        let mut wanted =
            Wanted { client_id, request: self.requested()?, send: Vec::new(), priority: self.priority, dhcp4, dhcp6 };
        for (n, provide) in self.provide.iter().flatten().enumerate() {
            let path = format!("ipam.provide[{n}]");
            let code = code_of(&provide.option).map_err(|why| Error::invalid(&format!("{path}.option"), why))?;
            if is_the_protocols(code) {
                let why = format!("{:?}: it is the protocol's own, the daemon sets it", provide.option);
                return Err(Error::invalid(&format!("{path}.option"), why));
            }
            let from_caller = Some(&provide.from_arg).filter(|key| !key.is_empty()).and_then(|key| arg(cni_args, key));
            let value = from_caller.unwrap_or(&provide.value).as_bytes();
            if value.len() > OPTION_MAX {
                let why = format!("{} bytes, an option holds {OPTION_MAX}", value.len());
                return Err(Error::invalid(&format!("{path}.value"), why));
            }
            match code {
                // Not given after all: as if it were not in the list.
                _ if value.is_empty() => {}
                CLIENT_ID => wanted.client_id = value.to_vec(),
                _ => {
                    wanted.send.retain(|(sent, _)| *sent != code);
                    wanted.send.push((code, value.to_vec()));
                }
            }
        }
        Ok(wanted)
    }

    fn requested(&self) -> Result<Vec<u8>> {
        let entries = || self.request.iter().flatten();
        let skip = entries().any(|entry| entry.skip_default);
        let mut codes = if skip { Vec::new() } else { Options4::REQUEST.to_vec() };
        for (n, entry) in entries().enumerate().filter(|(_, entry)| !(entry.skip_default && entry.option.is_empty())) {
            let path = format!("ipam.request[{n}].option");
            let code = code_of(&entry.option).map_err(|why| Error::invalid(&path, why))?;
            if !codes.contains(&code) {
                codes.push(code);
            }
        }
        Ok(codes)
    }
}

/// The client identifier of an attachment (RFC 2132, section 9.14): type 0, then container id, network and interface, as
/// the reference builds it, so that a server gives the same address to both. Where that is too long the reference cuts
/// it off, and with it the interface; here its end is a hash of the whole then.
pub(crate) fn client_id(container_id: &str, network: &str, ifname: &str) -> Vec<u8> {
    const ROOM: usize = OPTION_MAX - 1;
    let mut id = format!("{container_id}/{network}/{ifname}").into_bytes();
    if id.len() > ROOM {
        let hash = format!("/{:016x}", hash(&id));
        id.truncate(ROOM - hash.len());
        id.extend(hash.into_bytes());
    }
    id.insert(0, 0);
    id
}

/// The value of a key of `CNI_ARGS`; the last one counts.
fn arg<'a>(cni_args: &'a str, key: &str) -> Option<&'a str> {
    cni_args.split(';').filter_map(|pair| pair.split_once('=')).rfind(|(name, _)| *name == key).map(|(_, value)| value)
}

/// Option 61.
const CLIENT_ID: u8 = 61;

/// The names of options as dhcp-options(5) has them. The reference knows the first six.
const NAMES: [(&str, u8); 28] = [
    ("dhcp-client-identifier", CLIENT_ID),
    ("subnet-mask", 1),
    ("routers", 3),
    ("host-name", 12),
    ("user-class", 77),
    ("vendor-class-identifier", 60),
    ("time-offset", 2),
    ("time-servers", 4),
    ("domain-name-servers", 6),
    ("log-servers", 7),
    ("domain-name", 15),
    ("root-path", 17),
    ("interface-mtu", 26),
    ("broadcast-address", 28),
    ("static-routes", 33),
    ("ntp-servers", 42),
    ("vendor-encapsulated-options", 43),
    ("netbios-name-servers", 44),
    ("dhcp-lease-time", 51),
    ("dhcp-renewal-time", 58),
    ("dhcp-rebinding-time", 59),
    ("tftp-server-name", 66),
    ("bootfile-name", 67),
    ("fqdn", 81),
    ("vendor-class", 124),
    ("domain-search", 119),
    ("classless-static-routes", 121),
    ("ms-classless-static-routes", 249),
];

/// The code of an option, from its name or number.
fn code_of(option: &str) -> Result<u8, String> {
    if let Some((_, code)) = NAMES.into_iter().find(|(name, _)| *name == option) {
        return Ok(code);
    }
    option.parse().ok().filter(|code| matches!(code, 1..=254)).ok_or_else(|| {
        let near = did_you_mean(option, NAMES.map(|(name, _)| name));
        format!("{option:?}: expected the name of a DHCP option, or a number from 1 to 254{near}")
    })
}

/// What only the client itself can say: the address it asks for, lease time, overload, message type, server, request
/// list, message and its size.
fn is_the_protocols(code: u8) -> bool {
    matches!(code, 50..=55 | 57)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
