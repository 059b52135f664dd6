//! What plugin and daemon say to each other: Go's `net/rpc` with the types of the reference plugin.
//!
//! | method | argument | answer | |
//! |---|---|---|---|
//! | `DHCP.Allocate` | `skel.CmdArgs` | `types/100.Result` | the reference's: acquires a lease, or tells the one that is there |
//! | `DHCP.Release` | `skel.CmdArgs` | `struct{}` | the reference's |
//! | `DHCP.Check` | `skel.CmdArgs` | `types/100.Result` | ours: tells the lease that is there, and acquires none |
//! | `DHCP.Collect` | `skel.CmdArgs` | `struct{}` | ours: GC |
//! | `DHCP.Status` | `skel.CmdArgs` | `struct{}` | ours: answers if the daemon can serve an Allocate |
//!
//! `StdinData` is the network configuration as the plugin got it; the daemon reads its options there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use podwire_spec::{AddResult, Cidr, Dns, Error, Ip, Route, code};

use crate::gob::{self, Def, Schema, Value, builtin};

/// A method of the daemon's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Allocate,
    Release,
    Check,
    Collect,
    Status,
}

impl Method {
    const ALL: [Self; 5] = [Self::Allocate, Self::Release, Self::Check, Self::Collect, Self::Status];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Allocate => "DHCP.Allocate",
            Self::Release => "DHCP.Release",
            Self::Check => "DHCP.Check",
            Self::Collect => "DHCP.Collect",
            Self::Status => "DHCP.Status",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }
}

pub(crate) const REQUEST: i64 = 65;
pub(crate) const RESPONSE: i64 = 66;
pub(crate) const CMD_ARGS: i64 = 67;
pub(crate) const NOTHING: i64 = 68;
pub(crate) const RESULT: i64 = 69;
const IPS: i64 = 70;
const IP: i64 = 71;
const NETWORK: i64 = 72;
const ROUTES: i64 = 73;
const ROUTE: i64 = 74;
const DNS: i64 = 75;
const STRINGS: i64 = 76;

/// The types, with the fields that are used here; Go leaves those that it misses as they were.
pub(crate) fn schema() -> Schema {
    use builtin::{BYTES, INT, STRING, UINT};
    Schema::new().with([
        (REQUEST, Def::of([("ServiceMethod", STRING), ("Seq", UINT)])),
        (RESPONSE, Def::of([("ServiceMethod", STRING), ("Seq", UINT), ("Error", STRING)])),
        (
            CMD_ARGS,
            Def::of([
                ("ContainerID", STRING),
                ("Netns", STRING),
                ("IfName", STRING),
                ("Args", STRING),
                ("Path", STRING),
                ("StdinData", BYTES),
            ]),
        ),
        (NOTHING, Def::of([])),
        (RESULT, Def::of([("IPs", IPS), ("Routes", ROUTES), ("DNS", DNS)])),
        (IPS, Def::Slice { element: IP }),
        (IP, Def::of([("Address", NETWORK), ("Gateway", BYTES)])),
        (NETWORK, Def::of([("IP", BYTES), ("Mask", BYTES)])),
        (ROUTES, Def::Slice { element: ROUTE }),
        (
            ROUTE,
            Def::of([
                ("Dst", NETWORK),
                ("GW", BYTES),
                ("MTU", INT),
                ("AdvMSS", INT),
                ("Priority", INT),
                ("Scope", INT),
            ]),
        ),
        (DNS, Def::of([("Nameservers", STRINGS), ("Domain", STRING), ("Search", STRINGS), ("Options", STRINGS)])),
        (STRINGS, Def::Slice { element: STRING }),
    ])
}

/// `skel.CmdArgs`: the call that the plugin got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CmdArgs {
    pub(crate) container_id: String,
    /// An absolute path, since the daemon may run in another folder.
    pub(crate) netns: String,
    pub(crate) ifname: String,
    /// `CNI_ARGS` as it came, for options with `fromArg`.
    pub(crate) args: String,
    pub(crate) stdin: Vec<u8>,
}

impl CmdArgs {
    pub(crate) fn to_value(&self) -> Value {
        Value::of([
            ("ContainerID", Value::String(self.container_id.clone())),
            ("Netns", Value::String(self.netns.clone())),
            ("IfName", Value::String(self.ifname.clone())),
            ("Args", Value::String(self.args.clone())),
            ("StdinData", Value::Bytes(self.stdin.clone())),
        ])
    }

    pub(crate) fn from_value(value: &Value) -> gob::Result<Self> {
        Ok(Self {
            container_id: value.text("ContainerID")?,
            netns: value.text("Netns")?,
            ifname: value.text("IfName")?,
            args: value.text("Args")?,
            stdin: value.bytes("StdinData")?.to_vec(),
        })
    }
}

/// A result of ADD as `types/100.Result`; the interfaces are the calling plugin's.
pub(crate) fn from_result(result: &AddResult) -> Value {
    let gateway = |gateway: Option<IpAddr>| Value::Bytes(gateway.map(octets).unwrap_or_default());
    let number = |number: Option<u32>| Value::Int(number.unwrap_or_default().into());
    let strings = |all: &[String]| Value::List(all.iter().cloned().map(Value::String).collect());
    let ip = |ip: &Ip| Value::of([("Address", network(ip.address)), ("Gateway", gateway(ip.gateway))]);
    let route = |route: &Route| {
        Value::of([
            ("Dst", network(route.dst)),
            ("GW", gateway(route.gw)),
            ("MTU", number(route.mtu)),
            ("AdvMSS", number(route.advmss)),
            ("Priority", number(route.priority)),
            ("Scope", number(route.scope.map(Into::into))),
        ])
    };
    let dns = Value::of([
        ("Nameservers", strings(&result.dns.nameservers)),
        ("Domain", Value::String(result.dns.domain.clone())),
        ("Search", strings(&result.dns.search)),
        ("Options", strings(&result.dns.options)),
    ]);
    Value::of([
        ("IPs", Value::List(result.ips.iter().map(ip).collect())),
        ("Routes", Value::List(result.routes.iter().map(route).collect())),
        ("DNS", dns),
    ])
}

/// The same the other way.
///
/// # Errors
/// Where it is no such result.
pub(crate) fn to_result(value: &Value) -> gob::Result<AddResult> {
    let nothing = Value::of([]);
    let part = |value: &Value, name| value.field(name).unwrap_or(&nothing).clone();
    let number = |value: &Value, name| {
        let number = value.int(name)?.filter(|&number| number != 0);
        number.map(|number| u32::try_from(number).map_err(|_| gob::Error::new(format!("{name} {number}")))).transpose()
    };
    let strings = |value: &Value, name| -> gob::Result<Vec<String>> {
        let text = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            _ => Err(gob::Error::new(format!("{name} is not a list of strings"))),
        };
        value.list(name)?.iter().map(text).collect()
    };
    let ip = |value: &Value| {
        let address = cidr(&part(value, "Address"))?;
        Ok(Ip { interface: None, address, gateway: address_or_none(value.bytes("Gateway")?)? })
    };
    let route = |value: &Value| {
        let mut route = Route::new(cidr(&part(value, "Dst"))?, address_or_none(value.bytes("GW")?)?);
        (route.mtu, route.advmss) = (number(value, "MTU")?, number(value, "AdvMSS")?);
        route.priority = number(value, "Priority")?;
        // A route without a next hop is to neighbours, or by the gateway where the daemon has no word for the difference.
        route.scope = number(value, "Scope")?.and_then(|scope| u8::try_from(scope).ok());
        Ok(route)
    };
    let dns = part(value, "DNS");
    Ok(AddResult {
        interfaces: Vec::new(),
        ips: value.list("IPs")?.iter().map(ip).collect::<gob::Result<_>>()?,
        routes: value.list("Routes")?.iter().map(route).collect::<gob::Result<_>>()?,
        dns: Dns {
            nameservers: strings(&dns, "Nameservers")?,
            domain: dns.text("Domain")?,
            search: strings(&dns, "Search")?,
            options: strings(&dns, "Options")?,
        },
    })
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// `net.IPNet`.
fn network(cidr: Cidr) -> Value {
    Value::of([("IP", Value::Bytes(octets(cidr.ip()))), ("Mask", Value::Bytes(octets(cidr.0.mask())))])
}

/// `net.IP`, of which an IPv4 address may come in 4 bytes or as an IPv6 one.
fn address_or_none(bytes: &[u8]) -> gob::Result<Option<IpAddr>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Ok(Some(Ipv4Addr::from(bytes).into()));
    }
    let bytes = <[u8; 16]>::try_from(bytes)
        .map_err(|_| gob::Error::new(format!("an address of {} bytes, expected 4 or 16", bytes.len())))?;
    Ok(Some(Ipv6Addr::from(bytes).to_canonical()))
}

fn cidr(value: &Value) -> gob::Result<Cidr> {
    let ip = address_or_none(value.bytes("IP")?)?.ok_or_else(|| gob::Error::new("a network without an address"))?;
    let mask = value.bytes("Mask")?;
    let ones: u32 = mask.iter().map(|byte| byte.leading_ones()).sum();
    let all: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    // Ones, then zeros, and as long as the address.
    let is_prefix = mask.iter().skip_while(|&&byte| byte == 0xff).skip(1).all(|&byte| byte == 0) && ones == all;
    if !is_prefix || mask.len() != octets(ip).len() {
        return Err(gob::Error::new(format!("a network with the mask {mask:02x?} for {ip}")));
    }
    Cidr::new(ip, u8::try_from(ones).unwrap_or(u8::MAX)).map_err(gob::Error::new)
}

/// An error as the text that `net/rpc` has for it: in front is the code, behind the message the details. The reference's
/// plugin shows all of it.
pub(crate) fn from_error(error: &Error) -> String {
    format!("[code {}] {error}", error.code)
}

/// An error of the daemon's. Code 108 for one of the reference's, which has none.
pub(crate) fn to_error(text: &str) -> Error {
    let coded = text.strip_prefix("[code ").and_then(|rest| rest.split_once("] "));
    let Some((Ok(number), said)) = coded.map(|(number, said)| (number.parse::<u32>(), said)) else {
        return Error::new(code::DELEGATE, format!("DHCP daemon: {text}"));
    };
    let (msg, details) = said.split_once("; ").unwrap_or((said, ""));
    Error::new(number, msg).with_details(details)
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
