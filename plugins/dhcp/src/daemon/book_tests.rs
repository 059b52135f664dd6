use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use super::*;
use crate::daemon::family::Setup;

fn record(id: &str) -> Record {
    Record {
        key: Key::new("lan", id, "eth0").unwrap(),
        netns: PathBuf::from("/run/netns/pod"),
        number: (4, 4_026_532_000),
        boot: "one".to_owned(),
        wanted: Wanted {
            client_id: b"\0c1/lan/eth0".to_vec(),
            request: vec![1, 3],
            send: vec![(12, b"web".to_vec())],
            priority: Some(7),
            dhcp4: true,
            dhcp6: false,
        },
        v4: Slot::default(),
        v6: Slot { lease: None, before: Some(Setup { mtu: Some(1400), ..Setup::default() }) },
    }
}

#[test]
fn records_are_there_for_the_next_daemon_and_only_root_can_read_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let book = Book::open(&path, Duration::ZERO).unwrap();
    book.keep(&record("c1")).unwrap();
    book.keep(&record("c2")).unwrap();
    book.keep(&record("c2")).unwrap();
    book.check_writable().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(path.join("lan:c1:eth0")).unwrap().permissions().mode() & 0o777, 0o600);
    let error = Book::open(&path, Duration::ZERO).unwrap_err();
    assert!(error.msg.contains("another daemon uses it"), "{error}");
    drop(book);

    let book = Book::open(&path, Duration::ZERO).unwrap();
    let mut ids: Vec<_> = book.records().unwrap().into_iter().map(|record| record.key.container_id).collect();
    ids.sort();
    assert_eq!(ids, ["c1", "c2"]);
    book.forget(&record("c1").key).unwrap();
    book.forget(&record("c1").key).unwrap();
    assert_eq!(book.records().unwrap(), [record("c2")]);
}

#[test]
fn what_is_no_lease_is_passed_over_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases");
    let book = Book::open(&path, Duration::ZERO).unwrap();
    book.keep(&record("c1")).unwrap();
    let whole = fs::read(path.join("lan:c1:eth0")).unwrap();
    fs::write(path.join("lan:c2:eth0"), &whole[..whole.len() / 2]).unwrap();
    fs::write(path.join("lan:c3:eth0"), b"").unwrap();
    // Another's name.
    fs::write(path.join("lan:c4:eth0"), &whole).unwrap();
    symlink("lan:c1:eth0", path.join("lan:c5:eth0")).unwrap();
    fs::create_dir(path.join("lan:c6:eth0")).unwrap();
    // A kill before it was whole.
    fs::write(path.join(UNFINISHED), &whole[..10]).unwrap();
    assert_eq!(book.records().unwrap(), [record("c1")]);
    assert!(path.join("lan:c2:eth0").exists());
    book.keep(&record("c7")).unwrap();
    assert_eq!(book.records().unwrap().len(), 2);
}

#[test]
fn nothing_is_written_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (path, victim) = (dir.path().join("leases"), dir.path().join("victim"));
    fs::write(&victim, "mine").unwrap();
    let book = Book::open(&path, Duration::ZERO).unwrap();
    symlink(&victim, path.join(UNFINISHED)).unwrap();
    symlink(&victim, path.join("lan:c1:eth0")).unwrap();
    book.keep(&record("c1")).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    assert_eq!(book.records().unwrap(), [record("c1")]);
    drop(book);
    symlink(&path, dir.path().join("link")).unwrap();
    assert!(Book::open(&dir.path().join("link"), Duration::ZERO).is_err());
}

#[test]
fn a_folder_that_others_can_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let error = Book::open(&path, Duration::ZERO).unwrap_err();
    assert_eq!(error.code, code::IO);
    assert!(error.msg.contains("others can write there"), "{error}");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for (network, id, ifname) in
        [("../x", "c", "eth0"), ("lan", "../c", "eth0"), ("lan", "c", "a/b"), ("lan", "", "eth0"), ("a:b", "c", "e")]
    {
        assert!(Key::new(network, id, ifname).is_err(), "{network} {id} {ifname}");
    }
    let long = Key::new("lan", &"c".repeat(5000), "eth0").unwrap();
    let other = Key::new("lan", &"c".repeat(5000), "eth1").unwrap();
    assert!(long.file().len() < 100);
    assert_ne!(long.file(), other.file());
}
