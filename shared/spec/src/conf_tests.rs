use super::*;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Sample {
    is_gateway: bool,
    mtu: Option<u32>,
    mode: Mode,
    trunks: Vec<Trunk>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Bridge,
    Private,
}

#[derive(Debug, Deserialize)]
struct Trunk {
    #[expect(dead_code, reason = "only its type matters")]
    id: u16,
}

fn parse(text: &str) -> Result<NetConf<Sample>> {
    NetConf::parse(text)
}

#[test]
fn p05_what_is_not_json_is_code_6() {
    let deep = |key: &str| format!("{{\"name\": \"n\", \"{key}\": {}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    for text in ["", "{", "[]", "7", "null", "{} {}", "\u{0}", &deep("name"), &deep("unknown")] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.code, code::DECODE, "{text:.20}: {error}");
    }
}

#[test]
fn p05_a_wrong_type_is_code_6_with_path_expected_and_found() {
    let error = parse(r#"{"name": "n", "trunks": [{"id": "seven"}]}"#).unwrap_err();
    assert_eq!(error.code, code::DECODE);
    assert_eq!(error.msg, "trunks[0].id: invalid type: string \"seven\", expected u16");
}

#[test]
fn p05_a_value_that_cannot_be_is_code_7_with_the_near_one() {
    let error = parse(r#"{"name": "n", "mode": "privat"}"#).unwrap_err();
    assert_eq!(error.code, code::INVALID_CONFIG);
    assert!(error.msg.contains("mode") && error.msg.contains("did you mean \"private\""), "{error}");
    let error = parse(r#"{"name": "n", "mtu": -1}"#).unwrap_err();
    assert_eq!(error.code, code::INVALID_CONFIG);
}

#[test]
fn p10_an_error_is_told_in_the_version_asked_for_even_if_the_rest_cannot_be_read() {
    assert_eq!(version_of(r#"{"cniVersion": "0.4.0", "name": 7}"#), Version::V0_4_0);
    assert_eq!(version_of(r#"{"name": "n"}"#), Version::V0_1_0);
    for text in ["", "[]", r#"{"cniVersion": 7}"#, r#"{"cniVersion": "9.9.9"}"#] {
        assert_eq!(version_of(text), Version::LATEST, "{text}");
    }
}

#[test]
fn p03_the_name_of_a_network_cannot_leave_its_folder() {
    for name in ["../../etc", "", "a/b", "."] {
        let error = parse(&format!(r#"{{"name": "{name}"}}"#)).unwrap_err();
        assert_eq!(error.code, code::INVALID_CONFIG, "{name}");
        assert!(error.msg.contains("name"), "{error}");
    }
    for kind in ["../sh", "/bin/sh"] {
        let error = parse(&format!(r#"{{"name": "n", "ipam": {{"type": "{kind}"}}}}"#)).unwrap_err();
        assert_eq!(error.code, code::INVALID_CONFIG, "{kind}");
    }
}

#[test]
fn p06_unknown_keys_are_found_with_their_near_names() {
    let conf = parse(
        r#"{"cniVersion": "1.1.0", "name": "n", "type": "t", "isGatway": true, "ipMasq": true, "capabilities": {"a": true},
            "cni.dev/foo": 1, "ipam": {"type": "host-local", "rangs": []}, "args": {"cni": {"x": 1}}, "disableGC": true,
            "runtimeConfig": {"portMappings": []}, "trunks": [{"id": 1, "idd": 2}]}"#,
    )
    .unwrap();
    let paths: Vec<_> = conf.unknown.iter().map(|unknown| unknown.path.as_str()).collect();
    assert_eq!(paths, ["isGatway", "trunks[0].idd"]);
    assert_eq!(conf.unknown[0].near, Some("isGateway"));
    assert_eq!(conf.unknown[0].value, "true");
    assert_eq!(conf.unknown[1].value, "2");
    assert!(!conf.plugin.is_gateway && conf.plugin.mtu.is_none() && conf.plugin.trunks.len() == 1);
    assert!(matches!(conf.plugin.mode, Mode::Bridge));
}

#[test]
fn p06_strict_makes_them_code_2() {
    let error = parse(r#"{"name": "n", "strict": true, "isGatway": true}"#).unwrap_err();
    assert_eq!(error.code, code::UNSUPPORTED_FIELD);
    assert!(error.msg.contains("isGatway") && error.msg.contains("true"), "{error}");
    assert!(parse(r#"{"name": "n", "strict": true, "ipMasq": true}"#).is_ok());
}

#[test]
fn p24_valid_attachments_are_read_under_both_names() {
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let conf = parse(&format!(r#"{{"name": "n", "{key}": [{{"containerID": "c", "ifname": "eth0"}}]}}"#)).unwrap();
        let expected = Attachment { container_id: "c".into(), ifname: "eth0".into() };
        assert_eq!(conf.valid, Some(vec![expected]));
    }
    assert_eq!(parse(r#"{"name": "n"}"#).unwrap().valid, None);
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Addresses {
    ranges: Vec<Vec<IpRange>>,
    data_dir: String,
}

fn parse_ipam(text: &str) -> Result<NetConf<Addresses>> {
    NetConf::parse_ipam(text)
}

#[test]
fn p05_an_address_plugin_reads_the_ipam_object() {
    let conf = parse_ipam(
        r#"{"name": "n", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24", "gateway": ""}]]},
            "runtimeConfig": {"ipRanges": [[{"subnet": "fd00::/64", "rangeStart": "fd00::5"}]]}}"#,
    )
    .unwrap();
    assert_eq!(conf.plugin.ranges[0][0].subnet.to_string(), "10.1.0.0/24");
    assert_eq!(conf.plugin.ranges[0][0].gateway, None, "an empty text is no address");
    assert_eq!(conf.runtime.ip_ranges.as_ref().unwrap()[0][0].range_start, Some("fd00::5".parse().unwrap()));

    let error = parse_ipam(r#"{"name": "n", "ipam": {"ranges": [[{"subnet": 7}]]}}"#).unwrap_err();
    assert_eq!((error.code, &error.msg[..26]), (code::DECODE, "ipam.ranges[0][0].subnet: "));
    let error = parse_ipam(r#"{"name": "n", "ipam": {"ranges": [[{"subnet": "10.1.0.0"}]]}}"#).unwrap_err();
    assert_eq!(error.code, code::INVALID_CONFIG);
    assert!(error.msg.contains("ipam.ranges[0][0].subnet"), "{error}");
    let error = parse_ipam(r#"{"name": "n"}"#).unwrap_err();
    assert!(error.code == code::INVALID_CONFIG && error.msg.contains("ipam"), "{error}");
}

#[test]
fn p06_an_address_plugin_knows_strangers_below_ipam_only() {
    let text = r#"{"name": "n", "isGatway": true, "ipam": {"type": "x", "rangs": [], "ranges": [[{"subnet": "10.0.0.0/8", "a": 1}]]}}"#;
    let conf = parse_ipam(text).unwrap();
    let found: Vec<_> = conf.unknown.iter().map(|unknown| (unknown.path.as_str(), unknown.near)).collect();
    assert_eq!(found, [("ipam.ranges[0][0].a", None), ("ipam.rangs", Some("ranges"))]);
    assert_eq!(conf.unknown[0].value, "1");
    assert!(conf.plugin.data_dir.is_empty());
    let error = parse_ipam(&text.replace(r#""name""#, r#""strict": true, "name""#)).unwrap_err();
    assert_eq!(error.code, code::UNSUPPORTED_FIELD);
}

#[test]
fn p05_a_delegate_within_reads_what_its_program_would_read() {
    let with = |ipam: &str| format!(r#"{{"name": "n", "isGatway": true, "mtu": 1, "mtu": 2, "ipam": {ipam}}}"#);
    let conf = parse(&with(r#"{"type": "x", "type": "y", "dataDir": "/a", "rangs": []}"#)).unwrap();
    let (within, program) = (conf.for_ipam::<Addresses>().unwrap(), parse_ipam(&conf.text).unwrap());
    assert_eq!(within.plugin.data_dir, "/a");
    assert_eq!(format!("{within:?}"), format!("{program:?}"));
    assert_eq!(within.oddities().count(), 3, "\"rangs\", and two keys that stand twice");

    for text in [
        with(r#"{"type": "x", "dataDir": 7}"#),
        with(r#"{"type": "x", "ranges": [[{"subnet": "10.1.0.0"}]]}"#),
        with(r#"{"type": "x", "rangs": []}"#).replace(r#""isGatway": true, "mtu": 1"#, r#""strict": true"#),
    ] {
        let error = parse(&text).unwrap().for_ipam::<Addresses>().unwrap_err();
        assert_eq!(error, parse_ipam(&text).unwrap_err(), "{text}");
        assert!(error.msg.contains("ipam."), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn p05_no_input_panics(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn p05_no_object_panics(key in "[a-zA-Z./\\[\\]~]{0,12}", value in "(null|true|-1|\"x\"|\\[\\]|\\{\\}|[0-9]{1,30})") {
        let _ = parse(&format!(r#"{{"name": "n", "{key}": {value}}}"#));
    }
}

#[test]
fn p05_of_a_key_that_is_given_twice_the_last_one_counts_and_it_is_told() {
    let text = r#"{"name": "m", "name": "n", "mtu": 1, "mtu": 2, "dns": {"domain": "a", "domain": "b"}}"#;
    let conf = parse(text).unwrap();
    assert_eq!((conf.name.as_str(), conf.dns.domain.as_str()), ("n", "b"));
    let told: Vec<_> = conf.oddities().collect();
    assert!(told.len() >= 3 && told.iter().any(|odd| odd.contains("\"domain\" stands twice")), "{told:?}");
    let error = parse(&text.replace("}}", "}, \"strict\": true}")).unwrap_err();
    assert_eq!(error.code, code::UNSUPPORTED_FIELD, "{error}");
}

#[test]
#[cfg_attr(miri, ignore = "it is about size, for which an interpreter takes minutes")]
fn p06_however_many_and_however_long_unknown_keys_are_told_in_short() {
    let keys: Vec<_> = (0..1000).map(|n| format!("\"strange{n}\": \"{}\"", "é".repeat(1000))).collect();
    let conf = parse(&format!("{{\"name\": \"n\", {}}}", keys.join(","))).unwrap();
    let told: Vec<_> = conf.oddities().collect();
    assert_eq!(told.len(), 64);
    assert!(told.iter().all(|odd| odd.len() < 400 && odd.contains("strange")), "{}", told[0]);
}
