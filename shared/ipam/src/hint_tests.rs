//! The hint beside the leases, as seen from outside: whatever happens to it, no lease is lost or given twice.

use std::{fs, os::unix::fs::symlink};

use podwire_spec::code;

use crate::{
    testing::list,
    testing_node::{DUAL, Node, V4},
};

#[test]
fn the_hint_follows_whoever_changes_leases() {
    let node = Node::new();
    node.add("a", V4).unwrap();
    // The reference adds one, and later removes one of ours.
    node.write("10.1.0.7", "theirs\r\neth0");
    assert_eq!(node.add("theirs", V4).unwrap_err().code, code::EXISTS);
    assert!(node.is_in_step());
    node.del("theirs").unwrap();
    assert_eq!(node.addresses(), ["10.1.0.2"]);
    fs::remove_file(node.leases().join("10.1.0.2")).unwrap();
    assert_eq!(node.add("a", V4).unwrap(), ["10.1.0.3/24"]);
    assert_eq!(node.hint(), [("a:eth0".to_owned(), "10.1.0.3".to_owned())]);
}

#[test]
fn the_hint_is_written_anew_when_it_is_lost_or_wrong() {
    let ways: [fn(&Node); 7] = [
        |node| fs::remove_dir_all(node.0.path().join("data/.podwire")).unwrap(),
        |node| fs::remove_file(node.index().join("a:eth0")).unwrap(),
        |node| retarget(node, "a:eth0", "/etc/passwd"),
        |node| retarget(node, "a:eth0", "10.1.0.200"),
        |node| retarget(node, "b:eth0", "10.1.0.2"),
        |node| {
            fs::remove_file(node.index().join("a:eth0")).unwrap();
            fs::write(node.index().join("a:eth0"), "10.1.0.2").unwrap();
        },
        // Two folders that the kernel touched at the same tick are not in step for it.
        |node| {
            fs::remove_file(node.index().join("a:eth0")).unwrap();
            let now = filetime(1_800_000_000, 0);
            for folder in [node.leases(), node.index()] {
                fs::File::open(folder).unwrap().set_times(now).unwrap();
            }
        },
    ];
    for (n, way) in ways.into_iter().enumerate() {
        let node = Node::new();
        node.add("a", V4).unwrap();
        node.add("b", V4).unwrap();
        way(&node);
        assert_eq!(node.add("a", V4).unwrap_err().code, code::EXISTS, "way {n}");
        node.del("a").unwrap();
        node.del("b").unwrap();
        assert!(node.addresses().is_empty() && node.hint().is_empty() && node.is_in_step(), "way {n}");
    }
}

/// A wrong link in a hint that otherwise seems in step.
fn retarget(node: &Node, key: &str, text: &str) {
    let link = node.index().join(key);
    node.in_step(|| {
        fs::remove_file(&link).unwrap();
        symlink(text, &link).unwrap();
    });
}

fn filetime(seconds: i64, nanoseconds: i64) -> fs::FileTimes {
    let since = std::time::Duration::new(seconds.cast_unsigned(), u32::try_from(nanoseconds).unwrap());
    fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + since)
}

#[test]
fn what_a_killed_call_leaves_is_cleared_by_the_next() {
    let node = Node::new();
    node.add("a", V4).unwrap();
    // Killed while a lease was written, and another one between its lease and its hint.
    fs::write(node.index().join("+draft"), "killed\r").unwrap();
    assert_eq!(node.add("b", V4).unwrap(), ["10.1.0.3/24"]);
    assert!(!list(&node.index()).contains(&"+draft".to_owned()));
    node.write("10.1.0.4", "killed\r\neth0");
    node.del("killed").unwrap();
    assert_eq!(node.addresses(), ["10.1.0.2", "10.1.0.3"]);
}

#[test]
fn long_ids_and_many_addresses_are_found_again() {
    let node = Node::new();
    let id = "x".repeat(400);
    node.add(&id, DUAL).unwrap();
    assert!(node.is_in_step() && node.hint().len() == 1);
    assert_eq!(node.add(&id, DUAL).unwrap_err().code, code::EXISTS);
    node.del(&id).unwrap();
    assert!(node.addresses().is_empty() && node.is_in_step());
    // More addresses than the text of a link has room for: every lease file is read then.
    for n in 0..500 {
        node.write(&format!("10.2.{}.{}", n / 250, n % 250), "many\r\neth0");
    }
    node.del("many").unwrap();
    assert!(node.addresses().is_empty());
}

#[test]
fn in_a_long_run_what_was_given_back_is_found_without_listing_the_folder() {
    let node = Node::new();
    for n in 2..250 {
        node.write(&format!("10.1.0.{n}"), &format!("x{n}\r\neth0"));
    }
    node.write("last_reserved_ip.0", "10.1.0.249");
    node.add("a", V4).unwrap();
    // Listing would find 10.1.0.251 first; in the order in which they were given back, it is 10.1.0.200.
    node.write("last_reserved_ip.0", "10.1.0.10");
    node.del("x200").unwrap();
    node.del("x100").unwrap();
    node.write("last_reserved_ip.0", "10.1.0.10");
    assert_eq!(node.add("b", V4).unwrap(), ["10.1.0.200/24"]);
    node.write("last_reserved_ip.0", "10.1.0.10");
    assert_eq!(node.add("c", V4).unwrap(), ["10.1.0.100/24"], "one that is taken by now is passed over");
    fs::write(node.index().join("+freed"), "10.9.0.1\n10.1.0.1\n10.1.0.255\nfd00::9\n10.1.0.7\n").unwrap();
    node.write("last_reserved_ip.0", "10.1.0.10");
    assert_eq!(
        node.add("d", V4).unwrap(),
        ["10.1.0.251/24"],
        "of no range, kept back, taken: then the folder is listed"
    );
    assert!(node.is_in_step());
}
