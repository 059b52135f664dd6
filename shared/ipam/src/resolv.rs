//! resolv.conf(5), for the option `resolvConf`.

use std::path::Path;

use podwire_spec::{Dns, Result};
use rustix::io::Errno;

use crate::folder;

/// Reads the file at `path`.
///
/// # Errors
/// Code 5 if it cannot be read.
pub(crate) fn read(path: &Path) -> Result<Dns> {
    let text = std::fs::read(path).map_err(|error| {
        folder::failed("read ipam.resolvConf", path, Errno::from_io_error(&error).unwrap_or(Errno::IO))
    })?;
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
    fn p15_a_missing_file_is_code_5_and_named() {
        let error = read(Path::new("/nowhere/resolv.conf")).unwrap_err();
        assert_eq!(error.code, podwire_spec::code::IO);
        assert!(error.msg.contains("/nowhere/resolv.conf") && error.msg.contains("ENOENT"), "{error}");
    }
}
