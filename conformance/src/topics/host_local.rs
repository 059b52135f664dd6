//! host-local: addresses from ranges, as files that the reference plugin can read and write too.

use std::fs;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

use crate::runner::{Attachment, Case, Feature, Test, merged};
use crate::test;
use crate::topics::in_proc_locks;

pub(super) const TESTS: &[Test] = &[
    test!(addresses_come_from_every_range_set, "one of each set, both families, gateways and routes reported"),
    test!(the_flat_form_is_a_range, "subnet, rangeStart, rangeEnd, gateway beside type"),
    test!(addresses_are_given_in_turn, "a released address is not given again at once"),
    test!(a_set_of_two_ranges_is_used_to_its_end, "the second range when the first is full"),
    test!(the_ends_of_a_subnet_are_not_given, "network, broadcast and gateway, down to a /30"),
    test!(p05_subnets_too_small_are_refused, "/31, /32 and /127, code 7"),
    test!(exhaustion_has_a_code_of_its_own, "code 100; range, size and who has most; an address again after a DEL"),
    test!(requested_addresses_are_given, "runtimeConfig.ips for both families"),
    test!(a_requested_address_that_cannot_be_is_refused, "outside of every range, the gateway, taken"),
    test!(ranges_of_the_runtime_are_used, "runtimeConfig.ipRanges"),
    test!(dns_comes_from_resolv_conf, "resolvConf"),
    test!(lease_files_are_the_references, "name, content, pointer, lock"),
    test!(a_locked_directory_is_waited_for, "flock on the file lock"),
    test!(an_attachment_cannot_have_two_addresses_of_a_set, "ADD twice"),
    test!(p22_del_survives_a_corrupt_lease_file, "and releases the good one"),
    test!(p23_check_fails_without_the_lease, "code 102"),
    test!(pods_of_the_reference_are_deleted_by_these, "leases").needs(&[Feature::Reference]),
    test!(pods_of_these_are_deleted_by_the_reference, "leases").needs(&[Feature::Reference]),
    test!(p24_gc_removes_leases_of_no_attachment, "of this network only"),
    test!(p25_status_knows_exhaustion, "code 50"),
];

/// A configuration of host-local alone, on its network `net`.
pub(super) fn conf(case: &Case, ipam: Value) -> Value {
    let base = json!({ "type": "host-local", "dataDir": case.leases() });
    json!({ "cniVersion": "1.0.0", "name": "net", "type": "host-local", "ipam": merged(&base, ipam) })
}

/// The attachment of container `id`; host-local needs no pod to be there, only a name for it.
pub(super) fn attachment(case: &Case, id: &str, conf: &Value) -> Result<Attachment> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let mut attachment = case.attachment(&node, &pod, conf);
    id.clone_into(&mut attachment.container);
    Ok(attachment)
}

/// The addresses of a result.
pub(super) fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().into_iter().flatten();
    ips.filter_map(|ip| ip["address"].as_str().map(ToOwned::to_owned)).collect()
}

pub(super) fn subnet(case: &Case, subnet: &str) -> Value {
    conf(case, json!({ "ranges": [[{ "subnet": subnet }]] }))
}

fn addresses_come_from_every_range_set(case: &Case) -> Result<()> {
    let conf = conf(
        case,
        json!({
            "ranges": [[{ "subnet": "10.7.0.0/24" }], [{ "subnet": "fd07::/64", "gateway": "fd07::ff" }]],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "fd08::/64", "gw": "fd07::9" }],
        }),
    );
    let result = attachment(case, "c1", &conf)?.add()?;
    let expected = json!([
        { "address": "10.7.0.2/24", "gateway": "10.7.0.1" },
        { "address": "fd07::1/64", "gateway": "fd07::ff" },
    ]);
    // The first of a v6 range is ::1 where the gateway is elsewhere.
    ensure!(result["ips"] == expected, "{}", result["ips"]);
    ensure!(result["routes"] == json!([{ "dst": "0.0.0.0/0" }, { "dst": "fd08::/64", "gw": "fd07::9" }]), "{result}");
    ensure!(case.lease_names("net")? == ["10.7.0.2", "fd07::1"], "{:?}", case.lease_names("net")?);
    Ok(())
}

fn the_flat_form_is_a_range(case: &Case) -> Result<()> {
    let flat = json!({
        "subnet": "10.7.0.0/24", "rangeStart": "10.7.0.50", "rangeEnd": "10.7.0.51", "gateway": "10.7.0.254",
    });
    let conf = conf(case, flat);
    for (id, address) in [("c1", "10.7.0.50/24"), ("c2", "10.7.0.51/24")] {
        let result = attachment(case, id, &conf)?.add()?;
        ensure!(result["ips"] == json!([{ "address": address, "gateway": "10.7.0.254" }]), "{result}");
    }
    Ok(())
}

fn addresses_are_given_in_turn(case: &Case) -> Result<()> {
    let conf = subnet(case, "10.7.0.0/29");
    let mut given = Vec::new();
    for n in 0..7 {
        let attachment = attachment(case, &format!("c{n}"), &conf)?;
        given.extend(addresses(&attachment.add()?));
        attachment.del()?;
    }
    let expected = [2, 3, 4, 5, 6, 2, 3].map(|n| format!("10.7.0.{n}/29"));
    ensure!(given == expected, "{given:?}");
    Ok(())
}

fn a_set_of_two_ranges_is_used_to_its_end(case: &Case) -> Result<()> {
    let ranges = json!([[
        { "subnet": "10.7.0.0/24", "rangeStart": "10.7.0.10", "rangeEnd": "10.7.0.11" },
        { "subnet": "10.8.0.0/24", "rangeStart": "10.8.0.10", "rangeEnd": "10.8.0.11" },
    ]]);
    let conf = conf(case, json!({ "ranges": ranges }));
    let mut given = Vec::new();
    for n in 0..4 {
        given.extend(addresses(&attachment(case, &format!("c{n}"), &conf)?.add()?));
    }
    ensure!(given == ["10.7.0.10/24", "10.7.0.11/24", "10.8.0.10/24", "10.8.0.11/24"], "{given:?}");
    attachment(case, "c4", &conf)?.call("ADD").fail_somehow().map(drop)
}

fn the_ends_of_a_subnet_are_not_given(case: &Case) -> Result<()> {
    for (subnet_text, only) in [("10.7.0.4/30", "10.7.0.6/30"), ("fd07::4/126", "fd07::6/126")] {
        let conf = merged(&subnet(case, subnet_text), json!({ "name": format!("net-{}", only.len()) }));
        let first = addresses(&attachment(case, "c1", &conf)?.add()?);
        ensure!(first == [only], "{subnet_text} gives {first:?}");
        // IPv6 has no broadcast address, so that its last one is a pod's.
        let second = attachment(case, "c2", &conf)?.call("ADD").run()?;
        if subnet_text.contains(':') {
            ensure!(addresses(&second.success()?) == ["fd07::7/126"], "{second:?}");
        } else {
            second.any_failure()?;
        }
    }
    Ok(())
}

fn p05_subnets_too_small_are_refused(case: &Case) -> Result<()> {
    for small in ["10.7.0.0/31", "10.7.0.1/32", "fd07::/127", "fd07::1/128"] {
        let add = attachment(case, "c1", &subnet(case, small))?.call("ADD");
        let failure = case.unchanged(&[], || add.fail(7)).with_context(|| small.to_owned())?;
        failure.says(&["ipam.ranges[0][0].subnet", small, "too small"])?;
    }
    Ok(())
}

fn exhaustion_has_a_code_of_its_own(case: &Case) -> Result<()> {
    let conf = subnet(case, "10.7.0.0/29");
    for ifname in ["eth0", "eth1", "eth2"] {
        attachment(case, "hog", &conf)?.ifname(ifname).add()?;
    }
    for id in ["c3", "c4"] {
        attachment(case, id, &conf)?.add()?;
    }
    let sixth = attachment(case, "c5", &conf)?;
    let failure = case.unchanged(&[], || sixth.call("ADD").fail(100))?;
    failure.says(&["ipam.ranges[0]", "10.7.0.1-10.7.0.6", "all 5 addresses", "(3) to container \"hog\""])?;
    attachment(case, "c3", &conf)?.del()?;
    ensure!(addresses(&sixth.add()?) == ["10.7.0.5/29"], "not the one that was released");
    Ok(())
}

fn requested_addresses_are_given(case: &Case) -> Result<()> {
    let base = conf(case, json!({ "ranges": [[{ "subnet": "10.7.0.0/24" }], [{ "subnet": "fd07::/64" }]] }));
    let extra = json!({ "runtimeConfig": { "ips": ["fd07::99", "10.7.0.99"] }, "capabilities": { "ips": true } });
    let given = addresses(&attachment(case, "c1", &merged(&base, extra))?.add()?);
    ensure!(given == ["10.7.0.99/24", "fd07::99/64"], "{given:?}");
    Ok(())
}

fn a_requested_address_that_cannot_be_is_refused(case: &Case) -> Result<()> {
    let base = subnet(case, "10.7.0.0/24");
    let with = |ip: &str| merged(&base, json!({ "args": { "cni": { "ips": [ip] } } }));
    for (ip, code) in [("10.9.0.5", 7), ("10.7.0.1", 7), ("10.7.0.0", 7), ("10.7.0.255", 7)] {
        let add = attachment(case, "c1", &with(ip))?.call("ADD");
        case.unchanged(&[], || add.fail(code)).with_context(|| ip.to_owned())?.says(&[ip])?;
    }
    attachment(case, "c1", &with("10.7.0.20"))?.add()?;
    let again = attachment(case, "c2", &with("10.7.0.20"))?.call("ADD");
    case.unchanged(&[], || again.fail(105))?.says(&["10.7.0.20", "c1"]).map(drop)
}

fn ranges_of_the_runtime_are_used(case: &Case) -> Result<()> {
    let mut conf = conf(case, json!({ "routes": [] }));
    conf["capabilities"] = json!({ "ipRanges": true });
    conf["runtimeConfig"] = json!({ "ipRanges": [[{ "subnet": "10.33.0.0/24" }], [{ "subnet": "fd33::/64" }]] });
    let given = addresses(&attachment(case, "c1", &conf)?.add()?);
    ensure!(given == ["10.33.0.2/24", "fd33::2/64"], "{given:?}");
    Ok(())
}

fn dns_comes_from_resolv_conf(case: &Case) -> Result<()> {
    let path = case.dir.join("resolv.conf");
    fs::write(
        &path,
        "# a comment\nnameserver 10.0.0.53\nnameserver fd00::53\nsearch a.example b.example\noptions ndots:5\n",
    )?;
    let mut conf = subnet(case, "10.7.0.0/24");
    conf["ipam"]["resolvConf"] = json!(path);
    let result = attachment(case, "c1", &conf)?.add()?;
    let expected = json!({
        "nameservers": ["10.0.0.53", "fd00::53"], "search": ["a.example", "b.example"], "options": ["ndots:5"],
    });
    ensure!(result["dns"] == expected, "{}", result["dns"]);
    Ok(())
}

fn lease_files_are_the_references(case: &Case) -> Result<()> {
    let conf = conf(case, json!({ "ranges": [[{ "subnet": "10.7.0.0/24" }], [{ "subnet": "fd07::/64" }]] }));
    attachment(case, "c1", &conf)?.ifname("net1").add()?;
    let directory = case.leases_of("net");
    for (file, content) in [
        ("10.7.0.2", "c1\r\nnet1"),
        ("fd07::2", "c1\r\nnet1"),
        ("last_reserved_ip.0", "10.7.0.2"),
        ("last_reserved_ip.1", "fd07::2"),
        ("lock", ""),
    ] {
        let found = fs::read_to_string(directory.join(file)).with_context(|| file.to_owned())?;
        ensure!(found == content, "{file} holds {found:?}, expected {content:?}");
    }
    for entry in fs::read_dir(&directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // The reference reads every file here and takes it for a lease.
        let known = ["10.7.0.2", "fd07::2", "last_reserved_ip.0", "last_reserved_ip.1", "lock"];
        ensure!(known.contains(&name.as_str()), "a file that the reference would take for a lease: {name:?}");
    }
    Ok(())
}

fn a_locked_directory_is_waited_for(case: &Case) -> Result<()> {
    let conf = subnet(case, "10.7.0.0/24");
    let first = attachment(case, "c1", &conf)?;
    first.add()?;
    let file = fs::File::open(case.leases_of("net").join("lock"))?;
    let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).context("flock")?;
    let second = attachment(case, "c2", &conf)?;
    let second = &second;
    let result = std::thread::scope(move |scope| -> Result<Value> {
        // Moved in here, so that an error on the way lets go of the lock that the call waits for.
        let lock = lock;
        let call = scope.spawn(|| second.add());
        await_lock_waiter(&lock)?;
        ensure!(case.lease_names("net")? == ["10.7.0.2"], "a lease was written in spite of the lock");
        drop(lock);
        call.join().expect("the call does not panic")
    })?;
    ensure!(addresses(&result) == ["10.7.0.3/24"], "{result}");
    Ok(())
}

/// Waits until a process waits for the lock on `file`: the kernel lists it in `/proc/locks` with an arrow.
pub(super) fn await_lock_waiter(file: &fs::File) -> Result<()> {
    let file = in_proc_locks(&file.metadata().with_context(|| format!("fd {}", file.as_raw_fd()))?);
    for _ in 0..5000 {
        let locks = fs::read_to_string("/proc/locks")?;
        if locks.lines().any(|line| line.contains("->") && line.contains(&file)) {
            return Ok(());
        }
        // /proc/locks cannot be polled for a change.
        std::thread::yield_now();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    anyhow::bail!("nobody waits for the lock")
}

fn an_attachment_cannot_have_two_addresses_of_a_set(case: &Case) -> Result<()> {
    let attachment = attachment(case, "c1", &subnet(case, "10.7.0.0/24"))?;
    attachment.add()?;
    case.unchanged(&[], || attachment.call("ADD").fail_somehow())?.says(&["c1"])?;
    let other = attachment.ifname("net1").add()?;
    ensure!(addresses(&other) == ["10.7.0.3/24"], "another interface of the container: {other}");
    Ok(())
}

fn p22_del_survives_a_corrupt_lease_file(case: &Case) -> Result<()> {
    let attachment = attachment(case, "c1", &subnet(case, "10.7.0.0/24"))?;
    attachment.add()?;
    let directory = case.leases_of("net");
    fs::write(directory.join("10.7.0.77"), [0xff, 0xfe, 0x00])?;
    fs::write(directory.join("10.7.0.78"), "")?;
    fs::write(directory.join("last_reserved_ip.0"), "nonsense")?;
    attachment.del()?;
    ensure!(!directory.join("10.7.0.2").exists(), "the good lease is still there");
    let after = attachment.add()?;
    ensure!(addresses(&after).len() == 1, "{after}");
    Ok(())
}

fn p23_check_fails_without_the_lease(case: &Case) -> Result<()> {
    let attachment = attachment(case, "c1", &subnet(case, "10.7.0.0/24"))?;
    let result = attachment.add()?;
    attachment.check(&result)?;
    fs::remove_file(case.leases_of("net").join("10.7.0.2"))?;
    attachment.check_call(&result).fail(102)?.says(&["c1"])?;
    Ok(())
}

/// The same attachment, but served by the reference.
fn by_reference(case: &Case, conf: &Value) -> Result<Attachment> {
    let reference = Case { cni_path: "/usr/lib/cni".into(), ..case.clone() };
    attachment(&reference, "c1", conf)
}

fn pods_of_the_reference_are_deleted_by_these(case: &Case) -> Result<()> {
    let conf = subnet(case, "10.7.0.0/24");
    let result = by_reference(case, &conf)?.add()?;
    let ours = attachment(case, "c1", &conf)?;
    ours.check(&result)?;
    let second = attachment(case, "c2", &conf)?.add()?;
    ensure!(addresses(&second) == ["10.7.0.3/24"], "the reference's lease was not seen: {second}");
    ours.del()?;
    ensure!(case.lease_names("net")? == ["10.7.0.3"], "{:?}", case.lease_names("net")?);
    Ok(())
}

fn pods_of_these_are_deleted_by_the_reference(case: &Case) -> Result<()> {
    let conf = subnet(case, "10.7.0.0/24");
    let result = attachment(case, "c1", &conf)?.add()?;
    let reference = by_reference(case, &conf)?;
    reference.check(&result)?;
    reference.del()?;
    ensure!(case.lease_names("net")?.is_empty(), "{:?}", case.lease_names("net")?);
    // What the reference did behind its back must not be forgotten.
    let again = attachment(case, "c1", &conf)?.add()?;
    ensure!(addresses(&again) == ["10.7.0.3/24"], "{again}");
    Ok(())
}

fn p24_gc_removes_leases_of_no_attachment(case: &Case) -> Result<()> {
    let conf = merged(&subnet(case, "10.7.0.0/24"), json!({ "cniVersion": "1.1.0" }));
    for id in ["c1", "c2", "c3"] {
        attachment(case, id, &conf)?.add()?;
    }
    let other = merged(&conf, json!({ "name": "other" }));
    attachment(case, "c1", &other)?.add()?;
    let valid = json!({ "cni.dev/valid-attachments": [{ "containerID": "c2", "ifname": "eth0" }] });
    attachment(case, "x", &merged(&conf, valid))?.call("GC").succeed()?;
    ensure!(case.lease_names("net")? == ["10.7.0.3"], "{:?}", case.lease_names("net")?);
    ensure!(case.lease_names("other")? == ["10.7.0.2"], "another network was touched");
    case.unchanged(&[], || attachment(case, "x", &conf)?.call("GC").fail_somehow())?
        .says(&["cni.dev/valid-attachments"])
        .map(drop)
}

fn p25_status_knows_exhaustion(case: &Case) -> Result<()> {
    let conf = merged(&subnet(case, "10.7.0.0/30"), json!({ "cniVersion": "1.1.0" }));
    let status = attachment(case, "x", &conf)?.call("STATUS");
    status.succeed()?;
    attachment(case, "c1", &conf)?.add()?;
    status.fail(50)?.says(&["ipam.ranges[0]", "10.7.0.1-10.7.0.2", "all 1 addresses", "c1"]).map(drop)
}
