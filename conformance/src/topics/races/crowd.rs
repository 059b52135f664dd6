//! Thousands of attachments, in random order, many at once.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::random::{Random, seed};
use crate::lab::Space;
use crate::runner::{Attachment, Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] =
    &[test!(p27_race_five_thousand, "attachments, added, checked and deleted at random, 16 at once").limit(600)];

/// How many attachments there are in all.
const ATTACHMENTS: usize = 5000;
/// How many calls run at once.
const WORKERS: usize = 16;
/// The pods of one worker, each of which is used again and again by another container.
const PODS: usize = 4;

/// What all workers share.
struct Crowd<'a> {
    case: &'a Case,
    node: &'a Space,
    conf: Value,
    seed: u64,
    /// The number of the next attachment.
    next: AtomicUsize,
    /// The addresses of those that are there.
    taken: Mutex<BTreeSet<String>>,
}

fn p27_race_five_thousand(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let before = case.snapshot(&[&node])?;
    let conf = case.bridge_with(json!({ "isGateway": false }));
    let (next, taken) = (AtomicUsize::new(0), Mutex::default());
    let crowd = &Crowd { case, node: &node, conf, seed: seed(), next, taken };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|number| scope.spawn(move || crowd.work(number))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;
    ensure!(node.ports("cni0")?.is_empty(), "ports are left: {:?}", node.ports("cni0")?);
    // DEL leaves the bridge; without it the node is as it was.
    node.delete("cni0")?;
    before.ensure_same(&case.snapshot(&[&node])?)
}

impl Crowd<'_> {
    /// Picks one of its pods after the other: adds it if it is away, else deletes or checks it.
    fn work(&self, number: usize) -> Result<()> {
        let mut random = Random::new(self.seed, number as u64);
        let pods = (0..PODS).map(|pod| self.case.pod(&format!("p{number}-{pod}"))).collect::<Result<Vec<_>>>()?;
        let mut here: Vec<Option<(Attachment, Value)>> = vec![None; PODS];
        loop {
            let pod = random.below(PODS);
            match here[pod].take() {
                None => {
                    let count = self.next.fetch_add(1, Ordering::Relaxed);
                    if count >= ATTACHMENTS {
                        break;
                    }
                    let mut attachment = self.case.attachment(self.node, &pods[pod], &self.conf);
                    attachment.container = format!("c{count}");
                    here[pod] = Some(self.add(attachment)?);
                }
                Some((attachment, result)) if random.below(4) == 0 => {
                    attachment.check(&result)?;
                    here[pod] = Some((attachment, result));
                }
                Some(one) => self.delete(one)?,
            }
        }
        here.into_iter().flatten().try_for_each(|one| self.delete(one))
    }

    fn add(&self, attachment: Attachment) -> Result<(Attachment, Value)> {
        let result = attachment.add()?;
        let address = address(&result)?;
        ensure!(attachment.pod.ips("eth0")? == [address.clone()], "{:?} has not {address}", attachment.pod.name);
        let is_new = self.taken.lock().is_ok_and(|mut taken| taken.insert(address.clone()));
        ensure!(is_new, "{address} was given to {:?} while somebody has it", attachment.container);
        Ok((attachment, result))
    }

    fn delete(&self, (attachment, result): (Attachment, Value)) -> Result<()> {
        let address = address(&result)?;
        // From here on somebody else may get it.
        let was_there = self.taken.lock().is_ok_and(|mut taken| taken.remove(&address));
        ensure!(was_there, "{address} of {:?} was not taken", attachment.container);
        attachment.del()
    }
}

fn address(result: &Value) -> Result<String> {
    let address = result["ips"][0]["address"].as_str();
    address.map(str::to_owned).with_context(|| format!("no address in {result}"))
}
