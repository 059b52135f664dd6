//! A second kernel for what the machine's own lacks.
//!
//! User-mode Linux is a kernel that runs as an ordinary process on the host's file system. This program is its first
//! process (`guest-init`), which prepares the place and starts `guest-run` for the tests.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use serde::{Deserialize, Serialize};

use super::modules;
use super::one::Subject;
use super::schedule::{Chosen, features_here, kernel, lacking, run_here, wait, write_line};
use super::{Feature, Options, Outcome, Record};
use crate::sys;
use crate::topics::find;

/// What the guest is to do, as a file.
#[derive(Debug, Serialize, Deserialize)]
struct Orders {
    tests: Vec<String>,
    /// What this program is to be started with instead, for a person to see; the results are then what it says.
    to_see: Vec<String>,
    subject: Subject,
    results: PathBuf,
}

/// A way to another kernel.
trait Guest {
    /// Boots it, has it carry out the orders in `orders`, and waits for its end; `console` takes what it prints.
    fn boot(&self, orders: &Path, console: File, limit: Duration) -> Result<()>;
}

/// Runs in a guest what this kernel lacks, and says of the rest why it runs nowhere.
pub(super) fn run_elsewhere(
    tests: &[Chosen],
    here: &BTreeSet<Feature>,
    subject: &Subject,
    options: &Options,
    add: &(impl Fn(Record) + Sync),
) {
    let not_run = |(topic, test): &Chosen, why: &str| {
        let missing: Vec<String> = lacking(test, here).into_iter().map(Feature::name).collect();
        add(Record {
            name: test.name.to_owned(),
            topic: (*topic).to_owned(),
            kernel: "-".to_owned(),
            ms: 0,
            outcome: Outcome::NotRun(format!("  not here: {}; {why}", missing.join(", "))),
            note: String::new(),
        });
    };
    let (kernel, tool): (Vec<Chosen>, Vec<Chosen>) =
        tests.iter().partition(|(_, test)| lacking(test, here).into_iter().all(Feature::is_kernels));
    for test in &tool {
        not_run(test, "another kernel would not help; install it");
    }
    if kernel.is_empty() {
        return;
    }
    if options.no_guest {
        for test in &kernel {
            not_run(test, "and --no-guest was given");
        }
        return;
    }
    // A guest has one processor, so there is one for each of the machine's. Neighbours in the list, which are of one kind
    // and take about as long, go to different ones.
    let guests = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for number in 0..guests.min(kernel.len()) {
            let share: Vec<Chosen> = kernel.iter().copied().skip(number).step_by(guests).collect();
            scope.spawn(move || run_share(&share, subject, add, &not_run));
        }
    });
}

/// Runs some of the tests in one guest.
fn run_share(tests: &[Chosen], subject: &Subject, add: &impl Fn(Record), not_run: &impl Fn(&Chosen, &str)) {
    match in_guest(tests, subject) {
        Ok((records, ending)) => {
            let ran: BTreeSet<&str> = records.iter().map(|record| record.name.as_str()).collect();
            for test in tests.iter().filter(|(_, test)| !ran.contains(test.name)) {
                not_run(test, &format!("the guest ended without a word about it; {ending}"));
            }
            for mut record in records {
                if let Outcome::Failed(why) = &mut record.outcome {
                    why.push_str(&ending);
                }
                add(record);
            }
        }
        Err(e) => tests.iter().for_each(|test| not_run(test, &format!("the guest failed: {e:#}"))),
    }
}

/// What became of the tests that the guest came to, and how it ended, with its console.
fn in_guest(tests: &[Chosen], subject: &Subject) -> Result<(Vec<Record>, String)> {
    let guest = UserMode::find()?;
    let dir = tempfile::Builder::new().prefix("podwire-guest-").tempdir().context("temporary directory")?;
    let orders = Orders {
        tests: tests.iter().map(|(_, test)| test.name.to_owned()).collect(),
        to_see: Vec::new(),
        subject: subject.clone(),
        results: dir.path().join("results"),
    };
    let path = dir.path().join("orders");
    fs::write(&path, serde_json::to_string(&orders)?).context("orders: write")?;
    File::create(&orders.results).context("results: create")?;
    let console = dir.path().join("console");
    let all: Duration = tests.iter().map(|(_, test)| subject.limit(test)).sum();
    let limit = Duration::from_mins(1) + if subject.exhaustive { all } else { all.min(Duration::from_mins(29)) };
    let booted = guest.boot(&path, File::create(&console)?, limit);
    let ending = booted.map_or_else(|e| format!("{e:#}"), |()| "it powered off".to_owned());
    let said = String::from_utf8_lossy(&fs::read(&console)?).into_owned();
    let text = fs::read_to_string(&orders.results).context("results: read")?;
    // A line that was cut short is of a test that did not come to its end.
    let records = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Ok((records, format!("\nthe guest: {ending}; its console:\n{said}")))
}

/// Starts this program with `args` on a kernel that has what it takes, prints what it says, and ends as it ends.
pub fn in_guest_to_see(args: &[&str], cni_path: &Path) -> Result<ExitCode> {
    let guest = UserMode::find()?;
    let dir = tempfile::Builder::new().prefix("podwire-guest-").tempdir().context("temporary directory")?;
    let cni_path = cni_path.canonicalize().with_context(|| format!("plugins {cni_path:?}"))?;
    let orders = Orders {
        tests: Vec::new(),
        to_see: args.iter().copied().map(str::to_owned).collect(),
        subject: Subject { cni_path, exhaustive: false },
        results: dir.path().join("said"),
    };
    let (path, console) = (dir.path().join("orders"), dir.path().join("console"));
    fs::write(&path, serde_json::to_string(&orders)?).context("orders: write")?;
    let booted = guest.boot(&path, File::create(&console)?, Duration::from_mins(5));
    let said = fs::read_to_string(&orders.results).unwrap_or_default();
    print!("{said}");
    booted?;
    // Its first process says what went wrong; all is well where it had nothing to say.
    let complaint = fs::read_to_string(&console).unwrap_or_default();
    match complaint.lines().find(|line| line.starts_with("guest: ")) {
        None if !said.is_empty() => Ok(ExitCode::SUCCESS),
        complaint => bail!("{}", complaint.unwrap_or("the guest showed nothing")),
    }
}

/// Debian's package `user-mode-linux`.
struct UserMode {
    program: PathBuf,
}

impl UserMode {
    fn find() -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut candidates = std::env::split_paths(&path).flat_map(|dir| [dir.join("linux.uml"), dir.join("linux")]);
        match candidates.find(|path| path.is_file()) {
            Some(program) => Ok(Self { program }),
            None => bail!("no guest kernel: install Debian's user-mode-linux"),
        }
    }
}

impl Guest for UserMode {
    fn boot(&self, orders: &Path, console: File, limit: Duration) -> Result<()> {
        let init = std::env::current_exe()?;
        let mut command = Command::new(&self.program);
        sys::die_with_parent(&mut command)
            .args(["mem=1G", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", "quiet"])
            .args(["con=null", "con0=fd:0,fd:1", "ssl=null"])
            // Its sockets; by default it would make a directory in the home of the user.
            .arg(format!("uml_dir={}", orders.parent().unwrap_or(Path::new("/tmp")).display()))
            .arg(format!("init={}", init.display()))
            .args(["--", "guest-init"])
            .arg(orders)
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .process_group(0);
        let start = Instant::now();
        let mut child = command.spawn().with_context(|| format!("{:?}: start", self.program))?;
        if wait(&mut child, limit)?.is_none() {
            // Its own processes are processes of the host, in its group.
            let group = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
            nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).ok();
            bail!("not done after {:?}", start.elapsed());
        }
        Ok(())
    }
}

/// The guest's first process: prepares the place, runs [`guest_run`] in another, and powers off whatever happens.
pub fn guest_init(orders: &Path) -> Result<ExitCode> {
    if let Err(e) = prepare().and_then(|()| start_run(orders)) {
        println!("guest: {e:#}");
    }
    Err(sys::power_off()).context("guest: power off")
}

fn prepare() -> Result<()> {
    let nothing = None::<&str>;
    for (kind, at) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/dev/shm"), ("tmpfs", "/run")]
    {
        fs::create_dir_all(at).with_context(|| format!("{at}: make"))?;
        match mount(Some(kind), at, Some(kind), MsFlags::empty(), nothing) {
            // Some kernels mount /dev by themselves.
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(e) => return Err(e).with_context(|| format!("{at}: mount {kind}")),
        }
    }
    // What is built in or missing is told apart by the probe of features, not here.
    let wanted = [
        "af_packet",
        "ipv6",
        "bridge",
        "veth",
        "8021q",
        "dummy",
        "vxlan",
        "nf_tables",
        "ipvlan",
        "macvlan",
        "bonding",
        "iptable_filter",
    ];
    modules::load(&Path::new("/usr/lib/uml/modules").join(kernel()), &wanted)
}

fn start_run(orders: &Path) -> Result<()> {
    let status = Command::new("/proc/self/exe")
        .arg("guest-run")
        .arg(orders)
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("TMPDIR", "/dev/shm")
        .status()
        .context("guest-run: start")?;
    if !status.success() {
        bail!("guest-run: {status}");
    }
    Ok(())
}

/// Runs the tests of the orders on this kernel, the guest's, and writes down what becomes of each.
pub fn guest_run(orders: &Path) -> Result<ExitCode> {
    let orders: Orders = serde_json::from_slice(&fs::read(orders).context("orders: read")?)?;
    if !orders.to_see.is_empty() {
        return show(&orders);
    }
    let here = features_here()?;
    let results = File::options().append(true).open(&orders.results).context("results: open")?;
    let results = std::sync::Mutex::new(results);
    let add = |record: Record| {
        if let Ok(mut file) = results.lock()
            && let Err(e) = write_line(&mut file, &record)
        {
            println!("{e:#}");
        }
    };
    let chosen: Vec<Chosen> = orders.tests.iter().filter_map(|name| find(name)).collect();
    let (able, unable): (Vec<Chosen>, Vec<Chosen>) =
        chosen.into_iter().partition(|(_, test)| lacking(test, &here).is_empty());
    for (topic, test) in unable {
        let missing: Vec<String> = lacking(test, &here).into_iter().map(Feature::name).collect();
        add(Record {
            name: test.name.to_owned(),
            topic: topic.to_owned(),
            kernel: kernel(),
            ms: 0,
            outcome: Outcome::NotRun(format!("  neither here nor on the guest's kernel: {}", missing.join(", "))),
            note: String::new(),
        });
    }
    run_here(&able, &orders.subject, Some(2), &add);
    Ok(ExitCode::SUCCESS)
}

/// Starts this program for a person to see, in the guest.
fn show(orders: &Orders) -> Result<ExitCode> {
    let said = File::create(&orders.results).context("what is said: create")?;
    let status = Command::new("/proc/self/exe")
        .args(&orders.to_see)
        .args(orders.subject.args())
        .stdout(said.try_clone()?)
        .stderr(said)
        .status()
        .context("start")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
