//! Domain names from the network, which end up in a resolver's configuration.

use dhcproto::Name;

/// The longest name, in bytes as text (RFC 1035, section 2.3.4).
const LONGEST: usize = 253;

/// A domain's name without the dot at its end; `None` for what no resolver could look up: labels of letters, digits,
/// `-` and `_`, up to 63 bytes each (RFC 1123, section 2.1; RFC 2782).
pub(crate) fn of_text(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    (name.len() <= LONGEST && name.split('.').all(is_label)).then(|| name.to_owned())
}

/// The good ones of a list, each once.
pub(crate) fn of_list(names: &[Name]) -> Vec<String> {
    let mut all = Vec::new();
    for name in names.iter().filter_map(|name| of_text(&name.to_ascii())) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_forge_a_line_of_configuration_are_none() {
        assert_eq!(of_text("example.org."), Some("example.org".to_owned()));
        assert_eq!(of_text("_srv.a-b.c"), Some("_srv.a-b.c".to_owned()));
        let long = ["a"; 130].join(".");
        let label = "a".repeat(64);
        for bad in
            ["", ".", "..", "a..b", "a b", "a\nnameserver 6.6.6.6", "a\0b", "é.org", "a/b", "a\\b", &long, &label]
        {
            assert_eq!(of_text(bad), None, "{bad:?}");
        }
    }
}
