//! Many at once, and nothing but system calls.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::packets::reaches;
use crate::runner::{Attachment, Case, Feature, Test};
use crate::test;

pub(super) const TESTS: &[Test] =
    &[
        test!(p27_a_hundred_pods_at_once, "on a node without the bridge: one bridge, no duplicate, nothing left")
            .limit(180),
        test!(p27_two_networks_make_one_bridge, "at once, twenty times").limit(60),
        test!(p27_add_and_del_cross, "pods that come while others go").limit(60),
        test!(no_other_program_is_started, "strace sees one execve for ADD, CHECK and DEL with everything on")
            .needs(&[Feature::Strace, Feature::NftInet, Feature::NftBridge]),
    ];

/// Does the same for all, each on a thread of its own, all started before any is waited for.
pub(super) fn at_once<T: Send, F: Fn(&Attachment) -> Result<T> + Sync>(all: &[Attachment], work: F) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = all.iter().map(|attachment| scope.spawn(move || work(attachment))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a call does not panic")).collect()
    })
}

fn p27_a_hundred_pods_at_once(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let before = case.snapshot(&[&node])?;
    let conf =
        case.bridge_with(json!({ "isDefaultGateway": true, "ipam": case.host_local(&["10.7.0.0/24", "fd07::/64"]) }));
    let pods = (0..100)
        .map(|n| Ok(case.attachment(&node, &case.pod(&format!("p{n}"))?, &conf)))
        .collect::<Result<Vec<Attachment>>>()?;
    let results = at_once(&pods, Attachment::add)?;
    let mut addresses = BTreeSet::new();
    for ip in results.iter().flat_map(|result| result["ips"].as_array().into_iter().flatten()) {
        let address = ip["address"].as_str().unwrap_or_default().to_owned();
        ensure!(addresses.insert(address.clone()), "{address} was given twice");
    }
    ensure!(addresses.len() == 200, "{} addresses", addresses.len());
    let bridges = node.links()?.iter().filter(|link| link.kind == "bridge").count();
    ensure!(bridges == 1 && node.ports("cni0")?.len() == 100, "{bridges} bridges, {} ports", node.ports("cni0")?.len());
    for pod in pods.iter().step_by(25) {
        reaches(&pod.pod, "10.7.0.1".parse()?)?;
    }
    at_once(&pods, Attachment::del)?;
    ensure!(node.ports("cni0")?.is_empty(), "ports are left: {:?}", node.ports("cni0")?);
    ensure!(case.lease_names("net")?.is_empty(), "leases are left: {:?}", case.lease_names("net")?);
    ensure!(pods.iter().all(|pod| pod.pod.find("eth0").is_ok_and(|link| link.is_none())), "a pod has its link");
    // DEL leaves the bridge; without it the node is as it was.
    node.delete("cni0")?;
    before.ensure_same(&case.snapshot(&[&node])?)
}

fn p27_two_networks_make_one_bridge(case: &Case) -> Result<()> {
    for round in 0..20 {
        let node = case.node("n1")?;
        let network = |name: &str, subnet: &str| {
            case.bridge_with(json!({ "name": name, "isGateway": false, "ipam": case.host_local(&[subnet]) }))
        };
        let pods = [("blue", "10.7.0.0/24"), ("green", "10.8.0.0/24")]
            .map(|(name, subnet)| Ok(case.attachment(&node, &case.pod(name)?, &network(name, subnet))));
        let pods = pods.into_iter().collect::<Result<Vec<_>>>()?;
        let results = at_once(&pods, Attachment::add).with_context(|| format!("round {round}"))?;
        ensure!(node.ports("cni0")?.len() == 2, "round {round}: ports {:?}", node.ports("cni0")?);
        ensure!(results.len() == 2);
        at_once(&pods, Attachment::del)?;
    }
    Ok(())
}

fn p27_add_and_del_cross(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let pod = |n: usize| Ok(case.attachment(&node, &case.pod(&format!("p{n}"))?, &case.bridge_conf()));
    let old = (0..20).map(pod).collect::<Result<Vec<_>>>()?;
    let new = (20..40).map(pod).collect::<Result<Vec<_>>>()?;
    at_once(&old, Attachment::add)?;
    let results: Vec<Value> = std::thread::scope(|scope| {
        let going = scope.spawn(|| at_once(&old, Attachment::del));
        let coming = at_once(&new, Attachment::add);
        going.join().expect("a call does not panic")?;
        coming
    })?;
    for (pod, result) in new.iter().zip(&results) {
        ensure!(pod.pod.ips("eth0")? == [result["ips"][0]["address"].as_str().unwrap_or_default()], "{result}");
    }
    ensure!(node.ports("cni0")?.len() == 20 && case.lease_names("net")?.len() == 20, "not twenty");
    Ok(())
}

fn no_other_program_is_started(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let conf = case.bridge_with(json!({
        "isDefaultGateway": true, "ipMasq": true, "macspoofchk": true, "hairpinMode": true,
        "ipam": case.host_local(&["10.7.0.0/24", "fd07::/64"]),
    }));
    let attachment = case.attachment(&node, &pod, &conf);
    let trace = case.dir.join("trace");
    let traced = |call: crate::cni::Call| -> Result<Value> {
        let wrapper = ["strace", "-f", "-e", "trace=execve,execveat", "-o"].map(OsStr::new);
        let value = call.under(&[&wrapper[..], &[trace.as_os_str()]].concat()).succeed()?;
        let text = std::fs::read_to_string(&trace)?;
        let started: Vec<&str> = text.lines().filter(|line| line.contains("exec") && line.contains("= 0")).collect();
        ensure!(started.len() == 1, "it started other programs:\n{}", started.join("\n"));
        Ok(value)
    };
    let result = traced(attachment.call("ADD"))?;
    traced(attachment.check_call(&result))?;
    traced(attachment.call("DEL")).map(drop)
}
