//! "Did you mean": the nearest of some known names.

/// The one of `known` that is nearest to `name`, if any is near enough to be a slip of the keyboard.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    let reach = (length / 3).max(1);
    // Each name more or less is a slip, so one of quite another length is not near. To compare costs time and memory for
    // every pair of characters, and a key of a megabyte would have gigabytes of them.
    let is_as_long = |candidate: &&str| candidate.chars().count().abs_diff(length) <= reach;
    let mut known = known.into_iter().filter(is_as_long).peekable();
    known.peek()?;
    let folded = name.to_ascii_lowercase();
    known
        .map(|candidate| (strsim::damerau_levenshtein(&folded, &candidate.to_ascii_lowercase()), candidate))
        .filter(|&(distance, candidate)| distance <= reach && candidate != name)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// ` (did you mean "…"?)`, or nothing where no known name is near.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |near| format!(" (did you mean {near:?}?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p05_a_slip_finds_its_name_and_a_stranger_finds_none() {
        let known = ["isGateway", "ipMasq", "mtu", "vlan"];
        assert_eq!(nearest("isGatway", known), Some("isGateway"));
        assert_eq!(nearest("isgateway", known), Some("isGateway"));
        assert_eq!(nearest("ipmaqs", known), Some("ipMasq"));
        assert_eq!(nearest("elephant", known), None);
        assert_eq!(nearest("ab", known), None);
    }

    #[test]
    #[cfg_attr(miri, ignore = "it is about time, of which an interpreter takes more")]
    fn p05_a_name_of_a_megabyte_is_compared_with_none() {
        let long = "isGateway".repeat(1 << 17);
        let start = std::time::Instant::now();
        assert_eq!(nearest(&long, ["isGateway", "ipMasq"]), None);
        assert!(start.elapsed() < std::time::Duration::from_secs(1), "{:?}", start.elapsed());
    }
}
