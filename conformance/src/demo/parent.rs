//! The demonstration of a device that sits on a link of the node, with the example network of the same name; and who
//! reaches whom in each mode.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::drawing::{self, Pod};
use super::screen::ms;
use super::{Stage, address, ips};
use crate::conflist::{Added, List, Member};
use crate::lab::{Lan, Snapshot, Space};
use crate::packets::{Ping, reaches};
use crate::runner::merged;

/// What is particular to a type of device.
pub(super) struct Show {
    /// The plugin.
    pub(super) plugin: &'static str,
    /// The example network.
    pub(super) example: &'static str,
    pub(super) rows: &'static [Row],
    /// What is to be said below the matrix.
    pub(super) note: &'static str,
}

/// A row of the matrix.
pub(super) struct Row {
    pub(super) mode: &'static str,
    /// What is outside sends frames for the node's pods back.
    pub(super) returns: bool,
    /// Prepares the network, and says what else is configured.
    pub(super) extra: fn(&Lan) -> Result<Value>,
    /// The first three numbers of the pods' addresses.
    pub(super) net: &'static str,
    /// Whether the pod reaches another pod on the same parent, another node, its own node.
    pub(super) reaches: [bool; 3],
}

/// The lab of this demonstration.
struct Scene<'a> {
    stage: &'a Stage<'a>,
    list: List,
    lan: Lan,
    pods: [Space; 2],
}

/// Shows it.
pub(super) fn run(stage: &Stage<'_>, show: &Show) -> Result<()> {
    let scene = Scene::new(stage, show)?;
    let spaces = [&scene.lan.node, &scene.pods[0], &scene.pods[1]];
    let before = Snapshot::take(&spaces, stage.directory)?;
    let added = scene.add()?;
    scene.draw()?;
    scene.traffic(&added)?;
    scene.records()?;
    scene.delete(&added)?;
    before.ensure_same(&Snapshot::take(&spaces, stage.directory)?).context("the clean-up")?;
    stage.screen.proved("links, addresses, routes, rules and files are as they were before the first ADD");
    matrix(stage, show)
}

impl<'a> Scene<'a> {
    fn new(stage: &'a Stage<'a>, show: &Show) -> Result<Self> {
        let list = List::parse(show.example, stage.cni_path)?;
        stage.screen.step(&format!("The network: deploy/examples/{}.conflist", show.plugin));
        stage.screen.quote(show.example);
        Ok(Self {
            stage,
            list: list.with_leases(&stage.directory.join("leases")),
            lan: Lan::new()?,
            pods: [Space::pod("web")?, Space::pod("db")?],
        })
    }

    fn member<'b>(&'b self, pod: &'b Space) -> Member<'b> {
        Member { node: &self.lan.node, pod, args: String::new() }
    }

    fn add(&self) -> Result<Vec<Added>> {
        let screen = &self.stage.screen;
        screen.step("ADD: a container runtime starts the plugin once for each pod");
        let mut all = Vec::new();
        for pod in &self.pods {
            let added = self.list.add(&self.member(pod))?;
            if all.is_empty() {
                screen.json(&added.result);
            }
            let ips = ips(&added.result)?.join(", ");
            screen.proved(&format!("pod \"{}\" has {ips} after {}", pod.name, ms(added.took)));
            all.push(added);
        }
        Ok(all)
    }

    /// From what the kernel says, not from the results.
    fn draw(&self) -> Result<()> {
        let screen = &self.stage.screen;
        screen.step("What is there now");
        let shim = self.shim()?;
        let parent = self.lan.node.link(Lan::PARENT)?;
        let mut pods = Vec::new();
        for pod in &self.pods {
            let link = pod.link("eth0")?;
            let mut inside = vec![format!("{} on {}", link.name, Lan::PARENT)];
            inside.extend(pod.ips("eth0")?);
            inside.push(link.mac);
            pods.push(Pod { name: pod.name.clone(), port: vec![link.kind], inside });
        }
        let pods: [Pod; 2] = pods.try_into().ok().context("two pods")?;
        let node = [format!("{}   {}   for the node itself", shim.name, shim.mac)];
        let other = format!("another node   {}   a switch between", Lan::OTHER[0]);
        let uplink = format!("{}   {}   {}", Lan::PARENT, Lan::NODE[0], parent.mac);
        screen.draw(&drawing::draw(&other, &uplink, &node, &pods));
        Ok(())
    }

    fn shim(&self) -> Result<crate::lab::Link> {
        let links = self.lan.node.links()?;
        links.into_iter().find(|link| link.name.starts_with("shim")).context("a shim on the node")
    }

    fn traffic(&self, added: &[Added]) -> Result<()> {
        let screen = &self.stage.screen;
        screen.step("Traffic");
        let [web, _db] = &self.pods;
        let node = &self.lan.node;
        let (web_ip, db_ip) = (address(&added[0].result)?, address(&added[1].result)?);
        let (node_ip, other_ip) = (Lan::NODE[0].parse()?, Lan::OTHER[0].parse()?);
        for (from, to, ip) in [
            (web, "db", db_ip),
            (web, "another node", other_ip),
            (&self.lan.other, "web", web_ip),
            (web, "its own node", node_ip),
            (node, "db", db_ip),
        ] {
            let time = reaches(from, ip)?;
            screen.proved(&format!("{:<5} to {to:<13} {ip:<14} {}", from.name, ms(time)));
        }
        Ok(())
    }

    /// What the node keeps.
    fn records(&self) -> Result<()> {
        let screen = &self.stage.screen;
        screen.step("What the node keeps: the shim with its users, and a route to each pod");
        let shim = self.shim()?;
        screen.say(&format!("{}   alias {}", shim.name, shim.alias.unwrap_or_default()));
        for user in &shim.altnames {
            screen.say(&format!("   user {user}"));
        }
        let routes = self.lan.node.routes()?.into_iter();
        for route in routes.filter(|route| route.link == Some(shim.index) && route.to.ends_with("/32")) {
            screen.say(&format!("   route {} metric {}", route.to, route.priority.unwrap_or_default()));
        }
        Ok(())
    }

    fn delete(&self, added: &[Added]) -> Result<()> {
        let screen = &self.stage.screen;
        screen.step("DEL for each pod");
        for (pod, added) in self.pods.iter().zip(added) {
            let took = self.list.del(&self.member(pod), &added.result)?;
            screen.proved(&format!("pod \"{}\" is off the network after {}", pod.name, ms(took)));
        }
        ensure!(self.shim().is_err(), "the shim is still there");
        screen.proved("the shim has gone with the last pod");
        // What stays for the next pod: the order of addresses handed out, the lock.
        Ok(std::fs::remove_dir_all(self.stage.directory.join("leases"))?)
    }
}

fn matrix(stage: &Stage<'_>, show: &Show) -> Result<()> {
    let screen = &stage.screen;
    screen.step("The modes: whom does a pod reach?");
    screen.say("mode       another pod   another node   its own node");
    for Row { mode, returns, extra, net, reaches } in show.rows {
        let lan = Lan::new()?;
        lan.hairpin(*returns)?;
        let extra = extra(&lan)?;
        let found = row(stage, &lan, show.plugin, mode, net, &extra)?;
        ensure!(found == *reaches, "{mode}: found {found:?}, expected {reaches:?}");
        let ticks = found.map(|is_reached| if is_reached { "✓" } else { "-" });
        let mut note = String::new();
        if *returns {
            note.push_str("  what is outside sends back");
        }
        if extra != json!({}) {
            let _ = write!(note, "  {extra}");
        }
        screen.say(&format!("{mode:<10} {:^11}   {:^12}   {:^12} {note}", ticks[0], ticks[1], ticks[2]));
    }
    screen.say(show.note);
    Ok(())
}

/// Tries all three from a pod in this mode.
fn row(stage: &Stage<'_>, lan: &Lan, plugin: &str, mode: &str, net: &str, extra: &Value) -> Result<[bool; 3]> {
    let pods = [Space::pod("a")?, Space::pod("b")?];
    let wanted = if mode == "passthru" { &pods[..1] } else { &pods[..] };
    let [own, another] = [format!("{net}.101"), format!("{net}.102")];
    for (pod, ip) in wanted.iter().zip([&own, &another]) {
        let addresses = json!([{ "address": format!("{ip}/24") }]);
        let ipam = json!({ "type": "static", "addresses": addresses, "routes": [{ "dst": "0.0.0.0/0" }] });
        let plugin = json!({ "type": plugin, "master": Lan::PARENT, "mode": mode, "ipam": ipam });
        let conf = json!({ "cniVersion": "1.0.0", "name": "lan", "plugins": [merged(&plugin, extra.clone())] });
        let list = List::parse(&conf.to_string(), stage.cni_path)?;
        list.add(&Member { node: &lan.node, pod, args: String::new() })?;
    }
    let ping = Ping { count: 3, timeout: Duration::from_millis(100), ..Ping::default() };
    let reached = |ip: &str| Ok::<_, anyhow::Error>(!ping.run(&pods[0], ip.parse::<IpAddr>()?)?.times.is_empty());
    Ok([reached(&another)?, reached(Lan::OTHER[0])?, reached(Lan::NODE[0])?])
}
