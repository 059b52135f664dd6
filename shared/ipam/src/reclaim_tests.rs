//! Leases of earlier boots and of other machines.

use std::{fs, os::unix::fs::symlink};

use podwire_spec::code;

use crate::{
    HostLocal, Ipam,
    testing::Call,
    testing_node::{DUAL, Node, SMALL, V4, add},
};

/// Makes the hint say that what `id` has is of another boot, or of another machine: the digits up to the dash are the
/// boot's, those behind it the machine's.
fn of_another(node: &Node, id: &str, change_machine: bool) {
    let link = node.index().join(format!("{id}:eth0"));
    let text = fs::read_link(&link).unwrap().to_str().unwrap().to_owned();
    let (ips, origin) = text.split_once('@').unwrap();
    let (boot, machine) = origin.split_once('-').unwrap();
    let flip = |text: &str| format!("{:08x}", !u32::from_str_radix(text, 16).unwrap());
    let text = if change_machine {
        format!("{ips}@{boot}-{}", flip(machine))
    } else {
        format!("{ips}@{}-{machine}", flip(boot))
    };
    node.in_step(|| {
        fs::remove_file(&link).unwrap();
        symlink(text, &link).unwrap();
    });
}

fn of_an_earlier_boot(node: &Node, ids: &[&str]) {
    for id in ids {
        of_another(node, id, false);
    }
}

fn full() -> Node {
    let node = Node::new();
    for id in ["a", "b", "c", "d", "e"] {
        node.add(id, SMALL).unwrap();
    }
    node
}

fn status(node: &Node) -> podwire_spec::Result<()> {
    node.call("x", SMALL).run::<HostLocal, _>(HostLocal::status)
}

#[test]
fn leases_of_an_earlier_boot_are_reclaimed_when_no_other_address_is_left() {
    let node = full();
    assert_eq!(node.add("f", SMALL).unwrap_err().code, code::NO_ADDRESS, "this boot's stay");
    assert_eq!(status(&node).unwrap_err().code, code::NOT_AVAILABLE);
    of_an_earlier_boot(&node, &["b", "d"]);
    status(&node).unwrap();
    assert_eq!(node.addresses().len(), 5, "STATUS changes nothing");
    assert_eq!(node.add("f", SMALL).unwrap(), ["10.1.0.3/29"]);
    let keys: Vec<_> = node.hint().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["a:eth0", "c:eth0", "e:eth0", "f:eth0"]);
    assert!(node.is_in_step());
    assert_eq!(node.add("g", SMALL).unwrap(), ["10.1.0.5/29"]);
    assert_eq!(node.add("h", SMALL).unwrap_err().code, code::NO_ADDRESS);
}

#[test]
fn while_addresses_are_left_those_of_an_earlier_boot_stay() {
    let node = Node::new();
    node.add("a", V4).unwrap();
    of_an_earlier_boot(&node, &["a"]);
    node.add("b", V4).unwrap();
    assert_eq!(node.addresses(), ["10.1.0.2", "10.1.0.3"]);
}

#[test]
fn an_address_of_an_earlier_boot_may_be_asked_for() {
    let node = full();
    let ask = || add(&node.call("f", V4).args("IP=10.1.0.4"));
    assert_eq!(ask().unwrap_err().code, code::EXISTS);
    of_an_earlier_boot(&node, &["c"]);
    assert_eq!(ask().unwrap(), ["10.1.0.4/24"]);
    assert_eq!(node.addresses().len(), 5);
}

#[test]
fn a_container_of_an_earlier_boot_may_be_added_again() {
    let node = Node::new();
    node.add("a", DUAL).unwrap();
    assert_eq!(node.add("a", DUAL).unwrap_err().code, code::EXISTS);
    of_an_earlier_boot(&node, &["a"]);
    assert_eq!(node.add("a", DUAL).unwrap(), ["10.1.0.3/24", "fd00::3/64"]);
    assert_eq!(node.addresses(), ["10.1.0.3", "fd00::3"]);
}

#[test]
fn gc_removes_leases_of_an_earlier_boot_that_are_not_valid() {
    let node = full();
    of_an_earlier_boot(&node, &["a", "b"]);
    let valid = r#", "cni.dev/valid-attachments": [{"containerID": "b", "ifname": "eth0"}, {"containerID": "c", "ifname": "eth0"}]"#;
    Call::new("x", node.conf(SMALL, valid)).run::<HostLocal, _>(HostLocal::gc).unwrap();
    assert_eq!(node.addresses(), ["10.1.0.3", "10.1.0.4"]);
    assert!(node.is_in_step());
}

#[test]
fn a_folder_that_another_machine_uses_too_is_left_alone() {
    let node = full();
    of_an_earlier_boot(&node, &["a", "b"]);
    of_another(&node, "c", true);
    assert_eq!(node.add("f", SMALL).unwrap_err().code, code::NO_ADDRESS);
    assert_eq!(status(&node).unwrap_err().code, code::NOT_AVAILABLE);
    assert_eq!(node.addresses().len(), 5);
    let conf = node.conf(SMALL, r#", "cni.dev/valid-attachments": []"#);
    Call::new("x", conf).run::<HostLocal, _>(HostLocal::gc).unwrap();
    assert_eq!(node.addresses(), ["10.1.0.4"], "the other's is for its own GC");
}

#[test]
fn a_lease_that_somebody_wrote_again_is_of_this_boot() {
    let node = full();
    of_an_earlier_boot(&node, &["a", "b"]);
    // The reference deletes the container's and adds it again: the same file, and the hint knows nothing of it.
    fs::remove_file(node.leases().join("10.1.0.2")).unwrap();
    node.write("10.1.0.2", "a\r\neth0");
    assert_eq!(node.add("f", SMALL).unwrap(), ["10.1.0.3/29"]);
    assert_eq!(node.add("g", SMALL).unwrap_err().code, code::NO_ADDRESS);
}

#[test]
fn leases_that_others_wrote_are_of_the_boot_in_which_they_were_first_seen() {
    let node = Node::new();
    for n in 2..7 {
        node.write(&format!("10.1.0.{n}"), &format!("c{n}\r\neth0"));
        node.age(&format!("10.1.0.{n}"), 1_000_000);
    }
    assert_eq!(node.add("f", SMALL).unwrap_err().code, code::NO_ADDRESS, "no clock is trusted");
    of_an_earlier_boot(&node, &["c4"]);
    assert_eq!(node.add("f", SMALL).unwrap(), ["10.1.0.4/29"]);
}
