use podwire_spec::code;
use serde_json::{Value, json};

use super::*;

fn config(ipam: Value) -> DhcpConfig {
    serde_json::from_value(ipam).unwrap()
}

fn wanted(ipam: Value, args: &str) -> Result<Wanted> {
    config(ipam).wanted(vec![0, 1], args)
}

#[test]
fn by_default_ipv4_with_all_that_is_of_use() {
    let wanted = wanted(json!({}), "").unwrap();
    assert_eq!((wanted.dhcp4, wanted.dhcp6), (true, false));
    assert_eq!(wanted.request, Options4::REQUEST);
    assert_eq!((wanted.client_id, wanted.send), (vec![0, 1], vec![]));
}

#[test]
fn request_adds_to_the_default_or_takes_its_place() {
    let request = |list: Value| wanted(json!({ "request": list }), "").map(|wanted| wanted.request);
    let more = request(json!([{"option": "ntp-servers"}, {"option": "routers"}, {"option": "224"}])).unwrap();
    assert_eq!(more, [&Options4::REQUEST[..], &[42, 224]].concat());
    let only = request(json!([{"skipDefault": true, "option": "subnet-mask"}, {"option": "3"}])).unwrap();
    assert_eq!(only, [1, 3]);
    assert_eq!(request(json!([{"skipDefault": true}])).unwrap(), [0_u8; 0]);
    let error = request(json!([{"option": "router"}])).unwrap_err();
    assert_eq!(error.code, code::INVALID_CONFIG);
    assert!(error.msg.contains("ipam.request[0].option") && error.msg.contains("did you mean \"routers\"?"), "{error}");
    assert!(request(json!([{"option": "0"}])).is_err() && request(json!([{"option": "255"}])).is_err());
}

#[test]
fn provide_takes_its_value_from_the_configuration_or_the_caller() {
    let ipam = json!({"provide": [
        {"option": "host-name", "value": "none", "fromArg": "K8S_POD_NAME"},
        {"option": "user-class", "value": "pods"},
        {"option": "vendor-class-identifier", "fromArg": "MISSING"},
    ]});
    let send = |args| wanted(ipam.clone(), args).unwrap().send;
    assert_eq!(send("IgnoreUnknown=1;K8S_POD_NAME=web-0"), [(12, b"web-0".to_vec()), (77, b"pods".to_vec())]);
    assert_eq!(send(""), [(12, b"none".to_vec()), (77, b"pods".to_vec())]);
    let id = wanted(json!({"provide": [{"option": "dhcp-client-identifier", "value": "me"}]}), "").unwrap();
    assert_eq!((id.client_id, id.send), (b"me".to_vec(), vec![]));
    for (option, value, said) in [
        ("51", "x".to_owned(), "the protocol's own"),
        ("12", "x".repeat(256), "256 bytes"),
        ("hostname", String::new(), "host-name"),
    ] {
        let error = wanted(json!({"provide": [{"option": option, "value": value}]}), "").unwrap_err();
        assert_eq!(error.code, code::INVALID_CONFIG);
        assert!(error.msg.contains("ipam.provide[0]") && error.msg.contains(said), "{error}");
    }
}

#[test]
fn one_address_family_at_least() {
    assert!(wanted(json!({"dhcp4": false}), "").unwrap_err().msg.contains("no address to ask for"));
    let six = wanted(json!({"dhcp4": false, "dhcp6": true}), "").unwrap();
    assert_eq!((six.dhcp4, six.dhcp6), (false, true));
}

#[test]
fn client_ids_are_the_references_and_differ_though_they_are_long() {
    assert_eq!(client_id("c1", "lan", "eth0"), b"\0c1/lan/eth0");
    let long = "c".repeat(300);
    let (one, other) = (client_id(&long, "lan", "eth0"), client_id(&long, "lan", "eth1"));
    assert_eq!((one.len(), other.len()), (255, 255));
    assert_ne!(one, other);
    assert_eq!(client_id(&"c".repeat(245), "lan", "eth0").len(), 255);
}

#[test]
fn the_sockets_path_is_checked() {
    let socket = |path: &str| config(json!({ "daemonSocketPath": path })).socket();
    assert_eq!(config(json!({})).socket().unwrap(), PathBuf::from(SOCKET));
    assert_eq!(socket("").unwrap(), PathBuf::from(SOCKET));
    assert_eq!(socket("/x/y.sock").unwrap(), PathBuf::from("/x/y.sock"));
    for bad in ["x.sock", "/run/../x", "/a\0b", &format!("/{}", "x".repeat(107))] {
        let error = socket(bad).unwrap_err();
        assert_eq!(error.code, code::INVALID_CONFIG);
        assert!(error.msg.contains("ipam.daemonSocketPath"), "{error}");
    }
}
