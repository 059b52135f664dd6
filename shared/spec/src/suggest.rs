//! "Did you mean": the nearest of some known names.

/// The one of `known` that is nearest to `name`, if any is near enough to be a slip of the keyboard.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = name.to_ascii_lowercase();
    let reach = (name.chars().count() / 3).max(1);
    known
        .into_iter()
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
}
