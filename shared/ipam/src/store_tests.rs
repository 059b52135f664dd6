use super::*;
use crate::testing::{Alone, list};

fn owner(id: &str) -> Owner {
    Owner { container_id: id.into(), ifname: Some("eth0".into()) }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn p20_leases_that_cannot_all_be_written_are_not_written_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::make(dir.path(), "n", &Alone).unwrap();
    let picks = ["10.1.0.2", "10.1.0.3", "10.1.0.4"].map(|text| Pick { set: 0, ip: ip(text) });
    // Somebody without the lock takes the last one after it was seen to be free.
    std::fs::write(dir.path().join("n/10.1.0.4"), "other\r\neth0").unwrap();
    let error = store.reserve(&owner("a"), &[], &picks).unwrap_err();
    assert!(error.code == code::TRY_AGAIN && error.msg.contains("10.1.0.4"), "{error}");
    assert_eq!(list(&dir.path().join("n")), ["10.1.0.4", "lock"]);
    assert!(list(&dir.path().join(".podwire/n")).is_empty());
    assert_eq!(store.find(&owner("a")).unwrap().1, Vec::<IpAddr>::new());
    assert_eq!(store.find(&owner("other")).unwrap().1, [ip("10.1.0.4")]);
}

#[test]
fn the_lock_is_held_until_the_store_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::make(dir.path(), "n", &Alone).unwrap();
    let lock = || {
        let file = std::fs::File::open(dir.path().join("n/lock")).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
    };
    assert_eq!(lock(), Err(Errno::WOULDBLOCK));
    drop(store);
    assert_eq!(lock(), Ok(()));
}

#[test]
fn errors_are_joined_and_keep_the_first_code() {
    let error = |code, msg: &str| Error::new(code, msg);
    assert!(joined(Vec::new()).is_ok());
    let all = joined(vec![error(5, "one"), error(7, "two"), error(7, "three")]).unwrap_err();
    assert_eq!((all.code, all.to_string()), (5, "one; two; three".to_owned()));
}
