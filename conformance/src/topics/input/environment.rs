//! P01 to P03, P07, P08: the variables of the environment.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::refused;
use crate::runner::{Case, Test};
use crate::test;
use crate::topics::plugins;

pub(super) const TESTS: &[Test] = &[
    test!(p01_an_unknown_command_is_code_4, "the variable and its value are named"),
    test!(p01_a_missing_command_is_code_4, "the variable is named"),
    test!(p02_every_missing_variable_is_named_at_once, "ADD and CHECK without each of theirs"),
    test!(p02_del_needs_container_and_interface, "and no netns"),
    test!(p02_a_delegating_plugin_needs_a_path, "CNI_PATH"),
    test!(p02_status_needs_no_attachment, "STATUS with CNI_PATH only"),
    test!(p03_ill_formed_container_ids_are_refused, "letters, digits, _ . - only"),
    test!(p03_ill_formed_interface_names_are_refused, "what the kernel would refuse, and 16 bytes"),
    test!(p03_network_names_are_no_paths, "\"../../etc\" and the like, by bridge and host-local"),
    test!(p07_ifname_already_taken_is_an_error, "the interface that was there is untouched"),
    test!(p08_a_netns_that_is_not_there, "ADD and CHECK fail"),
    test!(p08_del_without_a_netns_releases_the_rest, "the lease"),
    test!(p08_del_without_a_netns_removes_the_host_link, "found by its label").ours(),
    test!(p08_the_own_netns_is_refused, "before any change"),
    test!(p08_the_override_lets_the_own_netns_pass, "CNI_NETNS_OVERRIDE").ours(),
    test!(p08_a_file_that_is_no_netns_is_refused, "a regular file as CNI_NETNS"),
];

fn p01_an_unknown_command_is_code_4(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    for command in ["FLY", "add", "ADD ", "ADDD"] {
        refused(case, &[&node, &pod], &attachment.call(command), 4, &["CNI_COMMAND", command])?;
    }
    Ok(())
}

fn p01_a_missing_command_is_code_4(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    for plugin in plugins(case) {
        let conf = case.bridge_with(json!({ "type": plugin }));
        let call = case.attachment(&node, &pod, &conf).call("ADD");
        refused(case, &[&node, &pod], &call.clone().without("CNI_COMMAND"), 4, &["CNI_COMMAND"])?;
        refused(case, &[&node, &pod], &call.env("CNI_COMMAND", ""), 4, &["CNI_COMMAND"])?;
    }
    Ok(())
}

fn p02_every_missing_variable_is_named_at_once(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let all = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"];
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    for command in ["ADD", "CHECK"] {
        let whole = attachment.call(command);
        for name in all {
            refused(case, &[&node, &pod], &whole.clone().without(name), 4, &[name])?;
        }
        let none = all.iter().fold(whole, |call, name| call.without(name));
        refused(case, &[&node, &pod], &none, 4, &all)?;
    }
    Ok(())
}

fn p02_del_needs_container_and_interface(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let del = case.attachment(&node, &pod, &case.bridge_conf()).call("DEL");
    del.clone().without("CNI_NETNS").succeed()?;
    let neither = del.without("CNI_CONTAINERID").without("CNI_IFNAME");
    refused(case, &[&node, &pod], &neither, 4, &["CNI_CONTAINERID", "CNI_IFNAME"]).map(drop)
}

fn p02_a_delegating_plugin_needs_a_path(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let add = case.attachment(&node, &pod, &case.bridge_conf()).call("ADD");
    refused(case, &[&node, &pod], &add.without("CNI_PATH"), 4, &["CNI_PATH"]).map(drop)
}

fn p02_status_needs_no_attachment(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = case.bridge_with(json!({ "cniVersion": "1.1.0" }));
    case.unchanged(&[&node], || case.call(&node, "bridge", "STATUS").conf(&conf).succeed()).map(drop)
}

fn p03_ill_formed_container_ids_are_refused(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    for id in ["", "-x", ".x", "_x", "a/b", "a b", "../x", "a\nb", "a\tb", "a:b", "é"] {
        for command in ["ADD", "DEL"] {
            let call = attachment.call(command).env("CNI_CONTAINERID", id);
            refused(case, &[&node, &pod], &call, 4, &["CNI_CONTAINERID"]).with_context(|| format!("{id:?}"))?;
        }
    }
    Ok(())
}

fn p03_ill_formed_interface_names_are_refused(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    for name in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "sixteen-bytes-ab"] {
        for command in ["ADD", "DEL"] {
            let call = attachment.call(command).env("CNI_IFNAME", name);
            refused(case, &[&node, &pod], &call, 4, &["CNI_IFNAME"]).with_context(|| format!("{name:?}"))?;
        }
    }
    Ok(())
}

fn p03_network_names_are_no_paths(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    for plugin in ["bridge", "host-local"] {
        for name in ["../../etc", "..", ".", ".hidden", "a/b", "/etc", "-x", "", "a b"] {
            let conf = case.bridge_with(json!({ "type": plugin, "name": name }));
            let attachment = case.attachment(&node, &pod, &conf);
            for command in ["ADD", "DEL"] {
                refused(case, &[&node, &pod], &attachment.call(command), 7, &["name"])
                    .with_context(|| format!("{plugin} {command} {name:?}"))?;
            }
        }
    }
    ensure!(case.dir.read_dir()?.next().is_none(), "files were left in {:?}", case.dir);
    Ok(())
}

fn p07_ifname_already_taken_is_an_error(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    pod.add_bridge("eth0")?;
    pod.address("eth0", "192.168.9.1/24")?;
    let add = case.attachment(&node, &pod, &case.bridge_conf()).call("ADD");
    refused(case, &[&node, &pod], &add, 105, &["eth0"])?;
    ensure!(pod.link("eth0")?.kind == "bridge", "the interface was replaced");
    Ok(())
}

fn p08_a_netns_that_is_not_there(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    let result = attachment.add()?;
    for call in [attachment.call("ADD"), attachment.check_call(&result)] {
        let call = call.env("CNI_NETNS", "/run/netns/gone");
        let failure = case.unchanged(&[&node, &pod], || call.fail_somehow())?;
        ensure!([3, 4].contains(&failure.code), "code {}, expected 3 or 4", failure.code);
        failure.says(&["/run/netns/gone"])?;
    }
    Ok(())
}

fn p08_del_without_a_netns_releases_the_rest(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    for netns in [None, Some(""), Some("/run/netns/gone")] {
        let pod = case.pod("p1")?;
        let attachment = case.attachment(&node, &pod, &case.bridge_conf());
        attachment.add()?;
        ensure!(case.lease_names("net")?.len() == 1, "ADD left no lease");
        let del = attachment.call("DEL").without("CNI_NETNS");
        let del = netns.map_or(del.clone(), |path| del.env("CNI_NETNS", path));
        del.succeed()?;
        ensure!(case.lease_names("net")?.is_empty(), "the lease is still there with CNI_NETNS {netns:?}");
    }
    Ok(())
}

fn p08_del_without_a_netns_removes_the_host_link(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    attachment.add()?;
    ensure!(node.ports("cni0")?.len() == 1, "ADD left no port");
    attachment.call("DEL").without("CNI_NETNS").succeed()?;
    ensure!(node.ports("cni0")?.is_empty(), "the host link is still there");
    Ok(())
}

fn p08_the_own_netns_is_refused(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    for plugin in ["bridge", "loopback"] {
        let conf = case.bridge_with(json!({ "type": plugin }));
        let add = case.attachment(&node, &node, &conf).call("ADD");
        refused(case, &[&node], &add, 4, &["CNI_NETNS"])?;
    }
    Ok(())
}

fn p08_the_override_lets_the_own_netns_pass(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = json!({ "cniVersion": "1.0.0", "name": "lo", "type": "loopback" });
    let add = case.attachment(&node, &node, &conf).ifname("lo").call("ADD");
    add.clone().env("CNI_NETNS_OVERRIDE", "true").succeed()?;
    add.env("CNI_NETNS_OVERRIDE", "no").fail(4).map(drop)
}

fn p08_a_file_that_is_no_netns_is_refused(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let file = case.dir.join("file");
    std::fs::write(&file, "not a namespace")?;
    let add = case.attachment(&node, &pod, &case.bridge_conf()).call("ADD").env("CNI_NETNS", &file);
    let failure = case.unchanged(&[&node, &pod], || add.fail_somehow())?;
    ensure!([3, 4].contains(&failure.code), "code {}, expected 3 or 4", failure.code);
    Ok(())
}
