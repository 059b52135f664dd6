use podwire_spec::code;

use super::*;
use crate::testing::{Call, ips};

fn conf(ipam: &str, rest: &str) -> String {
    format!(r#"{{"cniVersion": "1.0.0", "name": "n", "ipam": {{"type": "static"{ipam}}}{rest}}}"#)
}

const ADDRESS: &str = r#", "addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}]"#;

fn add(ipam: &str, rest: &str, args: &str) -> Result<AddResult> {
    Call::new("c", conf(ipam, rest)).args(args).run::<Static, _>(Static::add)
}

#[test]
fn the_configuration_comes_back_as_a_result() {
    let result = add(
        r#", "addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}, {"address": "fd00::5/64"}],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.9", "mtu": 1400, "priority": 7, "table": 100, "scope": 0, "advmss": 1300, "onlink": true}],
            "dns": {"nameservers": ["10.1.0.53"]}"#,
        "",
        "",
    )
    .unwrap();
    assert_eq!(ips(&result), ["10.1.0.5/24", "fd00::5/64"]);
    assert_eq!(result.ips[0].gateway, Some("10.1.0.1".parse().unwrap()));
    assert_eq!(result.ips[1].gateway, None);
    assert_eq!(result.routes.len(), 2);
    assert_eq!((result.routes[1].mtu, result.routes[1].onlink), (Some(1400), true));
    assert_eq!(result.dns.nameservers, ["10.1.0.53"]);
}

#[test]
fn p09_who_asks_goes_before_the_configuration() {
    let runtime = r#", "runtimeConfig": {"ips": ["10.6.0.5/24"]}"#;
    let both = r#", "runtimeConfig": {"ips": ["10.6.0.5/24"]}, "args": {"cni": {"ips": ["10.5.0.5/24"]}}"#;
    let args = r#", "args": {"cni": {"ips": ["10.5.0.5/24"]}}"#;
    for (rest, env, expected) in [
        ("", "", vec!["10.1.0.5/24"]),
        ("", "IP=10.2.0.9/24", vec!["10.1.0.5/24", "10.2.0.9/24"]),
        (args, "IP=10.2.0.9/24", vec!["10.5.0.5/24"]),
        (both, "IP=10.2.0.9/24", vec!["10.6.0.5/24"]),
        (runtime, "", vec!["10.6.0.5/24"]),
    ] {
        assert_eq!(ips(&add(ADDRESS, rest, env).unwrap()), expected, "{rest} {env}");
    }
}

#[test]
fn a_gateway_of_cni_args_goes_to_the_address_of_its_network() {
    let result = add("", "", "IP=10.2.0.9/24,fd00::9/64;GATEWAY=fd00::1,10.2.0.1,10.9.0.1").unwrap();
    let gateways: Vec<_> = result.ips.iter().map(|ip| ip.gateway.unwrap().to_string()).collect();
    assert_eq!(gateways, ["10.2.0.1", "fd00::1"]);
}

#[test]
fn p05_what_cannot_be_is_code_7_with_its_place() {
    let address = |text: &str| format!(r#", "addresses": [{text}]"#);
    for (ipam, rest, args, said) in [
        (address(r#"{"address": "10.1.0.5"}"#), "", "", "ipam.addresses[0].address: "),
        (address(r#"{"address": "10.1.0.5/24", "gateway": "fd00::1"}"#), "", "", "ipam.addresses[0].gateway: fd00::1"),
        (address(r#"{"address": "10.1.0.5/24"}, {"address": "10.1.0.5/16"}"#), "", "", "given twice"),
        (String::new(), "", "IP=10.2.0.9", "CNI_ARGS IP: 10.2.0.9: needs a prefix length"),
        (
            String::new(),
            r#", "args": {"cni": {"ips": ["10.5.0.5"]}}"#,
            "",
            "args.cni.ips: 10.5.0.5: needs a prefix length",
        ),
        (String::new(), r#", "runtimeConfig": {"ips": ["10.5.0.5"]}"#, "", "runtimeConfig.ips: 10.5.0.5"),
    ] {
        let error = add(&ipam, rest, args).unwrap_err();
        assert!(error.code == code::INVALID_CONFIG && error.msg.contains(said), "{error}");
    }
    let old = conf(&address(r#"{"address": "10.1.0.5/24"}, {"address": "10.2.0.5/24"}"#), "").replace("1.0.0", "0.2.0");
    let error = Call::new("c", old).run::<Static, _>(Static::add).unwrap_err();
    assert!(error.code == code::INVALID_CONFIG && error.msg.contains("0.2.0"), "{error}");
}

#[test]
fn p05_a_gateway_outside_of_the_addresss_network_is_an_error_unless_onlink() {
    let ipam = |address: &str, more: &str| format!(r#", "addresses": [{{"address": {address}}}]{more}"#);
    let routes = |route: &str| format!(r#", "routes": [{{"dst": "0.0.0.0/0", "gw": "10.9.0.1"}}, {route}]"#);
    for address in [r#""10.1.0.5/24", "gateway": "10.9.0.1""#, r#""fd00::5/64", "gateway": "fd09::1""#] {
        let error = add(&ipam(address, ""), "", "").unwrap_err();
        assert!(error.code == code::INVALID_CONFIG && error.msg.contains("ipam.addresses[0].gateway"), "{error}");
        assert!(error.msg.contains("onlink"), "{error}");
        let status = Call::new("c", conf(&ipam(address, ""), "")).run::<Static, _>(Static::status).unwrap_err();
        assert_eq!(status.code, code::INVALID_CONFIG);
        add(&ipam(&format!(r#"{address}, "onlink": true"#), ""), "", "").unwrap();
    }
    let outside = r#""10.1.0.5/32", "gateway": "10.9.0.1""#;
    for reaches in
        [r#"{"dst": "10.9.0.0/24", "scope": 253}"#, r#"{"dst": "10.8.0.0/24", "gw": "10.9.0.1", "onlink": true}"#]
    {
        add(&ipam(outside, &routes(reaches)), "", "").unwrap();
    }
    for reaches_another in
        [r#"{"dst": "10.8.0.0/24", "scope": 253}"#, r#"{"dst": "10.8.0.0/24", "gw": "10.9.0.2", "onlink": true}"#]
    {
        add(&ipam(outside, &routes(reaches_another)), "", "").unwrap_err();
    }
    add(&ipam(r#""fd00::5/128", "gateway": "fe80::1""#, ""), "", "").unwrap();
}

#[test]
fn routes_by_a_gateway_that_is_onlink_say_so() {
    let ipam = r#", "addresses": [{"address": "10.1.0.5/32", "gateway": "10.9.0.1", "onlink": true}, {"address": "10.2.0.5/24", "gateway": "10.2.0.1"}],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.3.0.0/16", "gw": "10.9.0.1"}, {"dst": "10.4.0.0/16", "gw": "10.2.0.1"},
                   {"dst": "10.9.0.1/32", "scope": 253}, {"dst": "::/0"}]"#;
    let result = add(ipam, "", "").unwrap();
    let routes: Vec<_> = result.routes.iter().map(|route| (route.gw.map(|gw| gw.to_string()), route.onlink)).collect();
    let some = |text: &str| Some(text.to_owned());
    let expected =
        [(some("10.9.0.1"), true), (some("10.9.0.1"), true), (some("10.2.0.1"), false), (None, false), (None, false)];
    assert_eq!(routes, expected);
}

#[test]
fn p22_del_needs_nothing() {
    Call::new("c", conf("", "")).run::<Static, _>(Static::del).unwrap();
}

#[test]
fn p23_check_compares_with_the_result() {
    let check = |ipam: &str, ips: &str, routes: &str| {
        let rest = format!(r#", "prevResult": {{"cniVersion": "1.0.0", "ips": [{ips}], "routes": [{routes}]}}"#);
        Call::new("c", conf(ipam, &rest)).run::<Static, _>(Static::check)
    };
    let ipam = &format!(r#"{ADDRESS}, "routes": [{{"dst": "0.0.0.0/0"}}]"#);
    let (ip, route) =
        (r#"{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}"#, r#"{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}"#);
    check(ipam, ip, route).unwrap();
    for (ips, routes, said) in [
        ("", route, "address 10.1.0.5/24"),
        (r#"{"address": "10.1.0.5/24"}"#, route, "gateway of address 10.1.0.5/24: expected 10.1.0.1, found none"),
        (ip, "", "route to 0.0.0.0/0"),
    ] {
        let error = check(ipam, ips, routes).unwrap_err();
        assert!(error.code == code::CHECK && error.msg.contains(said), "{error}");
    }
    let error = Call::new("c", conf(ADDRESS, "")).run::<Static, _>(Static::check).unwrap_err();
    assert!(error.msg.contains("prevResult: missing"), "{error}");
}

#[test]
fn p24_gc_without_the_list_errs() {
    let error = Call::new("c", conf(ADDRESS, "")).run::<Static, _>(Static::gc).unwrap_err();
    assert!(error.code == code::INVALID_CONFIG && error.msg.contains("cni.dev/valid-attachments"), "{error}");
    let valid = conf(ADDRESS, r#", "cni.dev/valid-attachments": []"#);
    Call::new("c", valid).run::<Static, _>(Static::gc).unwrap();
}

#[test]
fn p25_status_is_well() {
    Call::new("c", conf(ADDRESS, "")).run::<Static, _>(Static::status).unwrap();
}
