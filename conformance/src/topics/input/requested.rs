//! P09: what the runtime or the user asks for, and who wins.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::refused;
use crate::runner::{Case, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p09_the_runtime_wins_over_args_over_cni_args_for_the_mac, "three places for a MAC"),
    test!(p09_the_option_mac_comes_last, "a MAC in the configuration itself").ours(),
    test!(p09_the_runtime_wins_over_args_over_cni_args_for_ips, "three places for an address"),
    test!(p09_an_unknown_cni_arg_is_an_error, "unless IgnoreUnknown"),
    test!(p09_the_args_of_kubernetes_are_known, "K8S_POD_* without IgnoreUnknown").ours(),
    test!(p09_a_malformed_cni_arg_is_an_error, "no = in it, a MAC or an IP that is none"),
];

const RUNTIME: &str = "0a:00:00:00:00:01";
const ARGS: &str = "0a:00:00:00:00:02";
const CNI_ARGS: &str = "0a:00:00:00:00:03";

fn p09_the_runtime_wins_over_args_over_cni_args_for_the_mac(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let runtime = json!({ "capabilities": { "mac": true }, "runtimeConfig": { "mac": RUNTIME } });
    let args = json!({ "args": { "cni": { "mac": ARGS } } });
    let cases = [(merged(&runtime, args.clone()), RUNTIME), (runtime, RUNTIME), (args, ARGS), (json!({}), CNI_ARGS)];
    for (extra, wanted) in cases {
        let pod = case.pod("p1")?;
        let attachment =
            case.attachment(&node, &pod, &case.bridge_with(extra)).args(&format!("IgnoreUnknown=true;MAC={CNI_ARGS}"));
        let result = attachment.add()?;
        let mac = pod.link("eth0")?.mac;
        ensure!(mac == wanted, "the pod has {mac}, expected {wanted}");
        let reported = result["interfaces"].as_array().and_then(|all| all.iter().find(|i| i["name"] == "eth0"));
        ensure!(reported.is_some_and(|i| i["mac"] == wanted), "reported: {result}");
        attachment.del()?;
    }
    Ok(())
}

fn p09_the_option_mac_comes_last(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let option = "0a:00:00:00:00:04";
    for (args, wanted) in [(None, option), (Some(CNI_ARGS), CNI_ARGS)] {
        let pod = case.pod("p1")?;
        let mut attachment = case.attachment(&node, &pod, &case.bridge_with(json!({ "mac": option })));
        attachment.args = args.map(|mac| format!("MAC={mac}"));
        attachment.add()?;
        let mac = pod.link("eth0")?.mac;
        ensure!(mac == wanted, "the pod has {mac}, expected {wanted}");
        attachment.del()?;
    }
    Ok(())
}

fn p09_the_runtime_wins_over_args_over_cni_args_for_ips(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let runtime = json!({ "capabilities": { "ips": true }, "runtimeConfig": { "ips": ["10.7.0.101/24"] } });
    let args = json!({ "args": { "cni": { "ips": ["10.7.0.102"] } } });
    let cases: [(Value, &str); 4] = [
        (merged(&runtime, args.clone()), "10.7.0.101/24"),
        (runtime, "10.7.0.101/24"),
        (args, "10.7.0.102/24"),
        (json!({}), "10.7.0.103/24"),
    ];
    for (extra, wanted) in cases {
        let pod = case.pod("p1")?;
        let attachment =
            case.attachment(&node, &pod, &case.bridge_with(extra)).args("IgnoreUnknown=true;IP=10.7.0.103");
        attachment.add()?;
        let ips = pod.ips("eth0")?;
        ensure!(ips == [wanted], "the pod has {ips:?}, expected {wanted}");
        attachment.del()?;
    }
    Ok(())
}

fn p09_an_unknown_cni_arg_is_an_error(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    let call = attachment.clone().args("FOO=bar").call("ADD");
    refused(case, &[&node, &pod], &call, 4, &["FOO"])?;
    for ignore in ["IgnoreUnknown=true;FOO=bar", "FOO=bar;IgnoreUnknown=1"] {
        let attachment = attachment.clone().args(ignore);
        attachment.add().context(ignore)?;
        attachment.del()?;
    }
    let call = attachment.args("IgnoreUnknown=false;FOO=bar").call("ADD");
    refused(case, &[&node, &pod], &call, 4, &["FOO"]).map(drop)
}

fn p09_the_args_of_kubernetes_are_known(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let args = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=1-2-3";
    let attachment = case.attachment(&node, &pod, &case.bridge_conf()).args(args);
    attachment.add()?;
    attachment.del()
}

fn p09_a_malformed_cni_arg_is_an_error(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    for (args, word) in [("FOO", "FOO"), ("MAC=nonsense", "nonsense"), ("IP=10.7.0.300", "10.7.0.300")] {
        let call = attachment.clone().args(args).call("ADD");
        refused(case, &[&node, &pod], &call, 4, &["CNI_ARGS", word]).context(args)?;
    }
    Ok(())
}
