//! A list that the kernel wrote while it changed is asked for again, since an entry may be missing or stand there twice.

use std::ffi::OsStr;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::cni::Call;
use crate::lab::Space;
use crate::runner::{Case, Feature, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] =
    &[test!(p27_an_interrupted_dump_is_repeated, "the list of links: GC asks again, and removes what is dead")
        .needs(&[Feature::Strace])
        .ours()];

/// GC of a network whose only pod is gone, with a link of it left on a node.
fn collect(case: &Case, node: &Space) -> Result<Call> {
    let conf = case.bridge_with(json!({ "cniVersion": "1.1.0" }));
    case.attachment(node, &case.pod("p1")?, &conf).add()?;
    let conf = merged(&conf, json!({ "cni.dev/valid-attachments": [] }));
    Ok(case.call(node, "bridge", "GC").conf(&conf))
}

/// Makes the call, and gives what it sent and received, in order. The `nth` datagram that it receives, if any is named,
/// begins with this header.
fn traced(case: &Case, call: Call, spoilt: Option<(usize, [u8; 8])>) -> Result<Vec<String>> {
    let trace = case.dir.join("trace");
    let mut wrapper = vec!["strace".to_owned(), "-f".to_owned(), "-qq".to_owned()];
    wrapper.extend(["-e", "trace=sendto,recvfrom"].map(str::to_owned));
    if let Some((nth, header)) = spoilt {
        let hex = format!("{:016x}", u64::from_be_bytes(header));
        wrapper.extend(["-e".to_owned(), format!("inject=recvfrom:poke_exit=@arg2={hex}:when={nth}")]);
    }
    wrapper.extend(["-o".to_owned(), trace.display().to_string()]);
    call.under(&wrapper.iter().map(OsStr::new).collect::<Vec<_>>()).succeed()?;
    let text = std::fs::read_to_string(&trace).context("trace")?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The header of a link's message in a list, by which the kernel says that what it lists has changed meanwhile.
fn interrupted(length: u32) -> [u8; 8] {
    /// `RTM_NEWLINK`; `NLM_F_MULTI` and `NLM_F_DUMP_INTR`.
    const NEW_LINK: u16 = 16;
    const FLAGS: u16 = 0x12;
    let mut header = [0; 8];
    header[..4].copy_from_slice(&length.to_ne_bytes());
    header[4..6].copy_from_slice(&NEW_LINK.to_ne_bytes());
    header[6..].copy_from_slice(&FLAGS.to_ne_bytes());
    header
}

/// A request for a list of links. strace sees only later of which family a socket is, and until then prints numbers.
fn is_list(line: &str) -> bool {
    let has = |words: [&str; 2]| words.iter().any(|word| line.contains(word));
    line.contains("sendto(")
        && has(["nlmsg_type=RTM_GETLINK", "nlmsg_type=0x12 "])
        && has(["NLM_F_REQUEST|NLM_F_DUMP", "NLM_F_REQUEST|0x300"])
}

fn p27_an_interrupted_dump_is_repeated(case: &Case) -> Result<()> {
    let (node, other) = (case.node("n1")?, case.node("n2")?);
    let lists = |trace: &[String]| trace.iter().filter(|line| is_list(line)).count();
    let undisturbed = traced(case, collect(case, &other)?, None)?;
    let first = undisturbed.iter().position(|line| is_list(line)).context("GC asks for no list")?;
    let is_received = |line: &&String| line.contains("recvfrom(");
    let nth = undisturbed[..first].iter().filter(is_received).count() + 1;
    // The first link of every node is its loopback, of whom the kernel has as much to tell here as there.
    let answer = undisturbed[first..].iter().find(is_received).context("no answer")?;
    let length = answer.split_once("len=").context("no length")?.1;
    let length: u32 = length.split(',').next().unwrap_or_default().parse().with_context(|| answer.clone())?;
    let disturbed = traced(case, collect(case, &node)?, Some((nth, interrupted(length))))?;
    let (before, after) = (lists(&undisturbed), lists(&disturbed));
    ensure!(after == before + 1, "{after} lists were asked for, expected {before} and one again: {disturbed:#?}");
    ensure!(node.links()?.iter().all(|link| link.kind != "veth"), "a dead link is left");
    Ok(())
}
