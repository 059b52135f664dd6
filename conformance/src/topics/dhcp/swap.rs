//! Either side by the reference: its plugin with this suite's daemon, this suite's plugin with its daemon.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::with_router;
use crate::cni::Call;
use crate::lab::{Daemon, Lan, Server, Software, Space, cable};
use crate::runner::{Case, Feature, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(dhcp_our_plugin_with_the_references_daemon, "ADD, CHECK, STATUS, GC and DEL").needs(NEEDS).ours().limit(60),
    test!(dhcp_the_references_plugin_with_our_daemon, "ADD, CHECK and DEL").needs(NEEDS).ours().limit(60),
];

const NEEDS: &[Feature] = &[Feature::DhcpServers, Feature::Reference];

/// Debian's.
const REFERENCE: &str = "/usr/lib/cni";

/// A pod with a cable to the switch, a server, a daemon of one side and the address plugin of the other.
struct Pair {
    lan: Lan,
    server: Server,
    _daemon: Daemon,
    pod: Space,
    plugin: std::path::PathBuf,
    conf: Value,
}

impl Pair {
    fn new(case: &Case, plugin: &Path, daemon: &Path) -> Result<Self> {
        let lan = Lan::new()?;
        let server = Server::start(Software::Dnsmasq, &lan.other, "eth0", &case.dir.join("server"), &with_router())?;
        let daemon = Daemon::start(daemon, &lan.node, &case.dir.join("daemon"), &[])?;
        let pod = case.pod("a")?;
        cable(&pod, "eth0", &lan.switch, "pod")?;
        lan.switch.plug("sw0", "pod")?;
        let ipam = json!({ "type": "dhcp", "daemonSocketPath": daemon.socket() });
        let conf = json!({ "cniVersion": "1.0.0", "name": "net", "type": "bridge", "ipam": ipam });
        Ok(Self { lan, server, _daemon: daemon, pod, plugin: plugin.to_owned(), conf })
    }

    /// The address plugin by itself, as the interface plugin calls it.
    fn call(&self, command: &str, conf: &Value) -> Call {
        Call::new(&self.lan.node, &self.plugin.join("dhcp"), self.plugin.as_os_str(), command)
            .env("CNI_CONTAINERID", "container-a")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_NETNS", self.pod.ns.path())
            .conf(conf)
    }

    /// ADD, CHECK and DEL, and the server's word for what became of the address.
    fn prove(&self) -> Result<()> {
        let result = self.call("ADD", &self.conf).succeed()?;
        let address = result["ips"][0]["address"].as_str().with_context(|| result.to_string())?;
        let (ip, prefix) = address.split_once('/').context("ADDRESS/PREFIX")?;
        let ip: IpAddr = ip.parse()?;
        ensure!(prefix == "24" && result["ips"][0]["gateway"] == Lan::OTHER[0], "{result}");
        ensure!(result["routes"][0]["dst"] == "0.0.0.0/0" && result["routes"][0]["gw"] == Lan::OTHER[0], "{result}");
        ensure!(self.server.confirmed(Some(ip)) > 0, "the server does not know of {ip}");
        let mut with_result = self.conf.clone();
        with_result["prevResult"] = result;
        self.call("CHECK", &with_result).succeed()?;
        self.call("DEL", &self.conf).succeed()?;
        self.server.await_release(ip)
    }
}

fn dhcp_our_plugin_with_the_references_daemon(case: &Case) -> Result<()> {
    let pair = Pair::new(case, &case.cni_path, Path::new(REFERENCE))?;
    pair.prove()?;
    // It knows neither of these; the plugin does without.
    let mut newer = pair.conf.clone();
    newer["cniVersion"] = json!("1.1.0");
    pair.call("STATUS", &newer).succeed()?;
    newer["cni.dev/valid-attachments"] = json!([]);
    pair.call("GC", &newer).succeed().map(drop)
}

fn dhcp_the_references_plugin_with_our_daemon(case: &Case) -> Result<()> {
    Pair::new(case, Path::new(REFERENCE), &case.cni_path)?.prove()
}
