use std::{
    collections::HashSet,
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    thread,
};

use podwire_spec::code;
use tempfile::TempDir;

use super::*;
use crate::testing::{Call, ips, list};

/// A node of its own: a data folder, and calls on it.
pub(crate) struct Node(pub(crate) TempDir);

impl Node {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn conf(&self, ipam: &str, rest: &str) -> String {
        let dir = self.0.path().join("data");
        format!(
            r#"{{"cniVersion": "1.0.0", "name": "n1", "ipam": {{"type": "host-local", "dataDir": {dir:?}{ipam}}}{rest}}}"#
        )
    }

    pub(crate) fn call(&self, id: &str, ipam: &str) -> Call {
        Call::new(id, self.conf(ipam, ""))
    }

    pub(crate) fn add(&self, id: &str, ipam: &str) -> Result<Vec<String>> {
        add(&self.call(id, ipam))
    }

    pub(crate) fn del(&self, id: &str) -> Result<()> {
        self.call(id, "").run::<HostLocal, _>(HostLocal::del)
    }

    pub(crate) fn leases(&self) -> std::path::PathBuf {
        self.0.path().join("data/n1")
    }

    pub(crate) fn index(&self) -> std::path::PathBuf {
        self.0.path().join("data/.podwire/n1")
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        list(&self.leases()).into_iter().filter(|name| name != "lock" && !name.starts_with("last_")).collect()
    }

    /// What a foreign hand does: no lock, no index.
    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(self.leases()).unwrap();
        fs::write(self.leases().join(name), content).unwrap();
    }

    /// The hint, read as data; and whether a call would trust it.
    pub(crate) fn hint(&self) -> Vec<(String, String)> {
        let text = |name: &String| fs::read_link(self.index().join(name)).unwrap().to_str().unwrap().to_owned();
        let of_attachments = list(&self.index()).into_iter().filter(|name| !name.starts_with('+'));
        // Which boot it is, is not for the test to know.
        of_attachments.map(|name| (name.clone(), text(&name).split('@').next().unwrap().to_owned())).collect()
    }

    /// Does something to the hint that a call does not notice.
    pub(crate) fn in_step(&self, work: impl FnOnce()) {
        let folder = fs::File::open(self.index()).unwrap();
        let before = folder.metadata().unwrap().modified().unwrap();
        work();
        folder.set_modified(before).unwrap();
    }

    /// Makes a lease file as old as that.
    pub(crate) fn age(&self, name: &str, seconds: u64) {
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
        fs::File::open(self.leases().join(name)).unwrap().set_modified(then).unwrap();
    }

    pub(crate) fn is_in_step(&self) -> bool {
        let changed = |path: &Path| path.metadata().map(|meta| (meta.mtime(), meta.mtime_nsec())).unwrap();
        changed(&self.leases()) == changed(&self.index())
    }
}

pub(crate) fn add(call: &Call) -> Result<Vec<String>> {
    call.run::<HostLocal, _>(HostLocal::add).map(|result| ips(&result))
}

pub(crate) const V4: &str = r#", "subnet": "10.1.0.0/24""#;
const SMALL: &str = r#", "subnet": "10.1.0.0/29""#;
pub(crate) const DUAL: &str = r#", "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]"#;

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
fn p22_del_succeeds_whatever_is_there() {
    let node = Node::new();
    node.del("nobody").unwrap();
    assert!(list(node.0.path()).is_empty(), "and leaves no folder behind");
    node.add("a", V4).unwrap();
    node.write("10.1.0.3", "");
    node.write("10.1.0.4", "not a lease at all");
    node.write("notes.txt", "a\r\neth0");
    symlink("10.1.0.2", node.leases().join("10.1.0.5")).unwrap();
    fs::create_dir(node.leases().join("10.1.0.6")).unwrap();
    nix::unistd::mkfifo(&node.leases().join("10.1.0.7"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(node.add("b", V4).unwrap(), ["10.1.0.8/24"], "what is there is not free");
    for _ in 0..2 {
        node.del("a").unwrap();
        node.del("b").unwrap();
    }
    let left = ["10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6", "10.1.0.7", "notes.txt"];
    assert_eq!(node.addresses(), left, "a link is not followed to its lease");
    // The configuration of today may have nothing in common with that of the ADD.
    node.add("c", V4).unwrap();
    node.call("c", r#", "subnet": "10.1.0.7/31""#).run::<HostLocal, _>(HostLocal::del).unwrap();
    assert_eq!(node.addresses(), left);
}

#[test]
fn leases_of_the_old_kind_have_no_interface() {
    let node = Node::new();
    node.write("10.1.0.9", "old");
    assert_eq!(node.add("old", V4).unwrap_err().code, code::EXISTS);
    node.call("old", V4).run::<HostLocal, _>(HostLocal::check).unwrap();
    node.del("old").unwrap();
    assert!(node.addresses().is_empty());
}

#[test]
fn p23_check_wants_the_leases_of_the_result() {
    let node = Node::new();
    let check = |id: &str, ips: &str| {
        let rest = format!(r#", "prevResult": {{"cniVersion": "1.0.0", "ips": [{ips}]}}"#);
        Call::new(id, node.conf(DUAL, &rest)).run::<HostLocal, _>(HostLocal::check)
    };
    let ips = r#"{"address": "10.1.0.2/24"}, {"address": "fd00::2/64"}, {"address": "192.0.2.9/24"}"#;
    node.add("a", DUAL).unwrap();
    check("a", ips).unwrap();
    check("a", "").unwrap();
    let error = check("b", ips).unwrap_err();
    assert!(
        error.code == code::CHECK && error.msg.contains("container \"b\"") && error.msg.contains("none"),
        "{error}"
    );
    fs::remove_file(node.leases().join("fd00::2")).unwrap();
    let error = check("a", ips).unwrap_err();
    assert!(error.msg.contains("expected a lease of fd00::2, found 10.1.0.2"), "{error}");
    node.write("10.1.0.2", "b\r\neth0");
    assert_eq!(check("a", ips).unwrap_err().code, code::CHECK);
}

#[test]
fn p24_gc_spares_what_is_being_added() {
    let node = Node::new();
    for id in ["drop", "in-flight"] {
        node.add(id, SMALL).unwrap();
    }
    let conf = node.conf(SMALL, r#", "cni.dev/valid-attachments": []"#);
    Call::new("x", conf).run::<HostLocal, _>(HostLocal::gc).unwrap();
    assert_eq!(node.addresses(), ["10.1.0.3"]);
}

#[test]
fn p24_gc_keeps_the_valid_and_removes_the_rest() {
    let node = Node::new();
    for id in ["keep", "drop", "half"] {
        node.add(id, DUAL).unwrap();
    }
    add(&node.call("half", DUAL).ifname("eth1")).unwrap();
    for (name, content) in [("10.1.0.90", ""), ("10.1.0.91", "by hand"), ("10.1.0.92", "keep"), ("10.1.0.93", "drop")] {
        node.write(name, content);
    }
    let gc = |valid: &str| Call::new("x", node.conf(DUAL, valid)).run::<HostLocal, _>(HostLocal::gc);
    let before = list(&node.leases());
    assert_eq!(gc("").unwrap_err().code, code::INVALID_CONFIG);
    assert_eq!(list(&node.leases()), before, "without the list nothing is removed");
    gc(r#", "cni.dev/valid-attachments": [{"containerID": "keep", "ifname": "eth0"}, {"containerID": "half", "ifname": "eth0"}]"#)
        .unwrap();
    assert_eq!(node.addresses(), ["10.1.0.2", "10.1.0.4", "10.1.0.91", "10.1.0.92", "fd00::2", "fd00::4"]);
    let keys: Vec<_> = node.hint().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["half:eth0", "keep:", "keep:eth0"]);
    gc(r#", "cni.dev/valid-attachments": []"#).unwrap();
    assert_eq!(node.addresses(), ["10.1.0.91"]);
}

#[test]
fn p25_status_tells_whether_an_address_is_left() {
    let node = Node::new();
    let status = |ipam: &str| node.call("x", ipam).run::<HostLocal, _>(HostLocal::status);
    status(V4).unwrap();
    assert!(list(node.0.path()).is_empty(), "a look leaves nothing behind");
    let one = r#", "subnet": "10.1.0.0/30""#;
    node.add("a", one).unwrap();
    status(V4).unwrap();
    assert_eq!(status(one).unwrap_err().code, code::NOT_AVAILABLE);
    assert_eq!(status(r#", "subnet": "10.1.0.0/32""#).unwrap_err().code, code::NOT_AVAILABLE);
    assert_eq!(node.addresses(), ["10.1.0.2"]);
    fs::write(node.0.path().join("file"), "").unwrap();
    let conf = node.conf(V4, "").replace("/data", "/file/networks");
    let error = Call::new("x", conf).run::<HostLocal, _>(HostLocal::status).unwrap_err();
    assert!(error.code == code::NOT_AVAILABLE && error.msg.contains("ENOTDIR"), "{error}");
}

#[test]
fn links_in_the_place_of_folders_are_not_followed() {
    let node = Node::new();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir(node.0.path().join("data")).unwrap();
    symlink(elsewhere.path(), node.leases()).unwrap();
    let error = node.add("a", V4).unwrap_err();
    assert!(error.code == code::IO && error.msg.contains("data/n1"), "{error}");
    fs::remove_file(node.leases()).unwrap();

    symlink(elsewhere.path(), node.0.path().join("data/.podwire")).unwrap();
    let error = node.add("a", V4).unwrap_err();
    assert!(error.code == code::IO && error.msg.contains("data/.podwire"), "{error}");
    node.write("10.1.0.9", "a\r\neth0");
    node.del("a").unwrap();
    assert!(node.addresses().is_empty(), "DEL works without the hint");
    assert!(list(elsewhere.path()).is_empty());
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
