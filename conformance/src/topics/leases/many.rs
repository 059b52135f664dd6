//! Many leases, many calls, and calls that are killed or told to end.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::super::{host_local::await_lock_waiter, scale::at_once};
use super::{addresses, attachment, subnet, with_valid, write_leases};
use crate::cni::Call;
use crate::runner::{Attachment, Case, Feature, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p27_three_hundred_at_once_some_killed_with_the_lock, "no duplicate, no lost lease, no deadlock")
        .needs(&[Feature::Strace])
        .ours()
        .limit(120),
    test!(p10_sigterm_is_heard_while_the_lock_is_waited_for, "by bridge and by host-local alone").ours(),
    test!(p26_programs_that_are_started_are_ended_by_sigterm, "no signal is kept from a delegate").ours(),
    test!(cost_does_not_grow_with_leases, "as many system calls with 1,000 as with 10")
        .needs(&[Feature::Strace])
        .ours(),
    test!(the_last_free_address_is_found_without_listing_the_folder, "in a range with a long run of taken ones")
        .needs(&[Feature::Strace])
        .ours(),
    test!(p24_gc_of_five_thousand_dead_of_ten_thousand, "through an interface plugin, in under 2 s").ours().limit(120),
];

fn p27_three_hundred_at_once_some_killed_with_the_lock(case: &Case) -> Result<()> {
    let conf = subnet(case, "10.7.0.0/22");
    let any = attachment(case, "any", &conf)?;
    let all: Vec<_> = (0..300).map(|n| Attachment { container: format!("c{n}"), ..any.clone() }).collect();
    // A lease is moved into its place under the lock, so that whoever dies there dies holding it.
    let killed = ["strace", "-f", "-o", "/dev/null", "-e", "inject=renameat2:signal=SIGKILL:when=1"].map(OsStr::new);
    let is_killed = |n: usize| n % 50 == 7;
    let call = |(n, one): (usize, &Attachment)| {
        let call = one.call("ADD");
        if is_killed(n) { call.under(&killed) } else { call }
    };
    let calls: Vec<_> = all.iter().enumerate().map(call).collect();
    let outputs = std::thread::scope(|scope| {
        let started: Vec<_> = calls.iter().map(|call| scope.spawn(|| call.run())).collect();
        started.into_iter().map(|call| call.join().expect("a call does not panic")).collect::<Result<Vec<_>>>()
    })?;
    let mut given = BTreeSet::new();
    for (n, output) in outputs.iter().enumerate() {
        if is_killed(n) {
            ensure!(!output.status.success(), "number {n} was to be killed");
            continue;
        }
        for ip in addresses(&output.success()?) {
            ensure!(given.insert(ip.clone()), "{ip} was given twice");
        }
    }
    ensure!(given.len() == 294, "{} addresses", given.len());
    let there: BTreeSet<_> = case.lease_names("net")?.into_iter().map(|ip| format!("{ip}/22")).collect();
    ensure!(given.is_subset(&there), "lost: {:?}", given.difference(&there));
    // A runtime calls DEL for what it does not know to have worked.
    at_once(&all, Attachment::del)?;
    ensure!(case.lease_names("net")?.is_empty(), "left: {:?}", case.lease_names("net")?);
    Ok(())
}

fn p10_sigterm_is_heard_while_the_lock_is_waited_for(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let bridge = case.attachment(&node, &pod, &case.bridge_conf());
    let alone = attachment(case, "c1", &subnet(case, "10.7.0.0/24"))?;
    attachment(case, "c0", &alone.conf)?.add()?;
    for attachment in [bridge, alone] {
        let output = case.unchanged(&[&node, &pod], || {
            let file = fs::File::open(case.leases_of("net").join("lock"))?;
            let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).context("flock")?;
            let mut child = attachment.call("ADD").spawn()?;
            child.stdin.take().context("stdin")?.write_all(attachment.conf.to_string().as_bytes())?;
            await_lock_waiter(&lock)?;
            kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
            // The lock is still taken while the call ends.
            let output = child.wait_with_output()?;
            drop(lock);
            Ok(output)
        })?;
        let error: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
        ensure!(!output.status.success() && error["code"] == 106, "{output:?}");
        attachment.add()?;
        attachment.del()?;
    }
    Ok(())
}

fn p26_programs_that_are_started_are_ended_by_sigterm(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let out = case.dir.join("status");
    let script = format!(
        "cat >/dev/null\ngrep ^SigBlk: /proc/self/status >{}\n[ \"$CNI_COMMAND\" = ADD ] || exit 0\necho '{}'",
        out.display(),
        r#"{"cniVersion":"1.0.0","ips":[{"address":"10.7.0.77/24","gateway":"10.7.0.1"}]}"#
    );
    let path = case.fake_plugin("looking-ipam", &script)?;
    let conf = case.bridge_with(json!({ "ipam": { "type": "looking-ipam" } }));
    case.attachment(&node, &pod, &conf).call("ADD").env("CNI_PATH", path).succeed()?;
    let blocked = fs::read_to_string(out)?;
    ensure!(blocked.split_whitespace().nth(1) == Some("0000000000000000"), "{blocked}");
    Ok(())
}

/// The system calls of a call that must succeed.
fn traced(case: &Case, call: Call) -> Result<Vec<String>> {
    let trace = case.dir.join("trace");
    let wrapper: Vec<&OsStr> = [&["strace", "-f", "-o"].map(OsStr::new)[..], &[trace.as_os_str()]].concat();
    call.under(&wrapper).succeed()?;
    Ok(fs::read_to_string(trace)?.lines().filter(|line| line.contains('(')).map(str::to_owned).collect())
}

fn cost_does_not_grow_with_leases(case: &Case) -> Result<()> {
    let mut costs = Vec::new();
    for count in [10, 1000] {
        write_leases(case, "c", count)?;
        let conf = subnet(case, "10.7.0.0/16");
        // What somebody else wrote is read once.
        attachment(case, "first", &conf)?.add()?;
        let pod = attachment(case, "pod", &conf)?;
        let add = traced(case, pod.call("ADD"))?;
        let del = traced(case, pod.call("DEL"))?;
        costs.push((add.len(), del.len()));
        attachment(case, "first", &conf)?.del()?;
        ensure!(!add.iter().chain(&del).any(|call| call.contains("getdents")), "the folder was listed");
    }
    ensure!(costs[0] == costs[1], "system calls of ADD and DEL: {costs:?}");
    Ok(())
}

fn the_last_free_address_is_found_without_listing_the_folder(case: &Case) -> Result<()> {
    // Of 1,021 all are taken but one.
    write_leases(case, "c", 1020)?;
    let conf = subnet(case, "10.7.0.0/22");
    let pod = attachment(case, "pod", &conf)?;
    ensure!(addresses(&pod.add()?) == ["10.7.3.254/22"]);
    pod.del()?;
    let add = traced(case, pod.call("ADD"))?;
    ensure!(!add.iter().any(|call| call.contains("getdents")), "the folder was listed:\n{}", add.join("\n"));
    attachment(case, "late", &conf)?.call("ADD").fail(100)?.says(&["all 1021 addresses"])?;
    // One in the midst of the others.
    attachment(case, "c500", &conf)?.del()?;
    let add = traced(case, attachment(case, "late", &conf)?.call("ADD"))?;
    ensure!(case.leases_of("net").join("10.7.1.246").exists(), "another address was given");
    ensure!(!add.iter().any(|call| call.contains("getdents")), "the folder was listed:\n{}", add.join("\n"));
    Ok(())
}

/// The processor's time that ended child processes took.
fn children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let of = |time: TimeVal| Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or_default());
    Ok(of(usage.user_time()) + of(usage.system_time()))
}

fn p24_gc_of_five_thousand_dead_of_ten_thousand(case: &Case) -> Result<()> {
    const PROMISED: Duration = Duration::from_secs(2);
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let conf = case.bridge_with(json!({ "ipam": { "ranges": [[{ "subnet": "10.7.0.0/16" }]] } }));
    write_leases(case, "c", 10_000)?;
    // As it is in use: the hint is there.
    case.attachment(&node, &pod, &conf).add()?;
    let valid = (0..10_000).step_by(2).map(|n| format!("c{n}")).chain(["container-p1".to_owned()]);
    let gc = case.call(&node, "bridge", "GC").conf(&with_valid(&conf, valid));
    // The processor's time: a test may have to wait for its turn. The bench measures the clock's.
    let before = children()?;
    gc.succeed()?;
    let took = children()? - before;
    let left = case.lease_names("net")?;
    ensure!(left.len() == 5001, "{} leases are left", left.len());
    for ip in left {
        let owner = fs::read_to_string(case.leases_of("net").join(&ip))?;
        let number = owner.trim_start_matches('c').split('\r').next().and_then(|text| text.parse::<u32>().ok());
        ensure!(number.is_none_or(|number| number % 2 == 0), "{ip}: {owner:?} is dead");
    }
    ensure!(took < PROMISED, "it took {took:?}");
    Ok(())
}
