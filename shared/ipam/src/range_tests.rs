use proptest::prelude::*;

use super::*;

fn conf(subnet: &str, start: &str, end: &str, gateway: &str) -> IpRange {
    let ip = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
    IpRange { subnet: subnet.parse().unwrap(), range_start: ip(start), range_end: ip(end), gateway: ip(gateway) }
}

fn range(subnet: &str, start: &str, end: &str, gateway: &str) -> Result<Range> {
    Range::new("ipam", &conf(subnet, start, end, gateway))
}

fn set(confs: &[IpRange]) -> Result<RangeSet> {
    RangeSet::new(
        "ipam.ranges[0]".into(),
        confs.iter().enumerate().map(|(n, conf)| (format!("ipam.ranges[0][{n}]"), conf)),
    )
}

/// What the set gives, in order, to a caller who takes all.
fn given(set: &RangeSet, last: Option<&str>) -> Vec<String> {
    set.after(last.map(|ip| ip.parse().unwrap()))
        .filter(|&ip| set.reserved(ip).is_none())
        .map(|ip| ip.to_string())
        .collect()
}

#[test]
fn what_is_left_out_is_what_the_reference_takes() {
    for (subnet, first, last, gateway) in [
        ("10.1.0.0/24", "10.1.0.1", "10.1.0.254", "10.1.0.1"),
        ("10.1.0.0/30", "10.1.0.1", "10.1.0.2", "10.1.0.1"),
        ("fd00::/64", "fd00::1", "fd00::ffff:ffff:ffff:ffff", "fd00::1"),
        ("fd00::/126", "fd00::1", "fd00::3", "fd00::1"),
        ("128.0.0.0/1", "128.0.0.1", "255.255.255.254", "128.0.0.1"),
        ("8000::/1", "8000::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "8000::1"),
    ] {
        let range = range(subnet, "", "", "").unwrap();
        assert_eq!((range.to_string(), range.gateway.to_string()), (format!("{first}-{last}"), gateway.to_owned()));
    }
    let outside = range("10.1.0.0/24", "", "", "169.254.1.1").unwrap();
    assert_eq!(outside.gateway.to_string(), "169.254.1.1", "a gateway may be off the link, as in the reference");
}

#[test]
fn p05_what_cannot_be_is_code_7_with_the_field() {
    for (subnet, start, end, gateway, field, said) in [
        ("10.1.0.5/24", "", "", "", "subnet", "did you mean \"10.1.0.0/24\""),
        ("10.1.0.0/31", "", "", "", "subnet", "too small"),
        ("10.1.0.0/32", "", "", "", "subnet", "too small"),
        ("fd00::/127", "", "", "", "subnet", "too small"),
        ("fd00::/128", "", "", "", "subnet", "use /126"),
        ("0.0.0.0/0", "", "", "", "subnet", "every address"),
        ("::/0", "", "", "", "subnet", "every address"),
        ("::ffff:10.1.0.0/120", "", "", "", "subnet", "write it as IPv4"),
        ("10.1.0.0/24", "10.2.0.1", "", "", "rangeStart", "10.2.0.1: not in the subnet"),
        ("10.1.0.0/24", "", "10.1.1.5", "", "rangeEnd", "10.1.1.5: not in the subnet"),
        ("10.1.0.0/24", "10.1.0.9", "10.1.0.8", "", "rangeEnd", "before rangeStart"),
        ("fd00::/64", "10.0.0.1", "", "", "rangeStart", "not in the subnet"),
        ("10.1.0.0/24", "", "fd00::5", "", "rangeEnd", "not in the subnet"),
        ("10.1.0.0/24", "", "", "fd00::1", "gateway", "same family"),
        ("10.1.0.0/24", "10.1.0.1", "10.1.0.1", "", "subnet", "no address"),
        ("10.1.0.0/24", "10.1.0.255", "10.1.0.255", "", "subnet", "no address"),
        ("10.1.0.0/24", "10.1.0.0", "10.1.0.1", "", "subnet", "no address"),
    ] {
        let error = range(subnet, start, end, gateway).unwrap_err();
        assert_eq!(error.code, podwire_spec::code::INVALID_CONFIG, "{error}");
        assert!(error.msg.contains(&format!("ipam.{field}: ")) && error.msg.contains(said), "{error}");
    }
}

#[test]
fn p05_a_set_is_of_one_family_and_not_empty() {
    let error = set(&[conf("10.1.0.0/24", "", "", ""), conf("fd00::/64", "", "", "")]).unwrap_err();
    assert!(error.msg.contains("ipam.ranges[0][1].subnet") && error.msg.contains("family"), "{error}");
    let error = set(&[]).unwrap_err();
    assert!(error.msg.contains("ipam.ranges[0]: empty"), "{error}");
}

#[test]
fn p05_ranges_that_overlap_are_refused_within_a_set_and_between_sets() {
    let set = |confs: &[IpRange]| set(confs).unwrap();
    let [small, large, other] = ["10.1.0.0/29", "10.1.0.0/28", "10.1.0.8/29"].map(|subnet| conf(subnet, "", "", ""));
    for sets in [
        vec![set(&[small.clone(), large.clone()])],
        vec![set(std::slice::from_ref(&large)), set(std::slice::from_ref(&small))],
    ] {
        let error = disjoint(&sets).unwrap_err();
        assert!(error.msg.contains("overlaps"), "{error}");
    }
    disjoint(&[set(&[small, other]), set(&[conf("fd00::/64", "", "", "")])]).unwrap();
    // Parts of one subnet may be in different sets.
    disjoint(&[
        set(&[conf("10.1.0.0/24", "", "10.1.0.99", "")]),
        set(&[conf("10.1.0.0/24", "10.1.0.100", "", "10.1.0.1")]),
    ])
    .unwrap();
}

#[test]
fn addresses_go_round_robin_through_all_ranges_and_leave_out_what_is_reserved() {
    let set = set(&[
        conf("10.1.0.0/29", "10.1.0.0", "10.1.0.7", "10.1.0.3"),
        conf("10.2.0.0/24", "10.2.0.9", "10.2.0.10", ""),
    ])
    .unwrap();
    let all = ["10.1.0.1", "10.1.0.2", "10.1.0.4", "10.1.0.5", "10.1.0.6", "10.2.0.9", "10.2.0.10"];
    assert_eq!(given(&set, None), all);
    assert_eq!(given(&set, Some("10.9.0.1")), all, "the last one is of another configuration");
    assert_eq!(given(&set, Some("10.1.0.5")), [&all[4..], &all[..4]].concat());
    assert_eq!(given(&set, Some("10.2.0.10")), all);
    assert_eq!(set.usable(), 7);
}

#[test]
fn the_last_address_of_all_has_no_next() {
    let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let set = set(&[conf("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff8/125", "", "", "")]).unwrap();
    assert_eq!(given(&set, Some(last)).len(), 6);
    assert_eq!(given(&set, Some(last)).last().map(String::as_str), Some(last));
}

proptest! {
    #[test]
    fn every_address_comes_once_and_the_last_one_at_the_end(
        base in any::<u32>(), prefix in 22_u8..=30, ends in any::<(u16, u16)>(), last in any::<u16>(),
    ) {
        let subnet = Cidr::new(Ipv4Addr::from(base).into(), prefix).unwrap().network();
        let size = 1_u32 << (32 - prefix);
        let at = |n: u16| Ipv4Addr::from(u32::try_from(number(subnet.ip())).unwrap() + u32::from(n) % size);
        let (start, end) = (at(ends.0.min(ends.1)), at(ends.0.max(ends.1)));
        let conf = IpRange { subnet, range_start: Some(start.into()), range_end: Some(end.into()), gateway: None };
        let Ok(set) = set(&[conf]) else { return Ok(()) };
        let last = IpAddr::from(at(last));
        let all: Vec<_> = set.after(Some(last)).collect();
        let mut sorted = all.clone();
        sorted.sort();
        sorted.dedup();
        prop_assert_eq!(sorted.len(), all.len());
        prop_assert_eq!((sorted[0], sorted[sorted.len() - 1]), (start.into(), end.into()));
        prop_assert_eq!(all.len(), (u32::from(end) - u32::from(start) + 1) as usize);
        if set.range_of(last).is_some() {
            prop_assert_eq!(all.last(), Some(&last));
        }
        let free = all.iter().filter(|&&ip| set.reserved(ip).is_none()).count();
        prop_assert_eq!(set.usable(), free as u128);
    }
}
