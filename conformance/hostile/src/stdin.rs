//! The network configuration, as each plugin reads it, in every command.

use std::{net::IpAddr, sync::LazyLock, time::Duration};

use podwire_ipam::{HostLocal, Ipam, Request, Runner, Static};
use podwire_plugin::{
    Attach, Plugin,
    rehearse::{rehearse, rehearse_complete, rehearse_ipam},
};
use podwire_spec::{Command, Env, Error, Mac, NetConf, Version, code, version_of};

use crate::environment;

/// A call of each command.
static CALLS: LazyLock<[Env; 5]> = LazyLock::new(|| {
    [Command::Add, Command::Check, Command::Del, Command::Gc, Command::Status]
        .map(|command| environment::of(command, "c1"))
});

pub(crate) fn interface<T: Attach>(data: &[u8]) {
    each::<T>(data, |env, conf| {
        T::ifname(env, &conf.plugin);
        T::keeps_mac(&conf.plugin);
        T::pod_side(&conf.plugin);
        let mut result = conf.prev_result.clone().unwrap_or_default();
        match rehearse_complete::<T>(conf, &mut result) {
            Ok(()) => drop(Version::ALL.map(|version| result.to_json(version))),
            Err(error) => is_told(&error),
        }
    });
}

pub(crate) fn loopback(data: &[u8]) {
    each::<loopback::Loopback>(data, |_, _| ());
}

/// Address plugins do all of their work: on a lease folder of this call's own, whatever the configuration says.
pub(crate) fn host_local(data: &[u8]) {
    each_ipam::<HostLocal>(data, |env, conf| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut conf = conf.clone();
        conf.plugin.data_dir = Some(folder.path().to_owned());
        conf.plugin.resolv_conf = None;
        ask::<HostLocal>(env, &conf);
    });
}

pub(crate) fn static_(data: &[u8]) {
    each_ipam::<Static>(data, ask::<Static>);
}

pub(crate) fn dhcp(data: &[u8]) {
    each_ipam::<dhcp::Dhcp>(data, |env, conf| {
        dhcp::rehearsal::options(env, conf, "K8S_POD_NAME=pod;K8S_POD_UID=1").unwrap_or_else(|error| is_told(&error));
    });
}

fn each<P: Plugin>(data: &[u8], and: impl Fn(&Env, &NetConf<P::Config>)) {
    let Ok(text) = str::from_utf8(data) else { return };
    version_of(text);
    for env in &*CALLS {
        match rehearse::<P>(env, text) {
            Ok(conf) => and(env, &conf),
            Err(error) => is_told(&error),
        }
    }
}

fn each_ipam<P: Ipam>(data: &[u8], and: impl Fn(&Env, &NetConf<P::Config>)) {
    let Ok(text) = str::from_utf8(data) else { return };
    for env in &*CALLS {
        match rehearse_ipam::<P>(env, text) {
            Ok(conf) => and(env, &conf),
            Err(error) => is_told(&error),
        }
    }
}

/// Asks an address plugin to do what `env` says.
fn ask<P: Ipam>(env: &Env, conf: &NetConf<P::Config>) {
    let request = Request { env, conf, runner: &Nobody };
    let done = match env.command {
        Command::Add => P::add(&request).map(|result| drop(Version::ALL.map(|version| result.to_json(version)))),
        Command::Check => P::check(&request),
        Command::Del => P::del(&request),
        Command::Gc => P::gc(&request),
        Command::Status | Command::Version => P::status(&request),
    };
    if let Err(error) = done {
        is_told(error.downcast_ref().unwrap_or_else(|| panic!("no error of the protocol: {error:#}")));
    }
}

/// An error for the runtime: with a code for what somebody else did wrong, and an object that can be read.
fn is_told(error: &Error) {
    assert!(error.code != code::BUG && error.code != 0 && !error.msg.is_empty(), "{error}");
    let object: serde_json::Value = serde_json::from_str(&error.to_json(Version::LATEST)).expect("an error is JSON");
    assert!(object["code"] == error.code && object["msg"] == *error.msg, "{object}");
}

/// The program around: nobody else has the lock, and every other address is somebody else's.
pub(crate) struct Nobody;

impl Runner for Nobody {
    fn wait_for_lock(&self, _: std::os::fd::BorrowedFd<'_>) -> podwire_spec::Result<()> {
        Err(Error::new(code::TRY_AGAIN, "the lock is held"))
    }

    fn probe(&self, _: &Env, ips: &[IpAddr], _: Duration) -> podwire_spec::Result<Vec<Option<Mac>>> {
        let is_odd = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => ip.to_bits() % 2 == 1,
            IpAddr::V6(ip) => ip.to_bits() % 2 == 1,
        };
        Ok(ips.iter().map(|ip| is_odd(ip).then_some(Mac([2, 0, 0, 0, 0, 1]))).collect())
    }

    fn is_being_added(&self, _: &str, _: &str, _: &str) -> bool {
        false
    }
}
