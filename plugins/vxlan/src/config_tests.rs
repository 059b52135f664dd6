use super::*;

/// What is said of a configuration with these options beside a VNI.
fn said(options: &str) -> String {
    let text = format!(r#"{{"cniVersion": "1.1.0", "name": "n", "type": "vxlan", "vni": 42, {options}}}"#);
    let outcome = NetConf::parse(&text).map_err(Into::into).and_then(|conf| validate(&conf));
    outcome.map_or_else(|error| error.to_string(), |()| "fine".to_owned())
}

fn parse(options: &str) -> Config {
    let text = format!(r#"{{"cniVersion": "1.1.0", "name": "n", "type": "vxlan", "vni": 42{options}}}"#);
    NetConf::parse(&text).expect("a configuration").plugin
}

#[test]
fn the_defaults_are_those_of_the_protocol() {
    let config = parse("");
    assert_eq!((config.device().as_str(), config.bridge().as_str()), ("vx42", "br-vx42"));
    let parameters = config.parameters(None);
    assert_eq!((parameters.vni, parameters.port, parameters.ipv6), (42, 4789, false));
    assert!(parameters.learning && parameters.udp_csum && config.attach == Place::Bridge);
    assert_eq!((config.overhead(), parse(r#", "remotes": ["2001:db8::1"]"#).overhead()), (50, 70));
}

#[test]
fn p05_what_contradicts_itself_is_refused_with_its_path() {
    for (options, words) in [
        (r#""remote": "192.0.2.1", "group": "239.1.1.1", "dev": "eth0""#, "remote: cannot be combined with group"),
        (r#""group": "239.1.1.1""#, "dev: missing"),
        (r#""group": "192.0.2.1", "dev": "eth0""#, "group: \"192.0.2.1\": not the address of a multicast group"),
        (r#""remotes": ["192.0.2.1", "239.1.1.1"]"#, "remotes[1]: \"239.1.1.1\": not the address of one node"),
        (r#""local": "0.0.0.0""#, "local"),
        (r#""local": "192.0.2.1", "remotes": ["2001:db8::1"]"#, "remotes[0]: \"2001:db8::1\": all addresses"),
        (r#""attach": "direct", "bridge": "br0""#, "bridge: cannot be combined"),
        (r#""attach": "direct", "arpSuppress": true"#, "arpSuppress: cannot be combined"),
        (r#""vxlan": "same", "bridge": "same""#, "vxlan: \"same\""),
        (r#""vxlan": "a/b""#, "vxlan: \"a/b\""),
        (r#""dstport": 0"#, "dstport: 0"),
        (r#""mtu": 20"#, "mtu: 20"),
        (r#""tos": 1"#, "tos: 1"),
        (r#""ttl": 300"#, "0 to 255, or \"inherit\""),
        (r#""ttl": "some""#, "ttl"),
        (r#""df": "set", "remote": "2001:db8::1""#, "df: IPv6"),
        (r#""fdb": [{"mac": "02:00:00:00:00:01", "dst": "192.0.2.1", "vni": 16777216}]"#, "fdb[0].vni"),
        (r#""fdb": [{"mac": "02:00:00:00:00:01", "dst": "192.0.2.1", "port": 0}]"#, "fdb[0].port"),
        (
            r#""fdb": [{"mac": "02:00:00:00:00:01", "dst": "192.0.2.1"}, {"mac": "02:00:00:00:00:01", "dst": "192.0.2.2"}]"#,
            "fdb[1].mac",
        ),
    ] {
        let said = said(options);
        assert!(said.contains(words), "{options}: {said}");
    }
    assert_eq!(said(r#""ttl": "inherit", "tos": 32, "df": "inherit", "remote": "192.0.2.1""#), "fine");
}

#[test]
fn a_vni_of_25_bits_is_refused() {
    let text = r#"{"cniVersion": "1.1.0", "name": "n", "type": "vxlan", "vni": 16777216}"#;
    let conf = NetConf::parse(text).expect("a configuration");
    assert!(validate(&conf).unwrap_err().to_string().contains("vni: 16777216"));
}

#[test]
fn one_list_serves_every_node() {
    let config = parse(
        r#", "arpSuppress": true, "remotes": ["192.0.2.1", "192.0.2.2", "192.0.2.2"], "fdb": [
            {"mac": "02:00:00:00:00:01", "dst": "192.0.2.1", "ips": ["10.0.0.1"]},
            {"mac": "02:00:00:00:00:02", "dst": "192.0.2.2", "vni": 42, "port": 8472, "ips": ["10.0.0.2"]}]"#,
    );
    let own = HashSet::from(["192.0.2.1".parse().expect("an address")]);
    let texts: Vec<_> = config.entries(&own).iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["00:00:00:00:00:00>192.0.2.2", "02:00:00:00:00:02>192.0.2.2@8472"]);
    let answered: Vec<_> = config.neighbours(&own).iter().map(|(ip, mac)| format!("{ip} {mac}")).collect();
    assert_eq!(answered, ["10.0.0.2 02:00:00:00:00:02"]);
    assert_eq!(config.far_end(&own).map(|ip| ip.to_string()).as_deref(), Some("192.0.2.2"));
}
