//! How ADD and DEL of host-local grow with the leases that a network has already.
//!
//! host-local alone, as a whole process: no pod is needed, so that nothing but leases is measured. Each size has folders of
//! its own, one for each set of plugins, filled as the reference writes leases.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::report::{Bar, Growth, Pair};
use super::stats::Series;
use super::turns::{Plugins, WARM_UP};
use crate::runner::merged;

/// So many leases are there, the least first: the others are compared with it.
const SIZES: [u16; 3] = [10, 1_000, 60_000];
/// ADD and DEL may take so many times what they take with the least number (see [`Series::over`]).
const AT_MOST: f64 = 1.2;
/// What is compared is called so many times as often as the rest: it is about a few hundredths.
const OFTEN: usize = 4;
/// The reference reads every lease at every call; where that takes long, it is measured in every so many rounds.
const SELDOM: usize = 6;
/// In milliseconds: how long an ADD may take that finds the last free address of a /16.
const LAST_FREE: f64 = 5.0;
/// GC meets so many leases, of which every other one is dead, and may take so many milliseconds.
const GC: (u16, f64) = (10_000, 2_000.0);
/// All that a /16 has to give but one.
const ALL_BUT_ONE: u16 = u16::MAX - 3;

/// A folder of leases and the plugin that works on it.
struct Network {
    program: PathBuf,
    leases: PathBuf,
    subnet: &'static str,
    conf: Value,
    add: Series,
    del: Series,
}

/// What is compared: a title, a network each.
struct Scene {
    title: String,
    ours: Network,
    reference: Network,
    /// The reference takes part in every so many rounds.
    every: usize,
}

/// Measures everything in turns: every round has an ADD and a DEL of each.
pub(super) fn measure(plugins: Plugins<'_>, leases: &Path, rounds: usize) -> Result<(Vec<Growth>, Vec<Bar>)> {
    let scene = |title: String, count: u16, subnet: &'static str, every: usize| -> Result<Scene> {
        eprintln!("{title} ...");
        let folder = leases.join(title.replace('/', ""));
        let network = |plugins: &Path, name: &str| Network::new(plugins, &folder.join(name), count, subnet);
        let (ours, reference) = (network(plugins.ours, "ours")?, network(plugins.reference, "reference")?);
        Ok(Scene { title, ours, reference, every })
    };
    let mut scenes = Vec::new();
    for size in SIZES {
        let every = if size > 10_000 { SELDOM } else { 1 };
        scenes.push(scene(format!("{size} leases in a /16"), size, "10.78.0.0/16", every)?);
    }
    scenes.push(scene("10 leases in an IPv4 /24".to_owned(), 10, "10.78.0.0/24", 1)?);
    scenes.push(scene("10 leases in an IPv6 /64".to_owned(), 10, "fd78::/64", 1)?);
    for round in 0..WARM_UP + rounds {
        for scene in &mut scenes {
            scene.ours.round(round >= WARM_UP)?;
            if round % scene.every == 0 {
                // The first call of all reads the disk.
                scene.reference.round(round > 0)?;
            }
        }
    }
    let mut growth: Vec<_> = scenes.iter().map(Scene::row).collect();
    let mut bars = compare(&mut scenes, rounds * OFTEN)?;
    let (row, bar) = last_free(&mut scenes[2].ours, rounds)?;
    growth.push(row);
    bars.push(bar);
    bars.push(garbage(plugins.ours, &leases.join("garbage"))?);
    Ok((growth, bars))
}

/// What grows, or does not, by pairs of calls that follow each other. The reference's calls are too few for pairs.
fn compare(scenes: &mut [Scene], rounds: usize) -> Result<Vec<Bar>> {
    eprintln!("one beside the other: {rounds} rounds ...");
    let median = |over: &Series, base: &Series| Some(over.median() / base.median());
    let mut bars = Vec::new();
    for (over, base, what) in
        [(2, 0, "with 60,000 leases, times that with 10"), (4, 3, "from an IPv6 /64, times that from a /24")]
    {
        let of = |scene: &Scene| (scene.reference.add.clone(), scene.reference.del.clone());
        let (reference_over, reference_base) = (of(&scenes[over]), of(&scenes[base]));
        let [over, base] = scenes.get_disjoint_mut([over, base])?;
        let mut both = [&mut over.ours, &mut base.ours];
        for network in &mut both {
            (network.add, network.del) = Default::default();
        }
        for round in 0..rounds {
            // Whoever comes second finds another cache.
            for turn in 0..2 {
                both[(round + turn) % 2].round(true)?;
            }
        }
        let [over, base] = both;
        let add = Pair { ours: over.add.over(&base.add), reference: median(&reference_over.0, &reference_base.0) };
        let del = Pair { ours: over.del.over(&base.del), reference: median(&reference_over.1, &reference_base.1) };
        for (verb, pair) in [("ADD", add), ("DEL", del)] {
            bars.push(Bar::new(&format!("{verb} {what}"), pair).promise(AT_MOST));
        }
    }
    Ok(bars)
}

/// The last free address of a /16, of which `network` has most already; the reference would read every lease each time.
fn last_free(network: &mut Network, rounds: usize) -> Result<(Growth, Bar)> {
    let title = format!("{ALL_BUT_ONE} leases in a /16, all but one");
    eprintln!("{title} ...");
    network.fill(SIZES[2]..ALL_BUT_ONE)?;
    (network.add, network.del) = Default::default();
    for round in 0..WARM_UP + rounds {
        network.round(round >= WARM_UP)?;
    }
    let alone = |ours| Pair { ours, reference: None };
    let row = Growth::new(&title, &alone(&network.add), &alone(&network.del));
    let took = Pair { ours: network.add.median(), reference: None };
    Ok((row, Bar::new("ADD that finds the last free address of a /16, ms", took).promise(LAST_FREE)))
}

/// GC, once; the reference is older than that command.
fn garbage(plugins: &Path, folder: &Path) -> Result<Bar> {
    let (count, at_most) = GC;
    let mut network = Network::new(plugins, folder, count, "10.78.0.0/16")?;
    let valid = (0..count).step_by(2).map(|n| json!({ "containerID": container(n), "ifname": "eth0" }));
    let valid: Vec<_> = valid.collect();
    network.conf = merged(&network.conf, json!({ "cniVersion": "1.1.0", "cni.dev/valid-attachments": valid }));
    let took = network.call("GC")?;
    let left = fs::read_dir(folder.join("bench"))?.count();
    // Beside the leases there are the lock and the note of the last one.
    ensure!(left == usize::from(count) / 2 + 2, "GC left {left} files");
    let took = Pair { ours: took.as_secs_f64() * 1e3, reference: None };
    Ok(Bar::new("GC of 5,000 dead of 10,000 leases, ms", took).promise(at_most))
}

/// As long as the ids of container runtimes are.
fn container(n: u16) -> String {
    format!("{n:064x}")
}

impl Scene {
    fn row(&self) -> Growth {
        let of = |series: fn(&Network) -> &Series| Pair {
            ours: series(&self.ours),
            reference: Some(series(&self.reference)),
        };
        Growth::new(&self.title, &of(|network| &network.add), &of(|network| &network.del))
    }
}

impl Network {
    /// A folder with `count` leases from the start of `subnet`, and one attachment more that came and went: what the
    /// plugin notes about leases that it did not write itself is there.
    fn new(plugins: &Path, folder: &Path, count: u16, subnet: &'static str) -> Result<Self> {
        let conf = json!({
            "cniVersion": "1.0.0", "name": "bench", "type": "host-local",
            "ipam": { "type": "host-local", "dataDir": folder, "ranges": [[{ "subnet": subnet }]] },
        });
        let (program, leases) = (plugins.join("host-local"), folder.join("bench"));
        let network = Self { program, leases, subnet, conf, add: Series::default(), del: Series::default() };
        network.fill(0..count)?;
        network.call("ADD")?;
        network.call("DEL")?;
        Ok(network)
    }

    /// Writes leases as the reference does.
    fn fill(&self, numbers: std::ops::Range<u16>) -> Result<()> {
        fs::create_dir_all(&self.leases)?;
        for n in numbers {
            let name = if self.subnet.contains(':') {
                format!("fd78::{:x}", n + 2)
            } else {
                std::net::Ipv4Addr::from(0x0a4e_0002 + u32::from(n)).to_string()
            };
            fs::write(self.leases.join(name), format!("{}\r\neth0", container(n)))?;
        }
        Ok(())
    }

    /// ADD and DEL of one attachment.
    fn round(&mut self, counts: bool) -> Result<()> {
        let (add, del) = (self.call("ADD")?, self.call("DEL")?);
        if counts {
            self.add.push(add);
            self.del.push(del);
        }
        Ok(())
    }

    fn call(&self, command: &str) -> Result<Duration> {
        let start = Instant::now();
        let mut child = Command::new(&self.program)
            .env_clear()
            .envs([("CNI_COMMAND", command), ("CNI_CONTAINERID", "bench"), ("CNI_NETNS", "/proc/self/ns/net")])
            .envs([("CNI_IFNAME", "eth0"), ("CNI_PATH", "/nowhere")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("plugin {:?}: not started", self.program))?;
        child.stdin.take().context("stdin is piped")?.write_all(self.conf.to_string().as_bytes())?;
        let output = child.wait_with_output()?;
        let took = start.elapsed();
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{:?} {command}: {}: {said}", self.program, output.status);
        Ok(took)
    }
}
