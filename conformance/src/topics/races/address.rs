//! An address that is given again while the DEL of its last holder is at work.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::halt::beside;
use super::scene::BRIDGE;
use crate::runner::{Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] =
    &[test!(p22_race_del_spares_the_rules_of_who_got_its_address, "ipMasq; DEL halted at each request")
        .needs(BRIDGE)
        .ours()
        .limit(300)];

fn p22_race_del_spares_the_rules_of_who_got_its_address(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let ipam = json!({ "type": "static", "addresses": [{ "address": "10.7.0.9/24" }] });
    let conf = case.bridge_with(json!({ "isGateway": false, "ipMasq": true, "ipam": ipam }));
    let attachment = |name| anyhow::Ok(case.attachment(&node, &case.pod(name)?, &conf));
    let (goes, comes) = (attachment("a")?, attachment("b")?);
    let mut met = 0;
    for nth in 1.. {
        goes.add()?;
        let (gone, added) = beside(&case.dir, goes.call("DEL"), nth, &comes.call("ADD"))?;
        let context = || format!("ADD after request {nth} of DEL");
        gone.success().with_context(context)?;
        let Some(added) = added else { break };
        let result = added.success().with_context(context)?;
        ensure!(node.ruleset()?.contains(&comes.label()), "no rule of the new pod's: {}", context());
        comes.check(&result).with_context(context)?;
        comes.del()?;
        ensure!(!node.ruleset()?.contains("podwire:"), "rules are left: {}", context());
        met += 1;
    }
    ensure!(met > 2, "DEL was halted {met} times");
    case.note(format!("DEL was halted {met} times"));
    Ok(())
}
