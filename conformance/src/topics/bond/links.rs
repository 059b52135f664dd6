//! Links of the node and of the pod: lent, given back as they were, and found again whatever has become of them.

use anyhow::{Context, Result, ensure};
use rtnetlink::LinkMessageBuilder;
use serde_json::json;

use super::{LINKS, NEEDS, conf, node_at_switch, port_state, ports};
use crate::cni::tool;
use crate::lab::{Space, mac_bytes};
use crate::packets::reaches;
use crate::runner::{Case, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p22_bond_gives_links_back_as_they_were, "name, MAC, MTU, state and addresses, and traffic between")
        .needs(NEEDS)
        .ours(),
    test!(p22_bond_gives_back_what_the_pod_changed, "renamed, readdressed, taken out of the bond").needs(NEEDS).ours(),
    test!(p24_bond_gc_does_not_believe_what_a_pod_wrote, "on a link that it had borrowed: a label of a dead pod's")
        .needs(NEEDS)
        .ours(),
    test!(p22_bond_del_after_the_pod_vanished, "its links went with it, and nothing is left").needs(NEEDS).ours(),
    test!(p22_bond_finds_links_that_the_kernel_returned, "under another name, by DEL").needs(NEEDS).ours(),
    test!(p24_bond_gc_finds_links_that_the_kernel_returned, "of dead attachments of this network only")
        .needs(NEEDS)
        .ours(),
    test!(p22_bond_returns_links_that_it_has_no_note_of, "as the plugin leaves them that others use")
        .needs(NEEDS)
        .ours(),
    test!(bond_over_links_in_the_container, "linksInContainer, and released as they were").needs(NEEDS).ours(),
    test!(bond_links_with_one_mac, "all have the bond's, or each gets one of its own").needs(NEEDS).ours(),
    test!(bond_mtu_is_the_smallest_of_its_links, "above is refused, below is for all, and restored")
        .needs(NEEDS)
        .ours(),
    test!(bond_has_the_mac_that_was_asked_for, "runtimeConfig.mac").needs(NEEDS).ours(),
    test!(bond_is_named_by_ifname, "the option, in place of CNI_IFNAME").needs(NEEDS).ours(),
    test!(bond_of_one_link_is_warned_about, "and works").needs(NEEDS).ours(),
];

/// Makes the two links of the node differ in all that is to come back.
fn dress(node: &Space) -> Result<()> {
    let mac = mac_bytes("02:00:00:00:01:01")?;
    node.change("eth1", |link| link.address(mac.to_vec()).mtu(1600))?;
    node.address("eth1", "192.0.2.1/24")?;
    node.address("eth1", "2001:db8::1/64")?;
    node.down("eth2")
}

fn p22_bond_gives_links_back_as_they_were(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    let pod = case.pod("a")?;
    dress(&node)?;
    let before = case.snapshot(&[&node, &pod])?;
    let attachment = case.attachment(&node, &pod, &conf(case, json!({})));
    let result = attachment.add()?;
    ensure!(ports(&pod, "eth0")? == LINKS, "{:?}", ports(&pod, "eth0")?);
    ensure!(LINKS.iter().all(|link| node.find(link).is_ok_and(|found| found.is_none())), "still on the node");
    let inside = pod.link("eth0")?;
    ensure!(inside.mac == "02:00:00:00:01:01" && inside.mtu == 1500, "{inside:?}");
    ensure!(result["interfaces"].as_array().is_some_and(|all| all.len() == 1), "{result}");
    ensure!(result["interfaces"][0]["mac"] == inside.mac.as_str(), "{result}");
    attachment.check(&result)?;
    reaches(&pod, super::FAR.parse()?)?;
    attachment.del()?;
    before.ensure_same(&case.snapshot(&[&node, &pod])?)?;
    case.unchanged(&[&node, &pod], || attachment.del())
}

fn p22_bond_gives_back_what_the_pod_changed(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    let pod = case.pod("a")?;
    dress(&node)?;
    let before = case.snapshot(&[&node, &pod])?;
    let attachment = case.attachment(&node, &pod, &conf(case, json!({})));
    attachment.add()?;
    // One gets another MTU by way of the bond and another name, the other another MAC address.
    pod.change("eth0", |link| link.mtu(1300))?;
    pod.down("eth1")?;
    pod.change("eth1", |link| link.name("mine".to_owned()))?;
    pod.change("eth2", LinkMessageBuilder::nocontroller)?;
    pod.change("eth2", |link| link.address(vec![2, 0, 0, 0, 9, 9]).mtu(1280))?;
    attachment.del()?;
    before.ensure_same(&case.snapshot(&[&node, &pod])?)
}

fn p24_bond_gc_does_not_believe_what_a_pod_wrote(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    let pod = case.pod("a")?;
    let before = case.snapshot(&[&node, &pod])?;
    let conf = conf(case, json!({ "cniVersion": "1.1.0" }));
    let attachment = case.attachment(&node, &pod, &conf);
    attachment.add()?;
    // A letter of two bytes wherever the name would be cut.
    for (link, id) in LINKS.iter().zip(["dead", &"é".repeat(60)]) {
        tool(&pod, "ip", &["link", "set", link, "alias", &format!("podwire:net:{id}:eth0")])?;
        tool(&pod, "ip", &["link", "property", "add", "dev", link, "altname", &format!("podwire:net:{link}:eth0")])?;
    }
    attachment.del()?;
    before.ensure_same(&case.snapshot(&[&node, &pod])?)?;
    let conf = merged(&conf, json!({ "cni.dev/valid-attachments": [] }));
    case.unchanged(&[&node], || case.call(&node, "bond", "GC").conf(&conf).succeed()).map(drop)
}

fn p22_bond_del_after_the_pod_vanished(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    let before = node.link("lo")?.altnames;
    let attachment = case.attachment(&node, &case.pod("a")?, &conf(case, json!({})));
    attachment.add()?;
    ensure!(node.link("lo")?.altnames != before, "nothing was noted");
    let del = attachment.call("DEL");
    // The last handle of the pod's namespace: what software made in it ends with it.
    drop(attachment);
    let no_netns = del.clone().without("CNI_NETNS");
    for call in [&del, &no_netns, &del] {
        call.succeed()?;
        ensure!(node.link("lo")?.altnames == before, "left: {:?}", node.link("lo")?.altnames);
    }
    ensure!(case.lease_names("net")?.is_empty(), "a lease is left");
    Ok(())
}

/// Does with a link of the pod what the kernel does with hardware when a namespace ends: it is on the node again, down,
/// and under another name if its own is taken.
fn kernel_returns(pod: &Space, node: &Space, link: &str, name: &str) -> Result<()> {
    pod.change(link, LinkMessageBuilder::nocontroller)?;
    pod.down(link)?;
    pod.change(link, |link| link.name(name.to_owned()))?;
    pod.change(name, |link| link.setns_by_fd(node.ns.fd()))
}

fn p22_bond_finds_links_that_the_kernel_returned(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    dress(&node)?;
    let before = case.snapshot(&[&node])?;
    let pod = case.pod("a")?;
    let attachment = case.attachment(&node, &pod, &conf(case, json!({})));
    attachment.add()?;
    kernel_returns(&pod, &node, "eth1", "dev7")?;
    kernel_returns(&pod, &node, "eth2", "eth2")?;
    attachment.call("DEL").without("CNI_NETNS").succeed()?;
    before.ensure_same(&case.snapshot(&[&node])?)
}

fn p24_bond_gc_finds_links_that_the_kernel_returned(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    dress(&node)?;
    let before = case.snapshot(&[&node])?;
    let pod = case.pod("a")?;
    let conf = conf(case, json!({}));
    let attachment = case.attachment(&node, &pod, &conf);
    attachment.add()?;
    kernel_returns(&pod, &node, "eth1", "dev7")?;
    kernel_returns(&pod, &node, "eth2", "dev8")?;
    let gc = |name: &str, valid: serde_json::Value| {
        let conf = crate::runner::merged(&conf, json!({ "name": name, "cni.dev/valid-attachments": valid }));
        case.call(&node, "bond", "GC").conf(&conf)
    };
    let alive = json!([{ "containerID": attachment.container, "ifname": attachment.ifname }]);
    case.unchanged(&[&node], || gc("net", alive).succeed())?;
    case.unchanged(&[&node], || gc("other", json!([])).succeed())?;
    gc("net", json!([])).succeed()?;
    before.ensure_same(&case.snapshot(&[&node])?)
}

fn p22_bond_returns_links_that_it_has_no_note_of(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    let pod = case.pod("a")?;
    let attachment = case.attachment(&node, &pod, &conf(case, json!({})));
    attachment.add()?;
    for note in node.link("lo")?.altnames {
        crate::cni::tool(&node, "ip", &["link", "property", "del", "dev", "lo", "altname", &note])?;
    }
    let own = Space::pod("other")?;
    crate::lab::cable(&pod, "eth3", &own, "eth3")?;
    attachment.del()?;
    for link in LINKS {
        ensure!(node.find(link)?.is_some(), "{link} is not on the node");
    }
    ensure!(pod.find("eth3")?.is_some(), "a link of the pod's own was taken");
    Ok(())
}

fn bond_over_links_in_the_container(case: &Case) -> Result<()> {
    let (pod, _switch) = node_at_switch(case)?;
    let node = case.node("n2")?;
    dress(&pod)?;
    let before = case.snapshot(&[&node, &pod])?;
    let attachment = case.attachment(&node, &pod, &conf(case, json!({ "linksInContainer": true })));
    let result = attachment.add()?;
    ensure!(ports(&pod, "eth0")? == LINKS, "{:?}", ports(&pod, "eth0")?);
    attachment.check(&result)?;
    reaches(&pod, super::FAR.parse()?)?;
    case.call(&node, "bond", "STATUS").conf(&attachment.conf).succeed()?;
    attachment.del()?;
    before.ensure_same(&case.snapshot(&[&node, &pod])?)
}

fn bond_links_with_one_mac(case: &Case) -> Result<()> {
    const MAC: &str = "02:00:00:00:01:01";
    let (node, _switch) = node_at_switch(case)?;
    for link in LINKS {
        node.change(link, |link| link.address(vec![2, 0, 0, 0, 1, 1]))?;
    }
    for (extra, distinct) in [
        (json!({ "failOverMac": "none" }), false),
        (json!({ "failOverMac": "active" }), true),
        (json!({ "failOverMac": "follow" }), true),
        (json!({ "mode": "balance-alb" }), true),
        (json!({ "mode": "balance-xor" }), false),
    ] {
        let attempt = || -> Result<()> {
            let pod = case.pod("a")?;
            let attachment = case.attachment(&node, &pod, &conf(case, extra.clone()));
            let result = attachment.add()?;
            let macs = LINKS.map(|link| port_state(&pod, link).map(|state| state["perm_hwaddr"].to_string()));
            let [first, second] = macs;
            let (first, second) = (first?, second?);
            ensure!(first == format!("{MAC:?}") && (first != second) == distinct, "{first} and {second}");
            attachment.check(&result)?;
            reaches(&pod, super::FAR.parse()?)?;
            attachment.del()?;
            for link in LINKS {
                ensure!(node.link(link)?.mac == MAC, "{link} came back with {}", node.link(link)?.mac);
            }
            Ok(())
        };
        attempt().with_context(|| extra.to_string())?;
    }
    Ok(())
}

fn bond_mtu_is_the_smallest_of_its_links(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    node.change("eth1", |link| link.mtu(9000))?;
    node.change("eth2", |link| link.mtu(4000))?;
    let before = case.snapshot(&[&node])?;
    for (extra, mtu) in [(json!({}), 4000), (json!({ "mtu": 0 }), 4000), (json!({ "mtu": 1400 }), 1400)] {
        let pod = case.pod("a")?;
        let attachment = case.attachment(&node, &pod, &conf(case, extra));
        let result = attachment.add()?;
        for link in ["eth0", "eth1", "eth2"] {
            ensure!(pod.link(link)?.mtu == mtu, "{link} has {}, expected {mtu}", pod.link(link)?.mtu);
        }
        ensure!(result["interfaces"][0]["mtu"] == mtu, "{result}");
        attachment.del()?;
        before.ensure_same(&case.snapshot(&[&node])?)?;
    }
    let pod = case.pod("a")?;
    let add = case.attachment(&node, &pod, &conf(case, json!({ "mtu": 4001 }))).call("ADD");
    case.unchanged(&[&node, &pod], || add.fail(7))?.says(&["mtu", "4001", "4000", "eth2"]).map(drop)
}

fn bond_has_the_mac_that_was_asked_for(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    let pod = case.pod("a")?;
    let extra = json!({ "runtimeConfig": { "mac": "0a:00:00:00:00:07" } });
    let attachment = case.attachment(&node, &pod, &conf(case, extra));
    let result = attachment.add()?;
    ensure!(result["interfaces"][0]["mac"] == "0a:00:00:00:00:07", "{result}");
    ensure!(pod.link("eth1")?.mac == "0a:00:00:00:00:07", "{:?}", pod.link("eth1")?);
    reaches(&pod, super::FAR.parse()?)?;
    attachment.check(&result)
}

fn bond_is_named_by_ifname(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    let pod = case.pod("a")?;
    let before = case.snapshot(&[&node, &pod])?;
    let attachment = case.attachment(&node, &pod, &conf(case, json!({ "ifname": "bond7" })));
    let result = attachment.add()?;
    ensure!(result["interfaces"][0]["name"] == "bond7", "{result}");
    ensure!(pod.find("eth0")?.is_none() && pod.link("bond7")?.kind == "bond", "{:?}", pod.links()?);
    reaches(&pod, super::FAR.parse()?)?;
    attachment.check(&result)?;
    attachment.del()?;
    before.ensure_same(&case.snapshot(&[&node, &pod])?)
}

fn bond_of_one_link_is_warned_about(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    let pod = case.pod("a")?;
    let attachment = case.attachment(&node, &pod, &conf(case, json!({ "links": [{ "name": "eth1" }] })));
    let output = attachment.call("ADD").run()?;
    output.success()?;
    ensure!(output.stderr.contains("only one"), "no warning: {:?}", output.stderr);
    reaches(&pod, super::FAR.parse()?).map(drop)
}
