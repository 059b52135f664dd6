//! A lease: a file named after the address, holding `CONTAINERID CR LF IFNAME`, as the reference plugin writes it.

use std::{fmt, net::IpAddr};

use podwire_spec as spec;
use rustix::io::Errno;

/// The longest key that is used as it is: a file's name has at most 255 bytes.
const KEY_MAX: usize = 255;
/// How much of a container id that is too long stays readable in the key.
const KEY_KEEPS: usize = 200;

/// Whom a lease belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    /// `CNI_CONTAINERID`.
    pub(crate) container_id: String,
    /// `CNI_IFNAME`; leases that the reference wrote before its version 0.8 have none.
    pub(crate) ifname: Option<String>,
}

impl Owner {
    pub(crate) fn of(env: &spec::Env) -> Self {
        Self { container_id: env.container_id.clone(), ifname: Some(env.ifname.clone()) }
    }

    /// Reads a lease file's content; `None` for what is not a lease.
    ///
    /// White space around it is passed over: people edit these files with `echo`.
    pub(crate) fn parse(content: &[u8]) -> Option<Self> {
        let text = str::from_utf8(content).ok()?.trim();
        let (container_id, ifname) = match text.split_once("\r\n") {
            Some((container_id, ifname)) => (container_id, Some(ifname)),
            None => (text, None),
        };
        let is_lease = spec::container_id(container_id) && ifname.is_none_or(spec::interface_name);
        is_lease.then(|| Self { container_id: container_id.to_owned(), ifname: ifname.map(str::to_owned) })
    }

    /// The lease file's content.
    pub(crate) fn content(&self) -> String {
        match &self.ifname {
            Some(ifname) => format!("{}\r\n{ifname}", self.container_id),
            None => self.container_id.clone(),
        }
    }

    /// The same container in a lease of the old kind.
    pub(crate) fn without_ifname(&self) -> Self {
        Self { container_id: self.container_id.clone(), ifname: None }
    }

    /// A name for this owner that can be a file's: `CONTAINERID:IFNAME`, where a `:` is in neither.
    ///
    /// What is too long for a name ends in a hash instead.
    pub(crate) fn key(&self) -> String {
        let key = format!("{}:{}", self.container_id, self.ifname.as_deref().unwrap_or_default());
        if key.len() <= KEY_MAX {
            return key;
        }
        format!("{}#{:032x}", &self.container_id[..KEY_KEEPS], hash(key.as_bytes()))
    }
}

/// FNV-1a, written out here because it must be the same in every build that shares a folder.
pub(crate) fn hash(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b)
    })
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "container {:?}", self.container_id)?;
        self.ifname.as_ref().map_or(Ok(()), |ifname| write!(f, ", interface {ifname:?}"))
    }
}

/// What a lease file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A lease.
    Of(Owner),
    /// Somebody outside of this folder answered for the address.
    Quarantine,
    /// Nothing: whoever wrote it was killed.
    Empty,
    /// Something that no plugin wrote, or that is no file.
    Foreign,
    /// It could not be read, so that nobody can tell.
    Unread(Errno),
}

/// How the file of an address in quarantine begins. No container id has a space, so that nobody takes it for a lease.
const QUARANTINE: &str = "quarantined by podwire: in use by ";

impl Content {
    pub(crate) fn parse(text: &[u8]) -> Self {
        if text.trim_ascii().is_empty() {
            Self::Empty
        } else if text.starts_with(QUARANTINE.as_bytes()) {
            Self::Quarantine
        } else {
            Owner::parse(text).map_or(Self::Foreign, Self::Of)
        }
    }

    /// The file's content for an address that `mac` answered for.
    pub(crate) fn quarantine(mac: spec::Mac) -> String {
        format!("{QUARANTINE}{mac}")
    }
}

/// What a file of a lease folder is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// A lease of this address.
    Address(IpAddr),
    /// The lock or a `last_reserved_ip.N`.
    Own,
    /// Something else.
    Foreign,
}

impl Name {
    pub(crate) fn of(name: &str) -> Self {
        if name == "lock" || name.starts_with("last_reserved_ip.") {
            return Self::Own;
        }
        // An address has one spelling; a file named otherwise would not be found when that address is looked for.
        name.parse().ok().filter(|ip: &IpAddr| ip.to_string() == name).map_or(Self::Foreign, Self::Address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(container_id: &str, ifname: Option<&str>) -> Owner {
        Owner { container_id: container_id.into(), ifname: ifname.map(str::to_owned) }
    }

    #[test]
    fn a_lease_is_read_as_the_reference_reads_it() {
        assert_eq!(Owner::parse(b"c1\r\neth0"), Some(owner("c1", Some("eth0"))));
        assert_eq!(Owner::parse(b" c1\r\neth0\r\n\n"), Some(owner("c1", Some("eth0"))), "white space around");
        assert_eq!(Owner::parse(b"c1\n"), Some(owner("c1", None)), "the old kind");
        assert_eq!(owner("c1", Some("eth0")).content(), "c1\r\neth0");
    }

    #[test]
    fn p22_what_is_not_a_lease_has_no_owner() {
        for content in [&b""[..], b"\r\n", b"c1\neth0", b"c1\r\na/b", b"\xff\xfe", b"reserved by hand", b"../x"] {
            assert_eq!(Owner::parse(content), None, "{content:?}");
        }
    }

    #[test]
    fn a_quarantine_is_nobodys_lease() {
        let text = Content::quarantine(spec::Mac([2, 0, 0, 0, 0, 7]));
        assert!(text.ends_with("02:00:00:00:00:07"), "{text}");
        assert_eq!(Content::parse(text.as_bytes()), Content::Quarantine);
        assert_eq!(Owner::parse(text.as_bytes()), None);
        assert_eq!(Content::parse(b"in use by the router"), Content::Foreign);
    }

    #[test]
    fn keys_are_file_names_and_differ() {
        let long = "a".repeat(300);
        let keys = [
            owner("c1", Some("eth0")).key(),
            owner("c1", None).key(),
            owner(&long, Some("eth0")).key(),
            owner(&long, Some("eth1")).key(),
            owner(&format!("{long}b"), Some("eth0")).key(),
        ];
        assert_eq!(keys[0], "c1:eth0");
        for (n, key) in keys.iter().enumerate() {
            assert!(key.len() <= KEY_MAX && !key.contains('/') && !keys[..n].contains(key), "{key}");
        }
        assert_eq!(
            keys[2],
            format!("{}#{}", &long[..200], "1d10c9429f8888052101616ec68ebf60"),
            "the hash never changes"
        );
    }

    #[test]
    fn names_are_told_apart() {
        assert_eq!(Name::of("10.1.0.2"), Name::Address("10.1.0.2".parse().unwrap()));
        assert_eq!(Name::of("fd00::2"), Name::Address("fd00::2".parse().unwrap()));
        assert_eq!(Name::of("lock"), Name::Own);
        assert_eq!(Name::of("last_reserved_ip.0"), Name::Own);
        for foreign in ["FD00::2", "fd00:0::2", "10.1.0.02", "x", ".tmp", "10.1.0.2~"] {
            assert_eq!(Name::of(foreign), Name::Foreign, "{foreign}");
        }
    }
}
