//! P22: DEL.

use anyhow::{Result, ensure};
use serde_json::json;

use super::recording;
use crate::lab::Snapshot;
use crate::runner::{Case, Feature, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p22_del_repeats, "and DEL of what never was"),
    test!(p22_del_with_and_without_prev_result, "the same end"),
    test!(p22_del_when_the_link_is_gone, "by hand, or with the pod"),
    test!(p22_del_goes_on_past_an_error, "the delegate's DEL fails, the link goes, the error is told"),
    test!(p22_del_leaves_other_pods_alone, "on the same bridge"),
    test!(p22_links_of_the_reference_are_removed, "added by /usr/lib/cni").needs(&[Feature::Reference]),
    test!(p22_the_reference_removes_these_links, "added by the plugins under test").needs(&[Feature::Reference]),
];

fn p22_del_repeats(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    case.unchanged(&[&node, &pod], || attachment.del())?;
    attachment.add()?;
    attachment.del()?;
    ensure!(pod.find("eth0")?.is_none() && node.ports("cni0")?.is_empty(), "links are left");
    ensure!(case.lease_names("net")?.is_empty(), "a lease is left");
    case.unchanged(&[&node, &pod], || attachment.del())
}

fn p22_del_with_and_without_prev_result(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    for with in [true, false] {
        let pod = case.pod("p1")?;
        let attachment = case.attachment(&node, &pod, &case.bridge_conf());
        let result = attachment.add()?;
        let previous = if with { json!({ "prevResult": result }) } else { json!({}) };
        attachment.call("DEL").conf(&merged(&attachment.conf, previous)).succeed()?;
        ensure!(pod.find("eth0")?.is_none() && node.ports("cni0")?.is_empty(), "links are left");
        ensure!(case.lease_names("net")?.is_empty(), "a lease is left");
    }
    Ok(())
}

fn p22_del_when_the_link_is_gone(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    attachment.add()?;
    pod.delete("eth0")?;
    attachment.del()?;
    ensure!(case.lease_names("net")?.is_empty(), "a lease is left");
    attachment.add()?;
    node.delete("cni0")?;
    attachment.del()?;
    ensure!(pod.find("eth0")?.is_none() && case.lease_names("net")?.is_empty(), "something is left");
    Ok(())
}

fn p22_del_goes_on_past_an_error(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let answer = r#"if [ "$CNI_COMMAND" = DEL ]; then
echo '{"cniVersion":"1.0.0","code":105,"msg":"the lease is stuck"}'; exit 1; fi
echo '{"cniVersion":"1.0.0","ips":[{"address":"10.7.0.77/24","gateway":"10.7.0.1"}]}'"#;
    let path = case.fake_plugin("stuck-ipam", &recording(&case.dir, answer))?;
    let conf = case.bridge_with(json!({ "ipam": { "type": "stuck-ipam" } }));
    let attachment = case.attachment(&node, &pod, &conf);
    attachment.call("ADD").env("CNI_PATH", &path).succeed()?;
    attachment.call("DEL").env("CNI_PATH", &path).fail_somehow()?.says(&["the lease is stuck"])?;
    ensure!(pod.find("eth0")?.is_none() && node.ports("cni0")?.is_empty(), "the link was left");
    Ok(())
}

fn p22_del_leaves_other_pods_alone(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let (a, b) = (case.pod("a")?, case.pod("b")?);
    let first = case.attachment(&node, &a, &case.bridge_conf());
    let second = case.attachment(&node, &b, &case.bridge_conf());
    first.add()?;
    let result = second.add()?;
    // Without the leases, of which one goes.
    let none = case.dir.join("none");
    let before = Snapshot::take(&[&b], &none)?;
    first.del()?;
    before.ensure_same(&Snapshot::take(&[&b], &none)?)?;
    second.check(&result)?;
    ensure!(case.lease_names("net")?.len() == 1, "leases: {:?}", case.lease_names("net")?);
    Ok(())
}

fn p22_links_of_the_reference_are_removed(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let reference = Case { cni_path: "/usr/lib/cni".into(), ..case.clone() };
    let result = reference.attachment(&node, &pod, &case.bridge_conf()).add()?;
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    attachment.check(&result)?;
    attachment.del()?;
    ensure!(pod.find("eth0")?.is_none() && node.ports("cni0")?.is_empty(), "links are left");
    ensure!(case.lease_names("net")?.is_empty(), "a lease is left");
    Ok(())
}

fn p22_the_reference_removes_these_links(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let reference = Case { cni_path: "/usr/lib/cni".into(), ..case.clone() };
    let result = case.attachment(&node, &pod, &case.bridge_conf()).add()?;
    let attachment = reference.attachment(&node, &pod, &case.bridge_conf());
    attachment.check(&result)?;
    attachment.del()?;
    ensure!(pod.find("eth0")?.is_none() && node.ports("cni0")?.is_empty(), "links are left");
    ensure!(case.lease_names("net")?.is_empty(), "a lease is left");
    Ok(())
}
