//! Many calls at once for one shared VLAN, and calls that are killed.

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use super::{Added, SHARED, nodes, shared};
use crate::packets::reaches;
use crate::runner::{Attachment, Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p27_vlan_shared_twenty_at_once, "20 ADDs at once, then 20 DELs: one device, and none")
        .needs(SHARED)
        .ours()
        .limit(60),
    test!(p27_vlan_shared_first_add_meets_last_del, "ADDs and DELs at once, over and over")
        .needs(SHARED)
        .ours()
        .limit(60),
];

/// Does `work` for all at once; the first error.
fn at_once<T: Sync>(all: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = all.iter().map(|one| scope.spawn(|| work(one))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked"))))
    })
}

fn pods(case: &Case, node: &crate::lab::Space, conf: &Value, count: usize) -> Result<Vec<Attachment>> {
    (0..count).map(|number| Ok(case.attachment(node, &case.pod(&format!("p{number}"))?, conf))).collect()
}

fn p27_vlan_shared_twenty_at_once(case: &Case) -> Result<()> {
    let [n1, n2] = nodes(case)?;
    let conf = shared(case, json!({}));
    let far = Added::new(case, &n2, "far", &conf)?;
    let before = n1.links()?;
    let pods = pods(case, &n1, &conf, 20)?;
    at_once(&pods, |pod| pod.add().map(drop))?;
    let device = n1.link("uplink.100")?;
    ensure!(device.altnames.len() == 20, "{device:?}");
    ensure!(n1.links()?.len() == before.len() + 1, "{:?}", n1.links()?);
    for pod in &pods {
        ensure!(pod.pod.link("eth0")?.peer == Some(device.index), "{:?}", pod.pod.link("eth0")?);
    }
    reaches(&pods[7].pod, far.ip(0)?)?;
    at_once(&pods, Attachment::del)?;
    ensure!(n1.links()? == before, "left on the node: {:?}", n1.links()?);
    Ok(())
}

fn p27_vlan_shared_first_add_meets_last_del(case: &Case) -> Result<()> {
    const ROUNDS: usize = 5;
    let [node, _far] = nodes(case)?;
    let before = node.links()?;
    let pods = pods(case, &node, &shared(case, json!({})), 4)?;
    // Each by itself, so that now this one is the first or the last, now that one.
    at_once(&pods, |pod| {
        for round in 0..ROUNDS {
            let result = pod.add().with_context(|| format!("round {round}"))?;
            pod.check(&result).with_context(|| format!("round {round}"))?;
            pod.del().with_context(|| format!("round {round}"))?;
        }
        Ok(())
    })?;
    ensure!(node.links()? == before, "left on the node: {:?}", node.links()?);
    Ok(())
}
