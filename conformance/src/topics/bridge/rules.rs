//! What masquerading and the check of source addresses have in common: a pod's rules on the node.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::Added;
use crate::runner::Case;

/// That the ruleset after a pod's DEL is as if the pod had never been.
pub(super) fn go_with_del(case: &Case, conf: &Value) -> Result<()> {
    let node = case.node("n1")?;
    // The first pod leaves what is made once a node.
    let first = Added::new(case, &node, "a", conf)?;
    let before = node.ruleset()?;
    let second = Added::new(case, &node, "b", conf)?;
    ensure!(node.ruleset()? != before, "no rule was made");
    second.attachment.del()?;
    ensure!(node.ruleset()? == before, "left after DEL:\n{}", node.ruleset()?);
    first.attachment.check(&first.result)
}

/// That they are in `table`, labelled, and that the rules with `verdict` are the same few for many pods.
pub(super) fn are_shared_and_labelled(case: &Case, conf: &Value, table: &str, verdict: &str) -> Result<()> {
    let node = case.node("n1")?;
    let rules = |text: &str| text.lines().filter(|line| line.contains(verdict)).count();
    let first = Added::new(case, &node, "a", conf)?;
    let one = node.ruleset()?;
    let second = Added::new(case, &node, "b", conf)?;
    let two = node.ruleset()?;
    ensure!(two.contains(&format!("table {table}")), "{two}");
    for added in [&first, &second] {
        ensure!(two.contains(&added.attachment.label()), "no label {:?}:\n{two}", added.attachment.label());
    }
    ensure!(rules(&one) > 0 && rules(&one) == rules(&two), "a second pod took more rules:\n{two}");
    Ok(())
}

/// That CHECK sees that they are gone.
pub(super) fn are_missed(case: &Case, conf: &Value) -> Result<()> {
    let node = case.node("n1")?;
    let a = Added::new(case, &node, "a", conf)?;
    a.attachment.check(&a.result)?;
    node.load_ruleset("flush ruleset")?;
    a.attachment.check_call(&a.result).fail(102).map(drop)
}
