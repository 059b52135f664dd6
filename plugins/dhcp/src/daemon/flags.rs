//! The command line of `dhcp daemon`. Flags may be written with one dash or two, and with their value behind a space or
//! an equals sign, as Go's are.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use podwire_spec::did_you_mean;

use crate::config::SOCKET;

/// What `dhcp daemon -help` prints.
pub(super) const HELP: &str = "\
dhcp daemon: gets leases from DHCP servers for pods, and keeps them

usage: dhcp daemon [flags]

  -socketpath PATH        where the plugin finds it (default /run/cni/dhcp.sock); of no use with socket activation
  -statedir DIR           where leases are kept over a restart (default: beside the socket, /run/cni/dhcp.leases)
  -hostprefix PATH        where the node's root is, for a daemon in a container; put before the socket's path and the
                          namespaces'
  -pidfile PATH           write the process's number there
  -broadcast              ask servers to broadcast their answers; on ipvlan that is done in any case
  -timeout DURATION       how long one request to a server goes on (default 10s)
  -resendtimeout DURATION how long an ADD goes on before it fails (default: as long as -timeout)
  -resendmax DURATION     the longest pause between two messages (default 1m2s)

A duration is a number with a unit, such as 10s, 500ms or 1m30s. Each flag may be written with two dashes, too.
";

/// The flags, all resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) socket: PathBuf,
    pub(super) state: PathBuf,
    /// Put before the paths of namespaces.
    pub(super) host_prefix: String,
    pub(super) pidfile: Option<PathBuf>,
    pub(super) broadcast: bool,
    pub(super) timeout: Duration,
    pub(super) resend_timeout: Duration,
    pub(super) resend_max: Duration,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Run(Flags),
    Help,
}

const NAMES: [&str; 9] =
    ["socketpath", "statedir", "hostprefix", "pidfile", "broadcast", "timeout", "resendtimeout", "resendmax", "help"];

/// Reads the command line.
///
/// # Errors
/// In words, for an unknown flag, or a value that is none.
pub(super) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Asked, String> {
    let mut given: [Option<String>; NAMES.len()] = Default::default();
    let mut arguments = arguments.map(|argument| {
        argument.into_string().map_err(|argument| format!("argument {:?}: not UTF-8", argument.to_string_lossy()))
    });
    while let Some(argument) = arguments.next() {
        let argument = argument?;
        let flag = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'));
        let flag = flag.ok_or_else(|| format!("argument {argument:?}: expected a flag, such as -socketpath"))?;
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value.to_owned())));
        if matches!(name, "help" | "h") {
            return Ok(Asked::Help);
        }
        let place = NAMES.iter().position(|known| *known == name);
        let place = place.ok_or_else(|| format!("flag -{name}: unknown{}", did_you_mean(name, NAMES)))?;
        let value = match value {
            Some(value) => value,
            None if name == "broadcast" => "true".to_owned(),
            None => arguments.next().ok_or_else(|| format!("flag -{name}: needs a value"))??,
        };
        given[place] = Some(value);
    }
    resolve(given).map(Asked::Run)
}

fn resolve(given: [Option<String>; NAMES.len()]) -> Result<Flags, String> {
    let [socket, state, prefix, pidfile, broadcast, timeout, resend_timeout, resend_max, _] = given;
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let absolute = |name: &str, path: String| {
        let path = PathBuf::from(path);
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(format!("flag -{name} {:?}: must be an absolute path", path.display().to_string()))
        }
    };
    let time = |name: &str, text: Option<String>, default: Duration| match some(text) {
        None => Ok(default),
        Some(text) => duration(&text).filter(|time| !time.is_zero()).ok_or_else(|| {
            format!("flag -{name} {text:?}: expected a duration above zero, such as 10s, 500ms or 1m30s")
        }),
    };
    let host_prefix = some(prefix).unwrap_or_default();
    let socket = format!("{host_prefix}{}", some(socket).as_deref().unwrap_or(SOCKET));
    let socket = absolute("socketpath", socket)?;
    let timeout = time("timeout", timeout, Duration::from_secs(10))?;
    Ok(Flags {
        state: some(state).map_or_else(|| Ok(socket.with_extension("leases")), |path| absolute("statedir", path))?,
        socket,
        host_prefix,
        pidfile: some(pidfile).map(|path| absolute("pidfile", path)).transpose()?,
        broadcast: match broadcast.as_deref() {
            None | Some("false" | "f" | "0") => false,
            Some("true" | "t" | "1") => true,
            Some(text) => return Err(format!("flag -broadcast={text}: expected true or false")),
        },
        timeout,
        resend_timeout: time("resendtimeout", resend_timeout, timeout)?,
        resend_max: time("resendmax", resend_max, Duration::from_secs(62))?,
    })
}

/// A duration as Go writes it, without signs: `1h2m3.5s`.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] =
        [("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let number: f64 = rest[..end].parse().ok()?;
        let (unit, factor) = UNITS.into_iter().find(|(unit, _)| rest[end..].starts_with(unit))?;
        seconds += number * factor;
        rest = &rest[end + unit.len()..];
    }
    // Longer than a lease can be is a mistake, and more than a clock can count.
    (!text.is_empty() && seconds <= f64::from(u32::MAX)).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(text: &str) -> Result<Flags, String> {
        match parse(text.split_whitespace().map(OsString::from))? {
            Asked::Run(flags) => Ok(flags),
            Asked::Help => Err("help".to_owned()),
        }
    }

    #[test]
    fn defaults_are_the_references() {
        let flags = flags("").unwrap();
        assert_eq!(flags.socket, PathBuf::from("/run/cni/dhcp.sock"));
        assert_eq!(flags.state, PathBuf::from("/run/cni/dhcp.leases"));
        assert_eq!((flags.timeout, flags.resend_max), (Duration::from_secs(10), Duration::from_secs(62)));
        assert_eq!((flags.broadcast, flags.pidfile), (false, None));
    }

    #[test]
    fn flags_are_written_as_go_has_them() {
        let one =
            flags("-socketpath /s/d.sock --timeout=1m30s -broadcast -resendmax 500ms -hostprefix /host -pidfile /p");
        let one = one.unwrap();
        assert_eq!(one.socket, PathBuf::from("/host/s/d.sock"));
        assert_eq!(one.state, PathBuf::from("/host/s/d.leases"));
        assert_eq!((one.timeout, one.resend_timeout), (Duration::from_secs(90), Duration::from_secs(90)));
        assert_eq!(one.resend_max, Duration::from_millis(500));
        assert!(one.broadcast);
        assert!(!flags("-broadcast=false").unwrap().broadcast);
        assert_eq!(flags("-resendtimeout 1h2m3.5s").unwrap().resend_timeout, Duration::from_millis(3_723_500));
        assert_eq!(parse(["--help".into()].into_iter()), Ok(Asked::Help));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, said) in [
            ("-sockpath /x", "did you mean \"socketpath\"?"),
            ("-socketpath", "needs a value"),
            ("-socketpath x", "absolute"),
            ("-statedir x", "absolute"),
            ("socketpath", "expected a flag"),
            ("-timeout 10", "expected a duration"),
            ("-timeout 0s", "above zero"),
            ("-timeout -1s", "expected a duration"),
            ("-timeout 1.2.3s", "expected a duration"),
            ("-timeout 99999999999h", "expected a duration"),
            ("-broadcast=maybe", "true or false"),
        ] {
            let error = flags(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
