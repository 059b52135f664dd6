//! P24: GC.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::recording;
use crate::runner::{Attachment, Case, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p24_gc_removes_what_has_no_attachment, "links and leases; the valid ones stay"),
    test!(p24_gc_is_scoped_to_the_network, "another network on the same bridge stays"),
    test!(p24_gc_without_the_list_removes_nothing, "an error naming the key"),
    test!(p24_gc_of_everything_removes_the_bridge, "that the network made").ours(),
    test!(p24_gc_calls_the_delegate_and_goes_on_past_its_error, "and tells it"),
    test!(p24_gc_counts_the_interface_too, "one container, two interfaces, one valid"),
];

fn network(case: &Case, name: &str) -> Value {
    case.bridge_with(json!({ "cniVersion": "1.1.0", "name": name, "isGateway": false }))
}

/// GC of a network with these attachments as the valid ones.
fn collect(case: &Case, on: &Attachment, conf: &Value, valid: &[&Attachment]) -> crate::cni::Call {
    let list: Vec<Value> = valid.iter().map(|a| json!({ "containerID": a.container, "ifname": a.ifname })).collect();
    let conf = merged(conf, json!({ "cni.dev/valid-attachments": list }));
    case.call(&on.node, "bridge", "GC").conf(&conf)
}

fn p24_gc_removes_what_has_no_attachment(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = network(case, "net");
    let stays = case.attachment(&node, &case.pod("a")?, &conf);
    let goes = case.attachment(&node, &case.pod("b")?, &conf);
    let (result, _) = (stays.add()?, goes.add()?);
    collect(case, &stays, &conf, &[&stays]).succeed()?;
    stays.check(&result)?;
    ensure!(node.ports("cni0")?.len() == 1, "ports: {:?}", node.ports("cni0")?);
    ensure!(case.lease_names("net")? == ["10.7.0.2"], "leases: {:?}", case.lease_names("net")?);
    collect(case, &stays, &conf, &[&stays]).succeed().map(drop)
}

fn p24_gc_is_scoped_to_the_network(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let (blue, green) = (network(case, "blue"), network(case, "green"));
    let mine = case.attachment(&node, &case.pod("a")?, &blue);
    let other = case.attachment(&node, &case.pod("b")?, &green);
    mine.add()?;
    let result = other.add()?;
    collect(case, &mine, &blue, &[]).succeed()?;
    other.check(&result)?;
    ensure!(mine.pod.find("eth0")?.is_none() && node.ports("cni0")?.len() == 1, "the wrong links are left");
    ensure!(case.lease_names("blue")?.is_empty(), "leases: {:?}", case.lease_names("blue")?);
    Ok(())
}

fn p24_gc_without_the_list_removes_nothing(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = network(case, "net");
    let attachment = case.attachment(&node, &case.pod("a")?, &conf);
    attachment.add()?;
    let gc = case.call(&node, "bridge", "GC").conf(&conf);
    case.unchanged(&[&node, &attachment.pod], || gc.fail_somehow())?.says(&["cni.dev/valid-attachments"]).map(drop)
}

fn p24_gc_of_everything_removes_the_bridge(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = network(case, "net");
    let before = case.snapshot(&[&node])?;
    let attachment = case.attachment(&node, &case.pod("a")?, &conf);
    attachment.add()?;
    collect(case, &attachment, &conf, &[]).succeed()?;
    before.ensure_same(&case.snapshot(&[&node])?)
}

fn p24_gc_calls_the_delegate_and_goes_on_past_its_error(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let answer = r#"case $CNI_COMMAND in
ADD) echo '{"cniVersion":"1.1.0","ips":[{"address":"10.7.0.77/24"}]}' ;;
GC) echo '{"cniVersion":"1.1.0","code":120,"msg":"the pool is stuck"}'; exit 1 ;;
esac"#;
    let path = case.fake_plugin("stuck-ipam", &recording(&case.dir, answer))?;
    let conf = merged(&network(case, "net"), json!({ "ipam": null }));
    let conf = merged(&conf, json!({ "ipam": { "type": "stuck-ipam" } }));
    let attachment = case.attachment(&node, &case.pod("a")?, &conf);
    attachment.call("ADD").env("CNI_PATH", &path).succeed()?;
    let gc = collect(case, &attachment, &conf, &[]).env("CNI_PATH", &path);
    gc.fail_somehow()?.says(&["the pool is stuck"])?;
    let seen: Value = serde_json::from_str(&case.read("GC.stdin")?)?;
    ensure!(seen["cni.dev/valid-attachments"] == json!([]), "{seen}");
    ensure!(attachment.pod.find("eth0")?.is_none(), "the link was left");
    Ok(())
}

fn p24_gc_counts_the_interface_too(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = network(case, "net");
    let first = case.attachment(&node, &case.pod("a")?, &conf);
    let second = first.clone().ifname("net1");
    first.add()?;
    let result = second.add()?;
    collect(case, &first, &conf, &[&second]).succeed()?;
    ensure!(first.pod.find("eth0")?.is_none(), "eth0 is still there");
    second.check(&result)
}
