//! Pods as Kubernetes runs them: containerd over its runtime interface, on one configuration list.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::containerd::Containerd;
use super::cri::{Cri, DnsConfig, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata};
use super::image;
use crate::cni::tool;
use crate::lab::Space;
use crate::runner::{Case, Feature, Test};
use crate::test;

/// Tests with containerd.
pub(super) const TESTS: &[Test] = &[
    test!(
        p28_containerd_pods_reach_each_other,
        "containerd: two pods over CRI ping each other and the gateway, and leave nothing"
    )
    .needs(&[Feature::Containerd, Feature::NftInet])
    .limit(120),
    test!(containerd_links_name_their_owners, "containerd: ip link on the node tells which pod a veth is of")
        .needs(&[Feature::Containerd, Feature::NftInet])
        .ours()
        .limit(120),
];

/// Name of the network.
const NETWORK: &str = "pods";

/// The bridge's address.
const GATEWAY: &str = "10.5.0.1";

/// Namespace, in Kubernetes' sense, of the pods.
const NAMESPACE: &str = "shop";

/// containerd on a node, and what the test wants to look at afterwards.
struct Runtime {
    containerd: Containerd,
    cri: Cri,
    node: Space,
    case: Case,
    logs: PathBuf,
}

/// A pod with one container.
struct Pod {
    name: &'static str,
    id: String,
    container: String,
    ip: String,
}

impl Runtime {
    fn start(case: &Case, version: &str) -> Result<Self> {
        let node = case.node("node")?;
        let directory = case.dir.join("containerd");
        let logs = directory.join("logs");
        fs::create_dir_all(&logs)?;
        let conflist = conflist(case, version).to_string();
        let (containerd, cri) = Containerd::start(&directory, &node.ns.path(), &case.cni_path, &conflist)?;
        Ok(Self { containerd, cri, node, case: case.clone(), logs })
    }

    /// Does `work`; an error gets the end of containerd's log.
    fn with<T>(&self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        work(self).map_err(|error| self.containerd.with_log(error))
    }

    fn run_pod(&self, name: &'static str) -> Result<Pod> {
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.into(),
                uid: format!("uid-{name}"),
                namespace: NAMESPACE.into(),
            }),
            hostname: name.into(),
            log_directory: self.logs.display().to_string(),
            // Or containerd would look for the machine's.
            dns_config: Some(DnsConfig { servers: vec!["192.0.2.53".into()] }),
            linux: Some(LinuxPodSandboxConfig { cgroup_parent: self.containerd.cgroup_parent() }),
        };
        let id = self.cri.run_pod(&config)?;
        let ip = self.cri.pod_ips(&id)?.swap_remove(0);
        let container = self.cri.start_container(&id, &config, image::NAME, &["sleep", "3600"])?;
        Ok(Pod { name, id, container, ip })
    }

    /// Pings `target` from inside a pod's container; the first request may wait for address resolution.
    fn ping(&self, from: &Pod, target: &str) -> Result<()> {
        let command = ["ping", "-c", "3", "-A", "-W", "2", "-w", "6", target];
        self.cri.exec(&from.container, &command).map(drop).with_context(|| format!("pod \"{}\"", from.name))
    }

    /// After the removal of `pods`: of links the bridge, no lease, and no rule that is about any of them.
    fn ensure_nothing_left_of(&self, pods: &[Pod]) -> Result<()> {
        let names: Vec<_> = self.node.links()?.into_iter().map(|link| link.name).collect();
        ensure!(names == ["lo", "cni0"], "links on the node: {names:?}, expected lo and the bridge");
        let leases = self.case.lease_names(NETWORK)?;
        ensure!(leases.is_empty(), "leases left: {leases:?}");
        let rules = self.node.ruleset()?;
        let about = |pod: &&Pod| rules.contains(&pod.id) || rules.contains(&pod.ip);
        if let Some(pod) = pods.iter().find(about) {
            anyhow::bail!("rules left of pod \"{}\":\n{rules}", pod.name);
        }
        Ok(())
    }
}

fn conflist(case: &Case, version: &str) -> Value {
    json!({
        "cniVersion": version,
        "name": NETWORK,
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isDefaultGateway": true,
            "ipMasq": true,
            "ipam": case.host_local(&["10.5.0.0/24"]),
        }, {
            "type": "loopback",
        }],
    })
}

fn p28_containerd_pods_reach_each_other(case: &Case) -> Result<()> {
    let runtime = Runtime::start(case, "1.0.0")?;
    runtime.with(|runtime| {
        let pods = [runtime.run_pod("web")?, runtime.run_pod("db")?];
        for (from, to) in [(&pods[0], &pods[1]), (&pods[1], &pods[0])] {
            runtime.ping(from, &to.ip)?;
            runtime.ping(from, GATEWAY)?;
            runtime.ping(from, "127.0.0.1")?;
        }
        let leases = case.lease_names(NETWORK)?;
        ensure!(leases.len() == 2, "leases while two pods run: {leases:?}");
        for pod in &pods {
            runtime.cri.remove_pod(&pod.id)?;
        }
        runtime.ensure_nothing_left_of(&pods)
    })
}

fn containerd_links_name_their_owners(case: &Case) -> Result<()> {
    let runtime = Runtime::start(case, "1.0.0")?;
    runtime.with(|runtime| {
        let pods = [runtime.run_pod("web")?, runtime.run_pod("db")?];
        let shown = tool(&runtime.node, "ip", &["-details", "link"])?;
        for pod in &pods {
            let alias = format!("alias podwire:{NETWORK}:{}:eth0", pod.id);
            ensure!(shown.contains(&alias), "ip link does not show \"{alias}\":\n{shown}");
            let altname = shown.lines().map(str::trim).filter(|line| line.starts_with("altname"));
            let named = |line: &str| line.contains(NAMESPACE) && line.contains(pod.name);
            ensure!(
                altname.clone().any(named),
                "ip link shows no altname with \"{NAMESPACE}\" and \"{}\":\n{shown}",
                pod.name
            );
        }
        for pod in &pods {
            runtime.cri.remove_pod(&pod.id)?;
        }
        runtime.ensure_nothing_left_of(&pods)
    })
}
