//! A configuration list, called as libcni calls it for a container runtime: one plugin after the other on ADD, each with
//! the result of those before it; in reverse on DEL.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cni::{Call, Output};
use crate::lab::Space;

/// A network configuration list and where its plugins are.
#[derive(Clone, Debug)]
pub struct List {
    conf: Value,
    cni_path: PathBuf,
}

/// One interface of one pod on the list's network.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// The node that the plugins run on.
    pub node: &'a Space,
    /// The pod, whose name is its `CNI_CONTAINERID` too.
    pub pod: &'a Space,
    /// `CNI_ARGS`.
    pub args: String,
}

/// What ADD gave.
#[derive(Clone, Debug)]
pub struct Added {
    /// The last plugin's result.
    pub result: Value,
    /// Of all plugins together.
    pub took: Duration,
}

impl List {
    /// Reads a list whose plugins are in `cni_path`.
    pub fn parse(text: &str, cni_path: &Path) -> Result<Self> {
        let conf: Value = serde_json::from_str(text).context("configuration list: not JSON")?;
        ensure!(conf["plugins"].is_array(), "configuration list: \"plugins\" is not a list");
        Ok(Self { conf, cni_path: cni_path.to_owned() })
    }

    /// The same with host-local's leases below `directory` instead of where the machine keeps them.
    #[must_use]
    pub fn with_leases(mut self, directory: &Path) -> Self {
        for plugin in self.conf["plugins"].as_array_mut().into_iter().flatten() {
            if plugin["ipam"]["type"] == "host-local" {
                plugin["ipam"]["dataDir"] = json!(directory);
            }
        }
        self
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        self.conf["name"].as_str().unwrap_or_default()
    }

    /// The configuration of the first plugin, which makes the interface.
    pub fn first(&self) -> &Value {
        &self.conf["plugins"][0]
    }

    /// ADD, which must succeed.
    pub fn add(&self, member: &Member<'_>) -> Result<Added> {
        let mut added = Added { result: Value::Null, took: Duration::ZERO };
        for plugin in self.plugins() {
            let output = self.call("ADD", plugin, &added.result, member).run()?;
            added.took += output.took;
            added.result = success(&output, "ADD", plugin)?;
            ensure!(added.result.is_object(), "{} ADD: no result", plugin["type"]);
        }
        Ok(added)
    }

    /// CHECK with ADD's result, which must succeed.
    pub fn check(&self, member: &Member<'_>, result: &Value) -> Result<Duration> {
        self.each("CHECK", self.plugins(), result, member)
    }

    /// DEL with ADD's result, which must succeed.
    pub fn del(&self, member: &Member<'_>, result: &Value) -> Result<Duration> {
        self.each("DEL", self.plugins().rev(), result, member)
    }

    /// STATUS, which must succeed.
    pub fn status(&self, node: &Space) -> Result<Duration> {
        self.each_on_node("STATUS", node, &Value::Null)
    }

    /// GC with no attachment left, which must succeed.
    pub fn gc(&self, node: &Space) -> Result<Duration> {
        self.each_on_node("GC", node, &json!([]))
    }

    fn plugins(&self) -> impl DoubleEndedIterator<Item = &Value> {
        self.conf["plugins"].as_array().into_iter().flatten()
    }

    fn each<'a>(
        &self,
        command: &str,
        plugins: impl Iterator<Item = &'a Value>,
        previous: &Value,
        member: &Member<'_>,
    ) -> Result<Duration> {
        let mut took = Duration::ZERO;
        for plugin in plugins {
            let output = self.call(command, plugin, previous, member).run()?;
            took += output.took;
            success(&output, command, plugin)?;
        }
        Ok(took)
    }

    fn each_on_node(&self, command: &str, node: &Space, valid: &Value) -> Result<Duration> {
        let mut took = Duration::ZERO;
        for plugin in self.plugins() {
            let mut conf = self.conf_of(plugin);
            if !valid.is_null() {
                conf["cni.dev/valid-attachments"] = valid.clone();
            }
            let output = self.bare_call(command, plugin, node).conf(&conf).run()?;
            took += output.took;
            success(&output, command, plugin)?;
        }
        Ok(took)
    }

    fn call(&self, command: &str, plugin: &Value, previous: &Value, member: &Member<'_>) -> Call {
        let mut conf = self.conf_of(plugin);
        if !previous.is_null() {
            conf["prevResult"] = previous.clone();
        }
        self.bare_call(command, plugin, member.node)
            .env("CNI_CONTAINERID", &member.pod.name)
            .env("CNI_NETNS", member.pod.ns.path())
            .env("CNI_IFNAME", "eth0")
            .args(&member.args)
            .conf(&conf)
    }

    /// A plugin's own part of the list, with what libcni puts into it.
    fn conf_of(&self, plugin: &Value) -> Value {
        let mut conf = plugin.clone();
        conf["name"] = self.conf["name"].clone();
        conf["cniVersion"] = self.conf["cniVersion"].clone();
        conf
    }

    fn bare_call(&self, command: &str, plugin: &Value, node: &Space) -> Call {
        let binary = self.cni_path.join(plugin["type"].as_str().unwrap_or_default());
        Call::new(node, &binary, self.cni_path.as_os_str(), command)
    }
}

fn success(output: &Output, command: &str, plugin: &Value) -> Result<Value> {
    output.success().with_context(|| format!("{} {command}", plugin["type"]))
}
