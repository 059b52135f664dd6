//! SIGKILL at each system call of ADD and of DEL in turn, and what puts everything back: DEL, GC, or ADD and DEL.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::scene::{Device, Scene};
use crate::cni::Call;
use crate::lab::Snapshot;
use crate::runner::{Attachment, Case, Feature, Test, merged};
use crate::test;

/// A test for each way of one type of device; `$needs` is its kernel's part.
macro_rules! of_device {
    ($($device:ident $needs:expr => $add:ident $del:ident $first:ident,)*) => {
        pub(super) const TESTS: &[Test] = &[$(
            test!($add, "each system call of ADD; then DEL, GC, and ADD with DEL").needs($needs).ours().limit(600),
            test!($del, "each system call of DEL; then DEL, GC, and ADD with DEL").needs($needs).ours().limit(600),
            test!($first, "each system call of the first ADD on a node; then GC").needs($needs).ours().limit(600),
        )*];
        $(
            fn $add(case: &Case) -> Result<()> {
                everywhere(case, &Scene::new(case, Device::$device, true)?, "ADD", &After::of(Device::$device))
            }
            fn $del(case: &Case) -> Result<()> {
                everywhere(case, &Scene::new(case, Device::$device, true)?, "DEL", &After::of(Device::$device))
            }
            fn $first(case: &Case) -> Result<()> {
                everywhere(case, &Scene::new(case, Device::$device, false)?, "ADD", &After::of_first(Device::$device))
            }
        )*
    };
}

of_device! {
    Bridge &[Feature::Strace, Feature::NftInet, Feature::NftBridge]
        => p22_kill_bridge_add p22_kill_bridge_del p22_kill_bridge_first_add,
    Macvlan &[Feature::Strace, Feature::Macvlan]
        => p22_kill_macvlan_add p22_kill_macvlan_del p22_kill_macvlan_first_add,
    Vxlan &[Feature::Strace, Feature::Vxlan] => p22_kill_vxlan_add p22_kill_vxlan_del p22_kill_vxlan_first_add,
    Ipvlan &[Feature::Strace, Feature::Ipvlan] => p22_kill_ipvlan_add p22_kill_ipvlan_del p22_kill_ipvlan_first_add,
    Vlan &[Feature::Strace, Feature::Vlan] => p22_kill_vlan_add p22_kill_vlan_del p22_kill_vlan_first_add,
    VlanShared &[Feature::Strace, Feature::Vlan, Feature::Macvlan]
        => p22_kill_shared_vlan_add p22_kill_shared_vlan_del p22_kill_shared_vlan_first_add,
    Bond &[Feature::Strace, Feature::Bond] => p22_kill_bond_add p22_kill_bond_del p22_kill_bond_first_add,
}

/// More system calls of one name than a plugin can have a use for.
const ENOUGH: usize = 1000;

/// What is done about the attachment whose call was killed.
#[derive(Clone, Copy, Debug)]
enum After {
    Del,
    Gc,
    /// By a runtime that tries again without a DEL. Where something is in the way, it has to say so.
    AddAndDel,
    /// What the network as a whole has is GC's to remove.
    DelAndGc,
}

impl After {
    fn of(device: Device) -> Ways {
        match device {
            // Links that a bond borrowed are in the pod, which GC cannot enter: it waits for the kernel to return them.
            Device::Bond => Ways::of(device, &[Self::Del, Self::AddAndDel]),
            _ => Ways::of(device, &[Self::Del, Self::AddAndDel, Self::Gc]),
        }
    }

    /// After the first ADD on a node.
    fn of_first(device: Device) -> Ways {
        Ways::of(device, &[Self::DelAndGc])
    }

    fn run(self, case: &Case, scene: &Scene, before: &Snapshot) -> Result<()> {
        let attachment = &scene.attachment;
        match self {
            Self::Del => attachment.del(),
            Self::Gc => {
                collect(case, scene)?;
                // What is in the pod goes with the pod.
                before.ensure_same(&case.snapshot(&scene.spaces())?)?;
                attachment.del()
            }
            Self::AddAndDel => {
                let output = attachment.call("ADD").run()?;
                if output.status.success() {
                    attachment.check(&output.success()?)?;
                } else {
                    ensure!(output.any_failure()?.code == 105, "ADD again: {}", output.stdout);
                }
                attachment.del()
            }
            Self::DelAndGc => {
                attachment.del()?;
                collect(case, scene)
            }
        }
    }
}

/// Where calls are killed, and what follows.
enum Ways {
    /// At each system call, with each of these after it.
    All(&'static [After]),
    /// At each that can change something, for the others make no difference to what is left; one of these follows, the
    /// next one each time. Most kernels lack these devices, and an emulated one is slow.
    InTurn(&'static [After]),
}

impl Ways {
    fn of(device: Device, ways: &'static [After]) -> Self {
        match device {
            Device::Bridge | Device::Macvlan | Device::Vxlan => Self::All(ways),
            Device::Ipvlan | Device::Vlan | Device::VlanShared | Device::Bond => Self::InTurn(ways),
        }
    }

    /// What follows the kill with this number.
    fn at(&self, number: usize) -> &'static [After] {
        match self {
            Self::All(ways) => ways,
            Self::InTurn(ways) => &ways[number % ways.len()..][..1],
        }
    }

    /// Whether to kill at system calls of this name.
    fn include(&self, name: &str) -> bool {
        /// Netlink, sysctls and leases; and the end, when all is done.
        const CHANGES: [&str; 11] = [
            "sendto",
            "sendmsg",
            "write",
            "mkdirat",
            "renameat2",
            "linkat",
            "symlinkat",
            "unlinkat",
            "utimensat",
            "ftruncate",
            "exit_group",
        ];
        matches!(self, Self::All(_)) || CHANGES.contains(&name)
    }
}

fn collect(case: &Case, scene: &Scene) -> Result<()> {
    let Attachment { node, conf, .. } = &scene.attachment;
    let valid = |a: &Attachment| json!({ "containerID": a.container, "ifname": a.ifname });
    let valid: Vec<Value> = scene.neighbour.iter().map(valid).collect();
    let conf = merged(conf, json!({ "cni.dev/valid-attachments": valid }));
    let plugin = conf["type"].as_str().unwrap_or_default();
    case.call(node, plugin, "GC").conf(&conf).succeed().map(drop)
}

/// Kills `command` at each of its system calls, and sees that what is done afterwards leaves all as it was.
fn everywhere(case: &Case, scene: &Scene, command: &str, ways: &Ways) -> Result<()> {
    let Attachment { pod, .. } = &scene.attachment;
    let prepare = || if command == "DEL" { scene.attachment.add().map(drop) } else { Ok(()) };
    prepare()?;
    let names = system_calls(case, scene.attachment.call(command))?;
    scene.attachment.del()?;
    collect(case, scene)?;
    let (before, pod_before) = (case.snapshot(&scene.spaces())?, case.snapshot(&[pod])?);
    let attempt = |name: &str, nth: usize, way: After| {
        prepare()?;
        let hit = kill_at(scene.attachment.call(command), name, nth)?;
        way.run(case, scene, &before)?;
        before.ensure_same(&case.snapshot(&scene.spaces())?)?;
        pod_before.ensure_same(&case.snapshot(&[pod])?)?;
        anyhow::Ok(hit)
    };
    let mut killed = 0;
    for name in names.iter().filter(|name| ways.include(name)) {
        // How many there are differs from run to run: one has to wait longer, or needs no more memory.
        for nth in 1.. {
            ensure!(nth < ENOUGH, "more than {ENOUGH} calls of {name}");
            let mut hits = 0;
            for &way in ways.at(killed) {
                let hit = attempt(name, nth, way).with_context(|| format!("killed at {name} {nth}, then {way:?}"))?;
                hits += usize::from(hit);
            }
            if hits == 0 {
                break;
            }
            killed += 1;
        }
    }
    let least = if matches!(ways, Ways::All(_)) { 50 } else { 6 };
    ensure!(killed > least, "only {killed} calls were killed");
    Ok(())
}

/// The names of the system calls that a call makes.
fn system_calls(case: &Case, call: Call) -> Result<BTreeSet<String>> {
    let trace = case.dir.join("trace");
    let mut wrapper: Vec<&OsStr> = ["strace", "-f", "-qq", "-o"].map(OsStr::new).to_vec();
    wrapper.push(trace.as_os_str());
    call.under(&wrapper).succeed()?;
    let text = fs::read_to_string(&trace)?;
    // "PID NAME(...": what resumes an interrupted one has no name of its own there.
    let name = |line: &str| line.split_once(' ')?.1.trim_start().split_once('(').map(|(name, _)| name.to_owned());
    let is_name = |name: &String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    // The first is strace's own work.
    Ok(text.lines().filter_map(name).filter(|name| name != "execve" && is_name(name)).collect())
}

/// Makes the call, killed as it begins its `nth` system call of that name; tells whether it was.
fn kill_at(call: Call, name: &str, nth: usize) -> Result<bool> {
    let (inject, only) = (format!("inject={name}:signal=SIGKILL:when={nth}"), format!("trace={name}"));
    let wrapper = ["strace", "-f", "-qq", "-e", &inject, "-e", &only, "-o", "/dev/null"].map(OsStr::new);
    let output = call.under(&wrapper).run()?;
    if output.status.success() {
        return Ok(false);
    }
    // strace ends as what it started did.
    if output.status.signal() != Some(9) && output.status.code() != Some(137) {
        bail!("{}: {} {}", output.status, output.stdout, output.stderr);
    }
    Ok(true)
}
