//! P20, P21: ADD is all or nothing.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::recording;
use crate::cni::tool;
use crate::runner::{Case, Feature, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p20_a_delegate_that_fails_leaves_nothing, "no bridge, no veth"),
    test!(p20_a_bridge_that_was_there_stays, "and loses what this call gave it"),
    test!(p20_a_name_that_is_taken_costs_no_lease, "IFNAME exists"),
    test!(p20_a_route_that_cannot_be, "the lease is given back"),
    test!(p20_exhaustion_leaves_nothing, "code 100 through bridge, no bridge left"),
    test!(p20_without_a_capability_nothing_is_changed, "no CAP_NET_ADMIN"),
    test!(p20_a_result_without_addresses_is_an_error, "of the delegate"),
    test!(p21_a_failed_add_is_followed_by_del, "same environment, same configuration"),
    test!(p20_rules_go_too, "ipMasq before a late failure").needs(&[Feature::NftInet]),
];

fn p20_a_delegate_that_fails_leaves_nothing(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let answer = r#"[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{"cniVersion":"1.0.0","code":11,"msg":"the server is busy","details":"ask later"}'; exit 1"#;
    let path = case.fake_plugin("busy-ipam", &recording(&case.dir, answer))?;
    let conf = case.bridge_with(json!({ "ipam": { "type": "busy-ipam" } }));
    let add = case.attachment(&node, &pod, &conf).call("ADD").env("CNI_PATH", path);
    case.unchanged(&[&node, &pod], || add.fail(11))?.says(&["the server is busy"]).map(drop)
}

fn p20_a_bridge_that_was_there_stays(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    node.add_bridge("cni0")?;
    // One that it was given: one of the kernel's choice the kernel forgets when the last port goes.
    node.change("cni0", |link| link.address(vec![2, 0, 0, 0, 7, 1]).up())?;
    node.address("cni0", "192.0.2.1/24")?;
    let answer = "[ \"$CNI_COMMAND\" = ADD ] || exit 0\nexit 1";
    let path = case.fake_plugin("bad-ipam", &recording(&case.dir, answer))?;
    let conf = case.bridge_with(json!({ "ipam": { "type": "bad-ipam" } }));
    let add = case.attachment(&node, &pod, &conf).call("ADD").env("CNI_PATH", path);
    case.unchanged(&[&node, &pod], || add.fail_somehow()).map(drop)
}

/// ADD with these addresses and routes from `static`; it has to fail and to leave everything as it was.
fn fails_late(case: &Case, extra: Value) -> Result<crate::cni::Failure> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let add = case.attachment(&node, &pod, &case.bridge_with(extra)).call("ADD");
    case.unchanged(&[&node, &pod], || add.fail_somehow())
}

fn p20_a_name_that_is_taken_costs_no_lease(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    pod.add_bridge("eth0")?;
    pod.up("eth0")?;
    pod.address("eth0", "10.7.0.2/24")?;
    let add = case.attachment(&node, &pod, &case.bridge_conf()).call("ADD");
    case.unchanged(&[&node, &pod], || add.fail(105))?;
    ensure!(case.lease_names("net")?.is_empty(), "a lease is left");
    Ok(())
}

fn p20_a_route_that_cannot_be(case: &Case) -> Result<()> {
    // No link leads to the gateway, so that the kernel refuses the route after all else is done.
    let mut ipam = case.host_local(&["10.7.0.0/24"]);
    ipam["routes"] = json!([{ "dst": "192.0.2.0/24", "gw": "172.31.0.1" }]);
    let failure = fails_late(case, json!({ "ipam": ipam }))?;
    failure.says(&["192.0.2.0/24", "172.31.0.1"])?;
    ensure!(case.lease_names("net")?.is_empty(), "a lease is left");
    Ok(())
}

fn p20_exhaustion_leaves_nothing(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = case.bridge_with(json!({ "bridge": "first", "ipam": case.host_local(&["10.7.0.0/30"]) }));
    let full = case.attachment(&node, &case.pod("p0")?, &conf);
    full.add()?;
    let other = case.bridge_with(json!({ "bridge": "second", "ipam": case.host_local(&["10.7.0.0/30"]) }));
    let pod = case.pod("p1")?;
    let add = case.attachment(&node, &pod, &other).call("ADD");
    case.unchanged(&[&node, &pod], || add.fail(100)).map(drop)
}

fn p20_without_a_capability_nothing_is_changed(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let wrapper = ["setpriv", "--bounding-set=-net_admin"].map(std::ffi::OsStr::new);
    let add = case.attachment(&node, &pod, &case.bridge_conf()).call("ADD").under(&wrapper);
    let failure = case.unchanged(&[&node, &pod], || add.fail_somehow())?;
    failure.says(&["EPERM"])?;
    ensure!(case.lease_names("net")?.is_empty(), "a lease is left");
    Ok(())
}

fn p20_a_result_without_addresses_is_an_error(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let answer = "[ \"$CNI_COMMAND\" = ADD ] || exit 0\necho '{\"cniVersion\":\"1.0.0\",\"ips\":[]}'";
    let path = case.fake_plugin("empty-ipam", &recording(&case.dir, answer))?;
    let conf = case.bridge_with(json!({ "ipam": { "type": "empty-ipam" } }));
    let add = case.attachment(&node, &pod, &conf).call("ADD").env("CNI_PATH", path);
    case.unchanged(&[&node, &pod], || add.fail_somehow())?.says(&["empty-ipam"])?;
    ensure!(case.dir.join("DEL.env").exists(), "the delegate was not called with DEL");
    Ok(())
}

fn p21_a_failed_add_is_followed_by_del(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let answer = "[ \"$CNI_COMMAND\" = ADD ] || exit 0\nexit 7";
    let path = case.fake_plugin("bad-ipam", &recording(&case.dir, answer))?;
    let conf = case.bridge_with(json!({ "ipam": { "type": "bad-ipam", "note": "whole" } }));
    let attachment = case.attachment(&node, &pod, &conf).args("IgnoreUnknown=1;K=V");
    attachment.call("ADD").env("CNI_PATH", path).fail_somehow()?;
    let (add, del) = (case.read("ADD.env")?, case.read("DEL.env").context("the delegate was not called with DEL")?);
    ensure!(add.replace("CNI_COMMAND=ADD", "CNI_COMMAND=DEL") == del, "environments differ:\n{add}\n{del}");
    for name in ["ADD.stdin", "DEL.stdin"] {
        let seen: Value = serde_json::from_str(&case.read(name)?)?;
        ensure!(seen == conf, "{name}: {seen}, expected {conf}");
    }
    Ok(())
}

fn p20_rules_go_too(case: &Case) -> Result<()> {
    let mut ipam = case.host_local(&["10.7.0.0/24"]);
    ipam["routes"] = json!([{ "dst": "192.0.2.0/24", "gw": "172.31.0.1" }]);
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    // What is made once a node may stay.
    let other = case.bridge_with(json!({ "ipMasq": true }));
    let stays = case.attachment(&node, &case.pod("p0")?, &other);
    stays.add()?;
    let add = case.attachment(&node, &pod, &case.bridge_with(json!({ "ipMasq": true, "ipam": ipam }))).call("ADD");
    case.unchanged(&[&node, &pod], || add.fail_somehow())?;
    ensure!(tool(&node, "nft", &["list", "ruleset"])?.contains("masquerade"), "the other pod's rules are gone");
    Ok(())
}
