//! P20, P22: a request that the kernel refuses, any of them, one at a time. Calls that fail or are killed are a topic of
//! their own, `survival`.
//!
//! strace spoils the Nth of a kind, for N from 1 until a run has no Nth one. What is undone afterwards is not disturbed.

use std::ffi::OsStr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::cni::{Call, Output};
use crate::runner::{Attachment, Case, Feature, Test};
use crate::test;

const NEEDS: &[Feature] = &[Feature::Strace, Feature::NftInet, Feature::NftBridge];

pub(super) const TESTS: &[Test] = &[
    test!(p20_a_request_that_is_refused_leaves_nothing, "each of ADD's, one at a time").needs(NEEDS).ours().limit(240),
    test!(p22_del_again_ends_what_a_failed_del_began, "each netlink request of DEL").needs(NEEDS).ours().limit(240),
];

/// More requests or calls than a plugin can have a use for.
const ENOUGH: usize = 400;

/// Which system call is spoilt, and how.
#[derive(Clone, Copy)]
struct Fault {
    call: &'static str,
    how: &'static str,
}

/// A netlink message is cut down to 20 bytes, what the header and the family take, of a type that no kernel knows (255),
/// with the flags request and acknowledge. Its sequence number stays, so that the refusal reaches whoever waits for it.
const REFUSED: Fault = Fault { call: "sendto", how: "poke_enter=@arg2=14000000ff000500" };
const KILLED: Fault = Fault { call: "sendto", how: "signal=SIGKILL" };

/// A node with a pod that has all that is made once a node, and another pod to be added, on a bridge that is not there.
pub(in crate::topics) struct Scene<K> {
    /// The pod to be added.
    pub(in crate::topics) attachment: Attachment,
    /// Keeps what the lab has beside it.
    pub(in crate::topics) _keeps: K,
}

fn scene(case: &Case) -> Result<Scene<Attachment>> {
    let node = case.node("n1")?;
    let conf = |bridge: &str, subnet: &str| -> Value {
        case.bridge_with(json!({
            "name": bridge, "bridge": bridge, "isDefaultGateway": true, "ipMasq": true, "macspoofchk": true,
            "ipam": case.host_local(&[subnet]),
        }))
    };
    let first = case.attachment(&node, &case.pod("first")?, &conf("first", "10.8.0.0/24"));
    first.add()?;
    let attachment = case.attachment(&node, &case.pod("p1")?, &conf("second", "10.7.0.0/24"));
    Ok(Scene { attachment, _keeps: first })
}

/// Makes the call with the `nth` one spoilt; tells whether there was an `nth`.
fn with_fault(case: &Case, call: Call, fault: Fault, nth: usize) -> Result<(Output, bool)> {
    let trace = case.dir.join("trace");
    let Fault { call: name, how } = fault;
    let (inject, only) = (format!("inject={name}:{how}:when={nth}"), format!("trace={name}"));
    let mut wrapper: Vec<&OsStr> = ["strace", "-f", "-e", &inject, "-e", &only, "-o"].map(OsStr::new).to_vec();
    wrapper.push(trace.as_os_str());
    let output = call.under(&wrapper).run()?;
    let begun = format!(" {name}(");
    let seen = std::fs::read_to_string(&trace)?.lines().filter(|line| line.contains(&begun)).count();
    Ok((output, seen >= nth))
}

/// Has the kernel refuse each request of ADD in turn, each in a new scene; gives how many there were.
pub(in crate::topics) fn every_refusal_of_add<K>(
    case: &Case,
    scene: impl Fn(&Case) -> Result<Scene<K>>,
) -> Result<usize> {
    every_fault_of_add(case, REFUSED, scene)
}

/// Has each request of ADD be the one at which it is killed, each in a new scene, and cleans up; gives how many there
/// were.
pub(in crate::topics) fn every_kill_of_add<K>(
    case: &Case,
    scene: impl Fn(&Case) -> Result<Scene<K>>,
    clean_up: impl Fn(&Attachment) -> Result<()>,
) -> Result<usize> {
    for nth in 1..ENOUGH {
        let scene = scene(case)?;
        let Attachment { node, pod, .. } = &scene.attachment;
        let before = case.snapshot(&[node, pod])?;
        let (_, hit) = with_fault(case, scene.attachment.call("ADD"), KILLED, nth)?;
        let attempt = || {
            clean_up(&scene.attachment)?;
            before.ensure_same(&case.snapshot(&[node, pod])?)
        };
        attempt().with_context(|| format!("killed at request {nth}"))?;
        if !hit {
            return Ok(nth - 1);
        }
        std::fs::create_dir_all(case.leases())?;
        std::fs::remove_dir_all(case.leases())?;
    }
    bail!("more than {ENOUGH} requests")
}

/// Spoils every one in turn of ADD; gives how many there were.
fn every_fault_of_add<K>(case: &Case, fault: Fault, scene: impl Fn(&Case) -> Result<Scene<K>>) -> Result<usize> {
    for nth in 1..ENOUGH {
        let scene = scene(case)?;
        let Attachment { node, pod, .. } = &scene.attachment;
        let before = case.snapshot(&[node, pod])?;
        let (output, hit) = with_fault(case, scene.attachment.call("ADD"), fault, nth)?;
        let attempt = || -> Result<()> {
            if output.status.success() {
                // What ADD can do without, or a step that it repeated.
                scene.attachment.check(&output.success()?)?;
                return scene.attachment.del();
            }
            output.any_failure()?;
            before.ensure_same(&case.snapshot(&[node, pod])?)
        };
        attempt().with_context(|| format!("number {nth} of {} was spoilt", fault.call))?;
        if !hit {
            return Ok(nth - 1);
        }
        // A request that is refused early leaves none, and the first of all not even their folder.
        std::fs::create_dir_all(case.leases())?;
        std::fs::remove_dir_all(case.leases())?;
    }
    bail!("more than {ENOUGH} calls of {}", fault.call)
}

fn p20_a_request_that_is_refused_leaves_nothing(case: &Case) -> Result<()> {
    let seen = every_refusal_of_add(case, scene)?;
    ensure!(seen > 5, "only {seen} requests were seen");
    Ok(())
}

fn p22_del_again_ends_what_a_failed_del_began(case: &Case) -> Result<()> {
    for nth in 1..ENOUGH {
        let scene = scene(case)?;
        let Attachment { node, pod, .. } = &scene.attachment;
        let rules = node.ruleset()?;
        scene.attachment.add()?;
        let (output, hit) = with_fault(case, scene.attachment.call("DEL"), REFUSED, nth)?;
        if !output.status.success() {
            scene.attachment.del().with_context(|| format!("DEL after request {nth} of another was refused"))?;
        }
        ensure!(pod.find("eth0")?.is_none(), "number {nth}: the pod's link is left");
        ensure!(node.ports("second")?.is_empty(), "number {nth}: a port is left");
        ensure!(case.lease_names("second")?.is_empty(), "number {nth}: a lease is left");
        ensure!(node.ruleset()? == rules, "number {nth}: rules are left:\n{}", node.ruleset()?);
        if !hit {
            ensure!(nth > 3, "only {nth} requests were seen");
            return Ok(());
        }
        std::fs::remove_dir_all(case.leases())?;
    }
    bail!("more than {ENOUGH} requests")
}
