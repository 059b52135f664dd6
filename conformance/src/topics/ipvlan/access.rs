//! hostAccess: node and pod reach each other, through the node's own device on the parent.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Claim, Lan, NODE, OUTSIDE, Pod, addresses, conf, prove};
use crate::lab::{Link, Space};
use crate::packets::{peer_seen_by_udp, reaches};
use crate::runner::{Attachment, Case, Feature, Test, merged};
use crate::test;
use crate::topics::scale::at_once;

pub(super) const TESTS: &[Test] = &[
    test!(p28_ipvlan_host_access, "in l2, l3 and l3s, both ways, both IP versions; a control without")
        .needs(&[Feature::IpvlanL3s])
        .ours()
        .limit(60),
    test!(ipvlan_shim_is_shared_and_goes_with_the_last, "twenty pods; GC of some; the last DEL takes all away")
        .needs(&[Feature::Ipvlan])
        .ours()
        .limit(60),
    test!(p20_ipvlan_host_access_that_fails_leaves_nothing, "neither shim nor route").needs(&[Feature::Ipvlan]).ours(),
    test!(p23_ipvlan_check_of_host_access, "shim and routes: gone, down").needs(&[Feature::Ipvlan]).ours().limit(60),
    test!(ipvlan_host_access_needs_a_loose_source_check, "rp_filter 1 is refused, 2 is taken")
        .needs(&[Feature::Ipvlan])
        .ours(),
];

fn access(case: &Case, mode: &str) -> Value {
    merged(&conf(case, mode), json!({ "cniVersion": "1.1.0", "hostAccess": true }))
}

fn shims(node: &Space) -> Result<Vec<Link>> {
    let mut links = node.links()?;
    links.retain(|link| link.name.starts_with("shim"));
    Ok(links)
}

fn p28_ipvlan_host_access(case: &Case) -> Result<()> {
    for mode in ["l2", "l3", "l3s"] {
        let lan = Lan::new(case)?;
        let with = merged(&access(case, mode), json!({ "name": mode }));
        let a = lan.pod(case, "a", &with)?;
        // The node is the first to speak: nobody has learnt of the other before.
        a.ips()?.iter().try_for_each(|ip| reaches(&lan.node, *ip).map(drop)).context(mode)?;
        let b = lan.pod(case, "b", &with)?;
        let control = lan.pod(case, "control", &merged(&with, json!({ "hostAccess": false })))?;
        let (node, outside) = (addresses(NODE)?, addresses(OUTSIDE)?);
        let mut claims = vec![
            Claim { from: &lan.node, to: control.ip()?, reaches: false },
            Claim { from: control.space(), to: node[0], reaches: false },
            Claim { from: control.space(), to: a.ip()?, reaches: true },
        ];
        for (n, (&first, &second)) in a.ips()?.iter().zip(&b.ips()?).enumerate() {
            claims.extend([
                Claim { from: b.space(), to: node[n], reaches: true },
                Claim { from: a.space(), to: node[n], reaches: true },
                Claim { from: &lan.node, to: second, reaches: true },
                Claim { from: a.space(), to: second, reaches: true },
                Claim { from: b.space(), to: outside[n], reaches: true },
                Claim { from: &lan.outside, to: first, reaches: true },
            ]);
        }
        prove(&claims).context(mode)?;
        for (n, ip) in a.ips()?.into_iter().enumerate() {
            let seen = peer_seen_by_udp(a.space(), ip, &lan.node)?;
            ensure!(seen == node[n], "mode {mode}: the node speaks as {seen}");
        }
        a.check()?;
        b.check()?;
        [a, b, control].iter().try_for_each(|pod| pod.attachment.del())?;
        ensure!(shims(&lan.node)?.is_empty(), "mode {mode}: {:?}", shims(&lan.node)?);
    }
    Ok(())
}

fn ipvlan_shim_is_shared_and_goes_with_the_last(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let conf = access(case, "l2");
    case.unchanged(&[&lan.node], || {
        let pods = (0..20)
            .map(|n| Ok(case.attachment(&lan.node, &case.pod(&format!("p{n}"))?, &conf)))
            .collect::<Result<Vec<_>>>()?;
        at_once(&pods, Attachment::add)?;
        let [shim] = shims(&lan.node)?.try_into().map_err(|all| anyhow::anyhow!("not one shim: {all:?}"))?;
        ensure!(shim.kind == "ipvlan" && shim.altnames.len() == pods.len(), "{shim:?}");
        let (dead, alive) = pods.split_at(8);
        let valid: Vec<_> = alive.iter().map(|a| json!({ "containerID": a.container, "ifname": a.ifname })).collect();
        let gc = merged(&conf, json!({ "cni.dev/valid-attachments": valid }));
        case.call(&lan.node, "ipvlan", "GC").conf(&gc).succeed()?;
        ensure!(shims(&lan.node)?[0].altnames.len() == alive.len(), "{:?}", shims(&lan.node)?);
        let routes = || -> Result<usize> {
            let routes = lan.node.routes()?.into_iter();
            Ok(routes.filter(|route| route.link == Some(shim.index) && route.to.ends_with("/32")).count())
        };
        // One for each pod, and none for those that are dead.
        ensure!(routes()? == alive.len(), "{} routes for {} pods, {} dead", routes()?, alive.len(), dead.len());
        reaches(&alive[0].pod, NODE[0].parse()?)?;
        at_once(alive, Attachment::del)?;
        Ok(())
    })
}

fn p20_ipvlan_host_access_that_fails_leaves_nothing(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    let nowhere = json!({ "ipam": { "routes": [{ "dst": "192.0.2.0/24", "gw": "172.31.0.1" }] } });
    let late = merged(&access(case, "l2"), nowhere);
    let pod = case.pod("a")?;
    let add = case.attachment(&lan.node, &pod, &late).call("ADD");
    case.unchanged(&[&lan.node, &pod], || add.fail_somehow())?;
    // With another pod on the shim it stays, and so does what that one needs.
    let first = lan.pod(case, "first", &access(case, "l2"))?;
    case.unchanged(&[&lan.node, &pod], || add.fail_somehow())?;
    first.check()?;
    reaches(first.space(), NODE[0].parse()?).map(drop)
}

/// Something done behind the plugin's back: what it is called, what is done, what CHECK has to say.
type Damage = (&'static str, fn(&Lan, &Pod) -> Result<()>, &'static [&'static str]);

fn p23_ipvlan_check_of_host_access(case: &Case) -> Result<()> {
    let damages: [Damage; 4] = [
        ("route", |lan, pod| lan.node.remove_route(&format!("{}/32", pod.ip()?)), &["route", "shim", "10.7.0."]),
        ("shim down", |lan, _| lan.node.down(&shims(&lan.node)?[0].name), &["shim", "up", "down"]),
        ("shim gone", |lan, _| lan.node.delete(&shims(&lan.node)?[0].name), &["shim", "none"]),
        ("pod's route", |_, pod| pod.space().remove_route(&format!("{}/32", NODE[0])), &["pod's route", NODE[0]]),
    ];
    for (what, damage, words) in damages {
        let lan = Lan::new(case)?;
        let pod = lan.pod(case, "a", &access(case, "l2"))?;
        pod.check().context(what)?;
        damage(&lan, &pod).context(what)?;
        pod.attachment.check_call(&pod.result).fail(102).context(what)?.says(words)?;
        pod.attachment.del()?;
    }
    Ok(())
}

fn ipvlan_host_access_needs_a_loose_source_check(case: &Case) -> Result<()> {
    let lan = Lan::new(case)?;
    lan.node.set_sysctl("net/ipv4/conf/all/rp_filter", "1")?;
    let pod = case.pod("a")?;
    let add = case.attachment(&lan.node, &pod, &access(case, "l2")).call("ADD");
    case.unchanged(&[&lan.node, &pod], || add.fail(101))?.says(&["eth1", "rp_filter"])?;
    lan.node.set_sysctl("net/ipv4/conf/eth1/rp_filter", "2")?;
    let pod = lan.pod(case, "b", &access(case, "l2"))?;
    reaches(pod.space(), NODE[0].parse()?)?;
    reaches(&lan.node, pod.ip()?).map(drop)
}
