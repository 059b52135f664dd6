//! SIGTERM at each system call of ADD, DEL and GC in turn: the call either ends well, or an ADD has changed nothing, and
//! what is left of the others is done by the next.

use std::os::unix::process::ExitStatusExt;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::calls;
use super::scene::{Device, Scene};
use crate::intercept::Fate;
use crate::runner::{Case, Feature, Test};
use crate::test;

macro_rules! of_device {
    ($($device:ident $needs:expr => $($command:ident $name:ident)*,)*) => {
        pub(super) const TESTS: &[Test] = &[$($(
            test!($name, "at each system call: an error and all undone or left to the next, or it is done")
                .needs($needs)
                .ours()
                .limit(600),
        )*)*];
        $($(
            fn $name(case: &Case) -> Result<()> {
                everywhere(case, Device::$device, stringify!($command))
            }
        )*)*
    };
}

of_device! {
    Bridge &[Feature::NftInet, Feature::NftBridge]
        => ADD p10_terminated_bridge_add DEL p10_terminated_bridge_del GC p10_terminated_bridge_gc,
    Macvlan &[Feature::Macvlan]
        => ADD p10_terminated_macvlan_add DEL p10_terminated_macvlan_del GC p10_terminated_macvlan_gc,
    Vxlan &[Feature::Vxlan]
        => ADD p10_terminated_vxlan_add DEL p10_terminated_vxlan_del GC p10_terminated_vxlan_gc,
    Ipvlan &[Feature::Ipvlan]
        => ADD p10_terminated_ipvlan_add DEL p10_terminated_ipvlan_del GC p10_terminated_ipvlan_gc,
    VlanShared &[Feature::Vlan, Feature::Macvlan]
        => ADD p10_terminated_shared_vlan_add DEL p10_terminated_shared_vlan_del GC p10_terminated_shared_vlan_gc,
    // What a bond borrowed is in its pod, out of GC's reach.
    Bond &[Feature::Bond] => ADD p10_terminated_bond_add DEL p10_terminated_bond_del,
    Loopback &[] => ADD p10_terminated_loopback_add,
}

/// For how long the call is kept waiting there: longer than a plugin goes on without listening (`shared/plugin/src/turn.rs`).
const LONG: Duration = Duration::from_millis(12);

fn everywhere(case: &Case, device: Device, command: &str) -> Result<()> {
    let scene = Scene::new(case, device, true)?;
    let attachment = &scene.attachment;
    // Once for what stays behind by design.
    attachment.call("ADD").succeed()?;
    attachment.del()?;
    let (before, around) = (scene.everything()?, scene.around()?);
    let (mut points, mut ended) = (0, 0);
    for nth in 1.. {
        if command != "ADD" {
            attachment.add()?;
        }
        let call = if command == "GC" { scene.gc() } else { attachment.call(command) };
        let (mut seen, mut hit) = (0, None);
        let output = call.run_under(|moment| {
            seen += usize::from(!device.is_rare() || case.exhaustive || calls::changes(moment));
            if seen == nth && hit.is_none() {
                hit = Some(*moment);
                // It may have ended meanwhile.
                kill(Pid::from_raw(moment.asker.cast_signed()), Signal::SIGTERM).ok();
                sleep(LONG);
            }
            Fate::Goes
        })?;
        let at = || hit.map_or_else(String::new, |hit| format!("SIGTERM at call {nth}, {}", calls::name(&hit)));
        let succeeded = output.status.success();
        if succeeded && command == "ADD" {
            attachment.check(&output.success()?).with_context(at)?;
        } else if !succeeded && output.status.signal() != Some(Signal::SIGTERM as i32) {
            output.failure(106).with_context(at)?.says(&["SIGTERM"])?;
            ended += 1;
        }
        match command {
            "ADD" if !succeeded => {}
            "GC" => {
                if !succeeded {
                    scene.collect().with_context(at)?;
                }
                // What is in the pod goes with the pod, and by DEL.
                around.ensure_same(&scene.around()?).with_context(at)?;
                attachment.del().with_context(at)?;
            }
            _ => attachment.del().with_context(at)?,
        }
        before.ensure_same(&scene.everything()?).with_context(at)?;
        if hit.is_none() {
            break;
        }
        points += 1;
    }
    let enough = match (command, device) {
        // Has nothing to wait for, and ends first.
        (_, Device::Loopback) => 0,
        // An end that comes late is not waited for.
        ("ADD", _) => points / 2,
        _ => 1,
    };
    ensure!(ended >= enough, "SIGTERM was heard at {ended} of {points} calls");
    case.note(format!("SIGTERM at {points} system calls, heard at {ended}"));
    Ok(())
}
