//! DHCP servers as Debian ships them, in a namespace of the lab: dnsmasq and Kea, from one description of what to offer.
//!
//! They are looked for below `target/tools/servers`, where `.ci/setup test` unpacks them, and else in the path.

mod dnsmasq;
mod kea;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::Space;
use super::service::{Service, quiet};

/// A server starts, or has seen a packet, within this time even on a busy machine.
const SOON: Duration = Duration::from_secs(15);

/// Whose server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Software {
    /// `dnsmasq`: both IP versions and router advertisements in one process; a lease of two minutes at least.
    Dnsmasq,
    /// `kea-dhcp4`; a lease of seconds.
    Kea4,
    /// `kea-dhcp6`; the same.
    Kea6,
}

impl Software {
    /// The name of its program.
    fn program(self) -> &'static str {
        match self {
            Self::Dnsmasq => "dnsmasq",
            Self::Kea4 => "kea-dhcp4",
            Self::Kea6 => "kea-dhcp6",
        }
    }

    /// Where its program is, if it is anywhere.
    pub fn find(self) -> Option<PathBuf> {
        if let Some(root) = unpacked() {
            return Some(root.join("usr/sbin").join(self.program())).filter(|path| path.is_file());
        }
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|directory| directory.join(self.program())).find(|path| path.is_file())
    }
}

/// A command that starts it, with the libraries that were unpacked beside it.
fn command(software: Software) -> Result<Command> {
    let program = software.find();
    let program = program.with_context(|| format!("{}: not found; run .ci/setup test", software.program()))?;
    let mut command = quiet(program);
    if let Some(root) = unpacked() {
        let of = format!("{}-linux-gnu", std::env::consts::ARCH);
        let libraries = [root.join("usr/lib").join(&of), root.join("lib").join(&of)];
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?);
    }
    Ok(command)
}

/// The directory that the packages of the servers were unpacked in.
fn unpacked() -> Option<PathBuf> {
    let here = std::env::current_exe().ok()?;
    let mut candidates = here.ancestors().map(|directory| directory.join("tools/servers"));
    candidates.find(|root| root.join("complete").is_file())
}

/// What a server has to offer. Options that are empty or absent are not sent.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// The network, `ADDRESS/PREFIX`.
    pub subnet: String,
    /// First and last address for clients.
    pub pool: [String; 2],
    /// How long a lease lasts, in seconds; half of it and seven eighths are T1 and T2. dnsmasq makes at least 120 of it.
    pub seconds: u32,
    /// T1 of dnsmasq in seconds, where it is to be another.
    pub renew: Option<u32>,
    /// Option 3.
    pub router: Option<String>,
    /// Option 121: destination and router. A client that asks for it gets no other routes.
    pub classless: Vec<(String, String)>,
    /// Option 33: host and router.
    pub fixed: Vec<(String, String)>,
    /// Option 26, in bytes.
    pub mtu: Option<u16>,
    /// Option 6, and 23 of `DHCPv6`.
    pub dns: Vec<String>,
    /// Option 15.
    pub domain: Option<String>,
    /// Option 119, and 24 of `DHCPv6`.
    pub search: Vec<String>,
    /// Who has an address of their own: MAC and address.
    pub reserved: Vec<(String, String)>,
    /// Router advertisements by dnsmasq that say: managed.
    pub advertise: bool,
}

impl Offer {
    /// The network of [`super::Lan`] with the addresses from 100 to 150, two minutes each.
    pub fn v4() -> Self {
        Self {
            subnet: "192.168.7.0/24".into(),
            pool: ["192.168.7.100".into(), "192.168.7.150".into()],
            seconds: 120,
            ..Self::default()
        }
    }

    /// The same of IPv6.
    pub fn v6() -> Self {
        Self {
            subnet: "fd07::/64".into(),
            pool: ["fd07::100".into(), "fd07::150".into()],
            seconds: 120,
            ..Self::default()
        }
    }
}

/// A running server. It is killed when this is dropped; its leases stay in its directory.
#[derive(Debug)]
pub struct Server {
    software: Software,
    space: Space,
    link: String,
    directory: PathBuf,
    service: Service,
}

impl Server {
    /// Starts one on `link` of `space`, which has its addresses and is up, and waits until it serves. `directory` is for its
    /// files, and is made.
    pub fn start(software: Software, space: &Space, link: &str, directory: &Path, offer: &Offer) -> Result<Self> {
        std::fs::create_dir_all(directory).with_context(|| format!("{directory:?}: make"))?;
        let service = match software {
            Software::Dnsmasq => dnsmasq::start(space, link, directory, offer),
            Software::Kea4 | Software::Kea6 => kea::start(software, space, link, directory, offer),
        }?;
        Ok(Self { software, space: space.clone(), link: link.to_owned(), directory: directory.to_owned(), service })
    }

    /// A relay on `space` instead of a server (RFC 2131, 3046): from the network where it has the address `own` to `server`.
    pub fn relay(space: &Space, own: &str, server: &str) -> Result<Service> {
        dnsmasq::relay(space, own, server)
    }

    /// What it says.
    pub fn log(&self) -> &Service {
        &self.service
    }

    /// Ends it in good order.
    pub fn stop(self) -> Result<()> {
        let status = self.service.end(Signal::SIGTERM)?;
        // dnsmasq ends with 5 when it is asked to between the last line that it says, once it serves, and its main loop.
        let early = self.software == Software::Dnsmasq && status.code() == Some(5);
        ensure!(status.success() || early, "{}: {status}", self.software.program());
        Ok(())
    }

    /// Ends it and starts it again with `offer`, with the leases that it knows, or, if `forgets`, with none.
    pub fn restart(self, offer: &Offer, forgets: bool) -> Result<Self> {
        let Self { software, space, link, directory, service } = self;
        service.end(Signal::SIGTERM)?;
        if forgets {
            std::fs::remove_dir_all(&directory).with_context(|| format!("{directory:?}: remove"))?;
        }
        Self::start(software, &space, &link, &directory, offer)
    }

    /// Waits until it has seen a client give `ip` back.
    pub fn await_release(&self, ip: IpAddr) -> Result<()> {
        let words = match self.software {
            Software::Dnsmasq => "DHCPRELEASE(",
            Software::Kea4 => "DHCP4_RELEASE ",
            Software::Kea6 => "DHCP6_RELEASE_NA ",
        };
        // Of DHCPv6 dnsmasq does not say which address it was.
        let nameless = self.software == Software::Dnsmasq && ip.is_ipv6();
        let said = |line: &str| line.contains(words) && (nameless || has_word(line, &ip.to_string()));
        self.service.await_line(SOON, &format!("that {ip} was given back"), said).map(drop)
    }

    /// Waits until it confirms `ip` to a client, again if it has before; an error if it does not within `limit`.
    pub fn await_confirmation(&self, ip: IpAddr, limit: Duration) -> Result<()> {
        self.await_confirmation_after(self.service.lines(), ip, limit)
    }

    /// The same after its first `seen` lines, for several addresses that are confirmed in any order.
    pub fn await_confirmation_after(&self, seen: usize, ip: IpAddr, limit: Duration) -> Result<()> {
        let what = format!("that {ip} is confirmed");
        self.service.await_after(seen, limit, &what, |line| self.confirms(line, Some(ip))).map(drop)
    }

    /// How many times it has confirmed `ip`, or any address, to a client.
    pub fn confirmed(&self, ip: Option<IpAddr>) -> usize {
        self.service.all().iter().filter(|line| self.confirms(line, ip)).count()
    }

    fn confirms(&self, line: &str, ip: Option<IpAddr>) -> bool {
        let words: &[&str] = match self.software {
            Software::Dnsmasq => &["DHCPACK(", "DHCPREPLY("],
            Software::Kea4 => &["DHCP4_LEASE_ALLOC "],
            Software::Kea6 => &["DHCP6_LEASE_ALLOC ", "DHCP6_LEASE_RENEW "],
        };
        words.iter().any(|word| line.contains(word)) && ip.is_none_or(|ip| has_word(line, &ip.to_string()))
    }
}

/// Whether `word` is in `line` and not a part of a longer address.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !(c.is_ascii_hexdigit() || ".:".contains(c))).any(|part| part.trim_end_matches('.') == word)
}

#[cfg(test)]
mod tests {
    use super::has_word;

    #[test]
    fn an_address_is_not_found_in_a_longer_one() {
        assert!(has_word("address 10.0.0.1 was released.", "10.0.0.1"));
        assert!(has_word("DHCPRELEASE(eth0) 10.0.0.1 02:00", "10.0.0.1"));
        assert!(has_word("the address fd07::100, it", "fd07::100"));
        assert!(!has_word("address 10.0.0.10 was released", "10.0.0.1"));
        assert!(!has_word("address 110.0.0.1 was released", "10.0.0.1"));
    }
}
