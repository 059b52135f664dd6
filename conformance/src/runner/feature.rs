//! What tests need of the kernel and the machine, found out by trying.

use std::path::Path;
use std::process::{Command, Stdio};

use netlink_packet_route::link::{InfoKind, IpVlanMode, LinkMessage, MacVlanMode};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};
use serde::{Deserialize, Serialize};

use crate::cni::tool;
use crate::lab::{Software, Space, is_real_root};

/// Something a test cannot run without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// A bridge that filters VLANs (`CONFIG_BRIDGE_VLAN_FILTERING`).
    BridgeVlan,
    /// nftables for both IP versions together, with masquerade, and the program `nft` to look at it.
    NftInet,
    /// nftables in the bridge family, and the program `nft` to look at it.
    NftBridge,
    /// Links of type dummy.
    Dummy,
    /// Links of type vlan (`8021q`).
    Vlan,
    /// Links of type macvlan.
    Macvlan,
    /// Links of type ipvlan.
    Ipvlan,
    /// Links of type ipvlan in mode l3s (`CONFIG_IPVLAN_L3S`).
    IpvlanL3s,
    /// Links of type vxlan.
    Vxlan,
    /// Links of type bond.
    Bond,
    /// The older packet filter, and its program `iptables-legacy`.
    Iptables,
    /// The program `strace`.
    Strace,
    /// The reference plugins as Debian installs them, in `/usr/lib/cni`.
    Reference,
    /// cnitool 1.3.0 in the path or in `target/tools`.
    Cnitool,
    /// containerd, runc and a static busybox.
    Containerd,
    /// The DHCP servers dnsmasq and Kea, in `target/tools` or in the path.
    DhcpServers,
    /// Root of the machine, not only of a user namespace.
    Root,
}

impl Feature {
    /// Every feature.
    pub const ALL: &'static [Self] = &[
        Self::BridgeVlan,
        Self::NftInet,
        Self::NftBridge,
        Self::Dummy,
        Self::Vlan,
        Self::Macvlan,
        Self::Ipvlan,
        Self::IpvlanL3s,
        Self::Vxlan,
        Self::Bond,
        Self::Iptables,
        Self::Strace,
        Self::Reference,
        Self::Cnitool,
        Self::Containerd,
        Self::DhcpServers,
        Self::Root,
    ];

    /// Whether it is here. Kernel features are tried in a namespace of their own.
    pub fn is_here(self) -> bool {
        match self {
            Self::BridgeVlan => link_works(LinkBridge::new("probe").vlan_filtering(true).build()),
            Self::NftInet => rules_work(
                "table inet probe { chain c { type nat hook postrouting priority 100; ip saddr 10.0.0.0/8 masquerade; }; }",
            ),
            Self::NftBridge => {
                rules_work("table bridge probe { chain c { type filter hook prerouting priority -300; }; }")
            }
            Self::Dummy => link_works(kind(InfoKind::Dummy)),
            Self::Vlan => on_a_parent(|parent| rtnetlink::LinkVlan::new("probe", parent, 7).build()),
            Self::Macvlan => {
                on_a_parent(|parent| rtnetlink::LinkMacVlan::new("probe", parent, MacVlanMode::Bridge).build())
            }
            Self::Ipvlan => on_a_parent(|parent| rtnetlink::LinkIpVlan::new("probe", parent, IpVlanMode::L2).build()),
            Self::IpvlanL3s => {
                on_a_parent(|parent| rtnetlink::LinkIpVlan::new("probe", parent, IpVlanMode::L3S).build())
            }
            Self::Vxlan => link_works(rtnetlink::LinkVxlan::new("probe", 7).build()),
            Self::Bond => link_works(kind(InfoKind::Bond)),
            Self::Iptables => iptables_works(),
            Self::Strace => has("strace"),
            Self::Reference => {
                ["bridge", "host-local"].iter().all(|name| Path::new("/usr/lib/cni").join(name).exists())
            }
            Self::Cnitool => cnitool().is_some(),
            Self::Containerd => has("containerd") && has("runc") && Path::new("/bin/busybox").exists(),
            Self::DhcpServers => {
                [Software::Dnsmasq, Software::Kea4, Software::Kea6].iter().all(|server| server.find().is_some())
            }
            Self::Root => is_real_root(),
        }
    }

    /// Whether another kernel can help, rather than another program. Whoever starts a guest is root in it.
    pub fn is_kernels(self) -> bool {
        !matches!(self, Self::Strace | Self::Reference | Self::Cnitool | Self::Containerd | Self::DhcpServers)
    }

    /// Its name in `list` and in messages.
    pub fn name(self) -> String {
        let json = serde_json::to_value(self).unwrap_or_default();
        json.as_str().unwrap_or_default().to_owned()
    }
}

/// Where cnitool is, if it is anywhere.
pub fn cnitool() -> Option<std::path::PathBuf> {
    let here = std::env::current_exe().ok()?;
    let in_target = here.ancestors().map(|directory| directory.join("tools/bin/cnitool"));
    let in_path = std::env::var_os("PATH")?;
    let in_path: Vec<_> = std::env::split_paths(&in_path).map(|directory| directory.join("cnitool")).collect();
    in_target.chain(in_path).find(|path| path.is_file())
}

fn kind(kind: InfoKind) -> LinkMessage {
    LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(kind).name("probe".to_owned()).build()
}

fn link_works(message: LinkMessage) -> bool {
    Space::node("probe").is_ok_and(|space| space.add("probe", message).is_ok())
}

fn on_a_parent(child: impl FnOnce(u32) -> LinkMessage) -> bool {
    let attempt = || -> anyhow::Result<()> {
        let space = Space::node("probe")?;
        space.add_bridge("parent")?;
        let parent = space.link("parent")?.index;
        space.add("probe", child(parent))
    };
    attempt().is_ok()
}

fn rules_work(rules: &str) -> bool {
    Space::node("probe").is_ok_and(|space| space.load_ruleset(rules).is_ok())
}

fn iptables_works() -> bool {
    Space::node("probe").is_ok_and(|space| tool(&space, "iptables-legacy", &["-L", "INPUT"]).is_ok())
}

fn has(program: &str) -> bool {
    // Whatever it answers: that it can be started is enough.
    let started = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    started.is_ok()
}
