//! A thousand pods in one daemon.

use std::fs;
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

/// Resident memory in bytes, and open files.
fn size(daemon: &Daemon) -> Result<(usize, usize)> {
    let process = format!("/proc/{}", daemon.log().pid());
    let status = fs::read_to_string(format!("{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse()?;
    Ok((kilobytes * 1024, fs::read_dir(format!("{process}/fd"))?.count()))
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
    // Each pod is an open file of this test.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65536), hard)?;
    let lan = Lan::new()?;
    lan.other.address("eth0", "10.7.0.1/16")?;
    lan.other.remove_address("eth0", Lan::OTHER[0].parse()?)?;
    let offer = Offer {
        subnet: "10.7.0.0/16".to_owned(),
        pool: ["10.7.1.0", "10.7.15.255"].map(str::to_owned),
        seconds: 60,
        ..Offer::default()
    };
    let server = Server::start(Software::Kea4, &lan.other, "eth0", &case.dir.join("server"), &offer)?;
    let daemon = Daemon::start(&case.cni_path, &lan.node, &case.dir.join("daemon"), &[])?;
    let parent = lan.node.link(Lan::PARENT)?.index;
    let pods = (0..PODS).map(|number| pod(&lan, parent, number)).collect::<Result<Vec<_>>>()?;
    let ipam = json!({ "type": "dhcp", "daemonSocketPath": daemon.socket() });
    let conf = json!({ "cniVersion": "1.0.0", "name": "net", "type": "macvlan", "ipam": ipam });
    let call = |number: usize, command: &str| {
        Call::new(&lan.node, &case.cni_path.join("dhcp"), case.cni_path.as_os_str(), command)
            .env("CNI_CONTAINERID", format!("container-{number}"))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_NETNS", pods[number].ns.path())
            .conf(&conf)
    };
    let all = |from: usize, to: usize, command: &str| -> Result<()> {
        let next = AtomicUsize::new(from);
        std::thread::scope(|scope| {
            let work = || -> Result<()> {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= to {
                        return Ok(());
                    }
                    call(number, command).succeed()?;
                }
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("a call does not panic"))
        })
    };
    all(0, FEW, "ADD")?;
    let few = size(&daemon)?;
    all(FEW, PODS, "ADD")?;
    let many = size(&daemon)?;
    renewed(&server, 2 * PODS)?;
    let later = size(&daemon)?;
    let report = format!("memory and open files after {FEW} {few:?}, after {PODS} {many:?}, after renewals {later:?}");
    println!("{report}");
    // A lease with its options, its task and its name: 16 kB is plenty. It does not grow by being renewed.
    ensure!(many.0 < few.0 + (PODS - FEW) * 16 * 1024, "a pod costs too much: {report}");
    ensure!(later.0 < many.0 + many.0 / 8 + 512 * 1024, "it grows by renewing: {report}");
    // A lease that sleeps has nothing open but its pod's namespace.
    ensure!(later.1 < few.1 + PODS - FEW + 100, "files are left open: {report}");
    all(0, PODS, "DEL")?;
    let left = fs::read_dir(daemon.leases())?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let left = left.filter(|name| name.contains("container-")).count();
    ensure!(left == 0, "{left} leases are left");
    Ok(())
}

/// Waits until the server has confirmed that often.
fn renewed(server: &Server, times: usize) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let (seen, there) = (server.log().lines(), server.confirmed(None));
        if there >= times {
            return Ok(());
        }
        let left = end.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "{there} confirmations within two minutes, expected {times}");
        server.log().await_after(seen, left, "anything", |_| true)?;
    }
}
