use std::net::Ipv4Addr;

use dhcproto::v4::MessageType;
use podwire_spec::Route;
use proptest::prelude::*;

use crate::{
    Lease4, Moment,
    message4::Answer,
    testing4::{ADDRESS, answer, identity},
};

const START: Moment = Moment::after_boot_ms(1_000_000);

fn read_from(address: Ipv4Addr, options: &[(u8, &[u8])]) -> Result<Lease4, String> {
    let bytes = answer(MessageType::Ack, 7, address, options);
    Lease4::read(Answer::decode(&bytes, 7, &identity()).expect("an answer to us"), START)
}

fn read(options: &[(u8, &[u8])]) -> Lease4 {
    read_from(ADDRESS, options).expect("a good lease")
}

fn routes(lease: &Lease4) -> Vec<String> {
    let show = |route: &Route| {
        let by = route.gw.map_or("-".to_owned(), |gw| gw.to_string());
        format!("{} {by}{}", route.dst, if route.onlink { " onlink" } else { "" })
    };
    lease.routes.iter().map(show).collect()
}

#[test]
fn classless_routes_win_over_routers_and_static_routes() {
    let classless: &[u8] = &[16, 10, 9, 10, 0, 0, 9, 0, 10, 0, 0, 2, 8, 172, 0, 0, 0, 0];
    let (router, fixed): (&[u8], &[u8]) = (&[10, 0, 0, 1], &[192, 168, 7, 0, 10, 0, 0, 3]);
    let lease = read(&[(121, classless), (3, router), (33, fixed)]);
    assert_eq!(routes(&lease), ["10.9.0.0/16 10.0.0.9", "0.0.0.0/0 10.0.0.2", "172.0.0.0/8 -"]);
    assert_eq!(lease.routes[2].scope, Some(253), "0.0.0.0 is no router: these are neighbours");
    assert_eq!(lease.gateway, Some(Ipv4Addr::new(10, 0, 0, 2)));
    // Microsoft's number for the same; and the old options, where there is neither.
    assert_eq!(routes(&read(&[(249, classless), (3, router)])), routes(&lease));
    let lease = read(&[(3, router), (33, fixed)]);
    assert_eq!(routes(&lease), ["192.168.7.0/24 10.0.0.3", "0.0.0.0/0 10.0.0.1"]);
    assert_eq!(lease.gateway, Some(Ipv4Addr::new(10, 0, 0, 1)));
}

#[test]
fn static_routes_are_to_a_network_of_its_class_or_to_a_host_and_never_the_default() {
    let fixed = [10, 0, 0, 0, 10, 0, 0, 3, 172, 16, 0, 1, 10, 0, 0, 3, 0, 0, 0, 0, 10, 0, 0, 3];
    assert_eq!(routes(&read(&[(33, &fixed)])), ["10.0.0.0/8 10.0.0.3", "172.16.0.1/32 10.0.0.3"]);
}

#[test]
fn a_router_outside_of_the_network_is_on_the_link() {
    let lease = read(&[(1, &[255; 4]), (3, &[10, 0, 0, 1])]);
    assert_eq!((lease.address.prefix(), routes(&lease)), (32, vec!["0.0.0.0/0 10.0.0.1 onlink".to_owned()]));
}

#[test]
fn routers_that_cannot_be_one_are_passed_over() {
    for bad in [[0, 0, 0, 0], [224, 0, 0, 1], [127, 0, 0, 1], [255; 4], ADDRESS.octets()] {
        let lease = read(&[(3, &bad)]);
        assert_eq!((lease.gateway, routes(&lease)), (None, vec![]), "{bad:?}");
    }
    let lease = read(&[(3, &[0, 0, 0, 0, 10, 0, 0, 4])]);
    assert_eq!(lease.gateway, Some(Ipv4Addr::new(10, 0, 0, 4)));
}

#[test]
fn t1_and_t2_are_a_half_and_seven_eighths_unless_the_server_says_better() {
    let times = |options: &[(u8, &[u8])]| {
        let lease = read(options);
        [lease.renew, lease.rebind, lease.expires].map(|moment| (moment - START).as_secs())
    };
    let seconds = |seconds: u32| seconds.to_be_bytes();
    assert_eq!(times(&[]), [1800, 3150, 3600]);
    assert_eq!(times(&[(58, &seconds(100)), (59, &seconds(200))]), [100, 200, 3600]);
    // Out of order, or nothing.
    assert_eq!(times(&[(58, &seconds(300)), (59, &seconds(200))]), [199, 200, 3600]);
    assert_eq!(times(&[(58, &seconds(0)), (59, &seconds(3600))]), [1800, 3150, 3600]);
    assert_eq!(times(&[(51, &seconds(4))]), [2, 3, 4]);
    let forever = read(&[(51, &seconds(u32::MAX))]);
    assert_eq!([forever.renew, forever.rebind, forever.expires], [Moment::NEVER; 3]);
}

#[test]
fn leases_of_no_time_are_refused() {
    for seconds in 0_u32..4 {
        let why = read_from(ADDRESS, &[(51, &seconds.to_be_bytes())]).unwrap_err();
        assert!(why.contains("nobody could keep"), "{why}");
    }
    assert!(read_from(ADDRESS, &[(51, &[])]).unwrap_err().contains("option 51"));
}

#[test]
fn addresses_that_no_host_can_have_are_refused() {
    for bad in ["0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255", "240.0.0.1", "10.0.0.0", "10.0.0.255"] {
        let why = read_from(bad.parse().unwrap(), &[]).unwrap_err();
        assert!(why.contains("10.0.0.1"), "{bad}: it names the server: {why}");
    }
}

#[test]
fn a_mask_is_ones_then_zeros_and_without_one_the_class_counts() {
    for bad in [[255, 0, 255, 0], [0, 0, 0, 0], [0, 0, 0, 1]] {
        assert!(read_from(ADDRESS, &[(1, &bad)]).is_err(), "{bad:?}");
    }
    for (ip, prefix) in [([10, 0, 0, 50], 8), ([172, 16, 0, 50], 16), ([192, 168, 0, 50], 24)] {
        assert_eq!(read_from(ip.into(), &[(1, &[])]).unwrap().address.prefix(), prefix);
    }
    assert_eq!(read(&[(1, &[255, 255, 255, 254])]).address.prefix(), 31);
}

#[test]
fn a_server_without_identifier_is_refused() {
    for bad in [&[][..], &[0, 0, 0, 0], &[255; 4], &[10, 0, 0]] {
        assert!(read_from(ADDRESS, &[(54, bad)]).is_err(), "{bad:?}");
    }
}

#[test]
fn an_mtu_below_68_is_none() {
    for (mtu, expected) in [(0_u16, None), (67, None), (68, Some(68)), (1400, Some(1400)), (9000, Some(9000))] {
        assert_eq!(read(&[(26, &mtu.to_be_bytes())]).mtu, expected);
    }
    assert_eq!(read(&[(26, &[5])]).mtu, None);
}

#[test]
fn search_lists_may_be_compressed_and_split() {
    // RFC 3397: the second name ends in a pointer to the end of the first.
    let list = [&b"\x03eng\x05apple\x03com\0"[..], b"\x09marketing\xc0\x04"].concat();
    let dns = read(&[(119, &list), (15, b"corp.example\0"), (6, &[10, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0])]).dns;
    assert_eq!(dns.search, ["eng.apple.com", "marketing.apple.com"]);
    assert_eq!((dns.domain.as_str(), dns.nameservers), ("corp.example", vec!["10.0.0.1".to_owned()]));
    // RFC 3396: in two options, cut in the middle of a name.
    let whole = answer(MessageType::Ack, 7, ADDRESS, &[(119, &list)]);
    let at = whole.windows(2).position(|bytes| bytes == [119, u8::try_from(list.len()).unwrap()]).unwrap();
    let (head, tail) = (&list[..9], &list[9..]);
    let mut split = whole[..at].to_vec();
    for part in [head, tail] {
        split.extend([119, u8::try_from(part.len()).unwrap()]);
        split.extend(part);
    }
    split.extend(&whole[at + 2 + list.len()..]);
    let lease = Lease4::read(Answer::decode(&split, 7, &identity()).unwrap(), START).unwrap();
    assert_eq!(lease.dns.search, dns.search);
    // A pointer to itself ends the list.
    assert!(read(&[(119, &[0xc0, 0])]).dns.search.is_empty());
}

#[test]
fn options_may_stand_in_the_fields_for_file_and_server() {
    let mut bytes = answer(MessageType::Ack, 7, ADDRESS, &[(52, &[3])]);
    bytes[108..115].copy_from_slice(&[26, 2, 5, 0xdc, 3, 4, 10]);
    bytes[115..119].copy_from_slice(&[0, 0, 1, 255]);
    bytes[44..51].copy_from_slice(&[6, 4, 10, 0, 0, 8, 255]);
    let lease = Lease4::read(Answer::decode(&bytes, 7, &identity()).unwrap(), START).unwrap();
    assert_eq!((lease.mtu, lease.gateway), (Some(1500), Some(Ipv4Addr::new(10, 0, 0, 1))));
    assert_eq!(lease.dns.nameservers, ["10.0.0.8"]);
}

#[test]
fn a_lease_on_disk_is_the_lease() {
    let lease = read(&[(121, &[0, 10, 0, 0, 2]), (26, &[5, 120]), (51, &[255; 4])]);
    let text = serde_json::to_string(&lease).unwrap();
    assert_eq!(serde_json::from_str::<Lease4>(&text).unwrap(), lease);
}

proptest! {
    #[test]
    fn no_options_make_it_panic(options in prop::collection::vec((1_u8..255, prop::collection::vec(any::<u8>(), 1..300)), 0..12)) {
        let options: Vec<(u8, &[u8])> = options.iter().map(|(code, bytes)| (*code, bytes.as_slice())).collect();
        let bytes = answer(MessageType::Ack, 7, ADDRESS, &options);
        if let Some(answer) = Answer::decode(&bytes, 7, &identity())
            && let Ok(lease) = Lease4::read(answer, START)
        {
            prop_assert!(lease.renew <= lease.rebind && lease.rebind <= lease.expires);
            prop_assert!(lease.renew > lease.obtained);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600), good: bool) {
        if good && bytes.len() > 240 {
            bytes[..240].copy_from_slice(&answer(MessageType::Ack, 7, ADDRESS, &[])[..240]);
        }
        if let Some(answer) = Answer::decode(&bytes, 7, &identity()) {
            let _ = Lease4::read(answer, START);
        }
    }
}
