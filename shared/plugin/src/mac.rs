//! MAC addresses of our own making.

use std::hash::{BuildHasher, RandomState};

use podwire_spec::Mac;

/// A random, locally administered, unicast address.
pub fn random_mac() -> Mac {
    // The keys of std's hash maps come from the kernel's random numbers.
    let [first, rest @ .., _, _] = RandomState::new().hash_one(std::process::id()).to_ne_bytes();
    let mut mac = [first & 0xfc | 2; 6];
    mac[1..].copy_from_slice(&rest);
    Mac(mac)
}
