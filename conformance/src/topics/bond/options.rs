//! Modes and options: what the kernel makes of each, what CHECK says of it, and what is refused.

use anyhow::{Context, Result, ensure};
use rtnetlink::LinkMessageBuilder;
use serde_json::json;

use super::{NEEDS, bond_options, conf, node_at_switch, ports};
use crate::cni::tool;
use crate::lab::Space;
use crate::packets::reaches;
use crate::runner::{Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(bond_has_seven_modes_by_name_and_number, "the kernel shows each").needs(NEEDS).ours().limit(120),
    test!(bond_passes_every_option_on, "as the kernel shows it, and CHECK passes").needs(NEEDS).ours().limit(120),
    test!(p05_bond_refuses_what_its_mode_cannot_do, "code 7 with the reason, nothing touched").ours(),
    test!(p23_bond_check_names_what_differs, "options, links, MTU, MAC, primary").needs(NEEDS).ours().limit(120),
    test!(p23_bond_check_passes_with_one_cable_cut, "a warning, and an error when both are").needs(NEEDS).ours(),
    test!(p06_bond_knows_its_options, "a near miss is pointed out").ours(),
];

const MODES: [&str; 7] =
    ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"];

fn bond_has_seven_modes_by_name_and_number(case: &Case) -> Result<()> {
    let (node, _switch) = node_at_switch(case)?;
    for (number, name) in MODES.into_iter().enumerate() {
        for mode in [json!(name), json!(number)] {
            let pod = case.pod("a")?;
            // Without addresses, there is no need to wait for the neighbours.
            let attachment = case.attachment(&node, &pod, &conf(case, json!({ "mode": mode, "ipam": null })));
            let result = attachment.add().with_context(|| mode.to_string())?;
            let shown = bond_options(&pod, "eth0")?;
            ensure!(shown["mode"] == name, "{mode}: {shown}");
            ensure!(ports(&pod, "eth0")? == ["eth1", "eth2"], "{mode}: {:?}", ports(&pod, "eth0")?);
            attachment.check(&result).with_context(|| mode.to_string())?;
            attachment.del()?;
        }
    }
    Ok(())
}

fn bond_passes_every_option_on(case: &Case) -> Result<()> {
    let arp = json!({ "mode": 1, "arpInterval": 100, "arpIpTargets": ["10.7.0.100", "10.7.0.101"] });
    let options = [
        (json!({}), json!({ "mode": "active-backup", "miimon": 100 })),
        (
            json!({ "miimon": "50", "updelay": 100, "downdelay": 150, "primary": "eth2", "primaryReselect": "failure",
                    "failOverMac": 1, "numPeerNotif": 3, "resendIgmp": 2, "allSlavesActive": 1 }),
            json!({ "miimon": 50, "updelay": 100, "downdelay": 150, "primary": "eth2", "primary_reselect": "failure",
                    "fail_over_mac": "active", "num_peer_notif": 3, "resend_igmp": 2, "all_slaves_active": 1 }),
        ),
        (json!({ "failOverMac": "follow" }), json!({ "fail_over_mac": "follow" })),
        (arp.clone(), json!({ "miimon": 0, "arp_interval": 100, "arp_ip_target": ["10.7.0.100", "10.7.0.101"] })),
        (crate::runner::merged(&arp, json!({ "arpValidate": "all" })), json!({ "arp_validate": "all" })),
        (json!({ "arpInterval": 100, "nsIp6Targets": ["fd07::100"] }), json!({ "ns_ip6_target": ["fd07::100"] })),
        (json!({ "mode": "balance-rr", "packetsPerSlave": 4 }), json!({ "packets_per_slave": 4 })),
        (json!({ "mode": 2, "xmitHashPolicy": "layer3+4" }), json!({ "xmit_hash_policy": "layer3+4" })),
        (json!({ "mode": 2, "xmitHashPolicy": "vlan+srcmac" }), json!({ "xmit_hash_policy": "vlan+srcmac" })),
        (
            json!({ "mode": 4, "lacpRate": "fast", "adSelect": "bandwidth", "minLinks": 1 }),
            json!({ "ad_lacp_rate": "fast", "ad_select": "bandwidth", "min_links": 1 }),
        ),
        (
            json!({ "mode": 5, "tlbDynamicLb": 0, "xmitHashPolicy": "layer2+3" }),
            json!({ "tlb_dynamic_lb": 0, "xmit_hash_policy": "layer2+3" }),
        ),
        (json!({ "mode": 6, "tlbDynamicLb": true }), json!({ "tlb_dynamic_lb": 1 })),
    ];
    let (node, _switch) = node_at_switch(case)?;
    for (extra, wanted) in options {
        let attempt = || -> Result<()> {
            let pod = case.pod("a")?;
            let attachment = case.attachment(&node, &pod, &conf(case, extra.clone())).with(json!({ "ipam": null }));
            let result = attachment.add()?;
            let shown = bond_options(&pod, "eth0")?;
            for (key, value) in wanted.as_object().context("an object")? {
                ensure!(shown[key] == *value, "{key}: {}, expected {value}: {shown}", shown[key]);
            }
            attachment.check(&result)?;
            attachment.del()
        };
        attempt().with_context(|| extra.to_string())?;
    }
    Ok(())
}

fn p05_bond_refuses_what_its_mode_cannot_do(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("a")?);
    for (extra, words) in [
        (json!({ "mode": 4, "arpInterval": 100, "arpIpTargets": ["10.0.0.1"] }), &["arpInterval", "802.3ad"][..]),
        (json!({ "arpInterval": 100, "arpIpTargets": ["10.0.0.1"], "miimon": 100 }), &["miimon", "arpInterval"]),
        (json!({ "arpInterval": 100 }), &["arpInterval", "arpIpTargets"]),
        (json!({ "mode": 0, "lacpRate": "fast" }), &["lacpRate", "balance-rr"]),
        (json!({ "mode": 2, "primary": "eth1" }), &["primary", "balance-xor"]),
        (json!({ "mode": 2, "packetsPerSlave": 2 }), &["packetsPerSlave", "balance-xor"]),
        (json!({ "mode": 1, "xmitHashPolicy": "layer2" }), &["xmitHashPolicy", "active-backup"]),
        (json!({ "mode": 6, "failOverMac": "follow" }), &["failOverMac", "balance-alb"]),
        (json!({ "mode": 4, "miimon": 0 }), &["miimon", "802.3ad"]),
        (json!({ "updelay": 150 }), &["updelay", "multiple"]),
        (json!({ "primary": "eth9" }), &["primary", "eth9"]),
        (json!({ "mtu": 60 }), &["mtu", "60"]),
        (json!({ "mode": "active-backupp" }), &["mode", "active-backup"]),
        (json!({ "links": [] }), &["links", "at least one"]),
        (json!({ "links": [{ "name": "eth1" }, { "name": "eth1" }] }), &["links[1]", "twice"]),
        (json!({ "links": [{ "name": "eth1" }, { "name": "eth0" }] }), &["links[1]", "bond itself"]),
        (json!({ "links": [{ "name": "lo" }] }), &["links[0]", "loopback"]),
        (json!({ "links": [{ "name": "a/b" }] }), &["links[0]", "a/b"]),
        (json!({ "ifname": "a b" }), &["ifname", "a b"]),
        (json!({ "failOverMac": 1, "runtimeConfig": { "mac": "0a:00:00:00:00:07" } }), &["failOverMac", "asked for"]),
    ] {
        let add = case.attachment(&node, &pod, &conf(case, extra.clone())).call("ADD");
        let failure = case.unchanged(&[&node, &pod], || add.fail(7)).with_context(|| extra.to_string())?;
        failure.says(words).with_context(|| extra.to_string())?;
    }
    // A type that is none of the accepted ones.
    let add = case.attachment(&node, &pod, &conf(case, json!({ "miimon": [1] }))).call("ADD");
    add.fail(6)?.says(&["miimon"]).map(drop)
}

fn p06_bond_knows_its_options(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("a")?);
    let conf = conf(case, json!({ "mimon": 100, "strict": true }));
    case.attachment(&node, &pod, &conf).call("ADD").fail(2)?.says(&["mimon", "miimon"]).map(drop)
}

/// Something done in the pod behind the plugin's back: what it is called, what is done, what CHECK has to say.
type Damage<'a> = (&'a str, &'a dyn Fn(&Space) -> Result<()>, &'a [&'a str]);

fn p23_bond_check_names_what_differs(case: &Case) -> Result<()> {
    let set = |pod: &Space, words: &[&str]| {
        let words = [&["link", "set", "dev", "eth0", "type", "bond"], words].concat();
        tool(pod, "ip", &words).map(drop)
    };
    let damages: &[Damage] = &[
        ("miimon", &|pod| set(pod, &["miimon", "200"]), &["eth0", "miimon", "100", "200"]),
        ("a notification more", &|pod| set(pod, &["num_grat_arp", "7"]), &["numPeerNotif", "2", "7"]),
        ("the primary", &|pod| set(pod, &["primary", "eth2"]), &["primary", "eth1", "eth2"]),
        (
            "a link is taken out",
            &|pod| pod.change("eth2", LinkMessageBuilder::nocontroller),
            &["eth2", "in the bond", "eth1"],
        ),
        ("the MTU", &|pod| pod.change("eth0", |link| link.mtu(1300)), &["eth0", "MTU", "1500", "1300"]),
        ("the MAC", &|pod| pod.change("eth0", |link| link.address(vec![10, 0, 0, 0, 0, 9])), &["0a:00:00:00:00:09"]),
        ("the bond is down", &|pod| pod.down("eth0"), &["eth0", "up"]),
        ("the bond is gone", &|pod| pod.delete("eth0"), &["eth0", "to be there"]),
        (
            "another mode",
            &|pod| {
                // A mode can be changed only without links.
                tool(pod, "ip", &["link", "set", "dev", "eth1", "nomaster"])?;
                tool(pod, "ip", &["link", "set", "dev", "eth2", "nomaster"])?;
                pod.down("eth0")?;
                set(pod, &["mode", "balance-xor"])?;
                for link in ["eth1", "eth2"] {
                    pod.down(link)?;
                    tool(pod, "ip", &["link", "set", "dev", link, "master", "eth0"])?;
                }
                pod.change("eth0", |link| link.address(vec![10, 0, 0, 0, 0, 7]).up())
            },
            &["mode", "active-backup", "balance-xor"],
        ),
    ];
    let (node, _switch) = node_at_switch(case)?;
    for (what, damage, words) in damages {
        let attempt = || -> Result<()> {
            let pod = case.pod("a")?;
            let extra = json!({ "primary": "eth1", "numPeerNotif": 2, "runtimeConfig": { "mac": "0a:00:00:00:00:07" }, "ipam": null });
            let attachment = case.attachment(&node, &pod, &conf(case, extra));
            let result = attachment.add()?;
            attachment.check(&result)?;
            damage(&pod)?;
            attachment.check_call(&result).fail(102)?.says(words)?;
            attachment.del()
        };
        attempt().with_context(|| (*what).to_owned())?;
    }
    Ok(())
}

fn p23_bond_check_passes_with_one_cable_cut(case: &Case) -> Result<()> {
    let (node, switch) = node_at_switch(case)?;
    let pod = case.pod("a")?;
    // With failOverMac active the bond's MAC address is another one then.
    let attachment = case.attachment(&node, &pod, &conf(case, json!({ "miimon": 10, "failOverMac": "active" })));
    let result = attachment.add()?;
    let mac = pod.link("eth0")?.mac;
    reaches(&pod, super::FAR.parse()?)?;
    switch.down("p1")?;
    reaches(&pod, super::FAR.parse()?)?;
    ensure!(pod.link("eth0")?.mac != mac, "the MAC address is still {mac}");
    let output = attachment.check_call(&result).run()?;
    output.success()?;
    ensure!(output.stderr.contains("eth1"), "no word of eth1: {:?}", output.stderr);
    switch.down("p2")?;
    let is_down = |link: &crate::lab::Link| link.name == "eth0" && !link.running;
    ensure!(pod.await_link(std::time::Duration::from_secs(5), is_down)?, "the bond is still up");
    attachment.check_call(&result).fail(102)?.says(&["eth1", "eth2", "MII"]).map(drop)
}
