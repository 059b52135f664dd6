//! resolv.conf(5), for the option `resolvConf`.

use std::{fs::File, io::Read, os::fd::OwnedFd, path::Path};

use podwire_spec::{Dns, Error, Result};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags},
    io::Errno,
};

use crate::folder;

/// The longest file that is read, in bytes. The C library's resolver takes three name servers and six domains of it.
const LONGEST: u64 = 64 << 10;

/// Reads the file at `path`.
///
/// # Errors
/// Code 5 if it cannot be read, code 7 if it is no file, such as a FIFO, which never ends, or one that is too long.
pub(crate) fn read(path: &Path) -> Result<Dns> {
    const OBJECT: &str = "read ipam.resolvConf";
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(Error::invalid("ipam.resolvConf", format!("{:?}: holds a NUL", path.to_string_lossy())));
    }
    // NONBLOCK: to open a FIFO would wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let open = || -> Result<(OwnedFd, u32), Errno> {
        let file = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let mode = rustix::fs::fstat(&file)?.st_mode;
        Ok((file, mode))
    };
    let (file, mode) = open().map_err(|errno| folder::failed(OBJECT, path, errno))?;
    if !FileType::from_raw_mode(mode).is_file() {
        return Err(Error::invalid("ipam.resolvConf", format!("\"{}\": not a file", path.display())));
    }
    let mut text = Vec::new();
    File::from(file)
        .take(LONGEST + 1)
        .read_to_end(&mut text)
        .map_err(|error| folder::failed(OBJECT, path, Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    if text.len() as u64 > LONGEST {
        let why = format!("\"{}\": longer than {LONGEST} bytes", path.display());
        return Err(Error::invalid("ipam.resolvConf", why));
    }
    Ok(parse(&String::from_utf8_lossy(&text)))
}

/// Every `nameserver`, the last `domain`, all that `search` and `options` lines name.
fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().take_while(|word| !word.starts_with(['#', ';']));
        let Some(keyword) = words.next() else { continue };
        let mut words = words.map(str::to_owned);
        match keyword {
            "nameserver" => dns.nameservers.extend(words.next()),
            "domain" => dns.domain = words.next().unwrap_or(dns.domain),
            "search" => dns.search.extend(words),
            "options" => dns.options.extend(words),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolv_conf_is_read_as_the_reference_reads_it() {
        let dns = parse(
            "nameserver 1.1.1.1\nnameserver 2.2.2.2 # second\n# nameserver 9.9.9.9\n; nameserver 9.9.9.9\n\ndomain a.b\n\
             search x y\nsearch z\noptions ndots:5 rotate\noptions edns0\nnameserver\nsortlist x\n\tnameserver fd00::53\n",
        );
        assert_eq!(dns.nameservers, ["1.1.1.1", "2.2.2.2", "fd00::53"]);
        assert_eq!(dns.domain, "a.b");
        assert_eq!(dns.search, ["x", "y", "z"]);
        assert_eq!(dns.options, ["ndots:5", "rotate", "edns0"]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "the interpreter cannot open files the way rustix does")]
    fn p15_a_missing_file_is_code_5_and_named() {
        let error = read(Path::new("/nowhere/resolv.conf")).unwrap_err();
        assert_eq!(error.code, podwire_spec::code::IO);
        assert!(error.msg.contains("/nowhere/resolv.conf") && error.msg.contains("ENOENT"), "{error}");
    }
    #[test]
    #[cfg_attr(miri, ignore = "the interpreter has no FIFOs")]
    fn p05_what_never_ends_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, long) = (dir.path().join("fifo"), dir.path().join("long"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        std::fs::write(&long, "nameserver 10.0.0.1\n".repeat(10_000)).unwrap();
        for (path, said) in [
            (&*fifo, "not a file"),
            (&*long, "longer"),
            (Path::new("/dev/zero"), "not a file"),
            (dir.path(), "not a file"),
        ] {
            let error = read(path).unwrap_err();
            assert!(error.code == podwire_spec::code::INVALID_CONFIG && error.msg.contains(said), "{error}");
        }
    }
}
