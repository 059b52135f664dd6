//! The alphabets of names that come from outside. A name that passes can be part of a path or of a link's alias.

/// Whether `text` may be a `CNI_CONTAINERID`: alphanumeric first, then alphanumerics, `_`, `.`, `-`.
pub fn container_id(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Whether `text` may be the `name` of a network: the alphabet of [`container_id`], at most 255 bytes (a folder's name).
pub fn network_name(text: &str) -> bool {
    container_id(text) && text.len() <= 255
}

/// Whether `text` may be the name of an interface: 1 to 15 bytes, not `.` or `..`, no `/`, `:`, white space or
/// control character (the kernel's `dev_valid_name`; `%` is refused too, since the kernel would expand `eth%d`).
pub fn interface_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && !matches!(text, "." | "..")
        && !text.chars().any(|c| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control())
}

/// FNV-1a: names must come out the same in every build and on every machine, which no hasher of std promises.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p03_names_are_confined_to_their_alphabets() {
        for good in ["a", "0", "abc_1.2-3"] {
            assert!(container_id(good) && network_name(good), "{good}");
        }
        for bad in ["", ".", "..", "../../etc", "-a", "_a", "a/b", "a b", "a\0", "é", "a\n"] {
            assert!(!container_id(bad) && !network_name(bad), "{bad:?}");
        }
        assert!(!network_name(&"a".repeat(256)));
    }

    #[test]
    fn p03_interface_names_are_the_kernels() {
        for good in ["eth0", "a", "123456789012345", "net1.100", "é"] {
            assert!(interface_name(good), "{good}");
        }
        for bad in ["", ".", "..", "1234567890123456", "a/b", "a:b", "a b", "a\tb", "eth%d", "a\0"] {
            assert!(!interface_name(bad), "{bad:?}");
        }
    }
}
