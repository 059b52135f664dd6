//! A list that the kernel wrote while it changed is asked for again, since an entry may be missing or stand there twice.

use std::ffi::OsStr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cni::Call;
use crate::lab::Space;
use crate::runner::{Attachment, Case, Feature, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p27_an_interrupted_dump_is_repeated, "the list of links: GC asks again, and removes what is dead")
        .needs(&[Feature::Strace])
        .ours(),
    test!(
        p27_an_interrupted_dump_of_rules_is_repeated,
        "the elements of a set: GC asks again, and removes what is dead"
    )
    .needs(&[Feature::Strace, Feature::NftInet])
    .ours(),
];

/// A list that GC asks the kernel for.
struct List {
    /// The type of the request in the words of strace, which sees only later of which family a socket is, and until then
    /// prints numbers.
    request: [&'static str; 2],
    /// The type of the messages that it is answered with.
    answer: u16,
}

const LINKS: List = List { request: ["nlmsg_type=RTM_GETLINK", "nlmsg_type=0x12 "], answer: 16 };
/// Types of nftables have the number of their subsystem in the upper byte.
const ELEMENTS: List = List { request: ["|NFT_MSG_GETSETELEM", "nlmsg_type=0xa0d "], answer: 0xa0c };

/// Two pods of one network on a node.
struct Pods {
    stays: Attachment,
    goes: Attachment,
}

impl Pods {
    /// With leases of their own, so that every node's are the same.
    fn on(case: &Case, node: &Space, extra: &Value) -> Result<Self> {
        let case = case.below(&node.name);
        let conf = case.bridge_with(merged(&json!({ "cniVersion": "1.1.0" }), extra.clone()));
        let added = |name: &str| {
            let attachment = case.attachment(node, &case.pod(name)?, &conf);
            attachment.add().map(|_| attachment)
        };
        Ok(Self { stays: added("stays")?, goes: added("goes")? })
    }

    /// GC, for which only one of them is valid.
    fn collect(&self) -> Call {
        let Attachment { case, node, container, ifname, conf, .. } = &self.stays;
        let valid = json!([{ "containerID": container, "ifname": ifname }]);
        case.call(node, "bridge", "GC").conf(&merged(conf, json!({ "cni.dev/valid-attachments": valid })))
    }
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

impl List {
    /// The header of an answer, by which the kernel says that what it lists has changed meanwhile.
    fn interrupted(&self, length: u32) -> [u8; 8] {
        /// `NLM_F_MULTI` and `NLM_F_DUMP_INTR`.
        const FLAGS: u16 = 0x12;
        let mut header = [0; 8];
        header[..4].copy_from_slice(&length.to_ne_bytes());
        header[4..6].copy_from_slice(&self.answer.to_ne_bytes());
        header[6..].copy_from_slice(&FLAGS.to_ne_bytes());
        header
    }

    fn is_request(&self, line: &str) -> bool {
        let has = |words: [&str; 2]| words.iter().any(|word| line.contains(word));
        line.contains("sendto(") && has(self.request) && has(["NLM_F_REQUEST|NLM_F_DUMP", "NLM_F_REQUEST|0x300"])
    }

    /// GC where the first of these lists is spoilt, which must ask for it once more than on another such node.
    fn is_repeated(&self, case: &Case, extra: &Value) -> Result<Pods> {
        let [other, pods] = [case.node("n1")?, case.node("n2")?].map(|node| Pods::on(case, &node, extra));
        let (other, pods) = (other?, pods?);
        let lists = |trace: &[String]| trace.iter().filter(|line| self.is_request(line)).count();
        let undisturbed = traced(case, other.collect(), None)?;
        let first = undisturbed.iter().position(|line| self.is_request(line)).context("GC asks for no list")?;
        let is_received = |line: &&String| line.contains("recvfrom(");
        let nth = undisturbed[..first].iter().filter(is_received).count() + 1;
        // The first of a list has as much to be told of here as there: of every node's links it is the loopback.
        let answer = undisturbed[first..].iter().find(is_received).context("no answer")?;
        let length = answer.split_once("len=").context("no length")?.1;
        let length: u32 = length.split(',').next().unwrap_or_default().parse().with_context(|| answer.clone())?;
        let disturbed = traced(case, pods.collect(), Some((nth, self.interrupted(length))))?;
        let (before, after) = (lists(&undisturbed), lists(&disturbed));
        ensure!(after == before + 1, "{after} lists were asked for, expected {before} and one again: {disturbed:#?}");
        Ok(pods)
    }
}

fn p27_an_interrupted_dump_is_repeated(case: &Case) -> Result<()> {
    let Pods { stays, .. } = &LINKS.is_repeated(case, &json!({}))?;
    let ports = stays.node.ports("cni0")?;
    ensure!(ports.len() == 1 && ports[0].alias.as_deref() == Some(&stays.label()), "{ports:?}");
    Ok(())
}

fn p27_an_interrupted_dump_of_rules_is_repeated(case: &Case) -> Result<()> {
    let Pods { stays, goes } = &ELEMENTS.is_repeated(case, &json!({ "ipMasq": true }))?;
    let rules = stays.node.ruleset()?;
    ensure!(rules.contains(&stays.label()) && !rules.contains(&goes.label()), "{rules}");
    Ok(())
}
