//! Sysctls of the calling thread's network namespace. For another one, call from inside [`crate::Netns::run`].

use std::{fs, io::Write};

use crate::{Error, Result};

fn path(key: &str) -> String {
    format!("/proc/sys/net/{key}")
}

/// Reads `key`, such as `ipv4/ip_forward`.
///
/// # Errors
/// ENOENT where the kernel has no such key.
pub fn read(key: &str) -> Result<String> {
    fs::read_to_string(path(key))
        .map(|text| text.trim_end().to_owned())
        .map_err(|error| Error::io(format!("sysctl \"net/{key}\""), "read", &error))
}

/// Writes `key`, such as `ipv6/conf/eth0/accept_ra`.
///
/// # Errors
/// ENOENT where the kernel has no such key, EROFS or EACCES where it may not be written.
pub fn write(key: &str, value: &str) -> Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(path(key))
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .map_err(|error| Error::io(format!("sysctl \"net/{key}\""), "write", &error))
}
