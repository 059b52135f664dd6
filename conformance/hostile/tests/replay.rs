//! Tries what the fuzzers know: every file of `conformance/fuzz/corpus/TARGET`, each in a time that no honest input needs.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use hostile::TARGETS;

/// For one file, in a build without optimization on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

fn replay(target: &str) {
    let folder = corpora().join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: a target needs a corpus: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 3, "{}: {} files are no corpus", folder.display(), files.len());
    let (done, wait) = mpsc::channel();
    let name = target.to_owned();
    let worker = std::thread::spawn(move || {
        for file in files {
            done.send(file.clone()).unwrap();
            hostile::run(&name, &fs::read(&file).unwrap());
        }
    });
    let mut last = PathBuf::new();
    loop {
        match wait.recv_timeout(PATIENCE) {
            Ok(file) => last = file,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("{}: not done after {PATIENCE:?}", last.display()),
        }
    }
    assert!(worker.join().is_ok(), "{}: target {target:?} panicked", last.display());
}

/// One test a target, so that they run side by side and the report names it.
macro_rules! replay {
    ($($test:ident: $target:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            replay($target);
        })*

        const TESTED: &[&str] = &[$($target),*];
    };
}

replay! {
    p05_stdin_of_bond: "bond",
    p05_stdin_of_bridge: "bridge",
    p05_stdin_of_ipvlan: "ipvlan",
    p05_stdin_of_macvlan: "macvlan",
    p05_stdin_of_vlan: "vlan",
    p05_stdin_of_vxlan: "vxlan",
    p05_stdin_of_loopback: "loopback",
    p05_stdin_of_host_local: "host-local",
    p05_stdin_of_static: "static",
    p05_stdin_of_dhcp: "dhcp",
    p02_the_environment: "environment",
    p11_previous_results: "previous-result",
    p22_lease_folders: "lease-folder",
    records_of_the_dhcp_daemon: "daemon-records",
    calls_of_the_dhcp_daemon: "daemon-calls",
    answers_of_the_dhcp_daemon: "daemon-answers",
    packets_of_dhcpv4_servers: "dhcpv4",
    packets_of_dhcpv6_servers: "dhcpv6",
    answers_of_the_kernel: "netlink",
}

#[test]
fn every_target_is_replayed_and_every_corpus_has_a_target() {
    let mut targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut tested: Vec<_> = TESTED.iter().map(|name| (*name).to_owned()).collect();
    let entries = fs::read_dir(corpora()).unwrap();
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for names in [&mut targets, &mut tested, &mut folders] {
        names.sort();
    }
    assert_eq!(targets, tested);
    assert_eq!(targets, folders);
}
