//! The program as a runtime starts it: many at once, and killed at any moment.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;

fn conf(data_dir: &Path) -> String {
    serde_json::json!({
        "cniVersion": "1.1.0", "name": "n1", "type": "bridge",
        "ipam": {"type": "host-local", "dataDir": data_dir, "ranges": [[{"subnet": "10.1.0.0/22"}], [{"subnet": "fd00::/64"}]]},
    })
    .to_string()
}

fn start(command: &str, id: &str, conf: &str) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_host-local"))
        .env_clear()
        .envs([
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", "/run/netns/x"),
            ("CNI_IFNAME", "eth0"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(conf.as_bytes()).unwrap();
    child
}

fn call(command: &str, id: &str, conf: &str) -> Output {
    start(command, id, conf).wait_with_output().unwrap()
}

/// The addresses in a result, without prefix lengths.
fn addresses(output: &Output) -> Vec<String> {
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let ips = result["ips"].as_array().unwrap_or_else(|| panic!("{result}"));
    ips.iter().map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned()).collect()
}

fn leases(data_dir: &Path) -> BTreeSet<String> {
    let names =
        fs::read_dir(data_dir.join("n1")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('l')).collect()
}

#[test]
fn p10_the_result_is_one_json_object_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let output = call("ADD", "c1", &conf(dir.path()));
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = serde_json::json!({
        "cniVersion": "1.1.0",
        "ips": [{"address": "10.1.0.2/22", "gateway": "10.1.0.1"}, {"address": "fd00::2/64", "gateway": "fd00::1"}],
        "dns": {},
    });
    assert_eq!(result, expected);

    let output = call("ADD", "c1", &conf(dir.path()));
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.success(), &error["code"]), (false, &Value::from(105)), "{error}");
    let output = call("DEL", "c1", &conf(dir.path()));
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(leases(dir.path()).is_empty());
}

#[test]
fn p27_a_hundred_processes_at_once_get_addresses_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let conf = conf(dir.path());
    let started: Vec<_> = (0..100).map(|n| start("ADD", &format!("c{n}"), &conf)).collect();
    let outputs: Vec<_> = started.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let given: BTreeSet<_> = outputs.iter().flat_map(addresses).collect();
    assert_eq!(given.len(), 200);
    assert_eq!(leases(dir.path()), given);
    let started: Vec<_> = (0..100).map(|n| start("DEL", &format!("c{n}"), &conf)).collect();
    assert!(started.into_iter().all(|child| child.wait_with_output().unwrap().status.success()));
    assert!(leases(dir.path()).is_empty());
}

#[test]
fn p20_a_kill_at_any_moment_leaves_no_torn_lease_no_duplicate_and_no_leak() {
    let dir = tempfile::tempdir().unwrap();
    let conf = conf(dir.path());
    let mut killed = 0;
    let mut kept = BTreeSet::new();
    for n in 0..200_u64 {
        let mut child = start("ADD", &format!("c{n}"), &conf);
        // The moment of the kill wanders over the life of the process; nothing is waited for.
        thread::sleep(Duration::from_micros(n * 20));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            for ip in addresses(&output) {
                assert!(kept.insert(ip.clone()), "{ip} was given twice");
            }
        } else {
            killed += 1;
        }
    }
    assert!(killed > 0, "every process ended before its kill");
    let left = leases(dir.path());
    assert!(left.is_superset(&kept));
    for ip in &left {
        let content = fs::read_to_string(dir.path().join("n1").join(ip)).unwrap();
        assert!(content.starts_with('c') && content.ends_with("\r\neth0"), "{ip}: {content:?}");
    }
    // A runtime calls DEL for what it does not know to have worked.
    for n in 0..200 {
        assert!(call("DEL", &format!("c{n}"), &conf).status.success());
    }
    assert!(leases(dir.path()).is_empty());
}
