//! The options of `macvlan`.

use podwire_plugin::{
    Error, Mac, NetConf, Result,
    net::{MacVlan, MacVlanMode},
    spec::{Command, Env},
};
use serde::Deserialize;

/// The options of the reference plugin, by the same names and with the same defaults, and three of our own.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// The parent. Default: in a chain the previous plugin's interface, else the link of the default route.
    master: Option<String>,
    /// Whom the pod can talk to. Default: bridge.
    pub(crate) mode: Mode,
    /// For mode source: the MAC addresses that the pod takes frames from. Default: none.
    source_macs: Vec<Mac>,
    /// How many broadcast frames may wait on the parent. Default: the kernel's, 1000. 0 is as absent.
    bcqueuelen: Option<u32>,
    /// The MAC address of the pod's link. Default: a random one.
    pub(crate) mac: Option<Mac>,
    /// MTU in bytes of the pod's link. Default: the parent's. 0 is as absent.
    pub(crate) mtu: Option<u32>,
    /// The parent is in the pod. Default: false, on the node.
    pub(crate) link_in_container: bool,
    /// Let node and pod reach each other. Default: false.
    pub(crate) host_access: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    #[default]
    #[serde(alias = "")]
    Bridge,
    Private,
    Vepa,
    Passthru,
    Source,
}

impl Config {
    /// The parent's name, where one is given.
    pub(crate) fn master(&self) -> Option<&str> {
        self.master.as_deref().filter(|name| !name.is_empty())
    }

    /// The device that the options describe.
    pub(crate) fn device(&self) -> MacVlan {
        let mode = match self.mode {
            Mode::Bridge => MacVlanMode::Bridge,
            Mode::Private => MacVlanMode::Private,
            Mode::Vepa => MacVlanMode::Vepa,
            Mode::Passthru => MacVlanMode::Passthru,
            Mode::Source => {
                let mut macs = self.source_macs.clone();
                macs.sort_unstable();
                macs.dedup();
                MacVlanMode::Source(macs)
            }
        };
        MacVlan { mode, broadcast_queue: self.bcqueuelen.filter(|&length| length != 0) }
    }
}

/// Refuses what contradicts itself.
pub(crate) fn validate(env: &Env, conf: &NetConf<Config>) -> Result<()> {
    let config = &conf.plugin;
    if let Some((path, why)) = contradiction(config) {
        return Err(Error::invalid(path, why).into());
    }
    let has_addresses =
        conf.ipam.is_some() || conf.prev_result.as_ref().is_some_and(|previous| !previous.ips.is_empty());
    if config.host_access && env.command == Command::Add && !has_addresses {
        return Err(Error::invalid("hostAccess", "needs addresses to make routes to: an ipam section").into());
    }
    Ok(())
}

fn contradiction(config: &Config) -> Option<(&'static str, &'static str)> {
    if config.mode == Mode::Source && config.source_macs.is_empty() {
        return Some(("sourceMacs", "missing: in mode source no frame would get to the pod"));
    }
    if config.mode != Mode::Source && !config.source_macs.is_empty() {
        return Some(("sourceMacs", "only for mode source: other modes take frames from everybody"));
    }
    if config.host_access && config.mode != Mode::Bridge {
        return Some(("hostAccess", "only with mode bridge: in the others the pod takes nothing from its own node"));
    }
    if config.host_access && config.link_in_container {
        return Some(("hostAccess", "cannot be combined with linkInContainer: the node has no part in that network"));
    }
    None
}

#[cfg(test)]
mod tests {
    use serde::de::{IntoDeserializer, value};

    use super::*;

    #[test]
    fn a_mode_has_the_reference_plugins_name_and_default() {
        let mode = |text: &str| Mode::deserialize(IntoDeserializer::<value::Error>::into_deserializer(text)).ok();
        assert_eq!((mode(""), mode("bridge"), Mode::default()), (Some(Mode::Bridge), Some(Mode::Bridge), Mode::Bridge));
        assert_eq!((mode("passthru"), mode("passthrough")), (Some(Mode::Passthru), None));
    }

    #[test]
    fn source_macs_stand_once_and_in_order() {
        let [a, b] = [1, 2].map(|last| Mac([2, 0, 0, 0, 0, last]));
        let config = Config { mode: Mode::Source, source_macs: vec![b, a, b], ..Config::default() };
        assert_eq!(config.device().mode, MacVlanMode::Source(vec![a, b]));
    }

    #[test]
    fn what_contradicts_itself_is_found() {
        let macs = vec![Mac([2, 0, 0, 0, 0, 1])];
        let path = |config: Config| contradiction(&config).map(|(path, _)| path);
        assert_eq!(path(Config { mode: Mode::Source, ..Config::default() }), Some("sourceMacs"));
        assert_eq!(path(Config { source_macs: macs, ..Config::default() }), Some("sourceMacs"));
        let access = || Config { host_access: true, ..Config::default() };
        assert_eq!(path(Config { mode: Mode::Vepa, ..access() }), Some("hostAccess"));
        assert_eq!(path(Config { link_in_container: true, ..access() }), Some("hostAccess"));
        assert_eq!(path(access()), None);
    }
}
