//! What an admin sees on the node: whose link is this?

use anyhow::{Result, ensure};
use serde_json::json;

use super::Added;
use crate::runner::{Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(the_host_link_names_its_owner, "ifalias podwire:NETWORK:CONTAINERID:IFNAME").ours(),
    test!(a_bridge_that_was_made_names_its_network, "ifalias podwire:NETWORK::").ours(),
    test!(a_bridge_that_was_there_is_not_labelled, "it belongs to somebody else").ours(),
    test!(an_altname_names_the_pod, "K8S_POD_NAMESPACE and K8S_POD_NAME").ours(),
    test!(a_pod_with_a_long_name_is_served, "longer than an altname may be").ours(),
    test!(the_host_link_has_the_same_name_again, "veth and eleven characters, from the container and the interface")
        .ours(),
];

fn the_host_link_names_its_owner(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let a = Added::new(case, &node, "a", &case.bridge_conf())?;
    let alias = node.link(&a.host_link())?.alias;
    ensure!(alias.as_deref() == Some("podwire:net:container-a:eth0"), "{alias:?}");
    Ok(())
}

fn a_bridge_that_was_made_names_its_network(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let _a = Added::new(case, &node, "a", &case.bridge_conf())?;
    let alias = node.link("cni0")?.alias;
    ensure!(alias.as_deref() == Some("podwire:net::"), "{alias:?}");
    Ok(())
}

fn a_bridge_that_was_there_is_not_labelled(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    node.add_bridge("cni0")?;
    let _a = Added::new(case, &node, "a", &case.bridge_conf())?;
    let alias = node.link("cni0")?.alias;
    ensure!(alias.is_none(), "{alias:?}");
    Ok(())
}

fn an_altname_names_the_pod(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0";
    let attachment = case.attachment(&node, &case.pod("a")?, &case.bridge_conf()).args(args);
    let result = attachment.add()?;
    let link = node.link(result["interfaces"][1]["name"].as_str().unwrap_or_default())?;
    let named = link.altnames.iter().any(|name| name.contains("shop") && name.contains("web-0"));
    ensure!(named, "altnames: {:?}", link.altnames);
    // A second interface of the pod needs a name of its own.
    let second = attachment.ifname("net1");
    second.add()?;
    second.del()
}

fn a_pod_with_a_long_name_is_served(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let (namespace, name) = ("n".repeat(63), "p".repeat(253));
    let args = format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}");
    // Two of them, whose names may be alike once they are cut.
    let pods = ["a", "b"].map(|pod| Ok(case.attachment(&node, &case.pod(pod)?, &case.bridge_conf()).args(&args)));
    let pods = pods.into_iter().collect::<Result<Vec<_>>>()?;
    pods.iter().try_for_each(|pod| pod.add().map(drop))?;
    pods.iter().try_for_each(crate::runner::Attachment::del)
}

fn the_host_link_has_the_same_name_again(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let a = Added::new(case, &node, "a", &case.bridge_with(json!({ "isGateway": false })))?;
    let first = a.host_link();
    ensure!(first.len() == 15 && first.starts_with("veth"), "{first}");
    a.attachment.del()?;
    let again = a.attachment.add()?;
    ensure!(again["interfaces"][1]["name"] == first.as_str(), "{again}");
    let other = a.attachment.clone().ifname("net1").add()?;
    ensure!(other["interfaces"][1]["name"] != first.as_str(), "{other}");
    Ok(())
}
