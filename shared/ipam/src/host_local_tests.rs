//! ADD: which addresses are given, and what is in the files.

use std::{collections::HashSet, fs, os::unix::fs::MetadataExt, thread};

use podwire_spec::code;

use super::*;
use crate::{
    testing::{Call, ips, list},
    testing_node::{DUAL, Node, SMALL, V4, add},
};

#[test]
fn files_are_those_of_the_reference() {
    let node = Node::new();
    let routes = r#", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.9", "onlink": true}]"#;
    let result = node.call("c1", &format!("{DUAL}{routes}")).run::<HostLocal, _>(HostLocal::add).unwrap();
    assert_eq!(ips(&result), ["10.1.0.2/24", "fd00::2/64"]);
    assert_eq!(result.ips[1].gateway, Some("fd00::1".parse().unwrap()));
    assert!(result.interfaces.is_empty() && result.routes.len() == 2 && result.routes[1].onlink);

    let names = ["10.1.0.2", "fd00::2", "last_reserved_ip.0", "last_reserved_ip.1", "lock"];
    assert_eq!(list(&node.leases()), names);
    let contents = names.map(|name| fs::read_to_string(node.leases().join(name)).unwrap());
    assert_eq!(contents, ["c1\r\neth0", "c1\r\neth0", "10.1.0.2", "fd00::2", ""]);
    let mode = |name: &str| node.leases().join(name).metadata().unwrap().mode() & 0o777;
    assert_eq!((mode("10.1.0.2"), mode("last_reserved_ip.0"), mode("lock"), mode("")), (0o644, 0o644, 0o750, 0o755));
    assert_eq!(node.hint(), [("c1:eth0".to_owned(), "10.1.0.2,fd00::2".to_owned())]);
    assert!(node.is_in_step());
}

#[test]
fn addresses_go_round_robin_from_the_last_one() {
    let node = Node::new();
    for (id, expected) in [("a", "10.1.0.2/29"), ("b", "10.1.0.3/29"), ("c", "10.1.0.4/29")] {
        assert_eq!(node.add(id, SMALL).unwrap(), [expected]);
    }
    node.del("a").unwrap();
    for (id, expected) in [("d", "10.1.0.5/29"), ("e", "10.1.0.6/29"), ("f", "10.1.0.2/29")] {
        assert_eq!(node.add(id, SMALL).unwrap(), [expected], "one that was given back is given last");
    }
    // The note of the last one is a wish: without it, or with nonsense in it, the search starts at the start.
    node.del("b").unwrap();
    for nonsense in ["", "garbage", "10.9.0.1", "fd00::1"] {
        node.write("last_reserved_ip.0", nonsense);
        assert_eq!(node.add("g", SMALL).unwrap(), ["10.1.0.3/29"]);
        node.del("g").unwrap();
    }
}

#[test]
fn exhaustion_says_how_many_there_are_and_who_has_most() {
    let node = Node::new();
    for (id, ifname) in [("one", "eth0"), ("hog", "eth0"), ("hog", "eth1"), ("hog", "eth2"), ("two", "eth0")] {
        add(&node.call(id, SMALL).ifname(ifname)).unwrap();
    }
    let error = node.add("late", SMALL).unwrap_err();
    assert_eq!(error.code, code::NO_ADDRESS);
    assert!(error.msg.contains("10.1.0.1-10.1.0.6"), "{error}");
    assert!(error.details.contains("all 5 addresses") && error.details.contains("(3) to container \"hog\""), "{error}");
    let status = node.call("", SMALL);
    let status = Call { id: "x".into(), ..status }.run::<HostLocal, _>(HostLocal::status).unwrap_err();
    assert_eq!(status.code, code::NOT_AVAILABLE, "{status}");
}

#[test]
fn p20_when_one_set_has_none_left_no_other_loses_one() {
    let node = Node::new();
    let sets = r#", "ranges": [[{"subnet": "fd00::/64"}], [{"subnet": "10.1.0.0/30"}]]"#;
    node.add("a", sets).unwrap();
    let before = (list(&node.leases()), fs::read(node.leases().join("last_reserved_ip.0")).unwrap(), node.hint());
    assert_eq!(node.add("b", sets).unwrap_err().code, code::NO_ADDRESS);
    let after = (list(&node.leases()), fs::read(node.leases().join("last_reserved_ip.0")).unwrap(), node.hint());
    assert_eq!(before, after);
    assert!(node.is_in_step());
}

#[test]
fn an_attachment_is_added_once() {
    let node = Node::new();
    node.add("c1", V4).unwrap();
    let error = node.add("c1", V4).unwrap_err();
    assert!(error.code == code::EXISTS && error.msg.contains("10.1.0.2"), "{error}");
    assert_eq!(add(&node.call("c1", V4).ifname("eth1")).unwrap(), ["10.1.0.3/24"], "another interface is another one");
    // As in the reference, a lease of ranges that the configuration no longer has does not count, and is not lost either.
    assert_eq!(node.add("c1", r#", "subnet": "10.2.0.0/24""#).unwrap(), ["10.2.0.4/24"].map(|_| "10.2.0.2/24"));
    node.del("c1").unwrap();
    assert_eq!(node.addresses(), ["10.1.0.3"]);
}

#[test]
fn p09_an_address_that_is_asked_for_is_given() {
    let node = Node::new();
    let sets = r#", "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]"#;
    let runtime = r#", "runtimeConfig": {"ips": ["10.1.0.10"]}"#;
    let both = r#", "runtimeConfig": {"ips": ["10.1.0.11/16"]}, "args": {"cni": {"ips": ["10.1.0.99", "10.2.0.11"]}}"#;
    for (id, rest, args, expected) in [
        ("a", runtime, "", ["10.1.0.10/24", "10.2.0.2/24"]),
        ("b", both, "IP=10.2.0.99", ["10.1.0.11/24", "10.2.0.11/24"]),
        ("c", "", "IP=10.2.0.20,10.1.0.20", ["10.1.0.20/24", "10.2.0.20/24"]),
        ("d", "", "IP=10.2.0.30", ["10.1.0.21/24", "10.2.0.30/24"]),
    ] {
        let call = Call::new(id, node.conf(sets, rest)).args(args);
        assert_eq!(add(&call).unwrap(), expected, "{rest} {args}");
    }
    for (rest, args, code, said) in [
        ("", "IP=10.1.0.10", code::EXISTS, "10.1.0.10: taken; it is leased to container \"a\", interface \"eth0\""),
        ("", "IP=10.1.0.1", code::INVALID_CONFIG, "CNI_ARGS IP: 10.1.0.1: is the gateway"),
        ("", "IP=10.1.0.0", code::INVALID_CONFIG, "not in any range"),
        ("", "IP=10.1.0.255", code::INVALID_CONFIG, "not in any range"),
        (
            r#", "args": {"cni": {"ips": ["10.9.0.1"]}}"#,
            "",
            code::INVALID_CONFIG,
            "args.cni.ips: 10.9.0.1: not in any range",
        ),
        ("", "IP=10.1.0.50,10.1.0.51", code::INVALID_CONFIG, "10.1.0.50 and 10.1.0.51 are both of ipam.ranges[0]"),
    ] {
        let before = list(&node.leases());
        let error = add(&Call::new("z", node.conf(sets, rest)).args(args)).unwrap_err();
        assert!(error.code == code && error.to_string().contains(said), "{error}");
        assert_eq!(list(&node.leases()), before);
    }
}

#[test]
fn sets_of_the_runtime_come_first_and_the_flat_form_before_the_others() {
    let node = Node::new();
    let conf = node.conf(
        r#", "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.50", "rangeEnd": "10.1.0.60", "gateway": "10.1.0.254",
             "ranges": [[{"subnet": "10.2.0.0/24"}]]"#,
        r#", "runtimeConfig": {"ipRanges": [[{"subnet": "10.8.0.0/24"}]]}"#,
    );
    assert_eq!(add(&Call::new("a", conf.clone())).unwrap(), ["10.8.0.2/24", "10.1.0.50/24", "10.2.0.2/24"]);
    assert_eq!(fs::read_to_string(node.leases().join("last_reserved_ip.2")).unwrap(), "10.2.0.2");
    let error = add(&Call::new("b", conf.replace("10.8.", "10.2."))).unwrap_err();
    assert!(error.msg.contains("overlaps") && error.msg.contains("runtimeConfig.ipRanges[0]"), "{error}");
    let error = add(&Call::new("b", conf.replace("1.0.0", "0.2.0"))).unwrap_err();
    assert!(error.code == code::INVALID_CONFIG && error.msg.contains("0.2.0"), "{error}");
}

#[test]
fn p05_what_cannot_be_is_code_7_and_makes_no_file() {
    for (ipam, said) in [
        ("", "ipam.ranges: missing"),
        (r#", "ranges": []"#, "ipam.ranges: missing"),
        (r#", "ranges": [[]]"#, "ipam.ranges[0]: empty"),
        (r#", "ranges": [[{"subnet": "10.1.0.0/24", "rangeEnd": "10.2.0.1"}]]"#, "ipam.ranges[0][0].rangeEnd"),
        (r#", "subnet": "10.1.0.0/31""#, "ipam.subnet"),
        (r#", "subnet": "fd00::/64", "rangeStart": "10.0.0.1""#, "ipam.rangeStart"),
        (r#", "subnet": "10.1.0.0/24", "resolvConf": "/nowhere/resolv.conf""#, "/nowhere/resolv.conf"),
    ] {
        let node = Node::new();
        let error = node.add("a", ipam).unwrap_err();
        assert!(error.msg.contains(said), "{error}");
        assert!(list(node.0.path()).is_empty());
    }
    for dir in ["networks", "/tmp/../etc"] {
        let conf = format!(r#"{{"name": "n", "ipam": {{"subnet": "10.1.0.0/24", "dataDir": {dir:?}}}}}"#);
        let error = add(&Call::new("a", conf)).unwrap_err();
        assert!(error.code == code::INVALID_CONFIG && error.msg.contains("ipam.dataDir"), "{error}");
    }
}

#[test]
fn p27_calls_at_the_same_time_get_addresses_of_their_own() {
    let node = Node::new();
    let ipam = r#", "ranges": [[{"subnet": "10.1.0.0/22"}], [{"subnet": "fd00::/64"}]]"#;
    let given: Vec<String> = thread::scope(|scope| {
        let node = &node;
        let run = move |worker: usize| {
            let mut kept = Vec::new();
            for n in 0..30 {
                let id = format!("c{worker}-{n}");
                let ips = node.add(&id, ipam).unwrap();
                if n % 3 == 0 { node.del(&id).unwrap() } else { kept.extend(ips) }
            }
            kept
        };
        let workers: Vec<_> = (0..8).map(|worker| scope.spawn(move || run(worker))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let distinct: HashSet<_> = given.iter().collect();
    assert_eq!((given.len(), distinct.len()), (8 * 20 * 2, 8 * 20 * 2));
    assert_eq!(node.addresses().len(), given.len());
    assert!(node.is_in_step() && node.hint().len() == 8 * 20);
}

#[test]
fn a_long_run_of_taken_addresses_is_passed_over() {
    let node = Node::new();
    for n in 2..250 {
        node.write(&format!("10.1.0.{n}"), "x\r\neth0");
    }
    assert_eq!(node.add("a", V4).unwrap(), ["10.1.0.250/24"]);
}
