//! What is measured: one set of plugins with one network, on a node of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io::Write, thread};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use super::stats::Series;
use crate::lab::{Space, cable};
use crate::runner::merged;

/// The node's link below macvlan and its like.
pub(super) const PARENT: &str = "eth1";

/// A set of plugins and a network on a node.
pub(super) struct Rig {
    plugins: PathBuf,
    node: Space,
    /// What is there all the time: for a bridge a pod, as on any node that is at work, so that it has its carrier
    /// already; else what the parent's cable leads to.
    _neighbour: Space,
    plugin: &'static str,
    conf: Value,
}

/// What came of one call.
pub(super) struct Timed {
    /// From before the spawn to after the exit.
    pub(super) took: Duration,
    /// The result, or `Null` where there is none.
    pub(super) result: Value,
}

/// What came of many calls at once.
pub(super) struct Burst {
    /// From the start of the first to the end of the last.
    pub(super) wall: Duration,
    /// Each call.
    pub(super) calls: Series,
    /// The results, by pod.
    pub(super) results: Vec<Value>,
}

impl Rig {
    /// A node and a network of `plugin`, one of `plugins`, with `extra` in its configuration; leases go to `leases`. A
    /// /16 leaves room for every pod.
    pub(super) fn new(plugins: &Path, leases: &Path, plugin: &'static str, extra: Value) -> Result<Self> {
        fs::create_dir_all(leases)?;
        let conf = json!({
            "cniVersion": "1.0.0",
            "name": "bench",
            "type": plugin,
            "ipam": { "type": "host-local", "dataDir": leases, "ranges": [[{ "subnet": "10.78.0.0/16" }]] },
        });
        let conf = merged(&conf, extra);
        let (node, neighbour) = (Space::node("node")?, Space::pod("neighbour")?);
        if plugin != "bridge" {
            cable(&node, PARENT, &neighbour, "eth0")?;
        }
        let rig = Self { plugins: plugins.to_owned(), node, _neighbour: neighbour.clone(), plugin, conf };
        if plugin == "bridge" {
            rig.on_node(|| rig.call("ADD", &neighbour, &Value::Null))?;
        }
        Ok(rig)
    }

    /// ADD of `pod`, then DEL with ADD's result, as a runtime calls them.
    pub(super) fn add_and_del(&self, pod: &Space) -> Result<(Duration, Duration)> {
        let add = self.on_node(|| self.call("ADD", pod, &Value::Null))?;
        let del = self.on_node(|| self.call("DEL", pod, &add.result))?;
        Ok((add.took, del.took))
    }

    /// `command` for every pod, `width` at a time. `previous` holds ADD's results for DEL.
    pub(super) fn burst(&self, command: &str, pods: &[Space], previous: &[Value], width: usize) -> Result<Burst> {
        let next = AtomicUsize::new(0);
        let worker = || {
            self.on_node(|| {
                let mut done = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(pod) = pods.get(index) else { return Ok(done) };
                    done.push((index, self.call(command, pod, previous.get(index).unwrap_or(&Value::Null))?));
                }
            })
        };
        let start = Instant::now();
        let mut done = thread::scope(|scope| {
            let workers: Vec<_> = (0..width).map(|_| scope.spawn(worker)).collect();
            let ends = workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?);
            anyhow::Ok(ends.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect::<Vec<_>>())
        })?;
        let wall = start.elapsed();
        done.sort_unstable_by_key(|(index, _)| *index);
        let calls = done.iter().map(|(_, timed)| timed.took).collect();
        Ok(Burst { wall, calls, results: done.into_iter().map(|(_, timed)| timed.result).collect() })
    }

    /// Peak resident memory of an ADD in kilobytes, its delegates included; the DEL after it is not measured.
    pub(super) fn resident(&self, pod: &Space) -> Result<u64> {
        let launcher = std::env::current_exe()?;
        let (kilobytes, result) = self.on_node(|| {
            let mut command = Command::new(&launcher);
            command.arg("bench-resident").arg(self.plugins.join(self.plugin));
            let output = self.finish(command, "ADD", pod, &Value::Null, Stdio::piped())?;
            let printed = String::from_utf8_lossy(&output.stderr).into_owned();
            let last = printed.lines().last().unwrap_or_default();
            let kilobytes = last.parse::<u64>().with_context(|| format!("launcher said: {printed}"))?;
            Ok((kilobytes, serde_json::from_slice(&output.stdout)?))
        })?;
        self.on_node(|| self.call("DEL", pod, &result))?;
        Ok(kilobytes)
    }

    /// Start-up alone: VERSION of the plugin `name`.
    pub(super) fn version(&self, name: &str) -> Result<Duration> {
        let mut command = Command::new(self.plugins.join(name));
        command
            .env_clear()
            .env("CNI_COMMAND", "VERSION")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let start = Instant::now();
        let output = command.output().with_context(|| format!("plugin \"{name}\": not started"))?;
        let took = start.elapsed();
        ensure!(output.status.success(), "{name} VERSION: {}", output.status);
        Ok(took)
    }

    /// Runs `work` on a thread in the node's namespace: what it starts is there too.
    fn on_node<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.node.ns.run(work)?
    }

    /// One call, timed; the calling thread is in the node's namespace already.
    fn call(&self, command: &str, pod: &Space, previous: &Value) -> Result<Timed> {
        let plugin = Command::new(self.plugins.join(self.plugin));
        let start = Instant::now();
        let output = self.finish(plugin, command, pod, previous, Stdio::null())?;
        let took = start.elapsed();
        let result = if output.stdout.is_empty() { Value::Null } else { serde_json::from_slice(&output.stdout)? };
        Ok(Timed { took, result })
    }

    fn finish(
        &self,
        mut command: Command,
        verb: &str,
        pod: &Space,
        previous: &Value,
        stderr: Stdio,
    ) -> Result<std::process::Output> {
        let mut conf = self.conf.clone();
        if !previous.is_null() {
            conf["prevResult"] = previous.clone();
        }
        let mut child = command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &pod.name)
            .env("CNI_NETNS", pod.ns.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &self.plugins)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("plugin in \"{}\": not started", self.plugins.display()))?;
        // A configuration fits into the pipe, so that this does not wait for the plugin.
        child.stdin.take().context("stdin is piped")?.write_all(conf.to_string().as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "{verb} of \"{}\" by \"{}\": {}: {}",
            pod.name,
            self.plugins.display(),
            output.status,
            String::from_utf8_lossy(&output.stdout).trim(),
        );
        Ok(output)
    }
}
