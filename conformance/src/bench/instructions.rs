//! How many instructions each call needs, beside the number that is recorded in the tree.
//!
//! Valgrind's callgrind counts what a process executes itself; the kernel's work is not in it. The number hardly depends on
//! the machine and not at all on its load: ids, addresses and the lengths of paths are always the same, each call is
//! counted on a node of its own that has always the same links. The seeds of hash tables and random MAC addresses change it
//! by less than one percent. Whether a plugin has to wait for the kernel, as `bond` mostly has, is chance, and on another
//! machine another: so the most of [`RECORDED_RUNS`] is recorded, and the least of [`RUNS`] compared with it.
//!
//! The binaries do not choose other code on another processor, with one exception: a search for a byte looks whether there
//! is AVX2 (a static musl chooses no functions when it starts). Under valgrind it is told of a processor that valgrind
//! makes up: one with AVX2, and no more, on every machine that has it, as all but the oldest do. The record says whether
//! there was AVX2.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Options;
use super::cases::{CASES, Case, PARENT, SUBNET};
use super::launch::feed;
use super::rig::{Rig, Seat, call};
use crate::lab::{Daemon, Lan, Offer, Server, Software, Space};
use crate::runner::{Feature, lacking_here};

/// A call may need so many times what is recorded.
const AT_MOST: f64 = 1.05;
/// Each call is counted so many times.
const RUNS: usize = 3;
/// And so many times for the record, so that it has waited at least once.
const RECORDED_RUNS: usize = 12;
/// Where everything is, in the sandbox: always the same path. Its `/run` is its own.
const PLACE: &str = "/run/podwire";
/// What a call needs at the least; a smaller number was not counted.
const LEAST: u64 = 1000;

/// What is counted beside the networks of the bench.
const MORE: [Case; 3] = [
    Case { title: "host-local", plugin: "host-local", extra: || json!({}), ..PARENT },
    Case {
        title: "static",
        plugin: "static",
        extra: || json!({ "ipam": { "type": "static", "ranges": null, "addresses": [{ "address": SUBNET }] } }),
        ..PARENT
    },
    Case { title: "loopback", plugin: "loopback", extra: || json!({ "ipam": null }), ..PARENT },
];

/// Instructions by call.
type Counts = BTreeMap<String, u64>;

/// What is in the tree.
#[derive(Debug, Deserialize, Serialize)]
struct Record {
    made_with: MadeWith,
    instructions: Counts,
}

/// What a count may depend on.
#[derive(Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
struct MadeWith {
    architecture: String,
    avx2: bool,
    compiler: String,
    valgrind: String,
}

/// What the start of a plugin is called in the table of the times.
const START_UP: &str = "start-up alone: VERSION";

/// What is counted in a guest kernel, whose messages are not as long as those of another, has this behind its name.
const GUEST: &str = " (guest)";

/// The number that is recorded for a call, by the name that it has in the table of the times.
pub(super) fn recorded(record: &Path) -> Result<impl Fn(&str) -> Option<u64>> {
    let json = fs::read(record).with_context(|| format!("record {record:?}: read"))?;
    let Record { instructions, .. } = serde_json::from_slice(&json).with_context(|| format!("record {record:?}"))?;
    // VERSION is the same for all, and timed of the bridge's.
    Ok(move |call: &str| instructions.get(if call == START_UP { "bridge: VERSION" } else { call }).copied())
}

/// Counts, and compares with what is recorded or writes that anew.
pub(super) fn run(options: &Options) -> Result<ExitCode> {
    let (record, update) = (&options.record, options.update);
    let mut counted = count(options)?;
    if options.figures_only {
        fs::write(&options.json, serde_json::to_string(&counted)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Ok(json) = fs::read(options.guests_figures()) {
        let guest: Counts = serde_json::from_slice(&json)?;
        counted.extend(guest.into_iter().map(|(call, count)| (call + GUEST, count)));
        fs::remove_file(options.guests_figures())?;
    }
    let made_with = MadeWith::here()?;
    let before = fs::read(record).ok().map(|json| serde_json::from_slice::<Record>(&json)).transpose();
    let before = before.with_context(|| format!("record {record:?}: read"))?;
    if update {
        // What this kernel has no devices for stays as it was.
        let mut instructions = before.map(|record| record.instructions).unwrap_or_default();
        println!("{}", compare(&instructions, &counted).0.join("\n"));
        instructions.extend(counted);
        let json = serde_json::to_string_pretty(&Record { made_with, instructions })?;
        fs::write(record, json + "\n").with_context(|| format!("record {record:?}: write"))?;
        println!("written to {}", record.display());
        return Ok(ExitCode::SUCCESS);
    }
    let Some(before) = before else { bail!("record {record:?}: not there; it is written with --update") };
    if before.made_with.architecture != made_with.architecture {
        println!("not compared: the record is of {}", before.made_with.architecture);
        return Ok(ExitCode::SUCCESS);
    }
    let (table, worse) = compare(&before.instructions, &counted);
    println!("{}", table.join("\n"));
    if worse.is_empty() {
        println!("instructions: as recorded");
        return Ok(ExitCode::SUCCESS);
    }
    for line in &worse {
        println!("more than recorded: {line}");
    }
    if before.made_with != made_with {
        println!("the record was made with {:?}, this is {made_with:?}", before.made_with);
    }
    println!("If the change is worth it, run \"make instructions\" and commit {} with it.", record.display());
    Ok(ExitCode::FAILURE)
}

/// Lines of a table, a call each, and what is to be said of those that need more than they may.
fn compare(before: &Counts, now: &Counts) -> (Vec<String>, Vec<String>) {
    let (mut table, mut worse) = (Vec::new(), Vec::new());
    for (call, now) in now {
        #[expect(clippy::cast_precision_loss, reason = "there are no 2^52 instructions")]
        let ratio = before.get(call).map(|before| *now as f64 / *before as f64);
        let change = ratio.map_or("not recorded".to_owned(), |ratio| format!("{:+.1} %", (ratio - 1.0) * 100.0));
        table.push(format!("{call:<32} {now:>10}  {change}"));
        // Another machine's kernel may have what that of the record had not.
        let is_new = ratio.is_none() && !before.contains_key(&format!("{call}{GUEST}"));
        if is_new || ratio.is_some_and(|ratio| ratio > AT_MOST) {
            worse.push(format!("{call}: {now}, {change}"));
        }
    }
    for call in before.keys().filter(|call| !now.contains_key(*call)) {
        table.push(format!("{call:<32} {:>10}  not counted here", ""));
    }
    (table, worse)
}

/// Every call of every plugin that this kernel has devices for.
fn count(options: &Options) -> Result<Counts> {
    let place = Path::new(PLACE);
    let binaries = place.join("bin");
    fs::create_dir_all(&binaries)?;
    let nothing = None::<&str>;
    let plugins = &options.cni_path;
    mount(Some(plugins), &binaries, nothing, MsFlags::MS_BIND, nothing)
        .with_context(|| format!("{plugins:?}: bind to {binaries:?}"))?;
    let how: Choice = if options.update { (RECORDED_RUNS, u64::max) } else { (RUNS, u64::min) };
    let mut counts = Counts::new();
    for case in CASES.iter().chain(&MORE) {
        if options.wants(case) && lacking_here(case.needs)?.is_empty() {
            eprintln!("{} ...", case.title);
            let [add, del] = add_and_del(case, &binaries, how).with_context(|| case.title)?;
            counts.insert(format!("{}: ADD", case.title), add);
            counts.insert(format!("{}: DEL", case.title), del);
        }
    }
    if !options.only.is_empty() {
        return Ok(counts);
    }
    if lacking_here(&[Feature::DhcpServers])?.is_empty() {
        eprintln!("dhcp ...");
        let [add, del] = dhcp_add_and_del(&binaries, how).context("dhcp")?;
        counts.insert("dhcp: ADD".to_owned(), add);
        counts.insert("dhcp: DEL".to_owned(), del);
    }
    for entry in fs::read_dir(&binaries)? {
        let mut command = Command::new(entry?.path());
        command.env("CNI_COMMAND", "VERSION");
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        counts.insert(format!("{name}: VERSION"), instructions(&command, "")?.0);
    }
    Ok(counts)
}

/// How many counts there are, and which of two is taken.
type Choice = (usize, fn(u64, u64) -> u64);

/// Counts ADD and DEL so many times, and chooses of each.
fn chosen((runs, choose): Choice, mut count: impl FnMut() -> Result<[u64; 2]>) -> Result<[u64; 2]> {
    let [mut add, mut del] = count()?;
    for _ in 1..runs {
        let again = count()?;
        (add, del) = (choose(add, again[0]), choose(del, again[1]));
    }
    Ok([add, del])
}

/// ADD and DEL of a pod on a node that has had one before.
fn add_and_del(case: &'static Case, binaries: &Path, how: Choice) -> Result<[u64; 2]> {
    let leases = Path::new(PLACE).join("leases");
    chosen(how, || {
        fs::remove_dir_all(&leases).ok();
        let (rig, seat) = (Rig::plugins(case, binaries, &leases)?, Seat::new(1)?);
        rig.add_and_del(&seat)?;
        let one = |verb, previous: &Value| {
            let (command, stdin) = rig.call(verb, &seat, previous);
            rig.on_node(|| instructions(&command, &stdin))
        };
        let (add, result) = one("ADD", &Value::Null)?;
        let (del, _) = one("DEL", &result)?;
        Ok([add, del])
    })
}

/// The same of `dhcp`, which asks a daemon, which asks a server. Of these two nothing is counted.
fn dhcp_add_and_del(binaries: &Path, how: Choice) -> Result<[u64; 2]> {
    let place = Path::new(PLACE);
    let (lan, pod) = (Lan::new()?, Space::pod("pod-1")?);
    lan.connect(&pod, "eth0", &[])?;
    let _server = Server::start(Software::Dnsmasq, &lan.other, "eth0", &place.join("server"), &Offer::v4())?;
    let daemon = Daemon::start(binaries, &lan.node, &place.join("daemon"), &[])?;
    let ipam = json!({ "type": "dhcp", "daemonSocketPath": daemon.socket() });
    let conf = json!({ "cniVersion": "1.0.0", "name": "bench", "type": "bridge", "ipam": ipam });
    let one = |verb| -> Result<u64> {
        let command = call(&binaries.join("dhcp"), verb, &pod, binaries);
        Ok(lan.node.ns.run(|| instructions(&command, &conf.to_string()))??.0)
    };
    chosen(how, || Ok([one("ADD")?, one("DEL")?]))
}

/// How many instructions one call needs, and its result. Of processes that the plugin starts nothing is counted.
fn instructions(command: &Command, stdin: &str) -> Result<(u64, Value)> {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--log-file=log.%p"])
        .arg(command.get_program())
        // Its environment, and no more: a plugin looks through it.
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        // Away from the settings of whoever runs this.
        .current_dir(PLACE);
    for (name, value) in command.get_envs() {
        valgrind.env(name, value.unwrap_or_default());
    }
    let (pid, output) = feed(&mut valgrind, stdin).context("valgrind: start; it is Debian's package of that name")?;
    let path = Path::new(PLACE).join(format!("log.{pid}"));
    let log = fs::read_to_string(&path).with_context(|| format!("{path:?}: read"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{:?}: {}: {said} {log}", command.get_program(), output.status);
    let counted = log.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    let counted = counted.filter(|counted| *counted > LEAST).with_context(|| format!("callgrind said {log}"))?;
    let result = if said.trim().is_empty() { Value::Null } else { serde_json::from_str(&said)? };
    Ok((counted, result))
}

impl MadeWith {
    fn here() -> Result<Self> {
        let version = |program: &str| {
            let output = Command::new(program).arg("--version").output().ok();
            output.map_or("unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        Ok(Self {
            architecture: std::env::consts::ARCH.to_owned(),
            avx2: fs::read_to_string("/proc/cpuinfo")?.split_whitespace().any(|flag| flag == "avx2"),
            compiler: version("rustc"),
            valgrind: version("valgrind"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, compare};

    fn counts(all: &[(&str, u64)]) -> Counts {
        all.iter().map(|(call, count)| ((*call).to_owned(), *count)).collect()
    }

    #[test]
    fn a_twentieth_more_is_let_pass_and_more_than_that_is_not() {
        let before = counts(&[("a: ADD", 1000), ("b: ADD", 1000), ("c: ADD", 1000)]);
        let (table, worse) = compare(&before, &counts(&[("a: ADD", 1050), ("b: ADD", 1051), ("c: ADD", 10)]));
        assert_eq!(worse, ["b: ADD: 1051, +5.1 %"]);
        assert!(table[2].ends_with("-99.0 %"), "{table:?}");
    }

    #[test]
    fn a_call_that_is_not_recorded_is_to_be_recorded() {
        let (table, worse) = compare(&counts(&[("old: ADD", 1)]), &counts(&[("new: ADD", 1)]));
        assert_eq!(worse, ["new: ADD: 1, not recorded"]);
        assert!(table[1].starts_with("old: ADD") && table[1].contains("not counted"), "{table:?}");
    }

    #[test]
    fn what_another_kernel_has_is_not_held_against_the_count_of_the_guest() {
        let (table, worse) = compare(&counts(&[("a: ADD (guest)", 1)]), &counts(&[("a: ADD", 9)]));
        assert!(worse.is_empty(), "{worse:?}");
        assert!(table[0].ends_with("not recorded") && table[1].starts_with("a: ADD (guest)"), "{table:?}");
    }
}
