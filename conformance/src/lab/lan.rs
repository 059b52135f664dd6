//! A network of two nodes, for what sits on a link of a node.

use anyhow::Result;
use rtnetlink::LinkBridgePort;

use super::{Space, cable};

/// Two nodes on a switch, on `192.168.7.0/24` and `fd07::/64`.
#[derive(Clone, Debug)]
pub struct Lan {
    /// The switch; its ports have the names of what is plugged into them.
    pub switch: Space,
    /// Where the pods are, on the link [`Lan::PARENT`] with the addresses [`Lan::NODE`].
    pub node: Space,
    /// The other one, on the link `eth0` with the addresses [`Lan::OTHER`].
    pub other: Space,
}

impl Lan {
    /// The node's link.
    pub const PARENT: &str = "eth1";
    /// The node's addresses.
    pub const NODE: [&str; 2] = ["192.168.7.1", "fd07::1"];
    /// Links of the node that are plugged in by [`Lan::add_spare`].
    pub const SPARE: [&str; 2] = ["eth2", "eth3"];
    /// The other node's addresses.
    pub const OTHER: [&str; 2] = ["192.168.7.200", "fd07::200"];

    /// All three, cabled.
    pub fn new() -> Result<Self> {
        let lan = Self { switch: Space::switch("switch")?, node: Space::node("node")?, other: Space::node("other")? };
        lan.connect(&lan.node, Self::PARENT, &Self::NODE)?;
        lan.connect(&lan.other, "eth0", &Self::OTHER)?;
        Ok(lan)
    }

    /// Plugs `link` of `space` into the switch and gives it addresses.
    pub fn connect(&self, space: &Space, link: &str, ips: &[&str]) -> Result<()> {
        cable(space, link, &self.switch, &space.name)?;
        self.switch.plug("sw0", &space.name)?;
        for ip in ips {
            space.address(link, &format!("{ip}/{}", if ip.contains(':') { 64 } else { 24 }))?;
        }
        Ok(())
    }

    /// Plugs two more links of the node into the switch, each with an address of a network of its own, for who lends them.
    /// One that is there already stays as it is.
    pub fn add_spare(&self) -> Result<()> {
        for (link, ip) in Self::SPARE.into_iter().zip(["192.168.20.1", "192.168.30.1"]) {
            if self.node.find(link)?.is_some() {
                continue;
            }
            cable(&self.node, link, &self.switch, link)?;
            self.switch.plug("sw0", link)?;
            self.node.address(link, &format!("{ip}/24"))?;
        }
        Ok(())
    }

    /// Has the switch send frames back to the node where they came from, or not.
    pub fn hairpin(&self, on: bool) -> Result<()> {
        let port = self.switch.link(&self.node.name)?.index;
        self.switch.set_port(&self.node.name, LinkBridgePort::new(port).hairpin(on).build())
    }
}
