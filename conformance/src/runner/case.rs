//! What a test works with: its nodes and pods, its directory, and the plugins under test.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::cni::Call;
use crate::lab::{Snapshot, Space};

/// What the test of this process has to tell beside whether it passed.
static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// All that was noted.
pub(super) fn notes() -> String {
    NOTES.lock().unwrap_or_else(PoisonError::into_inner).join("; ")
}

/// A running test.
#[derive(Clone, Debug)]
pub struct Case {
    /// The plugins under test.
    pub cni_path: PathBuf,
    /// A directory of this test's own, emptied after it.
    pub dir: PathBuf,
    /// Whether a test tries everything even where that takes half an hour.
    pub exhaustive: bool,
}

impl Case {
    /// A node with its loopback up.
    pub fn node(&self, name: &str) -> Result<Space> {
        Space::node(name)
    }

    /// A pod as a runtime hands it over.
    pub fn pod(&self, name: &str) -> Result<Space> {
        Space::pod(name)
    }

    /// A case of its own in a directory of this one's, for a test that does something several times.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        Self { dir: self.dir.join(name), ..self.clone() }
    }

    /// Where the leases go.
    pub fn leases(&self) -> PathBuf {
        self.dir.join("leases")
    }

    /// Where the leases of a network go.
    pub fn leases_of(&self, network: &str) -> PathBuf {
        self.leases().join(network)
    }

    /// Names of the lease files of a network, sorted, without the files that are no leases.
    pub fn lease_names(&self, network: &str) -> Result<Vec<String>> {
        let directory = self.leases_of(network);
        if !directory.exists() {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&directory).with_context(|| format!("{directory:?}: list"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.parse::<std::net::IpAddr>().is_ok() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// An `ipam` section: host-local with these subnets, each a range set of its own, in this test's directory.
    pub fn host_local(&self, subnets: &[&str]) -> Value {
        let ranges: Vec<Value> = subnets.iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
        json!({ "type": "host-local", "dataDir": self.leases(), "ranges": ranges })
    }

    /// A bridge network named `net` on `10.7.0.0/24`, at version 1.0.0, the newest that the reference knows.
    pub fn bridge_conf(&self) -> Value {
        self.bridge_with(json!({}))
    }

    /// The same with `extra` laid over it.
    pub fn bridge_with(&self, extra: Value) -> Value {
        let conf = json!({
            "cniVersion": "1.0.0",
            "name": "net",
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "ipam": self.host_local(&["10.7.0.0/24"]),
        });
        merged(&conf, extra)
    }

    /// A call of a plugin under test with only `CNI_COMMAND` and `CNI_PATH` set.
    pub fn call(&self, node: &Space, plugin: &str, command: &str) -> Call {
        Call::new(node, &self.cni_path.join(plugin), self.cni_path.as_os_str(), command)
    }

    /// `pod` on the network of `conf`, by the plugin that `conf` names, as `eth0`.
    pub fn attachment(&self, node: &Space, pod: &Space, conf: &Value) -> Attachment {
        Attachment {
            case: self.clone(),
            node: node.clone(),
            pod: pod.clone(),
            container: format!("container-{}", pod.name),
            ifname: "eth0".to_owned(),
            conf: conf.clone(),
            args: None,
        }
    }

    /// How `spaces` and this test's leases look now.
    pub fn snapshot(&self, spaces: &[&Space]) -> Result<Snapshot> {
        Snapshot::take(spaces, &self.leases())
    }

    /// Does `work` and checks that it changed nothing in `spaces` or the leases.
    pub fn unchanged<T>(&self, spaces: &[&Space], work: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = self.snapshot(spaces)?;
        let value = work()?;
        before.ensure_same(&self.snapshot(spaces)?)?;
        Ok(value)
    }

    /// Writes a shell script that can be called as a plugin of type `name`, and gives the `CNI_PATH` with it in front.
    pub fn fake_plugin(&self, name: &str, script: &str) -> Result<OsString> {
        let directory = self.dir.join("plugins");
        fs::create_dir_all(&directory)?;
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(std::env::join_paths([directory.as_path(), self.cni_path.as_path()])?)
    }

    /// Has the report say this beside the test: how much was tried, say.
    pub fn note(&self, text: impl Into<String>) {
        NOTES.lock().unwrap_or_else(PoisonError::into_inner).push(text.into());
    }

    /// Reads a file of this test's directory.
    pub fn read(&self, name: &str) -> Result<String> {
        let path = self.dir.join(name);
        fs::read_to_string(&path).with_context(|| format!("{path:?}: read"))
    }
}

/// One interface of one pod on one network: what ADD, CHECK and DEL are about.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The test that it is of.
    pub case: Case,
    /// The node that the plugin runs on.
    pub node: Space,
    /// The pod.
    pub pod: Space,
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// The network configuration, without `prevResult`.
    pub conf: Value,
    /// `CNI_ARGS`.
    pub args: Option<String>,
}

impl Attachment {
    /// As another interface of the pod.
    #[must_use]
    pub fn ifname(mut self, ifname: &str) -> Self {
        ifname.clone_into(&mut self.ifname);
        self
    }

    /// With `CNI_ARGS`.
    #[must_use]
    pub fn args(mut self, args: &str) -> Self {
        self.args = Some(args.to_owned());
        self
    }

    /// With `extra` laid over the configuration.
    #[must_use]
    pub fn with(mut self, extra: Value) -> Self {
        self.conf = merged(&self.conf, extra);
        self
    }

    /// The call, not yet made.
    pub fn call(&self, command: &str) -> Call {
        let plugin = self.conf["type"].as_str().unwrap_or_default();
        let call = self
            .case
            .call(&self.node, plugin, command)
            .env("CNI_CONTAINERID", &self.container)
            .env("CNI_NETNS", self.pod.ns.path())
            .env("CNI_IFNAME", &self.ifname)
            .conf(&self.conf);
        match &self.args {
            Some(args) => call.args(args),
            None => call,
        }
    }

    /// ADD, which must succeed.
    pub fn add(&self) -> Result<Value> {
        let result = self.call("ADD").succeed()?;
        ensure!(result.is_object(), "ADD gave no result");
        Ok(result)
    }

    /// DEL, which must succeed.
    pub fn del(&self) -> Result<()> {
        self.call("DEL").succeed().map(drop)
    }

    /// The call of CHECK with ADD's result.
    pub fn check_call(&self, result: &Value) -> Call {
        let conf = merged(&self.conf, json!({ "prevResult": result }));
        self.call("CHECK").conf(&conf)
    }

    /// CHECK with ADD's result, which must succeed.
    pub fn check(&self, result: &Value) -> Result<()> {
        self.check_call(result).succeed().map(drop)
    }

    /// The name that a runtime or the labels use: `podwire:NETWORK:CONTAINERID:IFNAME`.
    pub fn label(&self) -> String {
        let network = self.conf["name"].as_str().unwrap_or_default();
        format!("podwire:{network}:{}:{}", self.container, self.ifname)
    }
}

/// `base` with the keys of `extra` laid over it; objects are merged, `null` removes, all else replaces.
pub fn merged(base: &Value, extra: Value) -> Value {
    let Value::Object(extra) = extra else {
        return extra;
    };
    let mut object = base.as_object().cloned().unwrap_or_else(Map::new);
    for (key, value) in extra {
        if value.is_null() {
            object.remove(&key);
        } else {
            let new = merged(object.get(&key).unwrap_or(&Value::Null), value);
            object.insert(key, new);
        }
    }
    Value::Object(object)
}

/// Whether plugins of a directory are there at all, to say so once and clearly.
pub(super) fn ensure_plugins(directory: &Path) -> Result<()> {
    for name in ["bridge", "host-local", "static", "loopback"] {
        let path = directory.join(name);
        ensure!(path.is_file(), "plugin {path:?}: not there; build it, or name its directory with --cni-path");
    }
    Ok(())
}
