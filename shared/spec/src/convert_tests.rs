use serde_json::json;

use super::*;

fn sample() -> AddResult {
    AddResult {
        interfaces: vec![
            Interface { name: "cni0".into(), mac: "02:00:00:00:00:01".into(), mtu: Some(1500), ..Interface::default() },
            Interface {
                name: "eth0".into(),
                mac: "02:00:00:00:00:02".into(),
                mtu: Some(1450),
                sandbox: "/run/netns/p".into(),
                socket_path: "/run/vhost.sock".into(),
                pci_id: "0000:00:02.0".into(),
            },
        ],
        ips: vec![
            Ip {
                interface: Some(1),
                address: "10.1.0.5/16".parse().unwrap(),
                gateway: Some("10.1.0.1".parse().unwrap()),
            },
            Ip { interface: Some(1), address: "fd00::5/64".parse().unwrap(), gateway: None },
        ],
        routes: vec![
            Route { mtu: Some(1400), ..Route::new("0.0.0.0/0".parse().unwrap(), Some("10.1.0.1".parse().unwrap())) },
            Route::new("fd01::/64".parse().unwrap(), None),
        ],
        dns: Dns { nameservers: vec!["10.1.0.1".into()], ..Dns::default() },
    }
}

/// The result as `version` has it.
fn said(result: &AddResult, version: Version) -> Value {
    serde_json::from_str(&result.to_json(version)).unwrap()
}

#[test]
fn p11_1_1_0_says_everything_and_is_read_back_whole() {
    let json = said(&sample(), Version::V1_1_0);
    assert_eq!(json["interfaces"][1]["mtu"], 1450);
    assert_eq!(json["routes"][0]["mtu"], 1400);
    assert_eq!(json["ips"][0].get("version"), None);
    assert_eq!(AddResult::from_json(&json, Version::V0_1_0).unwrap(), sample());
}

#[test]
fn p11_older_versions_leave_out_what_they_do_not_know() {
    for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0] {
        let json = said(&sample(), version);
        assert_eq!(json["cniVersion"], version.as_str());
        for key in ["mtu", "socketPath", "pciID"] {
            assert_eq!(json["interfaces"][1].get(key), None, "{key}");
        }
        assert_eq!(json["ips"][0]["version"], "4");
        assert_eq!(json["ips"][1]["version"], "6");
        assert_eq!(json["routes"][0], json!({"dst": "0.0.0.0/0", "gw": "10.1.0.1"}));
    }
    let json = said(&sample(), Version::V1_0_0);
    assert_eq!(json["ips"][0].get("version"), None);
    assert_eq!(json["interfaces"][1].get("mtu"), None);
}

#[test]
fn p11_the_oldest_versions_have_one_address_a_family() {
    for version in [Version::V0_1_0, Version::V0_2_0] {
        assert_eq!(
            said(&sample(), version),
            json!({
                "cniVersion": version.as_str(),
                "ip4": {"ip": "10.1.0.5/16", "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]},
                "ip6": {"ip": "fd00::5/64", "routes": [{"dst": "fd01::/64"}]},
                "dns": {"nameservers": ["10.1.0.1"]},
            })
        );
    }
}

#[test]
fn p11_a_previous_result_of_every_version_is_read() {
    for version in Version::ALL {
        let read = AddResult::from_json(&said(&sample(), version), Version::V0_1_0).unwrap();
        assert_eq!(read.ips[0].address, sample().ips[0].address, "{version}");
        assert_eq!(read.routes.len(), 2, "{version}");
        assert_eq!(read.dns, sample().dns, "{version}");
        // What a version can say survives a second trip.
        let again = AddResult::from_json(&said(&read, version), Version::V0_1_0).unwrap();
        assert_eq!(read, again, "{version}");
    }
}

#[test]
fn p11_a_result_that_is_not_one_is_code_6_with_its_path() {
    let value = json!({"cniVersion": "1.0.0", "ips": [{"address": 7}]});
    let error = AddResult::from_json(&value, Version::V1_1_0).unwrap_err();
    assert_eq!(error.code, code::DECODE);
    assert!(error.msg.contains("ips[0].address"), "{error}");
    let value = json!({"cniVersion": "9.9.9"});
    assert_eq!(AddResult::from_json(&value, Version::V1_1_0).unwrap_err().code, code::VERSION);
}

#[test]
fn p11_nulls_and_empty_strings_of_other_plugins_are_taken_for_nothing() {
    let value = json!({"cniVersion": "0.4.0", "interfaces": null, "ips": [{"version": "4", "address": "10.0.0.1/8", "gateway": ""}], "dns": null});
    let read = AddResult::from_json(&value, Version::V1_1_0).unwrap();
    assert_eq!(read.ips[0].gateway, None);
    let value = json!({"ip4": {"ip": "10.0.0.1/8", "gateway": "", "routes": null}, "ip6": null, "dns": null});
    assert_eq!(AddResult::from_json(&value, Version::V0_1_0).unwrap(), AddResult { dns: Dns::default(), ..read });
}

#[test]
fn p11_keys_stand_in_the_order_of_the_alphabet() {
    let route = Route {
        mtu: Some(1400),
        advmss: Some(1360),
        priority: Some(7),
        table: Some(100),
        scope: Some(253),
        onlink: true,
        ..sample().routes[0].clone()
    };
    let texts = || vec!["a".to_owned()];
    let dns = Dns { nameservers: texts(), domain: "b".into(), search: texts(), options: texts() };
    let result = AddResult { routes: vec![route], dns, ..sample() };
    for version in Version::ALL {
        // The keys of a `Value` do.
        assert_eq!(result.to_json(version), said(&result, version).to_string());
    }
    let all = said(&result, Version::V1_1_0);
    let length = |value: &Value| value.as_object().unwrap().len();
    assert_eq!([&all["interfaces"][1], &all["routes"][0], &all["dns"]].map(length), [6, 8, 4], "{all}");
}
