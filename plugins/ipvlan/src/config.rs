//! The options of `ipvlan`.

use podwire_plugin::{
    Error, NetConf, Result,
    net::{IpVlan, IpVlanFlag, IpVlanMode},
    spec::{Command, Env},
};
use serde::Deserialize;

/// The options of the reference plugin, by the same names and with the same defaults, and two of our own.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// The parent. Default: in a chain the previous plugin's interface, else the link of the default route.
    master: Option<String>,
    /// At which layer the pod is joined to the parent's network. Default: l2.
    mode: Mode,
    /// Whether pods on the same parent reach each other. Default: bridge.
    flag: Flag,
    /// MTU in bytes of the pod's link. Default: the parent's. 0 is as absent.
    pub(crate) mtu: Option<u32>,
    /// The parent is in the pod. Default: false, on the node.
    pub(crate) link_in_container: bool,
    /// Let node and pod reach each other. Default: false.
    pub(crate) host_access: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    #[serde(alias = "")]
    L2,
    L3,
    L3s,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Flag {
    #[default]
    #[serde(alias = "")]
    Bridge,
    Private,
    Vepa,
}

impl Config {
    /// The parent's name, where one is given.
    pub(crate) fn master(&self) -> Option<&str> {
        self.master.as_deref().filter(|name| !name.is_empty())
    }

    /// The device that the options describe.
    pub(crate) fn device(&self) -> IpVlan {
        let mode = match self.mode {
            Mode::L2 => IpVlanMode::L2,
            Mode::L3 => IpVlanMode::L3,
            Mode::L3s => IpVlanMode::L3s,
        };
        let flag = match self.flag {
            Flag::Bridge => IpVlanFlag::Bridge,
            Flag::Private => IpVlanFlag::Private,
            Flag::Vepa => IpVlanFlag::Vepa,
        };
        IpVlan { mode, flag }
    }

    /// Whether the pod has no neighbours: in l3 and l3s every packet goes where the node's routes say.
    pub(crate) fn is_routed(&self) -> bool {
        self.mode != Mode::L2
    }
}

/// Refuses what contradicts itself.
pub(crate) fn validate(env: &Env, conf: &NetConf<Config>) -> Result<()> {
    if let Some((path, why)) = contradiction(&conf.plugin) {
        return Err(Error::invalid(path, why).into());
    }
    if env.command != Command::Add {
        return Ok(());
    }
    // Only a plugin that says in its configuration that it takes MAC addresses is given one so.
    if conf.runtime.mac.is_some() {
        let why = "cannot be had: an ipvlan device has its parent's MAC address; take \"mac\" out of capabilities";
        return Err(Error::invalid("runtimeConfig.mac", why).into());
    }
    if let Some(mac) = conf.args.mac.or(env.args.mac) {
        tracing::warn!(
            "network {:?}: MAC address {mac} was asked for; an ipvlan device has its parent's all the same",
            conf.name
        );
    }
    let has_addresses =
        conf.ipam.is_some() || conf.prev_result.as_ref().is_some_and(|previous| !previous.ips.is_empty());
    if conf.plugin.host_access && !has_addresses {
        return Err(Error::invalid("hostAccess", "needs addresses to make routes to: an ipam section").into());
    }
    Ok(())
}

fn contradiction(config: &Config) -> Option<(&'static str, &'static str)> {
    if config.host_access && config.link_in_container {
        return Some(("hostAccess", "cannot be combined with linkInContainer: the node has no part in that network"));
    }
    if config.host_access && config.flag != Flag::Bridge {
        return Some(("hostAccess", "only with flag bridge: with the others nothing passes from device to device"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_flags_have_the_kernels_names_and_defaults() {
        let config = |text: &str| serde_json::from_str::<Config>(text).ok().map(|config| config.device().to_string());
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(config("{}"), some("l2"));
        assert_eq!(config(r#"{"mode": "", "flag": ""}"#), some("l2"));
        assert_eq!(config(r#"{"mode": "l3", "flag": "bridge"}"#), some("l3"));
        assert_eq!(config(r#"{"mode": "l3s", "flag": "private"}"#), some("l3s private"));
        assert_eq!(config(r#"{"flag": "vepa"}"#), some("l2 vepa"));
        assert_eq!(config(r#"{"mode": "L3"}"#), None);
    }

    #[test]
    fn what_contradicts_itself_is_found() {
        let access = || Config { host_access: true, ..Config::default() };
        let path = |config: Config| contradiction(&config).map(|(path, _)| path);
        assert_eq!(path(access()), None);
        assert_eq!(path(Config { link_in_container: true, ..access() }), Some("hostAccess"));
        assert_eq!(path(Config { flag: Flag::Private, ..access() }), Some("hostAccess"));
        assert_eq!(path(Config { flag: Flag::Vepa, ..access() }), Some("hostAccess"));
    }
}
