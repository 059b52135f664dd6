//! The demonstration of `vlan`: two nodes on one cable, two VLANs on it.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Stage;
use super::screen::ms;
use crate::conflist::{Added, List, Member};
use crate::lab::{Snapshot, Space, cable};
use crate::packets::{Capture, Ping, Tag};
use crate::runtimes::examples;

/// The nodes' links to each other, which the example names.
const UPLINK: &str = "eth1";

/// A pod: its name, on which node, in which VLAN.
const PODS: [(&str, usize, &str); 5] =
    [("web", 0, "100"), ("db", 0, "100"), ("guest", 0, "200"), ("backup", 1, "100"), ("kiosk", 1, "200")];

/// The lab of this demonstration.
struct Scene<'a> {
    stage: &'a Stage<'a>,
    nodes: [Space; 2],
    pods: Vec<(Space, usize, List)>,
}

/// Shows it.
pub(super) fn run(stage: &Stage<'_>) -> Result<()> {
    let scene = Scene::new(stage)?;
    let leases = stage.directory.join("leases");
    let before = Snapshot::take(&scene.spaces(), &leases)?;
    let added = scene.add()?;
    scene.draw()?;
    scene.traffic(&added)?;
    scene.delete(&added)?;
    before.ensure_same(&Snapshot::take(&scene.spaces(), &leases)?).context("the clean-up")?;
    stage.screen.proved("links, addresses, routes and leases are as they were before the first ADD");
    Ok(())
}

impl<'a> Scene<'a> {
    fn new(stage: &'a Stage<'a>) -> Result<Self> {
        stage.screen.step("The network: deploy/examples/vlan-device.conflist, and the same with VLAN 200");
        stage.screen.quote(examples::VLAN);
        let nodes = [Space::node("node1")?, Space::node("node2")?];
        cable(&nodes[0], UPLINK, &nodes[1], UPLINK)?;
        let mut pods = Vec::new();
        for (name, node, vlan) in PODS {
            // Both VLANs are one subnet, so that only their tags keep them apart.
            let text = examples::VLAN.replace("\"vlanId\": 100", &format!("\"vlanId\": {vlan}"));
            let list = List::parse(&text, stage.cni_path)?.with_leases(&stage.directory.join("leases"));
            pods.push((Space::pod(name)?, node, list));
        }
        Ok(Self { stage, nodes, pods })
    }

    fn spaces(&self) -> Vec<&Space> {
        self.nodes.iter().chain(self.pods.iter().map(|(pod, ..)| pod)).collect()
    }

    fn member<'b>(&'b self, pod: &'b Space, node: usize) -> Member<'b> {
        Member { node: &self.nodes[node], pod, args: String::new() }
    }

    fn add(&self) -> Result<Vec<Added>> {
        let screen = &self.stage.screen;
        screen.step("ADD: a container runtime starts the plugin once for each pod");
        let mut all = Vec::new();
        for ((pod, node, list), (.., vlan)) in self.pods.iter().zip(PODS) {
            let added = list.add(&self.member(pod, *node))?;
            if all.is_empty() {
                screen.json(&added.result);
            }
            let place = &self.nodes[*node].name;
            let (ip, took) = (address(&added)?, ms(added.took));
            screen.proved(&format!("pod {:<8} of {place} has {ip} in VLAN {vlan} after {took}", pod.name));
            all.push(added);
        }
        Ok(all)
    }

    /// From what the kernel says, not from the results.
    fn draw(&self) -> Result<()> {
        let screen = &self.stage.screen;
        screen.step("What is there now");
        let mut lines = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            lines.push(format!("{} ── {UPLINK}", node.name));
            let devices: Vec<_> = node.links()?.into_iter().filter(|link| link.kind == "vlan").collect();
            for device in &devices {
                lines.push(format!("   └─ {}   {}", device.name, device.alias.clone().unwrap_or_default()));
                for (pod, ..) in self.pods.iter().filter(|(_, node, _)| *node == number) {
                    let link = pod.link("eth0")?;
                    if link.peer == Some(device.index) {
                        lines.push(format!(
                            "        └─ pod {:<8} eth0   {}   {}",
                            pod.name,
                            pod.ips("eth0")?.join(" "),
                            link.mac
                        ));
                    }
                }
            }
        }
        screen.draw(&lines);
        Ok(())
    }

    fn traffic(&self, added: &[Added]) -> Result<()> {
        let screen = &self.stage.screen;
        screen.step("Who reaches whom (row pings column)");
        let ping = Ping { count: 2, timeout: Duration::from_millis(300), ..Ping::default() };
        let mut answers = vec![vec![None; PODS.len()]; PODS.len()];
        for (row, (from, ..)) in self.pods.iter().enumerate() {
            for (column, to) in added.iter().enumerate().filter(|(column, _)| *column != row) {
                let is_reached = !ping.run(from, address(to)?)?.times.is_empty();
                ensure!(
                    is_reached == (PODS[row].2 == PODS[column].2),
                    "{} to {}: {is_reached}",
                    from.name,
                    PODS[column].0
                );
                answers[row][column] = Some(is_reached);
            }
        }
        let names = PODS.map(|(name, ..)| name);
        screen.matrix(&names, &names, |row, column| answers[row][column]);
        screen.step("The tags on the cable");
        for from in [0, 2] {
            let (ip, to) = (address(&added[from])?, address(&added[if from == 0 { 3 } else { 4 }])?);
            let mut capture = Capture::on(&self.nodes[1], UPLINK)?;
            ping.run(&self.pods[from].0, to)?;
            let frame =
                capture.expect(Duration::from_secs(2), "echo request", |frame| frame.is_echo_request_from(ip))?;
            let tags: Vec<_> = frame.tags.iter().copied().map(describe).collect();
            screen.proved(&format!("{:<8} {ip} to {to}: {}", PODS[from].0, tags.join(", ")));
            ensure!(frame.tags.len() == 1 && frame.tags[0].id.to_string() == PODS[from].2, "{:?}", frame.tags);
        }
        Ok(())
    }

    fn delete(&self, added: &[Added]) -> Result<()> {
        let screen = &self.stage.screen;
        screen.step("DEL for each pod: a device on the node goes with its last user");
        for ((pod, node, list), added) in self.pods.iter().zip(added) {
            let took = list.del(&self.member(pod, *node), &added.result)?;
            let left: Vec<_> = self.nodes[*node].links()?.into_iter().filter(|link| link.kind == "vlan").collect();
            let left: Vec<_> =
                left.iter().map(|link| format!("{} with {} users", link.name, link.altnames.len())).collect();
            let left = if left.is_empty() { "nothing".to_owned() } else { left.join(", ") };
            screen.proved(&format!("{:<8} after {}; left on {}: {left}", pod.name, ms(took), self.nodes[*node].name));
        }
        Ok(())
    }
}

fn describe(tag: Tag) -> String {
    let protocol = if tag.protocol == Tag::AD { "802.1ad" } else { "802.1Q" };
    format!("{:#06x} ({protocol}), priority {}, VLAN {}", tag.protocol, tag.priority, tag.id)
}

/// The first address of a result, without its prefix length.
fn address(added: &Added) -> Result<IpAddr> {
    let text = added.result["ips"][0]["address"].as_str().context("a result with an address")?;
    Ok(text.split('/').next().unwrap_or_default().parse()?)
}
