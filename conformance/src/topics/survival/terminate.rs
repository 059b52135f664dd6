//! SIGTERM at each system call of ADD in turn: the call either ends well, or has changed nothing.

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
    ($($device:ident $needs:expr => $name:ident,)*) => {
        pub(super) const TESTS: &[Test] = &[$(
            test!($name, "at each system call of ADD: an error and all undone, or it is done").needs($needs).ours().limit(600),
        )*];
        $(
            fn $name(case: &Case) -> Result<()> {
                everywhere(case, Device::$device)
            }
        )*
    };
}

of_device! {
    Bridge &[Feature::NftInet, Feature::NftBridge] => p10_terminated_bridge_add,
    Macvlan &[Feature::Macvlan] => p10_terminated_macvlan_add,
    Vxlan &[Feature::Vxlan] => p10_terminated_vxlan_add,
    Ipvlan &[Feature::Ipvlan] => p10_terminated_ipvlan_add,
    VlanShared &[Feature::Vlan, Feature::Macvlan] => p10_terminated_shared_vlan_add,
    Bond &[Feature::Bond] => p10_terminated_bond_add,
    Loopback &[] => p10_terminated_loopback_add,
}

/// For how long the call is kept waiting there: longer than a plugin goes on without listening (`shared/plugin/src/turn.rs`).
const LONG: Duration = Duration::from_millis(12);

fn everywhere(case: &Case, device: Device) -> Result<()> {
    let scene = Scene::new(case, device, true)?;
    let attachment = &scene.attachment;
    // Once for what stays behind by design.
    attachment.call("ADD").succeed()?;
    attachment.del()?;
    let before = scene.everything()?;
    let (mut points, mut ended) = (0, 0);
    for nth in 1.. {
        let (mut seen, mut hit) = (0, None);
        let output = attachment.call("ADD").run_under(|moment| {
            seen += usize::from(!device.is_rare() || calls::changes(moment));
            if seen == nth && hit.is_none() {
                hit = Some(*moment);
                // It may have ended meanwhile.
                kill(Pid::from_raw(moment.asker.cast_signed()), Signal::SIGTERM).ok();
                sleep(LONG);
            }
            Fate::Goes
        })?;
        let Some(moment) = hit else { break };
        points += 1;
        let at = || format!("SIGTERM at call {nth}, {}", calls::name(&moment));
        if output.status.success() {
            attachment.check(&output.success()?).with_context(at)?;
            attachment.del()?;
        } else {
            // It has the signal's usual effect before the plugin has caught it.
            if output.status.signal() != Some(Signal::SIGTERM as i32) {
                output.failure(106).with_context(at)?.says(&["SIGTERM"])?;
                ended += 1;
            }
        }
        before.ensure_same(&scene.everything()?).with_context(at)?;
    }
    // A loopback's ADD has nothing to wait for, and ends first.
    ensure!(ended > points / 2 || device == Device::Loopback, "SIGTERM was heard at {ended} of {points} calls");
    case.note(format!("SIGTERM at {points} system calls, heard at {ended}"));
    Ok(())
}
