use super::*;

#[test]
fn a_network_needs_a_mask_that_is_one() {
    let network = |ip: &[u8], mask: &[u8]| {
        cidr(&Value::of([("IP", Value::Bytes(ip.to_vec())), ("Mask", Value::Bytes(mask.to_vec()))]))
    };
    assert_eq!(network(&[10, 1, 0, 5], &[255, 255, 128, 0]).unwrap().to_string(), "10.1.0.5/17");
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 0, 5];
    assert_eq!(network(&mapped, &[255, 0, 0, 0]).unwrap().to_string(), "10.1.0.5/8");
    assert_eq!(network(&[10, 1, 0, 5], &[0; 4]).unwrap().to_string(), "10.1.0.5/0");
    assert_eq!(network(&[10, 1, 0, 5], &[255; 4]).unwrap().to_string(), "10.1.0.5/32");
    assert_eq!(network(&[0xfd; 16], &[255; 16]).unwrap().prefix(), 128);
    for (ip, mask) in [
        (&[10, 1, 0, 5][..], &[255, 0, 255, 0][..]),
        (&[10, 1, 0, 5], &[255, 127, 0, 0]),
        (&[10, 1, 0, 5], &[255; 16]),
        (&[10, 1, 0, 5], &[]),
        (&[10, 1, 0], &[255, 255, 0]),
        (&[], &[255; 4]),
    ] {
        assert!(network(ip, mask).is_err(), "{ip:?} {mask:?}");
    }
}

#[test]
fn routes_keep_their_attributes() {
    let route = Route {
        mtu: Some(1400),
        advmss: Some(1360),
        priority: Some(7),
        ..Route::new("10.9.0.0/16".parse().unwrap(), None)
    };
    let on_link = Route { scope: Some(253), ..Route::new("10.8.0.0/16".parse().unwrap(), None) };
    let result = AddResult { routes: vec![route, on_link], ..AddResult::default() };
    assert_eq!(to_result(&from_result(&result)).unwrap(), result);
}

#[test]
fn errors_keep_their_code_and_those_of_the_reference_get_one() {
    let error = Error::new(code::TRY_AGAIN, "no answer").with_details("is a server there?");
    assert_eq!(from_error(&error), "[code 11] no answer; is a server there?");
    assert_eq!(to_error(&from_error(&error)), error);
    let foreign = to_error("error parsing netconf: nonsense");
    assert_eq!((foreign.code, foreign.msg.as_str()), (code::DELEGATE, "DHCP daemon: error parsing netconf: nonsense"));
    assert_eq!(to_error("[code x] y").code, code::DELEGATE);
}

#[test]
fn methods_have_the_names_of_the_reference() {
    assert_eq!(Method::named("DHCP.Allocate"), Some(Method::Allocate));
    assert_eq!(Method::named("DHCP.Release"), Some(Method::Release));
    assert_eq!(Method::named("DHCP.allocate"), None);
}
