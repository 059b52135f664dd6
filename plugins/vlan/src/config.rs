//! The options of `vlan`.

use std::{collections::BTreeMap, fmt::Display};

use podwire_plugin::{
    Error, NetConf, Result,
    net::{VlanDevice, VlanProtocol},
};
use serde::Deserialize;

/// The highest id: 4095 is reserved (IEEE 802.1Q, table 9-2).
const MAX_ID: u16 = 4094;
/// The highest priority that a tag can carry in its three bits.
const MAX_PRIORITY: u32 = 7;

/// The reference plugin's options, by the same names and with the same defaults, and podwire's own.
#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// The parent. Default: the previous plugin's first interface, else the link of the default route.
    pub(crate) master: Option<String>,
    /// The number in the tag, 0 to 4094. Default: 0, which tags with a priority and no VLAN.
    vlan_id: u16,
    /// MTU in bytes of the pod's link. Default: the parent's. 0 is as absent.
    mtu: Option<u32>,
    /// The parent is in the pod, and not on the node. Default: false.
    pub(crate) link_in_container: bool,
    /// The kind of tag. Default: 802.1q.
    protocol: Protocol,
    /// The kernel's priority of a packet by that of the tag it came in. Default: 0 for all.
    ingress_qos_map: BTreeMap<u32, u32>,
    /// The priority in the tag by the kernel's of a packet that leaves. Default: 0 for all.
    egress_qos_map: BTreeMap<u32, u32>,
    /// Whoever captures on the pod's link sees frames without their tag. Default: true.
    reorder_header: bool,
    /// Let several pods of the node have this VLAN of this parent. Default: false.
    pub(crate) shared: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            master: None,
            vlan_id: 0,
            mtu: None,
            link_in_container: false,
            protocol: Protocol::Q,
            ingress_qos_map: BTreeMap::new(),
            egress_qos_map: BTreeMap::new(),
            reorder_header: true,
            shared: false,
        }
    }
}

/// By the names that `ip link` reads, and those that it writes.
#[derive(Clone, Copy, Debug, Deserialize)]
enum Protocol {
    #[serde(rename = "802.1q", alias = "802.1Q")]
    Q,
    #[serde(rename = "802.1ad", alias = "802.1AD")]
    Ad,
}

impl Config {
    /// The MTU asked for, in bytes.
    pub(crate) fn mtu(&self) -> Option<u32> {
        self.mtu.filter(|&mtu| mtu != 0)
    }

    /// The device that is asked for.
    pub(crate) fn device(&self) -> VlanDevice {
        let protocol = match self.protocol {
            Protocol::Q => VlanProtocol::Q,
            Protocol::Ad => VlanProtocol::Ad,
        };
        VlanDevice {
            reorder_header: self.reorder_header,
            ingress: told(&self.ingress_qos_map),
            egress: told(&self.egress_qos_map),
            ..VlanDevice::new(self.vlan_id, protocol)
        }
    }
}

/// A map without what maps to 0: that is the default, and the kernel does not tell it.
fn told(map: &BTreeMap<u32, u32>) -> BTreeMap<u32, u32> {
    map.iter().filter(|(_, to)| **to != 0).map(|(from, to)| (*from, *to)).collect()
}

/// Refuses what contradicts itself.
pub(crate) fn validate(conf: &NetConf<Config>) -> Result<()> {
    let config = &conf.plugin;
    let refuse = |path: &str, why: String| Err(Error::invalid(path, why).into());
    if config.vlan_id > MAX_ID {
        return refuse("vlanId", format!("{}: a VLAN's id is 0 to {MAX_ID}", config.vlan_id));
    }
    // RFC 791 names the least; more than the largest jumbo frame no link carries.
    if let Some(mtu) = config.mtu().filter(|mtu| !(68..=65535).contains(mtu)) {
        return refuse("mtu", format!("{mtu}: not between 68 and 65535 bytes"));
    }
    for (path, priorities) in [
        ("ingressQosMap", config.ingress_qos_map.keys().collect::<Vec<_>>()),
        ("egressQosMap", config.egress_qos_map.values().collect()),
    ] {
        if let Some(priority) = priorities.into_iter().find(|&&priority| priority > MAX_PRIORITY) {
            return refuse(path, out_of_range(priority));
        }
    }
    if config.shared && config.link_in_container {
        return refuse("shared", "cannot be combined with linkInContainer: pods share what is on the node".to_owned());
    }
    if config.shared && !config.reorder_header {
        let why = "false cannot be combined with shared: each pod's link is a macvlan, which gets frames without tag";
        return refuse("reorderHeader", why.to_owned());
    }
    Ok(())
}

fn out_of_range(priority: impl Display) -> String {
    format!("{priority}: a tag's priority is 0 to {MAX_PRIORITY}; this map is of {{\"FROM\": TO}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(options: &str) -> String {
        let text = format!(r#"{{"cniVersion": "1.1.0", "name": "n", "type": "vlan", {options}}}"#);
        let conf = NetConf::<Config>::parse(&text).unwrap();
        validate(&conf).unwrap_err().to_string()
    }

    #[test]
    fn p05_what_cannot_be_is_refused_with_its_path() {
        for (options, said) in [
            (r#""vlanId": 4095"#, "vlanId: 4095"),
            (r#""mtu": 67"#, "mtu: 67"),
            (r#""ingressQosMap": {"8": 1}"#, "ingressQosMap: 8"),
            (r#""egressQosMap": {"1": 8}"#, "egressQosMap: 8"),
            (r#""shared": true, "linkInContainer": true"#, "shared: "),
            (r#""shared": true, "reorderHeader": false"#, "reorderHeader: "),
        ] {
            let error = refusal(options);
            assert!(error.contains(said), "{options}: {error}");
        }
    }

    #[test]
    fn options_become_a_device() {
        let text = r#"{"name": "n", "type": "vlan", "vlanId": 7, "protocol": "802.1ad", "reorderHeader": false,
            "ingressQosMap": {"3": 5, "4": 0}, "egressQosMap": {"0": 3, "4000000000": 7}}"#;
        let conf = NetConf::<Config>::parse(text).unwrap();
        validate(&conf).unwrap();
        let wanted = VlanDevice {
            id: 7,
            protocol: VlanProtocol::Ad,
            reorder_header: false,
            ingress: BTreeMap::from([(3, 5)]),
            egress: BTreeMap::from([(0, 3), (4_000_000_000, 7)]),
        };
        assert_eq!(conf.plugin.device(), wanted);
        assert!(conf.unknown.is_empty(), "{:?}", conf.unknown);
    }

    #[test]
    fn an_absent_option_has_the_kernels_default() {
        assert_eq!(Config::default().device(), VlanDevice::new(0, VlanProtocol::Q));
    }
}
