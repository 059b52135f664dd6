//! Nodes whose pods share something, and a place that each pod has to reach.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::cni::Call;
use crate::lab::{Lan, Snapshot};
use crate::packets::reaches;
use crate::runner::{Attachment, Case, Feature, merged};

/// What the pods of a node share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Device {
    /// A bridge, and the tables of nftables.
    Bridge,
    /// A VXLAN device and its bridge.
    Vxlan,
    /// The parent of their VLANs.
    Vlan,
    /// A VLAN.
    VlanShared,
    /// A shim on the parent.
    Macvlan,
    /// A shim on the parent.
    Ipvlan,
    /// Nothing: its links are lent to one pod at a time.
    Bond,
}

pub(super) const BRIDGE: &[Feature] = &[Feature::Strace, Feature::NftInet, Feature::NftBridge];
pub(super) const VXLAN: &[Feature] = &[Feature::Strace, Feature::Vxlan];
pub(super) const VLAN: &[Feature] = &[Feature::Strace, Feature::Vlan];
pub(super) const VLAN_SHARED: &[Feature] = &[Feature::Strace, Feature::Vlan, Feature::Macvlan];
pub(super) const MACVLAN: &[Feature] = &[Feature::Strace, Feature::Macvlan];
pub(super) const IPVLAN: &[Feature] = &[Feature::Strace, Feature::Ipvlan];
pub(super) const BOND: &[Feature] = &[Feature::Strace, Feature::Bond];

/// A route that no pod can have: ADD fails when all but that is done.
const IMPOSSIBLE: &str = "172.31.0.1";

impl Device {
    fn options(self) -> Value {
        match self {
            Self::Bridge => json!({ "type": "bridge", "isDefaultGateway": true, "ipMasq": true, "macspoofchk": true }),
            Self::Vxlan => json!({ "type": "vxlan", "dev": Lan::PARENT, "vni": 42, "remotes": [Lan::OTHER[0]] }),
            Self::Vlan => json!({ "type": "vlan", "master": Lan::PARENT }),
            Self::VlanShared => json!({ "type": "vlan", "master": Lan::PARENT, "vlanId": 100, "shared": true }),
            Self::Macvlan => json!({ "type": "macvlan", "master": Lan::PARENT, "hostAccess": true }),
            Self::Ipvlan => json!({ "type": "ipvlan", "master": Lan::PARENT, "hostAccess": true }),
            Self::Bond => {
                let links = Lan::SPARE.map(|link| json!({ "name": link }));
                json!({ "type": "bond", "mode": "active-backup", "links": links })
            }
        }
    }

    /// The same network on the other node, where it has one there.
    fn far(self) -> Option<Value> {
        match self {
            Self::Vxlan => Some(json!({ "dev": "eth0", "remotes": [Lan::NODE[0]] })),
            Self::Vlan | Self::VlanShared => Some(json!({ "master": "eth0" })),
            Self::Bridge | Self::Macvlan | Self::Ipvlan | Self::Bond => None,
        }
    }

    /// Whether most kernels have it, and so not only an emulated one, which is slow.
    pub(super) fn is_common(self) -> bool {
        matches!(self, Self::Bridge | Self::Vxlan | Self::Macvlan)
    }

    /// By how many requests the places are apart where a call is halted: each, or only some on a slow kernel.
    pub(super) fn stride(self, on_slow: usize) -> usize {
        if self.is_common() { 1 } else { on_slow }
    }
}

/// A node, and what its pods have in common.
pub(super) struct Scene {
    case: Case,
    pub(super) device: Device,
    pub(super) lan: Lan,
    /// The pods on the other node, by the number of the first that looks for them.
    far: RefCell<BTreeMap<usize, Attachment>>,
    before: Snapshot,
}

/// A pod that comes and goes.
pub(super) struct Guest {
    pub(super) attachment: Attachment,
    /// Whom it has to reach.
    peer: IpAddr,
}

impl Scene {
    pub(super) fn new(case: &Case, device: Device) -> Result<Self> {
        let lan = Lan::new()?;
        if device == Device::Bond {
            lan.add_spare()?;
        }
        let before = case.snapshot(&[&lan.node])?;
        Ok(Self { case: case.clone(), device, lan, far: RefCell::default(), before })
    }

    /// The network that the pod with this number is in.
    fn conf(&self, number: usize) -> Value {
        let subnet = match self.device {
            Device::Macvlan | Device::Ipvlan | Device::Bond => "192.168.7.0/24",
            _ => "10.7.0.0/24",
        };
        let range = json!({ "subnet": subnet, "rangeStart": subnet.replace("0/24", "10"), "rangeEnd": subnet.replace("0/24", "99") });
        let conf = json!({
            "cniVersion": "1.1.0", "name": "net",
            "ipam": { "type": "host-local", "dataDir": self.case.leases(), "ranges": [[range]] },
        });
        let conf = merged(&conf, self.device.options());
        if self.device == Device::Vlan { merged(&conf, json!({ "vlanId": 100 + number })) } else { conf }
    }

    /// The pod with this number, not yet added.
    pub(super) fn guest(&self, number: usize) -> Result<Guest> {
        let conf = self.conf(number);
        let pod = self.case.pod(&format!("p{number}"))?;
        let attachment = self.case.attachment(&self.lan.node, &pod, &conf);
        let peer = match self.device.far() {
            None if self.device == Device::Bridge => "10.7.0.1".parse()?,
            None if self.device == Device::Bond => Lan::OTHER[0].parse()?,
            None => Lan::NODE[0].parse()?,
            Some(own) => self.far_end(number, &merged(&conf, own))?,
        };
        Ok(Guest { attachment, peer })
    }

    /// The address of a pod on the other node that is in the network: one for all, but for VLANs.
    fn far_end(&self, number: usize, conf: &Value) -> Result<IpAddr> {
        let number = if self.device == Device::Vlan { number } else { 0 };
        let address = format!("10.7.0.{}", 200 + number);
        if let Entry::Vacant(vacant) = self.far.borrow_mut().entry(number) {
            let ipam = json!({ "type": "static", "addresses": [{ "address": format!("{address}/24") }] });
            let conf = merged(&merged(conf, json!({ "ipam": null })), json!({ "ipam": ipam }));
            let far = self.case.attachment(&self.lan.other, &self.case.pod(&format!("far{number}"))?, &conf);
            far.add().context("the pod on the other node")?;
            vacant.insert(far);
        }
        Ok(address.parse()?)
    }

    /// GC of the network, with these attachments as the valid ones.
    pub(super) fn collect(&self, valid: &[&Attachment]) -> Call {
        let valid: Vec<_> = valid.iter().map(|a| json!({ "containerID": a.container, "ifname": a.ifname })).collect();
        let conf = merged(&self.conf(0), json!({ "cni.dev/valid-attachments": valid }));
        self.case.call(&self.lan.node, conf["type"].as_str().unwrap_or_default(), "GC").conf(&conf)
    }

    /// Fails unless all that was added has gone with its DEL, and the rest, a bridge, goes with GC.
    pub(super) fn ensure_clean(&self) -> Result<()> {
        let is_same = || self.before.ensure_same(&self.case.snapshot(&[&self.lan.node])?);
        match self.device {
            Device::Bridge => {
                let ports = self.lan.node.find("cni0")?.map_or(Ok(Vec::new()), |_| self.lan.node.ports("cni0"))?;
                ensure!(ports.is_empty(), "ports are left: {ports:?}");
                let rules = self.lan.node.ruleset()?;
                ensure!(!rules.contains("podwire:"), "rules are left: {rules}");
                let leases = self.case.lease_names("net")?;
                ensure!(leases.is_empty(), "leases are left: {leases:?}");
            }
            // What a namespace held that is gone goes when the kernel has the time.
            _ => soon(is_same).context("after DEL")?,
        }
        self.collect(&[]).succeed()?;
        is_same().context("after GC")
    }
}

/// Looks until it is so, for a few seconds.
pub(super) fn soon(look: impl Fn() -> Result<()>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(3);
    loop {
        let found = look();
        if found.is_ok() || Instant::now() > end {
            return found;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

impl Guest {
    /// ADD, and whether the pod has what it was promised.
    pub(super) fn comes(&self) -> Result<Value> {
        let result = self.attachment.add()?;
        self.works(&result)?;
        Ok(result)
    }

    /// Whether the pod has what ADD reported, and reaches whom it has to.
    pub(super) fn works(&self, result: &Value) -> Result<()> {
        self.attachment.check(result)?;
        reaches(&self.attachment.pod, self.peer)
            .map(drop)
            .with_context(|| format!("pod {:?} after {result}", self.attachment.pod.name))
    }

    /// The same pod with something that lets ADD fail when all but that is done.
    pub(super) fn doomed(&self) -> Attachment {
        let routes = json!({ "ipam": { "routes": [{ "dst": "192.0.2.0/24", "gw": IMPOSSIBLE }] } });
        self.attachment.clone().with(routes)
    }
}

/// Does both at once, each after the time named.
pub(super) fn both<A: Send, B: Send>(
    (first, after): (impl FnOnce() -> Result<A> + Send, Duration),
    (second, lag): (impl FnOnce() -> Result<B> + Send, Duration),
) -> Result<(A, B)> {
    thread::scope(|scope| {
        let first = scope.spawn(move || {
            thread::sleep(after);
            first()
        });
        thread::sleep(lag);
        let second = second();
        Ok((first.join().map_err(|_| anyhow!("a thread panicked"))??, second?))
    })
}
