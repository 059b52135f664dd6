//! The demonstration of `vxlan`: the example network `overlay` on three nodes, and another network beside it.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Stage;
use super::screen::ms;
use crate::cni::tool;
use crate::conflist::{Added, List, Member};
use crate::lab::{Snapshot, Space, on_a_switch};
use crate::packets::{Body, Capture, Ping};
use crate::runtimes::examples;

/// Pods of both networks: network, node, name.
const PODS: [(usize, usize, &str); 5] =
    [(0, 0, "web"), (0, 1, "db"), (0, 2, "cache"), (1, 0, "tenant-a"), (1, 1, "tenant-b")];

/// A pod that was added.
struct Pod {
    network: usize,
    node: usize,
    space: Space,
    added: Added,
    ip: IpAddr,
}

/// The lab of this demonstration.
struct Scene<'a> {
    stage: &'a Stage<'a>,
    nodes: Vec<Space>,
    _switch: Space,
}

/// Shows it.
pub(super) fn run(stage: &Stage<'_>) -> Result<()> {
    let scene = Scene::new(stage)?;
    let nodes: Vec<&Space> = scene.nodes.iter().collect();
    let before = Snapshot::take(&nodes, stage.directory)?;
    let pods = scene.add()?;
    scene.draw(&pods)?;
    scene.matrix(&pods)?;
    scene.underlay(&pods)?;
    scene.entries()?;
    scene.delete(&pods)?;
    before.ensure_same(&Snapshot::take(&nodes, stage.directory)?).context("the clean-up")?;
    stage.screen.proved("links, addresses and routes of all nodes are as they were before the first ADD");
    Ok(())
}

impl<'a> Scene<'a> {
    fn new(stage: &'a Stage<'a>) -> Result<Self> {
        stage.screen.step("The network: deploy/examples/overlay.conflist, the same on every node but for the range");
        stage.screen.quote(examples::OVERLAY);
        let (switch, nodes) = on_a_switch(&["n1", "n2", "n3"])?;
        for (n, node) in (1..).zip(&nodes) {
            node.address("eth0", &format!("192.0.2.{n}/24"))?;
        }
        std::fs::create_dir_all(stage.directory.join("leases"))?;
        Ok(Self { stage, nodes, _switch: switch })
    }

    /// The network's list on a node: its own part of the addresses, since leases are a node's. The second network has
    /// another VNI, and addresses of the same subnet.
    fn list(&self, network: usize, node: usize) -> Result<List> {
        let mut conf: Value = serde_json::from_str(examples::OVERLAY)?;
        let plugin = &mut conf["plugins"][0];
        let first = 10 + 70 * node + 35 * network;
        plugin["ipam"]["ranges"][0][0]["rangeStart"] = json!(format!("10.42.0.{first}"));
        plugin["ipam"]["ranges"][0][0]["rangeEnd"] = json!(format!("10.42.0.{}", first + 34));
        if network == 1 {
            plugin["vni"] = json!(43);
            conf["name"] = json!("tenant");
        }
        let leases = self.stage.directory.join("leases").join(format!("n{}", node + 1));
        Ok(List::parse(&conf.to_string(), self.stage.cni_path)?.with_leases(&leases))
    }

    fn member<'b>(&'b self, node: usize, space: &'b Space) -> Member<'b> {
        Member { node: &self.nodes[node], pod: space, args: String::new() }
    }

    fn add(&self) -> Result<Vec<Pod>> {
        let screen = &self.stage.screen;
        screen.step("ADD: three pods of this network, and two of another with VNI 43 and the same subnet");
        let mut pods: Vec<Pod> = Vec::new();
        for (network, node, name) in PODS {
            let space = Space::pod(name)?;
            let added = self.list(network, node)?.add(&self.member(node, &space))?;
            if pods.is_empty() {
                screen.json(&added.result);
            }
            let address = added.result["ips"][0]["address"].as_str().context("a result with an address")?;
            let ip = address.split('/').next().unwrap_or_default().parse()?;
            let what = format!("{name:<8} on n{}: {ip:<12} in VNI {} after {}", node + 1, 42 + network, ms(added.took));
            screen.proved(&what);
            pods.push(Pod { network, node, space, added, ip });
        }
        Ok(pods)
    }

    /// From what the kernel says, not from the results.
    fn draw(&self, pods: &[Pod]) -> Result<()> {
        self.stage.screen.step("What is there now");
        let mut lines = vec!["  ──┬── switch ───────────────┬─────────────────────────┬──".to_owned()];
        let mut rows: Vec<Vec<String>> = Vec::new();
        for (n, node) in self.nodes.iter().enumerate() {
            let mut column = vec![format!("n{}: eth0 {}", n + 1, node.ips("eth0")?.join(" "))];
            for device in node.links()?.into_iter().filter(|link| link.kind == "vxlan") {
                let bridge = node.links()?.into_iter().find(|link| Some(link.index) == device.master);
                let bridge = bridge.context("the device's bridge")?;
                column.push(format!("{} MTU {}", device.name, device.mtu));
                column.push(format!(" └ {}", bridge.name));
                let network = usize::from(device.name == "vx43");
                for pod in pods.iter().filter(|pod| (pod.node, pod.network) == (n, network)) {
                    column.push(format!("   └ {} {}", pod.space.name, pod.ip));
                }
            }
            rows.push(column);
        }
        for row in 0..rows.iter().map(Vec::len).max().unwrap_or_default() {
            let cells: Vec<_> =
                rows.iter().map(|column| format!("{:<26}", column.get(row).map_or("", String::as_str))).collect();
            lines.push(format!("    {}", cells.concat().trim_end()));
        }
        self.stage.screen.draw(&lines);
        Ok(())
    }

    fn matrix(&self, pods: &[Pod]) -> Result<()> {
        let screen = &self.stage.screen;
        screen.step("Who reaches whom (row pings column)");
        let names: Vec<_> = pods.iter().map(|pod| format!("{:^9}", pod.space.name)).collect();
        screen.say(&format!("{:<9} {}", "", names.concat()));
        for from in pods {
            let mut cells = Vec::new();
            for to in pods {
                let ping = Ping { count: 3, timeout: Duration::from_millis(300), ..Ping::default() };
                let itself = from.ip == to.ip;
                let reached = !itself && !ping.run(&from.space, to.ip)?.times.is_empty();
                let expected = !itself && from.network == to.network;
                ensure!(reached == expected, "{} to {}: {reached}", from.space.name, to.space.name);
                cells.push(format!(
                    "{:^9}",
                    if itself {
                        " "
                    } else if reached {
                        "✓"
                    } else {
                        "·"
                    }
                ));
            }
            screen.say(&format!("{:<9} {}", from.space.name, cells.concat().trim_end()));
        }
        screen.proved("each network reaches its own pods on every node, and none of the other's");
        Ok(())
    }

    fn underlay(&self, pods: &[Pod]) -> Result<()> {
        let screen = &self.stage.screen;
        screen.step("A ping from web to db, as n1 sends it");
        let (web, db) = (&pods[0], &pods[1]);
        let mut capture = Capture::on(&self.nodes[0], "eth0")?;
        Ping::default().run(&web.space, db.ip)?;
        let frame = capture.expect(Duration::from_secs(2), "VXLAN packet", |frame| {
            frame.carried().is_some_and(|inner| inner.frame.is_echo_request_from(web.ip))
        })?;
        let carried = frame.carried().context("a VXLAN packet")?;
        let Body::Ip { from, to, .. } = &frame.body else { unreachable!("it was taken apart") };
        screen.say(&format!("Ethernet  {} > {}", frame.from, frame.to));
        screen.say(&format!("IP        {from} > {to}"));
        screen.say(&format!("UDP       to port {}, checksum {:#06x}", carried.port, carried.checksum));
        screen.say(&format!("VXLAN     VNI {}", carried.vni));
        screen.say(&format!("Ethernet    {} > {}", carried.frame.from, carried.frame.to));
        screen.say(&format!("ICMP        {} > {} echo request", web.ip, db.ip));
        ensure!((carried.port, carried.vni) == (4789, 42), "port {}, VNI {}", carried.port, carried.vni);
        screen.proved("port 4789 and VNI 42");
        let full = usize::try_from(web.space.link("eth0")?.mtu)? - 28;
        for (size, passes) in [(full, true), (full + 1, false)] {
            let ping = Ping { size, dont_fragment: true, ..Ping::default() };
            let passed = !ping.run(&web.space, db.ip)?.times.is_empty();
            ensure!(passed == passes, "{} bytes: {passed}", size + 28);
            let what = if passes { "passes in one piece" } else { "does not" };
            screen.proved(&format!("a packet of {} bytes that must not be divided {what}", size + 28));
        }
        Ok(())
    }

    fn entries(&self) -> Result<()> {
        let screen = &self.stage.screen;
        screen.step("Who is where, on n1 (bridge fdb show dev vx42)");
        let text = tool(&self.nodes[0], "bridge", &["fdb", "show", "dev", "vx42"])?;
        let far: Vec<_> = text.lines().filter(|line| line.contains(" dst ")).collect();
        screen.quote(&far.join("\n"));
        screen.say("flooding entries by the configuration, written on the device as podwire's; the rest is learnt:");
        screen.quote(&self.nodes[0].link("vx42")?.altnames.join("\n"));
        Ok(())
    }

    fn delete(&self, pods: &[Pod]) -> Result<()> {
        let screen = &self.stage.screen;
        screen.step("DEL for each pod: what a network has on a node goes with its last pod there");
        for pod in pods {
            let took = self.list(pod.network, pod.node)?.del(&self.member(pod.node, &pod.space), &pod.added.result)?;
            screen.proved(&format!("{:<8} is off the network after {}", pod.space.name, ms(took)));
        }
        for node in &self.nodes {
            let left: Vec<_> =
                node.links()?.into_iter().filter(|link| link.kind != "veth" && link.name != "lo").collect();
            ensure!(left.is_empty(), "left on {}: {left:?}", node.name);
        }
        Ok(())
    }
}
