//! CHECK, DEL, GC, STATUS and roll-back.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Added, NEEDS, PARENT, conf};
use crate::cni::tool;
use crate::lab::{Lan, Space, cable, mac_bytes};
use crate::runner::{Case, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p23_macvlan_check_passes_for_every_option, "right after ADD").needs(NEEDS).ours(),
    test!(p23_macvlan_check_names_what_differs, "mode, parent, MTU, bcqueuelen, MAC, type").needs(NEEDS).ours(),
    test!(p22_macvlan_del_again_and_without_a_pod, "the link is gone, the lease too, and no error").needs(NEEDS),
    test!(p20_macvlan_that_fails_late_leaves_nothing, "no free address, a route that cannot be").needs(NEEDS).ours(),
    test!(p07_macvlan_ifname_already_taken, "code 105, and the interface is untouched").needs(NEEDS).ours(),
    test!(p24_macvlan_gc_releases_what_vanished, "the lease, and nothing of another network").needs(NEEDS).ours(),
    test!(p25_macvlan_status, "0, and 50 without parent or capability").needs(NEEDS).ours(),
];

fn p23_macvlan_check_passes_for_every_option(case: &Case) -> Result<()> {
    let options = [
        json!({ "mode": "bridge" }),
        json!({ "mode": "" }),
        json!({ "mode": "private" }),
        json!({ "mode": "vepa" }),
        json!({ "mode": "passthru" }),
        json!({ "mode": "source", "sourceMacs": ["02:00:00:00:00:78", "02:00:00:00:00:77"] }),
        json!({ "mtu": 1400, "mac": "02:00:00:00:00:07", "bcqueuelen": 3000 }),
        json!({ "hostAccess": true }),
        json!({ "hostAccess": true, "cniVersion": "0.4.0" }),
        json!({ "hostAccess": true, "cniVersion": "1.1.0" }),
        json!({ "ipam": null }),
    ];
    let lan = Lan::new()?;
    for extra in options {
        let pod = case.pod("a")?;
        let attachment = case.attachment(&lan.node, &pod, &conf(case, extra.clone()));
        case.unchanged(&[&lan.node, &pod], || {
            let result = attachment.add()?;
            case.unchanged(&[&lan.node, &pod], || attachment.check(&result))?;
            attachment.del()
        })
        .with_context(|| extra.to_string())?;
    }
    Ok(())
}

/// Something done behind the plugin's back: what it is called, what is done, what CHECK has to say.
type Damage = (&'static str, fn(&Lan, &Space) -> Result<()>, &'static [&'static str]);

const DAMAGES: [Damage; 6] = [
    ("mode", |_, pod| ip(pod, "link set eth0 type macvlan mode private"), &["eth0", "mode", "bridge", "private"]),
    ("bcqueuelen", |_, pod| ip(pod, "link set eth0 type macvlan bcqueuelen 500"), &["bcqueuelen", "3000", "500"]),
    ("MTU", |_, pod| pod.change("eth0", |link| link.mtu(1300)), &["MTU", "1400", "1300"]),
    ("MAC", |_, pod| pod.change("eth0", |link| link.address(vec![2, 0, 0, 0, 0, 9])), &["02:00:00:00:00:09"]),
    ("parent", |lan, pod| another_parent(lan, pod), &["parent", PARENT, "eth2"]),
    ("type", |_, pod| replaced(pod, |pod| pod.add_bridge("eth0")), &["eth0", "macvlan", "bridge"]),
];

fn ip(pod: &Space, words: &str) -> Result<()> {
    tool(pod, "ip", &words.split(' ').collect::<Vec<_>>()).map(drop)
}

/// Puts another link in the place of `eth0`, with the same MAC and addresses.
fn replaced(pod: &Space, make: impl FnOnce(&Space) -> Result<()>) -> Result<()> {
    let (mac, ips) = (pod.link("eth0")?.mac, pod.ips("eth0")?);
    pod.delete("eth0")?;
    make(pod)?;
    let mac = mac_bytes(&mac)?.to_vec();
    pod.change("eth0", |link| link.address(mac).mtu(1400).up())?;
    ips.iter().try_for_each(|ip| pod.address("eth0", ip))
}

fn another_parent(lan: &Lan, pod: &Space) -> Result<()> {
    cable(&lan.node, "eth2", &lan.other, "eth2")?;
    let netns = pod.ns.path().display().to_string();
    let make = |pod: &Space| {
        ip(&lan.node, "link add moving link eth2 type macvlan mode bridge bcqueuelen 3000")?;
        tool(&lan.node, "ip", &["link", "set", "moving", "netns", &netns])?;
        ip(pod, "link set moving name eth0")
    };
    replaced(pod, make)
}

fn p23_macvlan_check_names_what_differs(case: &Case) -> Result<()> {
    for (what, damage, words) in DAMAGES {
        let attempt = || -> Result<()> {
            let lan = Lan::new()?;
            let pod = case.pod("a")?;
            let attachment = case.attachment(&lan.node, &pod, &conf(case, json!({ "mtu": 1400, "bcqueuelen": 3000 })));
            let result = attachment.add()?;
            attachment.check(&result)?;
            damage(&lan, &pod)?;
            let check = attachment.check_call(&result);
            case.unchanged(&[&lan.node, &pod], || check.fail(102))?.says(words)?;
            attachment.del()
        };
        attempt().with_context(|| what.to_owned())?;
    }
    Ok(())
}

fn p22_macvlan_del_again_and_without_a_pod(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let a = Added::new(case, &lan.node, "a", &conf(case, json!({})))?;
    a.attachment.del()?;
    ensure!(a.pod().find("eth0")?.is_none() && case.lease_names("lan")?.is_empty(), "something is left");
    a.attachment.del().context("the second time")?;
    let b = Added::new(case, &lan.node, "b", &conf(case, json!({})))?;
    b.attachment.call("DEL").env("CNI_NETNS", "/run/netns/gone").succeed()?;
    ensure!(case.lease_names("lan")?.is_empty(), "leases left: {:?}", case.lease_names("lan")?);
    b.attachment.call("DEL").without("CNI_NETNS").succeed().map(drop)
}

fn p20_macvlan_that_fails_late_leaves_nothing(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let tiny = case.host_local(&["192.168.7.0/30"]);
    let full = conf(case, json!({ "name": "tiny", "ipam": tiny }));
    let _first = Added::new(case, &lan.node, "first", &full)?;
    let mut ipam = case.host_local(&["192.168.7.0/24", "fd07::/64"]);
    ipam["routes"] = json!([{ "dst": "192.0.2.0/24", "gw": "172.31.0.1" }]);
    let unreachable = conf(case, json!({ "ipam": ipam }));
    for mode in [json!({}), json!({ "mode": "passthru" }), json!({ "hostAccess": true })] {
        for (conf, says) in [(&full, "no address left"), (&unreachable, "172.31.0.1")] {
            // The first pod must not be what is in the way of passthru.
            let lan = if mode.get("mode").is_some() { &Lan::new()? } else { &lan };
            let pod = case.pod("a")?;
            let add = case.attachment(&lan.node, &pod, conf).with(mode.clone()).call("ADD");
            let failure = case.unchanged(&[&lan.node, &pod], || add.fail_somehow());
            failure.with_context(|| mode.to_string())?.says(&[says])?;
        }
    }
    Ok(())
}

fn p07_macvlan_ifname_already_taken(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let pod = case.pod("a")?;
    pod.add_bridge("eth0")?;
    for extra in [json!({}), json!({ "hostAccess": true }), json!({ "mode": "passthru" })] {
        let add = case.attachment(&lan.node, &pod, &conf(case, extra)).call("ADD");
        case.unchanged(&[&lan.node, &pod], || add.fail(105))?.says(&["eth0"])?;
    }
    Ok(())
}

fn p24_macvlan_gc_releases_what_vanished(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let conf = conf(case, json!({ "cniVersion": "1.1.0", "mode": "passthru" }));
    let collect = |valid: &Value| {
        let conf = merged(&conf, json!({ "cni.dev/valid-attachments": valid }));
        case.call(&lan.node, "macvlan", "GC").conf(&conf).succeed()
    };
    let gone = Added::new(case, &lan.node, "a", &conf)?;
    gone.pod().delete("eth0")?;
    collect(&json!([{ "containerID": gone.attachment.container, "ifname": "eth0" }]))?;
    ensure!(!case.lease_names("lan")?.is_empty(), "a valid attachment lost its lease");
    // Another network's is none of its business.
    let other = Added::new(case, &lan.node, "b", &merged(&conf, json!({ "name": "other" })))?;
    collect(&json!([]))?;
    ensure!(case.lease_names("lan")?.is_empty(), "leases left: {:?}", case.lease_names("lan")?);
    other.attachment.check(&other.result)
}

fn p25_macvlan_status(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    let conf = |extra| merged(&conf(case, json!({ "cniVersion": "1.1.0" })), extra);
    let status = |conf: &Value| case.call(&lan.node, "macvlan", "STATUS").conf(conf);
    for extra in [json!({}), json!({ "master": "in-the-pod", "linkInContainer": true }), json!({ "hostAccess": true })]
    {
        case.unchanged(&[&lan.node], || status(&conf(extra)).succeed())?;
    }
    status(&conf(json!({ "master": "eht1" }))).fail(50)?.says(&["eht1", PARENT])?;
    status(&conf(json!({ "master": null }))).fail(50)?.says(&["default route"])?;
    status(&conf(json!({ "mtu": 9000 }))).fail(50)?.says(&["9000"])?;
    let wrapper = ["setpriv", "--bounding-set=-net_admin"].map(std::ffi::OsStr::new);
    status(&conf(json!({}))).under(&wrapper).fail(50)?.says(&["CAP_NET_ADMIN"]).map(drop)
}
