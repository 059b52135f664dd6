//! A bond as the port of a bridge: which modes are warned about.

use anyhow::{Context, Result, ensure};
use rtnetlink::LinkBond;
use serde_json::json;

use super::{NEEDS, conf, node_at_switch};
use crate::lab::Space;
use crate::runner::{Case, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(bond_on_a_bridge_is_warned_about_by_mode, "by the bridge: modes 0, 3, 5, 6, not 1, 2, 4").needs(NEEDS).ours(),
    test!(bond_on_a_bridge_in_the_pod_is_warned_about, "by CHECK of the bond, as a virtual machine has it")
        .needs(NEEDS)
        .ours(),
];

/// Modes that are warned about.
const HARMFUL: [u8; 4] = [0, 3, 5, 6];

/// Whether a warning names bond and bridge.
fn warns(stderr: &str, bond: &str, bridge: &str) -> bool {
    stderr.lines().any(|line| line.contains("WARN") && line.contains(bond) && line.contains(bridge))
}

fn plug_bond(space: &Space, bond: &str, bridge: &str, mode: u8) -> Result<()> {
    space.add(bond, LinkBond::new(bond).mode(mode.into()).miimon(100).build())?;
    space.plug(bridge, bond)
}

fn bond_on_a_bridge_is_warned_about_by_mode(case: &Case) -> Result<()> {
    for mode in 0..=6 {
        let attempt = || -> Result<()> {
            let (node, pod) = (case.node("n1")?, case.pod("a")?);
            node.add_bridge("br7")?;
            plug_bond(&node, "uplink", "br7", mode)?;
            let conf = merged(&case.bridge_conf(), json!({ "bridge": "br7", "cniVersion": "1.1.0" }));
            let attachment = case.attachment(&node, &pod, &conf);
            let add = attachment.call("ADD").run()?;
            let result = add.success()?;
            let status = case.call(&node, "bridge", "STATUS").conf(&conf).run()?;
            let check = attachment.check_call(&result).run()?;
            for (command, output) in [("ADD", add), ("STATUS", status), ("CHECK", check)] {
                output.success()?;
                let warned = warns(&output.stderr, "uplink", "br7");
                ensure!(warned == HARMFUL.contains(&mode), "{command} said {:?}", output.stderr);
            }
            attachment.del()
        };
        attempt().with_context(|| format!("mode {mode}"))?;
    }
    Ok(())
}

fn bond_on_a_bridge_in_the_pod_is_warned_about(case: &Case) -> Result<()> {
    for mode in 0..=6 {
        let (node, _switch) = node_at_switch(case)?;
        let pod = case.pod("a")?;
        let attachment = case.attachment(&node, &pod, &conf(case, json!({ "mode": mode, "ipam": null })));
        let result = attachment.add()?;
        pod.add_bridge("k6t")?;
        pod.plug("k6t", "eth0")?;
        let check = attachment.check_call(&result).run()?;
        check.success().with_context(|| format!("mode {mode}"))?;
        let warned = warns(&check.stderr, "eth0", "k6t");
        ensure!(warned == HARMFUL.contains(&mode), "mode {mode}: CHECK said {:?}", check.stderr);
    }
    Ok(())
}
