//! DEL, CHECK, GC and STATUS, whatever is in the folder.

use std::{fs, os::unix::fs::symlink};

use podwire_spec::code;

use super::*;
use crate::{
    testing::{Call, list},
    testing_node::{DUAL, Node, SMALL, V4, add},
};

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
