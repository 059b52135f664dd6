//! cnitool, the command line over libcni, which is what container runtimes call plugins with.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::lab::Space;
use crate::runner::{Case, Feature, Test};
use crate::test;

/// Tests with cnitool.
pub(super) const TESTS: &[Test] = &[
    test!(p01_cnitool_adds_checks_and_deletes, "cnitool: add, status, check, del on a conflist; nothing is left")
        .needs(&[Feature::Cnitool])
        .ours(),
    test!(p24_cnitool_gc_takes_every_attachment, "cnitool: gc removes link and lease of what it had added")
        .needs(&[Feature::Cnitool])
        .ours(),
];

/// Name of the network.
const NETWORK: &str = "tool";

/// libcni keeps results below /var/lib/cni and can be told of no other place: the test's own directory is laid over it.
const ENTER: &str = r#"mount --bind "$1" /var/lib; shift; exec "$@""#;

/// One node with the network's configuration, and a pod.
struct Tool {
    cnitool: PathBuf,
    node: Space,
    pod: Space,
    case: Case,
    conf_dir: PathBuf,
    var_lib: PathBuf,
}

impl Tool {
    fn new(case: &Case) -> Result<Self> {
        let conf_dir = case.dir.join("net.d");
        let var_lib = case.dir.join("lib");
        fs::create_dir_all(&conf_dir)?;
        fs::create_dir_all(&var_lib)?;
        let conflist = json!({
            "cniVersion": "1.1.0",
            "name": NETWORK,
            "plugins": [{
                "type": "bridge",
                "bridge": "cni0",
                "isDefaultGateway": true,
                "ipMasq": true,
                "ipam": case.host_local(&["10.6.0.0/24"]),
            }, {
                "type": "loopback",
            }],
        });
        fs::write(conf_dir.join("10-tool.conflist"), conflist.to_string())?;
        Ok(Self {
            cnitool: crate::runner::cnitool().context("\"cnitool\": not found")?,
            node: case.node("node")?,
            pod: case.pod("pod")?,
            case: case.clone(),
            conf_dir,
            var_lib,
        })
    }

    fn run(&self, verb: &str) -> Result<Output> {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "slave", "sh", "-ec", ENTER, "sh"])
            .args([&self.var_lib, &self.cnitool])
            .args([verb, NETWORK])
            .arg(self.pod.ns.path())
            .env("NETCONFPATH", &self.conf_dir)
            .env("CNI_PATH", &self.case.cni_path);
        self.node.ns.run(|| command.output())?.with_context(|| format!("cnitool {verb}: not started"))
    }

    /// Runs a verb that must succeed and returns what it printed.
    fn succeed(&self, verb: &str) -> Result<String> {
        let output = self.run(verb)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cnitool {verb}: {}: {}", output.status, stderr.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn add(&self) -> Result<Value> {
        let printed = self.succeed("add")?;
        serde_json::from_str(&printed).with_context(|| format!("cnitool add: not JSON: {printed}"))
    }

    /// The pod's link, its port and its lease are gone; the bridge stays for the next pod.
    fn ensure_nothing_left(&self) -> Result<()> {
        ensure!(self.pod.find("eth0")?.is_none(), "the pod still has its link");
        let names: Vec<_> = self.node.links()?.into_iter().map(|link| link.name).collect();
        ensure!(names == ["lo", "cni0"], "links on the node: {names:?}, expected lo and the bridge");
        let leases = self.case.lease_names(NETWORK)?;
        ensure!(leases.is_empty(), "leases left: {leases:?}");
        let rules = self.node.ruleset()?;
        ensure!(!rules.contains("10.6.0."), "rules left:\n{rules}");
        Ok(())
    }
}

fn p01_cnitool_adds_checks_and_deletes(case: &Case) -> Result<()> {
    let tool = Tool::new(case)?;
    tool.succeed("status")?;
    let result = tool.add()?;
    ensure!(result["cniVersion"] == "1.1.0", "result of another version: {result}");
    let ip = result["ips"][0]["address"].as_str().unwrap_or_default().to_owned();
    ensure!(tool.pod.ips("eth0")? == [ip.clone()], "the result says {ip}, the pod has {:?}", tool.pod.ips("eth0")?);
    tool.succeed("check")?;

    tool.pod.remove_address("eth0", ip.split('/').next().unwrap_or_default().parse()?)?;
    let check = tool.run("check")?;
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    ensure!(!check.status.success() && said.contains(&ip), "check without the address {ip} said: {said}");

    tool.succeed("del")?;
    tool.ensure_nothing_left()?;
    tool.succeed("del").context("the second time")?;
    Ok(())
}

/// `cnitool gc` names no valid attachments. libcni deletes each one that it knows of, then calls GC without the list,
/// which a plugin must refuse: it cannot tell "none" from "not said".
fn p24_cnitool_gc_takes_every_attachment(case: &Case) -> Result<()> {
    let tool = Tool::new(case)?;
    tool.add()?;
    let gc = tool.run("gc")?;
    let said = String::from_utf8_lossy(&gc.stderr);
    ensure!(!gc.status.success(), "gc without a list of valid attachments succeeded");
    ensure!(said.contains("cni.dev/valid-attachments"), "gc does not say what is missing: {said}");
    ensure!(!said.contains("failed to delete"), "gc's deletion failed: {said}");
    tool.ensure_nothing_left()?;
    tool.add().context("after gc")?;
    tool.succeed("del")?;
    tool.ensure_nothing_left()
}
