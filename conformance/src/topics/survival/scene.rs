//! A node for each type of device, with a pod that is there already and one to be added.

use anyhow::Result;
use serde_json::{Value, json};

use crate::lab::{Lan, Space};
use crate::runner::{Attachment, Case, merged};

/// Where a call is killed.
pub(super) struct Scene {
    /// Who is on the network all the time, if anybody.
    pub(super) neighbour: Option<Attachment>,
    /// Who comes and goes.
    pub(super) attachment: Attachment,
    _lan: Lan,
}

impl Scene {
    /// With a neighbour on the network if `inhabited`; else what the network as a whole has is not there either.
    pub(super) fn new(case: &Case, device: Device, inhabited: bool) -> Result<Self> {
        let lan = Lan::new()?;
        let options = device.options(case, &lan)?;
        let conf = |own: &[&str]| -> Value {
            let conf = json!({ "cniVersion": "1.1.0", "name": "net", "type": device.plugin() });
            let mut conf = merged(&merged(&conf, json!({ "ipam": case.host_local(own) })), options.clone());
            conf["ipam"]["routes"] = json!([{ "dst": "10.99.0.0/16" }]);
            conf
        };
        let conf = conf(&["192.168.7.0/24", "fd07::/64"]);
        let neighbour = if inhabited && device.is_shared() {
            let neighbour = case.attachment(&lan.node, &case.pod("neighbour")?, &conf);
            neighbour.add()?;
            Some(neighbour)
        } else {
            None
        };
        let attachment = case.attachment(&lan.node, &case.pod("pod")?, &conf);
        Ok(Self { neighbour, attachment, _lan: lan })
    }

    /// The namespaces that a call may change, but for its own pod.
    pub(super) fn spaces(&self) -> Vec<&Space> {
        let neighbour = self.neighbour.iter().map(|neighbour| &neighbour.pod);
        neighbour.chain([&self.attachment.node]).collect()
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
        }
    }

    /// Whether several pods of a node can be on one network.
    fn is_shared(self) -> bool {
        !matches!(self, Self::Vlan | Self::Bond)
    }

    /// As much as can be asked of the device at once.
    fn options(self, case: &Case, lan: &Lan) -> Result<Value> {
        Ok(match self {
            Self::Bridge => json!({
                "isDefaultGateway": true, "ipMasq": true, "macspoofchk": true, "hairpinMode": true,
                "ipam": case.host_local(&["10.7.0.0/24", "fd08::/64"]),
            }),
            Self::Macvlan | Self::Ipvlan => json!({ "master": Lan::PARENT, "hostAccess": true }),
            Self::Vlan => json!({ "master": Lan::PARENT, "vlanId": 100 }),
            Self::VlanShared => json!({ "master": Lan::PARENT, "vlanId": 100, "shared": true }),
            Self::Vxlan => json!({ "dev": Lan::PARENT, "vni": 42, "remotes": [Lan::OTHER[0]] }),
            Self::Bond => {
                for link in ["eth2", "eth3"] {
                    crate::lab::cable(&lan.node, link, &lan.switch, link)?;
                    lan.switch.plug("sw0", link)?;
                    lan.node.address(link, &format!("192.168.{}.1/24", if link == "eth2" { 20 } else { 30 }))?;
                }
                json!({ "mode": "active-backup", "links": [{ "name": "eth2" }, { "name": "eth3" }] })
            }
        })
    }
}
