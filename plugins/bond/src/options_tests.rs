//! Every option against every mode, and every contradiction.

use podwire_plugin::net::{Bond, BondMode, Choice};
use serde_json::{Value, json};

use super::*;

fn read(extra: &Value) -> Config {
    let mut conf = json!({ "links": [{ "name": "eth1" }, { "name": "eth2" }] });
    for (key, value) in extra.as_object().unwrap() {
        conf[key] = value.clone();
    }
    serde_json::from_value(conf).unwrap()
}

fn refusal(extra: &Value) -> Option<String> {
    validate(&read(extra)).err().map(|error| error.to_string())
}

/// What an option needs beside it, what it is, and the numbers of its modes.
const OPTIONS: &[(&str, &str, &str)] = &[
    ("failOverMac", r#"{"failOverMac": 1}"#, "1"),
    ("failOverMac", r#"{"failOverMac": "follow"}"#, "1"),
    ("failOverMac", r#"{"failOverMac": 0}"#, "0123456"),
    ("arpInterval", r#"{"arpInterval": 100, "arpIpTargets": ["10.0.0.1"]}"#, "0123"),
    ("arpInterval", r#"{"arpInterval": 100, "nsIp6Targets": ["fd00::1"]}"#, "0123"),
    // It cannot be had without the interval, which is looked at first.
    ("arpInterval", r#"{"arpInterval": 100, "arpIpTargets": ["10.0.0.1"], "arpValidate": "all"}"#, "0123"),
    ("primary", r#"{"primary": "eth1"}"#, "156"),
    ("primaryReselect", r#"{"primaryReselect": "failure"}"#, "156"),
    ("xmitHashPolicy", r#"{"xmitHashPolicy": "layer3+4"}"#, "245"),
    ("resendIgmp", r#"{"resendIgmp": 3}"#, "0156"),
    ("numPeerNotif", r#"{"numPeerNotif": 3}"#, "1"),
    ("minLinks", r#"{"minLinks": 2}"#, "4"),
    ("lacpRate", r#"{"lacpRate": "fast"}"#, "4"),
    ("adSelect", r#"{"adSelect": "count"}"#, "4"),
    ("packetsPerSlave", r#"{"packetsPerSlave": 4}"#, "0"),
    ("tlbDynamicLb", r#"{"tlbDynamicLb": 0}"#, "56"),
    ("allSlavesActive", r#"{"allSlavesActive": 1}"#, "0123456"),
    ("miimon", r#"{"miimon": "50"}"#, "0123456"),
    ("miimon", r#"{"miimon": 0}"#, "0123"),
    ("updelay", r#"{"updelay": 200, "downdelay": 100}"#, "0123456"),
];

#[test]
fn every_option_is_checked_against_every_mode() {
    for (option, text, modes) in OPTIONS {
        for mode in BondMode::ALL {
            let mut extra: Value = serde_json::from_str(text).unwrap();
            extra["mode"] = mode.name().into();
            let refused = refusal(&extra);
            assert_eq!(refused.is_none(), modes.contains(&mode.number().to_string()), "{extra}: {refused:?}");
            if let Some(why) = refused {
                assert!(why.contains(option) && why.contains(mode.name()), "{extra}: {why}");
            }
        }
    }
}

#[test]
fn p05_what_contradicts_itself_is_refused_with_the_reason() {
    let many: Vec<_> = (1..=17).map(|n| format!("10.0.0.{n}")).collect();
    let arp = |extra: Value| {
        let mut conf = json!({ "arpInterval": 100, "arpIpTargets": ["10.0.0.1"] });
        conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        conf
    };
    for (extra, said) in [
        (arp(json!({ "miimon": 100 })), "cannot be combined with arpInterval"),
        (arp(json!({ "updelay": 100 })), "needs miimon"),
        (arp(json!({ "arpIpTargets": many })), "no more than 16"),
        (arp(json!({ "arpIpTargets": ["10.0.0.1", "10.0.0.1"] })), "listed twice"),
        (arp(json!({ "arpIpTargets": ["0.0.0.0"] })), "not the address of a host"),
        (arp(json!({ "nsIp6Targets": ["ff02::1"] })), "not the address of a host"),
        (json!({ "arpInterval": 100 }), "nobody to ask"),
        (json!({ "arpIpTargets": ["10.0.0.1"] }), "never be asked"),
        (json!({ "nsIp6Targets": ["fd00::1"] }), "never be asked"),
        (json!({ "arpValidate": "all" }), "no answer to validate"),
        (json!({ "updelay": 150 }), "not a multiple of miimon, 100 ms; the kernel would make it 100"),
        (json!({ "downdelay": 50 }), "would make it 0"),
    ] {
        let why = refusal(&extra).unwrap_or_default();
        assert!(why.contains(said), "{extra}: {why}");
    }
}

#[test]
fn values_are_read_as_people_write_them() {
    let config =
        read(&json!({ "mode": 4, "miimon": "50", "allSlavesActive": 1, "tlbDynamicLb": "0", "lacpRate": "1" }));
    let bond = config.bond();
    assert_eq!((bond.mode, bond.miimon), (BondMode::Lacp, Some(50)));
    assert_eq!((bond.all_slaves_active, bond.tlb_dynamic_lb), (Some(true), Some(false)));
    assert_eq!(bond.lacp_rate.map(Choice::name), Some("fast"));
    assert_eq!(read(&json!({})).bond(), Bond { miimon: Some(100), ..Bond::new(BondMode::ActiveBackup) });
    let arp = read(&json!({ "arpInterval": 200, "arpIpTargets": ["10.0.0.1"] }));
    assert_eq!(arp.bond().miimon, Some(0), "one way of watching at a time");
    for wrong in [
        json!({ "mode": "roundrobin" }),
        json!({ "mode": 7 }),
        json!({ "miimon": "soon" }),
        json!({ "miimon": -1 }),
        json!({ "miimon": 4_294_967_295_u32 }),
        json!({ "tlbDynamicLb": 2 }),
        json!({ "numPeerNotif": 256 }),
        json!({ "packetsPerSlave": 65536 }),
    ] {
        assert!(serde_json::from_value::<Config>(wrong.clone()).is_err(), "{wrong}");
    }
}
