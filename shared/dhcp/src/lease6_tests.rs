use std::{net::Ipv6Addr, time::Duration};

use dhcproto::{
    Encodable,
    v6::{DhcpOption, MessageType, OptionCode, UnknownOption},
};
use proptest::prelude::*;

use crate::{
    Lease6, Moment, Router,
    lease6::Flaw,
    message6::Answer,
    testing6::{ADDRESS, address, answer, association, hour, said, status},
};

const START: Moment = Moment::after_boot_ms(1_000_000);
const XID: [u8; 3] = [1, 2, 3];

fn read(options: Vec<DhcpOption>) -> Result<Lease6, Flaw> {
    let bytes = answer(MessageType::Reply, XID, options);
    Lease6::read(&Answer::decode(&bytes, XID, &said()).expect("an answer to us"), &said(), START)
}

fn raw(code: u16, bytes: &[u8]) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), bytes.to_vec()))
}

fn seconds(lease: &Lease6) -> [u64; 3] {
    [lease.renew, lease.rebind, lease.expires].map(|moment| (moment - START).as_secs())
}

#[test]
fn t1_and_t2_are_half_and_four_fifths_of_the_shortest_preferred_time_unless_the_server_says() {
    let two = || vec![address(ADDRESS, 3600, 7200), address(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9), 1000, 9000)];
    assert_eq!(seconds(&read(vec![association(0, 0, two())]).unwrap()), [500, 800, 9000]);
    assert_eq!(seconds(&read(vec![association(100, 200, two())]).unwrap()), [100, 200, 9000]);
    assert_eq!(seconds(&read(vec![association(9999, 99999, two())]).unwrap()), [9000, 9000, 9000]);
    let wrong = read(vec![association(300, 200, two())]).unwrap_err();
    assert_eq!(wrong, Flaw::Unusable("T1 (300 s) after T2 (200 s)".to_owned()));
    let forever = read(vec![association(0, 0, vec![address(ADDRESS, u32::MAX, u32::MAX)])]).unwrap();
    assert_eq!([forever.renew, forever.rebind, forever.expires], [Moment::NEVER; 3]);
    // One that is to be used no more but is still valid.
    assert_eq!(seconds(&read(vec![association(0, 0, vec![address(ADDRESS, 0, 100)])]).unwrap()), [50, 80, 100]);
}

#[test]
fn addresses_that_no_host_can_have_are_passed_over() {
    for bad in ["::", "::1", "ff02::1", "fe80::1", "::ffff:10.0.0.1"] {
        let bad: Ipv6Addr = bad.parse().unwrap();
        let flaw = read(vec![association(0, 0, vec![address(bad, 3600, 7200)])]).unwrap_err();
        assert_eq!(flaw, Flaw::Unusable("no address that can be used".to_owned()), "{bad}");
        let lease = read(vec![association(0, 0, vec![address(bad, 1, 7200), address(ADDRESS, 3600, 7200)])]).unwrap();
        assert_eq!((lease.addresses.len(), lease.addresses[0].cidr.to_string()), (1, "fd00::50/128".to_owned()));
    }
}

#[test]
fn times_that_cannot_be_are_passed_over_and_none_at_all_is_a_refusal() {
    for (preferred, valid) in [(10, 9), (0, 3), (3, 3)] {
        let flaw = read(vec![association(0, 0, vec![address(ADDRESS, preferred, valid)])]).unwrap_err();
        assert!(matches!(flaw, Flaw::Unusable(_)), "{preferred} {valid}");
    }
    let flaw = read(vec![association(0, 0, vec![address(ADDRESS, 0, 0)])]).unwrap_err();
    assert_eq!(flaw, Flaw::Refused("every address is withdrawn".to_owned()));
}

#[test]
fn what_the_server_says_of_its_state_is_heard() {
    let refused = association(0, 0, vec![status(2, "none\nleft")]);
    assert_eq!(read(vec![refused]).unwrap_err(), Flaw::Refused("NoAddrsAvail (\"noneleft\")".to_owned()));
    let busy = vec![hour(), status(1, "")];
    assert_eq!(read(busy).unwrap_err(), Flaw::Unusable("UnspecFail".to_owned()));
    assert!(read(vec![hour(), status(0, "fine")]).is_ok());
    assert!(matches!(read(vec![]), Err(Flaw::Unusable(_))));
}

#[test]
fn name_servers_and_search_list_are_read() {
    let servers = ["fd00::53", "::1", "ff02::fb"].map(|ip| ip.parse().unwrap()).to_vec();
    let list = b"\x01a\x07example\0\x03b d\0\x01c\0";
    let dns = read(vec![hour(), DhcpOption::DomainNameServers(servers), raw(24, list)]).unwrap().dns;
    assert_eq!((dns.nameservers, dns.search), (vec!["fd00::53".to_owned()], vec!["a.example".into(), "c".into()]));
}

#[test]
fn a_routers_word_gives_gateway_prefix_and_mtu_and_is_renewed_before_it_ends() {
    let router = Router {
        address: "fe80::1".parse().unwrap(),
        lifetime: 1000,
        on_link: vec!["fd00::/48".parse().unwrap(), "fd00::/64".parse().unwrap(), "fd01::/64".parse().unwrap()],
        mtu: Some(1400),
        dns: vec!["fd00::53".parse().unwrap()],
    };
    let mut lease = read(vec![hour()]).unwrap();
    lease.heed(router.clone());
    assert_eq!(lease.addresses[0].cidr, "fd00::50/64".parse().unwrap());
    assert_eq!((lease.gateway, lease.mtu), (Some(router.address), Some(1400)));
    assert_eq!(lease.routes[0].gw, Some(router.address.into()));
    assert_eq!(lease.dns.nameservers, ["fd00::53"]);
    assert_eq!(lease.renew, START + Duration::from_secs(750));
    // One that is no gateway still knows the network; and a server's name servers win.
    let mut lease = read(vec![hour(), DhcpOption::DomainNameServers(vec!["fd00::35".parse().unwrap()])]).unwrap();
    lease.heed(Router { lifetime: 0, ..router });
    assert_eq!((lease.gateway, lease.routes.len(), lease.addresses[0].cidr.prefix()), (None, 0, 64));
    assert_eq!((lease.dns.nameservers, seconds(&read(vec![hour()]).unwrap())[0]), (vec!["fd00::35".into()], 1800));
}

#[test]
fn a_lease_on_disk_is_the_lease() {
    let lease = read(vec![hour()]).unwrap();
    let text = serde_json::to_string(&lease).unwrap();
    assert_eq!(serde_json::from_str::<Lease6>(&text).unwrap(), lease);
}

#[test]
fn what_the_library_would_stumble_over_never_gets_there() {
    // Lengths that are subtracted from, and options in options in options.
    let mut nested = hour().to_vec().unwrap();
    for _ in 0..200 {
        let length = u16::try_from(12 + nested.len()).unwrap().to_be_bytes();
        nested = [&[0, 3], &length[..], &[0; 12], &nested].concat();
    }
    for (code, bytes) in [(13, &[0][..]), (16, &[0, 0]), (17, &[0]), (11, &[]), (9, &[12]), (3, &nested), (82, &[])] {
        let message = answer(MessageType::Reply, XID, vec![raw(code, bytes), hour()]);
        let lease = Answer::decode(&message, XID, &said()).map(|answer| Lease6::read(&answer, &said(), START));
        // A status that is none spoils the message; everything else is not looked at.
        assert_eq!(lease.is_some_and(|lease| lease.is_ok()), code != 13, "option {code}");
    }
}

proptest! {
    #[test]
    fn no_options_make_it_panic(
        options in prop::collection::vec((1_u16..90, prop::collection::vec(any::<u8>(), 0..90)), 0..12),
        inner in prop::collection::vec(any::<u8>(), 0..90),
    ) {
        let mut all: Vec<_> = options.iter().map(|(code, bytes)| raw(*code, bytes)).collect();
        all.push(raw(3, &[&said().iaid.to_be_bytes()[..], &[0; 8], &inner].concat()));
        if let Some(answer) = Answer::decode(&answer(MessageType::Reply, XID, all), XID, &said())
            && let Ok(lease) = Lease6::read(&answer, &said(), START)
        {
            prop_assert!(lease.renew <= lease.rebind && lease.rebind <= lease.expires);
        }
    }

    #[test]
    fn times_are_in_order_whatever_the_server_says(t1: u32, t2: u32, preferred: u32, valid: u32) {
        if let Ok(lease) = read(vec![association(t1, t2, vec![address(ADDRESS, preferred, valid)])]) {
            prop_assert!(lease.obtained < lease.renew && lease.renew <= lease.rebind && lease.rebind <= lease.expires);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Answer::decode(&bytes, XID, &said());
        let _ = Answer::decode(&[answer(MessageType::Reply, XID, vec![hour()]), bytes].concat(), XID, &said());
    }
}
