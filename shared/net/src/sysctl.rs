//! Sysctls of the calling thread's network namespace. For another one, call from inside [`crate::Netns::run`].

use std::{fs, io::Write};

use podwire_trace::step;

use crate::{Error, Result};

fn path(key: &str) -> String {
    format!("/proc/sys/net/{key}")
}

fn object(key: &str) -> String {
    format!("sysctl \"net/{key}\"")
}

/// Reads `key`, such as `ipv4/ip_forward`.
///
/// # Errors
/// ENOENT where the kernel has no such key.
pub fn read(key: &str) -> Result<String> {
    let text = step(
        "read",
        || object(key),
        Error::why,
        || fs::read_to_string(path(key)).map_err(|error| Error::io(object(key), "read", &error)),
    )?;
    Ok(text.trim_end().to_owned())
}

/// Writes `key`, such as `ipv6/conf/eth0/accept_ra`.
///
/// # Errors
/// ENOENT where the kernel has no such key, EROFS or EACCES where it may not be written.
pub fn write(key: &str, value: &str) -> Result<()> {
    // The value is told as well: that is what there is to know about it.
    step(
        "write",
        || format!("{} = {value}", object(key)),
        Error::why,
        || {
            let file = fs::OpenOptions::new().write(true).open(path(key));
            let written = file.and_then(|mut file| file.write_all(value.as_bytes()));
            written.map_err(|error| Error::io(object(key), "write", &error))
        },
    )
}
