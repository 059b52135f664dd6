//! Each system call that touches kernel or disk fails, one at a time, in every operation of every plugin.
//!
//! A call that is interrupted (EINTR) is to be repeated, so that nothing is to be seen of it; others a plugin can do
//! without. Else there is an error that says what could not be done with what, and the errno. A failed ADD has changed
//! nothing; what is left of a DEL or GC is done by the next one.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use serde_json::Value;

use super::calls;
use super::scene::{Device, Scene};
use crate::cni::{Call, Failure, Output};
use crate::intercept::{Fate, Moment};
use crate::lab::Snapshot;
use crate::runner::{Case, Feature, Test};

/// What is spoilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoilt {
    /// ADD where the network has another pod.
    Add,
    /// ADD where nothing of the network is there.
    First,
    Del,
    Gc,
    Check,
    Status,
}

impl Spoilt {
    fn command(self) -> &'static str {
        match self {
            Self::Add | Self::First => "ADD",
            Self::Del => "DEL",
            Self::Gc => "GC",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
        }
    }

    const fn purpose(self) -> &'static str {
        match self {
            Self::Add | Self::First => "each system call fails: an error, or nothing to be seen; the node as before",
            Self::Del | Self::Gc => "each system call fails: it is done all the same, or by the next one",
            Self::Check | Self::Status => "each system call fails: an error, or nothing to be seen",
        }
    }
}

/// Tests of one plugin; `$needs` is its kernel's part.
macro_rules! of_device {
    ($($device:ident $needs:expr => $($spoilt:ident $name:ident)*,)*) => {
        pub(super) const TESTS: &[Test] = &[$($(
            Test::new(stringify!($name), Spoilt::$spoilt.purpose(), $name).needs($needs).ours().limit(600),
        )*)*];
        $($(
            fn $name(case: &Case) -> Result<()> {
                everywhere(case, Device::$device, Spoilt::$spoilt)
            }
        )*)*
    };
}

of_device! {
    Bridge &[Feature::NftInet, Feature::NftBridge]
        => Add p20_fault_bridge_add First p20_fault_bridge_first_add Del p22_fault_bridge_del
           Check p23_fault_bridge_check Gc p24_fault_bridge_gc Status p25_fault_bridge_status,
    Macvlan &[Feature::Macvlan]
        => Add p20_fault_macvlan_add First p20_fault_macvlan_first_add Del p22_fault_macvlan_del
           Check p23_fault_macvlan_check Gc p24_fault_macvlan_gc Status p25_fault_macvlan_status,
    Vxlan &[Feature::Vxlan]
        => Add p20_fault_vxlan_add First p20_fault_vxlan_first_add Del p22_fault_vxlan_del
           Check p23_fault_vxlan_check Gc p24_fault_vxlan_gc Status p25_fault_vxlan_status,
    Ipvlan &[Feature::Ipvlan]
        => Add p20_fault_ipvlan_add First p20_fault_ipvlan_first_add Del p22_fault_ipvlan_del
           Check p23_fault_ipvlan_check Gc p24_fault_ipvlan_gc Status p25_fault_ipvlan_status,
    Vlan &[Feature::Vlan]
        => Add p20_fault_vlan_add Del p22_fault_vlan_del
           Check p23_fault_vlan_check Gc p24_fault_vlan_gc Status p25_fault_vlan_status,
    VlanShared &[Feature::Vlan, Feature::Macvlan]
        => Add p20_fault_shared_vlan_add First p20_fault_shared_vlan_first_add Del p22_fault_shared_vlan_del
           Check p23_fault_shared_vlan_check Gc p24_fault_shared_vlan_gc,
    Bond &[Feature::Bond]
        => Add p20_fault_bond_add Del p22_fault_bond_del
           Check p23_fault_bond_check Status p25_fault_bond_status,
    HostLocal &[]
        => Add p20_fault_host_local_add First p20_fault_host_local_first_add Del p22_fault_host_local_del
           Check p23_fault_host_local_check Gc p24_fault_host_local_gc Status p25_fault_host_local_status,
    Static &[] => Add p20_fault_static_add Del p22_fault_static_del,
    Loopback &[]
        => Add p20_fault_loopback_add Del p22_fault_loopback_del
           Check p23_fault_loopback_check Status p25_fault_loopback_status,
}

/// More system calls than a plugin can have a use for.
const ENOUGH: usize = 2000;

/// As many failures as are told of in one report.
const TOLD: usize = 12;

/// What was done to a call.
struct Fault {
    nth: usize,
    moment: Moment,
    errno: Errno,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "call {}, {}, gave {:?}", self.nth, calls::name(&self.moment), self.errno)
    }
}

/// Spoils each system call, by each errno that it can give. Of rare devices only those that are about links are, if the run
/// is not to be exhaustive, by the next errno each time: an emulated kernel is slow, and the others are made by code that all
/// plugins share.
fn everywhere(case: &Case, device: Device, spoilt: Spoilt) -> Result<()> {
    let scene = Scene::new(case, device, spoilt != Spoilt::First)?;
    let (points, faults, errors) = Spoiler::new(&scene, spoilt)?.all()?;
    ensure!(points > 1, "only {points} calls were spoilt");
    case.note(format!("{points} system calls, {faults} faults: {errors} errors, the others unnoticed"));
    Ok(())
}

struct Spoiler<'a> {
    scene: &'a Scene,
    spoilt: Spoilt,
    /// What ADD gave, for CHECK.
    made: Value,
    /// Everything before, to be compared with; and without the pod, which is out of GC's reach.
    before: Snapshot,
    around: Snapshot,
    /// Whether each system call is spoilt, and by each errno.
    exhaustive: bool,
    /// How often a call of each name has been spoilt: else the next one gets the next errno.
    turns: HashMap<i64, usize>,
}

impl<'a> Spoiler<'a> {
    fn new(scene: &'a Scene, spoilt: Spoilt) -> Result<Self> {
        // Once for what stays behind by design, such as the folder of leases or a loopback's address.
        scene.prepare("ADD")?;
        let made = scene.attachment.call("ADD").succeed()?;
        if spoilt != Spoilt::Check {
            clean(scene)?;
        }
        let exhaustive = !scene.device.is_rare() || scene.attachment.case.exhaustive;
        let (before, around) = (scene.everything()?, scene.around()?);
        Ok(Self { scene, spoilt, made, before, around, exhaustive, turns: HashMap::new() })
    }

    /// Gives how many calls were spoilt, how often, and how often that was answered by an error.
    fn all(mut self) -> Result<(usize, usize, usize)> {
        let (mut points, mut faults, mut errors, mut failures) = (0, 0, 0, Vec::new());
        'calls: for nth in 1.. {
            ensure!(nth < ENOUGH, "more than {ENOUGH} calls");
            // How many errnos there are is seen only when the call is made.
            for choice in 0.. {
                let Some((output, fault, count)) = self.spoil(nth, choice)? else {
                    // How many calls there are differs from run to run: one has to wait longer, say.
                    if choice == 0 {
                        break 'calls;
                    }
                    break;
                };
                points += usize::from(choice == 0);
                faults += 1;
                match self.judge(&output, fault.errno).with_context(|| fault.to_string()) {
                    Ok(is_error) => errors += usize::from(is_error),
                    Err(failure) => {
                        let (stdout, stderr) = (output.stdout.trim(), output.stderr.trim());
                        failures.push(format!("{failure:#}\n  it said {stdout} {stderr}"));
                        // What is left would be found after the next ones too.
                        self.clean()?;
                        if self.before.ensure_same(&self.scene.everything()?).is_err() {
                            break 'calls;
                        }
                    }
                }
                if choice + 1 >= count {
                    break;
                }
            }
        }
        if !failures.is_empty() {
            let count = failures.len();
            failures.truncate(TOLD);
            bail!("{count} faults of {faults}:\n{}", failures.join("\n"));
        }
        Ok((points, faults, errors))
    }

    fn call(&self) -> Call {
        let attachment = &self.scene.attachment;
        match self.spoilt {
            Spoilt::Gc => self.scene.gc(),
            Spoilt::Check => attachment.check_call(&self.made),
            Spoilt::Status => attachment.call("STATUS"),
            Spoilt::Add | Spoilt::First | Spoilt::Del => attachment.call(self.spoilt.command()),
        }
    }

    /// Makes the call, the `nth` of its system calls spoilt by the errno of this number; tells by what, and how many there
    /// are to be tried.
    fn spoil(&mut self, nth: usize, choice: usize) -> Result<Option<(Output, Fault, usize)>> {
        match self.spoilt {
            Spoilt::Add | Spoilt::First | Spoilt::Del => self.scene.prepare(self.spoilt.command())?,
            Spoilt::Gc => self.scene.prepare("DEL")?,
            Spoilt::Check | Spoilt::Status => {}
        }
        let (mut seen, mut fault) = (0, None);
        let output = self.call().run_under(|moment| {
            let errnos = if self.exhaustive || calls::is_about_links(moment) { calls::errnos(moment) } else { &[] };
            seen += usize::from(!errnos.is_empty());
            if errnos.is_empty() || seen != nth || fault.is_some() {
                return Fate::Goes;
            }
            // Other operations begin with others.
            let turn = self.turns.entry(moment.number).or_insert(self.spoilt as usize);
            let (choice, count) = if self.exhaustive { (choice, errnos.len()) } else { (*turn, 1) };
            *turn += 1;
            let errno = errnos[choice % errnos.len()];
            fault = Some((Fault { nth, moment: *moment, errno }, count));
            Fate::Fails(errno)
        })?;
        let Some((fault, count)) = fault else {
            output.success()?;
            self.clean()?;
            return Ok(None);
        };
        Ok(Some((output, fault, count)))
    }

    /// Looks at what a spoilt call has done; tells whether it ended with an error.
    fn judge(&self, output: &Output, errno: Errno) -> Result<bool> {
        let attachment = &self.scene.attachment;
        let is_error = !output.status.success();
        if is_error {
            ensure!(errno != Errno::EINTR, "was not repeated");
            says_what_failed(&output.any_failure()?, errno)?;
        } else if self.spoilt.command() == "ADD" {
            attachment.check(&output.success()?).context("CHECK after it")?;
        } else {
            output.success()?;
        }
        match (self.spoilt, is_error) {
            (Spoilt::Add | Spoilt::First, true) | (Spoilt::Del, false) => {}
            (Spoilt::Gc, _) => {
                if is_error {
                    self.scene.collect().context("GC again")?;
                }
                self.around.ensure_same(&self.scene.around()?).context("after GC")?;
                attachment.del()?;
            }
            _ => self.clean().context("afterwards")?,
        }
        self.before.ensure_same(&self.scene.everything()?)?;
        Ok(is_error)
    }

    fn clean(&self) -> Result<()> {
        match self.spoilt {
            Spoilt::Check | Spoilt::Status => Ok(()),
            Spoilt::Del => self.scene.attachment.del(),
            Spoilt::Add | Spoilt::First | Spoilt::Gc => clean(self.scene),
        }
    }
}

/// An error of the kernel's is told as `OBJECT: OPERATION: ERRNO` or `cannot OPERATION OBJECT: ERRNO`.
pub(super) fn says_what_failed(failure: &Failure, errno: Errno) -> Result<()> {
    let said = format!("{}; {}", failure.msg, failure.details);
    let before = said.split_once(&format!(": {errno:?}")).map_or("", |(before, _)| before);
    let (object, operation) = before.rsplit_once(": ").unwrap_or_default();
    let is_in_words = !object.is_empty() && operation.starts_with(|c: char| c.is_ascii_lowercase());
    ensure!(is_in_words || format!("; {before}").contains("; cannot "), "it does not say what gave {errno:?}: {said}");
    Ok(())
}

/// Removes the attachment, and what the network as a whole has where nobody else uses it.
fn clean(scene: &Scene) -> Result<()> {
    scene.attachment.del()?;
    scene.collect()
}
