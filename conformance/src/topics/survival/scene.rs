//! A node for each type of plugin, with a pod that is there already and one to be added.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cni::Call;
use crate::lab::{Lan, Snapshot, Space};
use crate::runner::{Attachment, Case, merged};

/// Where a call is killed or spoilt.
pub(super) struct Scene {
    /// Which.
    pub(super) device: Device,
    /// Who is on the network all the time, if anybody.
    neighbour: Option<Attachment>,
    /// Who comes and goes.
    pub(super) attachment: Attachment,
    _lan: Lan,
}

impl Scene {
    /// With a neighbour on the network if `inhabited`; else what the network as a whole has is not there either.
    pub(super) fn new(case: &Case, device: Device, inhabited: bool) -> Result<Self> {
        let lan = Lan::new()?;
        let conf = device.conf(case, &lan)?;
        let attached = |name: &str| {
            let attachment = case.attachment(&lan.node, &case.pod(name)?, &conf);
            anyhow::Ok(if device == Device::Loopback { attachment.ifname("lo") } else { attachment })
        };
        let neighbour = if inhabited && device.is_shared() {
            let neighbour = attached("neighbour")?;
            neighbour.add()?;
            Some(neighbour)
        } else {
            None
        };
        let attachment = attached("pod")?;
        Ok(Self { device, neighbour, attachment, _lan: lan })
    }

    /// The namespaces that a call may change, but for its own pod, as they are now, with the leases.
    pub(super) fn around(&self) -> Result<Snapshot> {
        let neighbour = self.neighbour.iter().map(|neighbour| &neighbour.pod);
        self.look(&neighbour.chain([&self.attachment.node]).collect::<Vec<_>>())
    }

    /// The same with the pod.
    pub(super) fn everything(&self) -> Result<Snapshot> {
        let neighbour = self.neighbour.iter().map(|neighbour| &neighbour.pod);
        self.look(&neighbour.chain([&self.attachment.node, &self.attachment.pod]).collect::<Vec<_>>())
    }

    fn look(&self, spaces: &[&Space]) -> Result<Snapshot> {
        let leases = self.attachment.case.leases();
        // To list rules starts a program for each namespace, and nobody else makes any.
        let take = if self.device == Device::Bridge { Snapshot::take } else { Snapshot::without_rules };
        take(spaces, &leases)
    }

    /// GC of the network without the attachment that comes and goes.
    pub(super) fn collect(&self) -> Result<()> {
        self.gc().succeed().map(drop)
    }

    /// That call.
    pub(super) fn gc(&self) -> Call {
        let Attachment { case, node, conf, .. } = &self.attachment;
        let valid = |a: &Attachment| json!({ "containerID": a.container, "ifname": a.ifname });
        let valid: Vec<Value> = self.neighbour.iter().map(valid).collect();
        let conf = merged(conf, json!({ "cni.dev/valid-attachments": valid }));
        case.call(node, self.device.plugin(), "GC").conf(&conf)
    }

    /// What has to be there before `command`.
    pub(super) fn prepare(&self, command: &str) -> Result<()> {
        match command {
            "DEL" => self.attachment.add().map(drop),
            // The folder of the leases too is made by the first who needs it.
            _ if self.neighbour.is_none() => {
                let leases = self.attachment.case.leases();
                std::fs::create_dir_all(&leases)?;
                Ok(std::fs::remove_dir_all(&leases)?)
            }
            _ => Ok(()),
        }
    }
}

/// What the pod is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Device {
    Bridge,
    Macvlan,
    Ipvlan,
    Vlan,
    VlanShared,
    Vxlan,
    Bond,
    HostLocal,
    Static,
    Loopback,
}

impl Device {
    fn plugin(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
            Self::Vlan | Self::VlanShared => "vlan",
            Self::Vxlan => "vxlan",
            Self::Bond => "bond",
            Self::HostLocal => "host-local",
            Self::Static => "static",
            Self::Loopback => "loopback",
        }
    }

    /// Whether most kernels lack it, so that it is tried in an emulated one, which is slow.
    pub(super) fn is_rare(self) -> bool {
        matches!(self, Self::Ipvlan | Self::Vlan | Self::VlanShared | Self::Bond)
    }

    /// Whether several pods of a node can be on one network and have something together.
    fn is_shared(self) -> bool {
        !matches!(self, Self::Vlan | Self::Bond | Self::Static | Self::Loopback)
    }

    fn conf(self, case: &Case, lan: &Lan) -> Result<Value> {
        let mut ipam = match self {
            Self::Bridge => case.host_local(&["10.7.0.0/24", "fd08::/64"]),
            Self::Static => json!({ "type": "static", "addresses": [{ "address": "192.168.7.9/24" }] }),
            _ => case.host_local(&["192.168.7.0/24", "fd07::/64"]),
        };
        ipam["routes"] = json!([{ "dst": "10.99.0.0/16" }]);
        let conf = json!({ "cniVersion": "1.1.0", "name": "net", "type": self.plugin(), "ipam": ipam });
        Ok(merged(&conf, self.options(lan)?))
    }

    /// As much as can be asked of the device at once.
    fn options(self, lan: &Lan) -> Result<Value> {
        Ok(match self {
            Self::Bridge => json!({
                "isDefaultGateway": true, "ipMasq": true, "macspoofchk": true, "hairpinMode": true,
            }),
            Self::Macvlan | Self::Ipvlan => json!({ "master": Lan::PARENT, "hostAccess": true }),
            Self::Vlan => json!({ "master": Lan::PARENT, "vlanId": 100 }),
            Self::VlanShared => json!({ "master": Lan::PARENT, "vlanId": 100, "shared": true }),
            Self::Vxlan => json!({ "dev": Lan::PARENT, "vni": 42, "remotes": [Lan::OTHER[0]] }),
            Self::Bond => {
                lan.add_spare()?;
                json!({ "mode": "active-backup", "links": Lan::SPARE.map(|link| json!({ "name": link })) })
            }
            Self::HostLocal | Self::Static => json!({}),
            Self::Loopback => json!({ "ipam": null }),
        })
    }
}
