//! The `CNI_*` variables.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use podwire_spec::{Command, Env, code, container_id, interface_name};

/// Lines `NAME=VALUE`, as env(1) prints them.
pub(crate) fn environment(data: &[u8]) {
    let value = |name: &str| {
        let prefix = [name.as_bytes(), b"="].concat();
        let line = data.split(|&byte| byte == b'\n').find(|line| line.starts_with(&prefix))?;
        Some(OsString::from_vec(line[prefix.len()..].to_vec()))
    };
    match Env::read(value) {
        Ok(env) => {
            let is_of_one = matches!(env.command, Command::Add | Command::Del | Command::Check);
            let is_named = container_id(&env.container_id) && interface_name(&env.ifname);
            assert!(is_named || !is_of_one, "{env:?}");
            assert!(env.netns.is_empty() || env.command != Command::Gc, "{env:?}");
        }
        Err(error) => assert!(error.code == code::ENVIRONMENT && error.msg.contains("CNI_"), "{error}"),
    }
}

/// An attachment's environment for a command.
pub(crate) fn of(command: Command, container_id: &str) -> Env {
    let value = |name: &str| {
        Some(match name {
            "CNI_COMMAND" => command.as_str().into(),
            "CNI_CONTAINERID" => container_id.into(),
            "CNI_NETNS" => "/run/netns/pod".into(),
            "CNI_IFNAME" => "eth0".into(),
            "CNI_PATH" => "/opt/cni/bin".into(),
            _ => return None,
        })
    };
    Env::read(value).unwrap_or_else(|error| panic!("{error}"))
}
