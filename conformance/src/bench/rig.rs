//! What is measured: one set of plugins, or the floor, with one network, on a node of its own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{net::Ipv4Addr, thread};

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Value, json};

use super::cases::{Below, Case, LINKS, Rules, SUBNET};
use super::launch::{Cost, beside, launch};
use super::stats::{Figures, Series};
use crate::lab::{Space, cable};
use crate::runner::merged;

/// The program that does what the kernel must be asked for, and nothing else.
pub(super) const FLOOR: &str = "podwire-floor";

/// Who makes the calls.
enum Party {
    /// A set of plugins, in this directory.
    Plugins(PathBuf),
    /// The floor.
    Floor,
}

/// A set of plugins or the floor, and a network on a node.
pub(super) struct Rig {
    party: Party,
    program: PathBuf,
    case: &'static Case,
    node: Space,
    /// What is there all the time: a pod, or what the node's cables lead to.
    others: Vec<Space>,
    leases: PathBuf,
    conf: Value,
}

/// A pod, and a number that no other pod on the node has.
pub(super) struct Seat {
    pub(super) pod: Space,
    number: u16,
}

/// What came of many calls at once.
pub(super) struct Burst {
    /// From the start of the first to the end of the last, and processor time of all.
    pub(super) all: Figures,
    /// Each call.
    pub(super) each: Series,
    /// The results, by pod.
    pub(super) results: Vec<Value>,
}

impl Seat {
    pub(super) fn new(number: u16) -> Result<Self> {
        Ok(Self { pod: Space::pod(&format!("pod-{number}"))?, number })
    }
}

impl Rig {
    /// A node and the network of `case`, for `plugins`. Leases go to a directory below `leases`.
    pub(super) fn plugins(case: &'static Case, plugins: &Path, leases: &Path) -> Result<Self> {
        let party = Party::Plugins(plugins.to_owned());
        Self::new(case, party, plugins.join(case.plugin), plugins, leases)
    }

    /// The same for the floor; what its pods find on the node is made by `plugins`.
    pub(super) fn floor(case: &'static Case, plugins: &Path, leases: &Path) -> Result<Self> {
        Self::new(case, Party::Floor, beside(FLOOR)?, plugins, leases)
    }

    fn new(case: &'static Case, party: Party, program: PathBuf, plugins: &Path, leases: &Path) -> Result<Self> {
        fs::create_dir_all(leases)?;
        let conf = json!({
            "cniVersion": "1.0.0",
            "name": "bench",
            "type": case.plugin,
            "ipam": { "type": "host-local", "dataDir": leases, "ranges": [[{ "subnet": SUBNET }]] },
        });
        let conf = merged(&conf, (case.extra)());
        let (node, neighbour) = (Space::node("node")?, Seat::new(0)?);
        let mut others = Vec::new();
        let cables = match case.below {
            Below::Neighbour => 0,
            Below::Parent | Below::Underlay => 1,
            Below::Links => 2,
        };
        for name in &LINKS[..cables] {
            let far = Space::pod("far")?;
            cable(&node, name, &far, "eth0")?;
            others.push(far);
        }
        if case.below == Below::Underlay {
            node.address(LINKS[0], "192.0.2.1/24")?;
        }
        if let (Party::Floor, Some(rules)) = (&party, case.floor.rules) {
            node.load_ruleset(rules.text())?;
        }
        // The neighbour's is a plugin's call in any case.
        let mut rig = Self {
            party: Party::Plugins(plugins.to_owned()),
            program: plugins.join(case.plugin),
            case,
            node,
            others,
            leases: leases.to_owned(),
            conf,
        };
        if matches!(case.below, Below::Neighbour | Below::Underlay) {
            rig.measured("ADD", &neighbour, &Value::Null)?;
        }
        rig.others.push(neighbour.pod);
        (rig.party, rig.program) = (party, program);
        Ok(rig)
    }

    /// ADD of a pod, then DEL with ADD's result, as a runtime calls them.
    pub(super) fn add_and_del(&self, seat: &Seat) -> Result<(Cost, Cost)> {
        let (add, result) = self.measured("ADD", seat, &Value::Null)?;
        let (del, _) = self.measured("DEL", seat, &result)?;
        Ok((add, del))
    }

    /// GC with all of `valid` valid.
    pub(super) fn collect(&self, valid: &[Seat]) -> Result<Cost> {
        let valid: Vec<_> =
            valid.iter().map(|seat| json!({ "containerID": seat.pod.name, "ifname": "eth0" })).collect();
        let conf = json!({ "cniVersion": "1.1.0", "cni.dev/valid-attachments": valid });
        let mut command = Command::new(&self.program);
        command.env("CNI_COMMAND", "GC").env("CNI_PATH", self.cni_path());
        let (cost, _) = self.on_node(|| launch(&command, &merged(&self.conf, conf).to_string()))?;
        Ok(cost)
    }

    /// How many ports the bridge of the node has.
    pub(super) fn ports(&self) -> Result<usize> {
        Ok(self.node.ports("cni0")?.len())
    }

    /// Start-up alone: VERSION.
    pub(super) fn version(&self) -> Result<Cost> {
        let mut command = Command::new(&self.program);
        command.env("CNI_COMMAND", "VERSION");
        Ok(self.on_node(|| launch(&command, ""))?.0)
    }

    /// `verb` for every pod, `width` at a time. `previous` holds ADD's results for DEL.
    ///
    /// The plugins are started by this process itself: launchers would be half of what the processors have to do.
    pub(super) fn burst(&self, verb: &str, seats: &[Seat], previous: &[Value], width: usize) -> Result<Burst> {
        let next = AtomicUsize::new(0);
        let worker = || {
            self.on_node(|| {
                let mut done = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(seat) = seats.get(index) else { return Ok(done) };
                    let (took, result) = self.timed(verb, seat, previous.get(index).unwrap_or(&Value::Null))?;
                    done.push((index, took, result));
                }
            })
        };
        let cpu = children()?;
        let start = Instant::now();
        let mut done = thread::scope(|scope| {
            let workers: Vec<_> = (0..width).map(|_| scope.spawn(worker)).collect();
            let ends = workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?);
            anyhow::Ok(ends.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect::<Vec<_>>())
        })?;
        let wall = start.elapsed();
        // This is the first process of its namespace: what plugins have left behind is its own by now.
        while nix::sys::wait::wait() != Err(Errno::ECHILD) {}
        let settled = start.elapsed();
        let cpu = children()?.saturating_sub(cpu);
        done.sort_unstable_by_key(|(index, ..)| *index);
        let each = done.iter().map(|(_, took, _)| *took).collect();
        let results = done.into_iter().map(|(.., result)| result).collect();
        Ok(Burst { all: Figures::once(wall, settled, cpu), each, results })
    }

    /// Runs `work` on a thread in the node's namespace: what it starts is there too.
    pub(super) fn on_node<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.node.ns.run(work)?
    }

    /// One call under the launcher.
    fn measured(&self, verb: &str, seat: &Seat, previous: &Value) -> Result<(Cost, Value)> {
        let (command, stdin) = self.call(verb, seat, previous);
        let said = self.on_node(|| launch(&command, &stdin));
        let (cost, printed) = said.with_context(|| format!("{verb} of \"{}\"", seat.pod.name))?;
        Ok((cost, result(&printed)?))
    }

    /// One call, timed by this process; the calling thread is in the node's namespace already.
    fn timed(&self, verb: &str, seat: &Seat, previous: &Value) -> Result<(Duration, Value)> {
        let (mut command, stdin) = self.call(verb, seat, previous);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let start = Instant::now();
        let mut child = command.spawn().with_context(|| format!("{:?}: start", self.program))?;
        // A configuration fits into the pipe, so that this does not wait for the plugin. The floor does not read it.
        child.stdin.take().context("stdin is piped")?.write_all(stdin.as_bytes()).ok();
        let output = child.wait_with_output()?;
        let took = start.elapsed();
        ensure!(
            output.status.success(),
            "{verb} of \"{}\" by {:?}: {}: {}",
            seat.pod.name,
            self.program,
            output.status,
            String::from_utf8_lossy(&output.stdout).trim(),
        );
        Ok((took, result(&output.stdout)?))
    }

    /// A call, and what it is given to read.
    pub(super) fn call(&self, verb: &str, seat: &Seat, previous: &Value) -> (Command, String) {
        let mut command = call(&self.program, verb, &seat.pod, self.cni_path());
        if matches!(self.party, Party::Floor) {
            command.args(self.words(seat.number));
        }
        (command, self.stdin(previous))
    }

    fn cni_path(&self) -> &Path {
        match &self.party {
            Party::Plugins(directory) => directory,
            Party::Floor => Path::new("/nowhere"),
        }
    }

    fn stdin(&self, previous: &Value) -> String {
        match &self.party {
            Party::Plugins(_) if previous.is_null() => self.conf.to_string(),
            Party::Plugins(_) => merged(&self.conf, json!({ "prevResult": previous })).to_string(),
            Party::Floor => String::new(),
        }
    }

    /// What the floor is told.
    fn words(&self, number: u16) -> Vec<String> {
        let floor = &self.case.floor;
        // What plugins give pods begins at the other end.
        let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 78, 128, 0)) + u32::from(number));
        let mut words = vec![floor.device.to_owned(), format!("port={number}")];
        words.push(format!("leases={}", self.leases.display()));
        words.push(format!("address={ip}/16"));
        words.extend(floor.gateway.then(|| "gateway=10.78.0.1".to_owned()));
        if floor.dual {
            words.push(format!("address=fd78::8000:{number:x}/64"));
            words.extend(floor.gateway.then(|| "gateway=fd78::1".to_owned()));
        }
        words.extend(floor.rules.map(|rules| rules.element(number, ip)));
        words
    }
}

impl Rules {
    fn text(self) -> &'static str {
        match self {
            Self::Masquerade => {
                "table inet floor { set pods { type ipv4_addr; }; chain leaving { \
                 type nat hook postrouting priority 100; ip saddr @pods ip daddr != 10.78.0.0/16 masquerade; }; }"
            }
            Self::Spoof => {
                "table bridge floor { set ports { type ifname; }; chain entering { \
                 type filter hook prerouting priority -300; iifname @ports accept; }; }"
            }
        }
    }

    /// A word for the floor. The numbers are `NFPROTO_INET` and `NFPROTO_BRIDGE`.
    fn element(self, number: u16, ip: Ipv4Addr) -> String {
        match self {
            Self::Masquerade => format!("element=1,floor,pods,{ip}"),
            Self::Spoof => format!("element=7,floor,ports,floor{number}"),
        }
    }
}

/// `program`, told to do `verb` for `pod`.
pub(super) fn call(program: &Path, verb: &str, pod: &Space, cni_path: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", &pod.name)
        .env("CNI_NETNS", pod.ns.path())
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", cni_path);
    command
}

fn result(printed: &[u8]) -> Result<Value> {
    let printed = printed.trim_ascii();
    Ok(if printed.is_empty() { Value::Null } else { serde_json::from_slice(printed)? })
}

/// Processor time of every child that has ended.
fn children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}
