//! The options of `bridge`.

use std::collections::BTreeSet;

use podwire_plugin::{
    Error, Mac, NetConf, Result,
    net::Vlan,
    spec::{Command, Env, interface_name},
};
use serde::Deserialize;

/// The options of the reference plugin, by the same names and with the same defaults.
#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own, named by the field's standard plugin")]
pub struct Config {
    /// The bridge's name; it is made if it is not there. Default: `cni0`.
    pub(crate) bridge: String,
    /// Give the bridge the gateway's address. Default: false.
    is_gateway: bool,
    /// As `isGateway`, and the pod's default route by it. Default: false.
    pub(crate) is_default_gateway: bool,
    /// Replace another address of the bridge by the gateway's. Default: false, which is an error then.
    pub(crate) force_address: bool,
    /// Masquerade what the pod sends out of its network. Default: false.
    pub(crate) ip_masq: bool,
    /// Taken for compatibility: masquerading is always done by nftables, over netlink.
    ip_masq_backend: Option<Backend>,
    /// MTU in bytes of the pod's link. Default: the bridge's. 0 is as absent.
    mtu: Option<u32>,
    /// The MAC address of the pod's link. Default: a random one.
    pub(crate) mac: Option<Mac>,
    /// Frames may leave the port where they came in. Default: false.
    pub(crate) hairpin_mode: bool,
    /// Set the bridge to promiscuous mode. Default: false.
    pub(crate) promisc_mode: bool,
    /// The port's access VLAN, 1 to 4094. Default: none. 0 is as absent.
    vlan: Option<u16>,
    /// The VLANs that the port carries with their tag. Default: none.
    vlan_trunk: Vec<Trunk>,
    /// Leave the port in the bridge's default VLAN too. Default: true.
    pub(crate) preserve_default_vlan: bool,
    /// Let only frames with the pod's MAC address in. Default: false.
    pub(crate) macspoofchk: bool,
    /// Wait for duplicate-address detection of IPv6 addresses. Default: false.
    pub(crate) enabledad: bool,
    /// Leave the pod's link down and without addresses. Default: false.
    pub(crate) disable_container_interface: bool,
    /// Keep the port from talking to other isolated ports. Default: false.
    pub(crate) port_isolation: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bridge: "cni0".to_owned(),
            is_gateway: false,
            is_default_gateway: false,
            force_address: false,
            ip_masq: false,
            ip_masq_backend: None,
            mtu: None,
            mac: None,
            hairpin_mode: false,
            promisc_mode: false,
            vlan: None,
            vlan_trunk: Vec::new(),
            preserve_default_vlan: true,
            macspoofchk: false,
            enabledad: false,
            disable_container_interface: false,
            port_isolation: false,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Backend {
    Iptables,
    Nftables,
}

/// One entry of `vlanTrunk`: an id, a range, or both.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Trunk {
    id: Option<u16>,
    #[serde(rename = "minID")]
    min_id: Option<u16>,
    #[serde(rename = "maxID")]
    max_id: Option<u16>,
}

impl Trunk {
    /// Its first and last VLAN, and the one that it names by itself.
    fn spans(&self) -> impl Iterator<Item = (u16, u16)> {
        self.id.map(|id| (id, id)).into_iter().chain(self.min_id.zip(self.max_id))
    }
}

impl Config {
    /// Whether the bridge gets the gateway's address.
    pub(crate) fn is_gateway(&self) -> bool {
        self.is_gateway || self.is_default_gateway
    }

    /// The MTU asked for, in bytes.
    pub(crate) fn mtu(&self) -> Option<u32> {
        self.mtu.filter(|&mtu| mtu != 0)
    }

    /// The access VLAN.
    pub(crate) fn access_vlan(&self) -> Option<u16> {
        self.vlan.filter(|&id| id != 0)
    }

    /// Whether the bridge has to filter VLANs.
    pub(crate) fn wants_vlans(&self) -> bool {
        self.access_vlan().is_some() || !self.vlan_trunk.is_empty()
    }

    /// The VLANs of the port, as few ranges as will do.
    pub(crate) fn vlans(&self) -> Vec<Vlan> {
        // Entries that say the same are one: each may name thousands.
        let spans: BTreeSet<_> = self.vlan_trunk.iter().flat_map(Trunk::spans).collect();
        let tagged: BTreeSet<_> = spans.into_iter().flat_map(|(first, last)| first..=last).collect();
        let access = self.access_vlan();
        let mut vlans: Vec<Vlan> = Vec::new();
        for id in tagged.into_iter().filter(|&id| Some(id) != access) {
            match vlans.last_mut() {
                Some(range) if range.last + 1 == id => range.last = id,
                _ => vlans.push(Vlan::trunk(id, id)),
            }
        }
        vlans.extend(access.map(Vlan::access));
        vlans
    }
}

/// Refuses what contradicts itself.
pub(crate) fn validate(env: &Env, conf: &NetConf<Config>) -> Result<()> {
    let config = &conf.plugin;
    if !interface_name(&config.bridge) {
        return Err(Error::invalid("bridge", format!("{:?}: not the name of an interface", config.bridge)).into());
    }
    if config.hairpin_mode && config.promisc_mode {
        let why = "cannot be combined with hairpinMode: every frame would be seen twice";
        return Err(Error::invalid("promiscMode", why).into());
    }
    if config.disable_container_interface && conf.ipam.is_some() {
        let why = "cannot be combined with ipam: an interface that is down has no use for addresses";
        return Err(Error::invalid("disableContainerInterface", why).into());
    }
    // RFC 791 and RFC 8200 name the least; more than the largest jumbo frame no link carries.
    if let Some(mtu) = config.mtu().filter(|mtu| !(68..=65535).contains(mtu)) {
        return Err(Error::invalid("mtu", format!("{mtu}: not between 68 and 65535 bytes")).into());
    }
    validate_vlans(config)?;
    if let (Some(Backend::Iptables), Command::Add) = (config.ip_masq_backend, env.command) {
        tracing::warn!(
            "network {:?}: ipMasqBackend \"iptables\": masquerading is done by nftables all the same",
            conf.name
        );
    }
    Ok(())
}

fn validate_vlans(config: &Config) -> Result<()> {
    if config.vlan_trunk.len() > 4094 {
        return Err(
            Error::invalid("vlanTrunk", format!("{} entries; there are 4094 VLANs", config.vlan_trunk.len())).into()
        );
    }
    let out_of_range = |path: String, id: u16| Error::invalid(&path, format!("{id}: a VLAN's id is 1 to 4094"));
    if let Some(id) = config.access_vlan().filter(|&id| id > 4094) {
        return Err(out_of_range("vlan".to_owned(), id).into());
    }
    for (place, trunk) in config.vlan_trunk.iter().enumerate() {
        let path = format!("vlanTrunk[{place}]");
        for (key, id) in [("id", trunk.id), ("minID", trunk.min_id), ("maxID", trunk.max_id)] {
            if let Some(id) = id.filter(|id| !(1..=4094).contains(id)) {
                return Err(out_of_range(format!("{path}.{key}"), id).into());
            }
        }
        match (trunk.id, trunk.min_id, trunk.max_id) {
            (None, None, None) => return Err(Error::invalid(&path, "needs id, or minID and maxID").into()),
            (_, Some(min), Some(max)) if min > max => {
                return Err(Error::invalid(&path, format!("minID {min} is above maxID {max}")).into());
            }
            (_, Some(_), None) => return Err(Error::invalid(&path, "minID without maxID").into()),
            (_, None, Some(_)) => return Err(Error::invalid(&path, "maxID without minID").into()),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlans_fold_into_ranges_and_the_access_vlan_stands_alone() {
        let trunk = |id, min_id, max_id| Trunk { id, min_id, max_id };
        let config = Config {
            vlan: Some(11),
            vlan_trunk: vec![
                trunk(Some(5), None, None),
                trunk(Some(12), Some(6), Some(11)),
                trunk(Some(5), None, None),
            ],
            ..Config::default()
        };
        assert_eq!(config.vlans(), [Vlan::trunk(5, 10), Vlan::trunk(12, 12), Vlan::access(11)]);
        assert!(Config::default().vlans().is_empty() && !Config::default().wants_vlans());
    }

    #[test]
    fn p05_vlans_that_cannot_be_are_refused_with_their_path() {
        for (trunk, said) in [
            (Trunk { id: Some(4095), min_id: None, max_id: None }, "vlanTrunk[0].id"),
            (Trunk { id: None, min_id: Some(3), max_id: Some(2) }, "above"),
            (Trunk { id: None, min_id: Some(3), max_id: None }, "without maxID"),
            (Trunk { id: None, min_id: None, max_id: None }, "needs id"),
        ] {
            let config = Config { vlan_trunk: vec![trunk], ..Config::default() };
            let error = validate_vlans(&config).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
