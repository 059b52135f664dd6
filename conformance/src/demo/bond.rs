//! The demonstration of `bond`, with the example network of the same name: what becomes of the traffic when a cable is
//! cut, and of the node's links when the pod is deleted.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Stage;
use super::screen::ms;
use crate::cni::tool;
use crate::conflist::{List, Member};
use crate::lab::{Snapshot, Space, cable};
use crate::packets::{Ping, reaches};
use crate::runtimes::examples;

/// The node's links, each with the port of the switch that its cable leads to.
const CABLES: [(&str, &str); 2] = [("eth1", "port1"), ("eth2", "port2")];
/// Who answers behind the switch.
const FAR: &str = "10.30.0.200";
/// An address that the node has on its first link, to be given back with it.
const NODE_ADDRESS: &str = "192.0.2.1/24";

/// The lab of this demonstration.
struct Scene<'a> {
    stage: &'a Stage<'a>,
    list: List,
    node: Space,
    switch: Space,
    pod: Space,
}

/// Shows it.
pub(super) fn run(stage: &Stage<'_>) -> Result<()> {
    let scene = Scene::new(stage)?;
    let leases = stage.directory.join("leases").join(scene.list.name());
    std::fs::create_dir_all(&leases)?;
    let before = Snapshot::take(&[&scene.node, &scene.pod], stage.directory)?;
    let result = scene.add()?;
    scene.cut()?;
    scene.delete(&result)?;
    before.ensure_same(&Snapshot::take(&[&scene.node, &scene.pod], stage.directory)?).context("the clean-up")?;
    stage.screen.proved("links, their names, MAC addresses, MTUs, states and addresses are as before the ADD");
    Ok(())
}

impl<'a> Scene<'a> {
    fn new(stage: &'a Stage<'a>) -> Result<Self> {
        stage.screen.step("The network: deploy/examples/bond.conflist");
        stage.screen.quote(examples::BOND);
        let list = List::parse(examples::BOND, stage.cni_path)?.with_leases(&stage.directory.join("leases"));
        let scene =
            Self { stage, list, node: Space::node("node")?, switch: Space::switch("switch")?, pod: Space::pod("web")? };
        for (link, port) in CABLES {
            cable(&scene.node, link, &scene.switch, port)?;
            scene.switch.plug("sw0", port)?;
        }
        scene.switch.address("sw0", &format!("{FAR}/24"))?;
        scene.node.address(CABLES[0].0, NODE_ADDRESS)?;
        stage.screen.step("The node: two links, two cables to a switch");
        stage.screen.quote(&tool(&scene.node, "ip", &["-brief", "address", "show"])?);
        Ok(scene)
    }

    fn member(&self) -> Member<'_> {
        Member { node: &self.node, pod: &self.pod, args: String::new() }
    }

    fn add(&self) -> Result<Value> {
        let screen = &self.stage.screen;
        screen.step("ADD: the pod gets both links as one");
        let added = self.list.add(&self.member())?;
        screen.json(&added.result);
        screen.proved(&format!("pod \"{}\" is on the network after {}", self.pod.name, ms(added.took)));
        screen.say("In the pod:");
        screen.quote(&tool(&self.pod, "ip", &["-brief", "link", "show"])?);
        screen.say("What the node remembers of its links, on its loopback:");
        for note in self.node.link("lo")?.altnames {
            screen.quote(&note);
        }
        self.list.check(&self.member(), &added.result)?;
        screen.proved("CHECK agrees");
        Ok(added.result)
    }

    /// Cuts the cable of the active link, twice.
    fn cut(&self) -> Result<()> {
        const APART: Duration = Duration::from_millis(20);
        let (screen, far) = (&self.stage.screen, FAR.parse::<IpAddr>()?);
        screen.step("A cable is cut, while the pod sends a ping every 20 ms");
        reaches(&self.pod, far)?;
        for _ in CABLES {
            let link = self.active()?;
            let port = CABLES.iter().find(|cable| cable.0 == link).context("an active link")?.1;
            self.switch.down(port)?;
            let lost = Ping { count: 50, ..Ping::default() }.lost(&self.pod, far, APART)?;
            ensure!(lost < 50, "no ping was answered after the cable of {link} was cut");
            let other = self.active()?;
            screen.proved(&format!("the cable of {link} is cut: {lost} of 50 pings lost, {other} has taken over"));
            self.switch.up(port)?;
            let is_back = |found: &crate::lab::Link| found.name == link && found.running;
            ensure!(self.pod.await_link(Duration::from_secs(5), is_back)?, "{link} did not come back");
            reaches(&self.pod, far)?;
        }
        Ok(())
    }

    /// The link that carries the traffic.
    fn active(&self) -> Result<String> {
        let text = tool(&self.pod, "ip", &["-json", "-details", "link", "show", "dev", "eth0"])?;
        let shown: Value = serde_json::from_str(&text)?;
        let active = shown[0]["linkinfo"]["info_data"]["active_slave"].as_str();
        active.map(str::to_owned).context("no link is active")
    }

    fn delete(&self, result: &Value) -> Result<()> {
        let screen = &self.stage.screen;
        screen.step("DEL: the node gets its links back");
        let took = self.list.del(&self.member(), result)?;
        screen.proved(&format!("pod \"{}\" is off the network after {}", self.pod.name, ms(took)));
        screen.quote(&tool(&self.node, "ip", &["-brief", "address", "show"])?);
        // What is shared by all pods of a network stays for the next one: the order of addresses handed out, the lock.
        let leases = self.stage.directory.join("leases").join(self.list.name());
        std::fs::remove_dir_all(&leases)?;
        std::fs::create_dir_all(&leases)?;
        Ok(())
    }
}
