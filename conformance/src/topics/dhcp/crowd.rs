//! A thousand pods in one daemon.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netlink_packet_route::link::MacVlanMode;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rtnetlink::LinkMacVlan;
use serde_json::json;

use crate::cni::Call;
use crate::lab::{Daemon, Lan, Offer, Server, Software, Space};
use crate::runner::{Case, Feature, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[test!(
    dhcp_a_thousand_pods_in_one_daemon,
    "memory and open files after 10, after 1,000, and after all of them were renewed"
)
.needs(&[Feature::Macvlan, Feature::DhcpServers])
.ours()
.limit(300)];

const PODS: usize = 1000;
const FEW: usize = 10;

/// A node with a daemon, and its pods.
struct Crowd {
    case: Case,
    lan: Lan,
    daemon: Daemon,
    pods: Vec<Space>,
}

impl Crowd {
    fn new(case: &Case) -> Result<Self> {
        // Each pod is an open file of this test.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(65536), hard)?;
        let lan = Lan::new()?;
        // On a file system in memory, as by default: a lease is written at each renewal.
        let daemon = Daemon::start(&case.cni_path, &lan.node, Path::new("/run/podwire-test"), &[])?;
        let parent = lan.node.link(Lan::PARENT)?.index;
        let pods = (0..PODS).map(|number| pod(&lan, parent, number)).collect::<Result<_>>()?;
        Ok(Self { case: case.clone(), lan, daemon, pods })
    }

    fn call(&self, number: usize, command: &str) -> Call {
        let ipam = json!({ "type": "dhcp", "daemonSocketPath": self.daemon.socket() });
        let plugins = &self.case.cni_path;
        Call::new(&self.lan.node, &plugins.join("dhcp"), plugins.as_os_str(), command)
            .env("CNI_CONTAINERID", format!("container-{number}"))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_NETNS", self.pods[number].ns.path())
            .conf(&json!({ "cniVersion": "1.0.0", "name": "net", "type": "macvlan", "ipam": ipam }))
    }

    /// Calls the plugin for some of the pods, eight at a time.
    fn all(&self, pods: Range<usize>, command: &str) -> Result<()> {
        let next = AtomicUsize::new(pods.start);
        let work = || -> Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if !pods.contains(&number) {
                    return Ok(());
                }
                self.call(number, command).succeed()?;
            }
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("a call does not panic"))
        })
    }

    /// The daemon's resident memory in bytes, and its open files.
    fn size(&self) -> Result<(usize, usize)> {
        let process = format!("/proc/{}", self.daemon.log().pid());
        let status = fs::read_to_string(format!("{process}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kilobytes: usize = line.trim().trim_end_matches(" kB").parse()?;
        Ok((kilobytes * 1024, fs::read_dir(format!("{process}/fd"))?.count()))
    }

    /// The same once fewer than `files` are open, since renewals that are under way have some of their own; as it is after a
    /// minute.
    fn size_at_rest(&self, files: usize) -> Result<(usize, usize)> {
        let end = Instant::now() + Duration::from_mins(1);
        loop {
            let size = self.size()?;
            if size.1 < files || Instant::now() > end {
                return Ok(size);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the daemon has renewed that many leases.
    fn await_renewals(&self, wanted: usize) -> Result<()> {
        let end = Instant::now() + Duration::from_mins(2);
        let renewed = |line: &&String| line.contains("renewed");
        loop {
            let said = self.daemon.log().all();
            let there = said.iter().filter(renewed).count();
            if there >= wanted {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "{there} renewals within two minutes, expected {wanted}");
            self.daemon.log().await_after(said.len(), left, "anything", |_| true)?;
        }
    }
}

/// A pod with a link, made by the lab: it is the daemon that is looked at.
fn pod(lan: &Lan, parent: u32, number: usize) -> Result<Space> {
    let pod = Space::pod(&format!("p{number}"))?;
    // Private: a thousand pods do not want to hear each other's broadcasts.
    let link = LinkMacVlan::new("eth0", parent, MacVlanMode::Private).setns_by_fd(pod.ns.fd());
    lan.node.add("eth0", link.build())?;
    pod.up("eth0")?;
    Ok(pod)
}

fn dhcp_a_thousand_pods_in_one_daemon(case: &Case) -> Result<()> {
    let crowd = Crowd::new(case)?;
    crowd.lan.other.address("eth0", "10.7.0.1/16")?;
    crowd.lan.other.remove_address("eth0", Lan::OTHER[0].parse()?)?;
    let offer = Offer {
        subnet: "10.7.0.0/16".to_owned(),
        pool: ["10.7.1.0", "10.7.15.255"].map(str::to_owned),
        seconds: 60,
        ..Offer::default()
    };
    let _server = Server::start(Software::Kea4, &crowd.lan.other, "eth0", &case.dir.join("server"), &offer)?;
    crowd.all(0..FEW, "ADD")?;
    let few = crowd.size()?;
    crowd.all(FEW..PODS, "ADD")?;
    let many = crowd.size()?;
    crowd.await_renewals(PODS)?;
    // A lease that sleeps has nothing open but its pod's namespace.
    let files = few.1 + PODS - FEW + 100;
    let later = crowd.size_at_rest(files)?;
    let report = format!("memory and open files after {FEW} {few:?}, after {PODS} {many:?}, after renewals {later:?}");
    // A lease with its options, its task and its name: 16 kB is plenty. It does not grow by being renewed.
    ensure!(many.0 < few.0 + (PODS - FEW) * 16 * 1024, "a pod costs too much: {report}");
    ensure!(later.0 < many.0 + many.0 / 4 + 512 * 1024, "it grows by renewing: {report}");
    ensure!(later.1 < files, "files are left open: {report}");
    crowd.all(0..PODS, "DEL")?;
    let left = fs::read_dir(crowd.daemon.leases())?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let left = left.filter(|name| name.contains("container-")).count();
    ensure!(left == 0, "{left} leases are left");
    println!("{report}");
    Ok(())
}
