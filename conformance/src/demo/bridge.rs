//! The demonstration of `bridge`, with the example network of the same name.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::drawing::{self, Pod};
use super::screen::ms;
use super::{Stage, address, ips};
use crate::conflist::{Added, List, Member};
use crate::lab::{Snapshot, Space, cable};
use crate::packets::{Ping, peer_seen_by_tcp};
use crate::runtimes::examples;

/// The link between the node and what is outside, with the documentation's addresses.
const UPLINK: &str = "uplink";
const NODE_ADDRESS: &str = "203.0.113.2/24";
const WORLD_ADDRESS: &str = "203.0.113.9/24";

/// The lab of this demonstration.
struct Scene<'a> {
    stage: &'a Stage<'a>,
    list: List,
    bridge: String,
    node: Space,
    world: Space,
    pods: [Space; 2],
}

/// Shows it.
pub(super) fn run(stage: &Stage<'_>) -> Result<()> {
    let scene = Scene::new(stage)?;
    let spaces = [&scene.node, &scene.pods[0], &scene.pods[1]];
    let before = Snapshot::take(&spaces, stage.directory)?;
    let added = scene.add()?;
    scene.draw(&added)?;
    scene.traffic(&added)?;
    scene.records()?;
    scene.delete(&added)?;
    before.ensure_same(&Snapshot::take(&spaces, stage.directory)?).context("the clean-up")?;
    stage.screen.proved("links, addresses, routes, rules and files are as they were before the first ADD");
    Ok(())
}

impl<'a> Scene<'a> {
    fn new(stage: &'a Stage<'a>) -> Result<Self> {
        let list = List::parse(examples::BRIDGE, stage.cni_path)?;
        stage.screen.step("The network: deploy/examples/bridge.conflist");
        stage.screen.quote(examples::BRIDGE);
        let scene = Self {
            stage,
            bridge: list.first()["bridge"].as_str().unwrap_or_default().to_owned(),
            list: list.with_leases(&stage.directory.join("leases")),
            node: Space::node("node")?,
            world: Space::node("world")?,
            pods: [Space::pod("web")?, Space::pod("db")?],
        };
        cable(&scene.node, UPLINK, &scene.world, "eth0")?;
        scene.node.address(UPLINK, NODE_ADDRESS)?;
        scene.world.address("eth0", WORLD_ADDRESS)?;
        std::fs::create_dir_all(stage.directory.join("leases").join(scene.list.name()))?;
        Ok(scene)
    }

    fn member<'b>(&'b self, pod: &'b Space) -> Member<'b> {
        let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={}", pod.name);
        Member { node: &self.node, pod, args }
    }

    fn add(&self) -> Result<Vec<Added>> {
        let screen = &self.stage.screen;
        screen.step("ADD: a container runtime starts the plugin once for each pod");
        screen.quote(
            "CNI_COMMAND=ADD CNI_CONTAINERID=web CNI_NETNS=... CNI_IFNAME=eth0 CNI_PATH=... bridge < configuration",
        );
        let mut all = Vec::new();
        for pod in &self.pods {
            let added = self.list.add(&self.member(pod))?;
            if all.is_empty() {
                screen.json(&added.result);
            }
            screen.proved(&format!(
                "pod \"{}\" has {} after {}",
                pod.name,
                ips(&added.result)?.join(", "),
                ms(added.took)
            ));
            all.push(added);
        }
        Ok(all)
    }

    /// From what the kernel says, not from the results.
    fn draw(&self, added: &[Added]) -> Result<()> {
        self.stage.screen.step("What is there now");
        let bridge = self.node.link(&self.bridge)?;
        let mut pods = Vec::new();
        for (pod, added) in self.pods.iter().zip(added) {
            let name = host_side(&added.result)?;
            let port = self.node.link(name)?;
            let inside = pod.link("eth0")?;
            let mut lines = vec!["eth0".to_owned()];
            lines.extend(pod.ips("eth0")?);
            lines.push(inside.mac);
            pods.push(Pod {
                name: pod.name.clone(),
                port: [Some(port.name), port.alias].into_iter().flatten().chain(port.altnames).collect(),
                inside: lines,
            });
        }
        let pods: [Pod; 2] = pods.try_into().ok().context("two pods")?;
        let bridge = [format!("{}   {}   {}", self.bridge, self.node.ips(&self.bridge)?.join("   "), bridge.mac)];
        let uplink = format!("{UPLINK}   {NODE_ADDRESS}");
        let drawing = drawing::draw(&format!("world   {WORLD_ADDRESS}"), &uplink, &bridge, &pods);
        self.stage.screen.draw(&drawing);
        Ok(())
    }

    fn traffic(&self, added: &[Added]) -> Result<()> {
        let screen = &self.stage.screen;
        screen.step("Traffic");
        let [web, db] = &self.pods;
        let (web_ip, db_ip) = (address(&added[0].result)?, address(&added[1].result)?);
        let gateway: IpAddr = added[0].result["ips"][0]["gateway"].as_str().context("a gateway")?.parse()?;
        for (from, to, ip) in [(web, "db", db_ip), (db, "web", web_ip), (web, "the gateway", gateway)] {
            let ping = Ping { count: 4, ..Ping::default() }.run(from, ip)?;
            ensure!(!ping.times.is_empty(), "{} to {to}: no answer from {ip}", from.name);
            let times: Vec<_> = ping.times.iter().copied().map(ms).collect();
            screen.proved(&format!("{:<4} to {to:<12} {ip:<12} {}", from.name, times.join("  ")));
        }
        let world: IpAddr = WORLD_ADDRESS.trim_end_matches("/24").parse()?;
        let seen = peer_seen_by_tcp(&self.world, world, web)?;
        ensure!(NODE_ADDRESS.starts_with(&seen.to_string()), "the world sees {seen}, not the node's address");
        screen.proved(&format!(
            "web  to {:<12} {world:<12} which sees {seen}, the node, instead of {web_ip}",
            "the world"
        ));
        Ok(())
    }

    /// What the node keeps: leases and rules.
    fn records(&self) -> Result<()> {
        let screen = &self.stage.screen;
        screen.step("What the node keeps");
        for lease in self.leases()? {
            let text = std::fs::read_to_string(self.lease_directory().join(&lease))?;
            screen.say(&format!("lease {lease}: {}", text.replace("\r\n", " ")));
        }
        let rules = self.node.ruleset()?;
        if rules.is_empty() {
            screen.say("rules: not shown, the program nft is not installed");
        }
        screen.quote(&rules.replace('\t', "  "));
        Ok(())
    }

    fn delete(&self, added: &[Added]) -> Result<()> {
        let screen = &self.stage.screen;
        screen.step("DEL for each pod, then GC for the network");
        for (pod, added) in self.pods.iter().zip(added) {
            let took = self.list.del(&self.member(pod), &added.result)?;
            screen.proved(&format!("pod \"{}\" is off the network after {}", pod.name, ms(took)));
        }
        let leases = self.leases()?;
        ensure!(leases.is_empty(), "leases left: {leases:?}");
        ensure!(self.node.ports(&self.bridge)?.is_empty(), "\"{}\" still has ports", self.bridge);
        screen.proved(&format!("no port on {}, no lease", self.bridge));
        let took = self.list.gc(&self.node)?;
        ensure!(self.node.find(&self.bridge)?.is_none(), "\"{}\" is still there after GC", self.bridge);
        screen.proved(&format!("{} itself is gone, {} after GC with no pod left", self.bridge, ms(took)));
        // What is shared by all pods of a network stays for the next one: the order of addresses handed out, the lock.
        std::fs::remove_dir_all(self.lease_directory())?;
        std::fs::create_dir_all(self.lease_directory())?;
        Ok(())
    }

    fn lease_directory(&self) -> std::path::PathBuf {
        self.stage.directory.join("leases").join(self.list.name())
    }

    fn leases(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.lease_directory())? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.retain(|name| name.parse::<IpAddr>().is_ok());
        names.sort();
        Ok(names)
    }
}

/// The veth's end on the node: the second interface of the result, after the bridge.
fn host_side(result: &Value) -> Result<&str> {
    result["interfaces"][1]["name"].as_str().context("a result with the port")
}
