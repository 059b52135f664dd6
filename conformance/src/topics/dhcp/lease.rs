//! What a lease gives a pod, on every type of interface, by every server.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Pod, SERVERS, Site, noise, pairs, strings, with_router};
use crate::lab::{Lan, Offer, Software};
use crate::packets::{inject_all, reaches, udp_broadcast};
use crate::runner::{Attachment, Case, Feature, Test};
use crate::test;
use crate::topics::scale::at_once;

pub(super) const TESTS: &[Test] = &[
    test!(dhcp_address_and_router_by_dnsmasq, "in the result and in the pod; DEL twice").needs(SERVERS).limit(60),
    test!(dhcp_address_and_router_by_kea, "in the result and in the pod; DEL twice").needs(SERVERS).limit(60),
    test!(dhcp_del_gives_the_address_back, "either server sees the release, after a CHECK too")
        .needs(SERVERS)
        .limit(90),
    test!(dhcp_macvlan, "a pod on a link of the node, and its address given back")
        .needs(&[Feature::Macvlan, Feature::DhcpServers])
        .limit(60),
    test!(dhcp_ipvlan_pods_share_a_mac, "two pods with one MAC have two addresses, by their client ids")
        .needs(&[Feature::Ipvlan, Feature::DhcpServers])
        .limit(90),
    test!(dhcp_two_interfaces_of_one_pod, "two leases, and DEL of one leaves the other").needs(SERVERS).limit(60),
    test!(dhcp_twenty_pods_at_once, "twenty addresses").needs(SERVERS).limit(90),
    test!(dhcp_rubbish_from_the_network, "thousands of packets to the client's port that are no answer")
        .needs(SERVERS)
        .limit(60),
    test!(dhcp_classless_routes_win, "option 121 over 3 and 33 (RFC 3442), by either server").needs(SERVERS).limit(90),
    test!(dhcp_static_routes, "option 33, besides the default route").needs(SERVERS).limit(60),
    test!(dhcp_mtu_dns_domain_search, "options 26, 6, 15 and 119, in the pod and in the result, by either server")
        .needs(SERVERS)
        .ours()
        .limit(60),
];

/// A pod on a bridge: what ADD says, what the pod has, and what DEL does.
fn address_and_router(case: &Case, software: Software) -> Result<()> {
    let site = Site::new(case, software, &with_router(), &[])?;
    let pod = site.pod("a", json!({}))?;
    let ip = pod.ip()?;
    ensure!(pod.cidrs() == pod.space().ips("eth0")?, "{}: the pod has {:?}", pod.result, pod.space().ips("eth0")?);
    ensure!(pod.result["ips"][0]["gateway"] == "192.168.7.200", "{}", pod.result);
    ensure!(pod.routes() == pairs(&[("0.0.0.0/0", "192.168.7.200")]), "{}", pod.result);
    let default = pod.space().routes()?.into_iter().find(|route| route.to == "0.0.0.0/0");
    ensure!(default.and_then(|route| route.via) == Some("192.168.7.200".parse()?), "no default route");
    reaches(pod.space(), Lan::OTHER[0].parse()?)?;
    reaches(&site.lan.other, ip)?;
    // The reference's CHECK asks for another lease; what is given back is shown by itself.
    pod.attachment.del()?;
    ensure!(pod.space().find("eth0")?.is_none(), "eth0 is left");
    // The second finds nothing and is content.
    pod.attachment.del()
}

fn dhcp_del_gives_the_address_back(case: &Case) -> Result<()> {
    for (name, software) in [("dnsmasq", Software::Dnsmasq), ("kea", Software::Kea4)] {
        let site = Site::new(&case.below(name), software, &with_router(), &[])?;
        let pod = site.pod("a", json!({}))?;
        pod.attachment.check(&pod.result)?;
        pod.attachment.del()?;
        site.server.await_release(pod.ip()?).context(name)?;
    }
    Ok(())
}

fn dhcp_address_and_router_by_dnsmasq(case: &Case) -> Result<()> {
    address_and_router(case, Software::Dnsmasq)
}

fn dhcp_address_and_router_by_kea(case: &Case) -> Result<()> {
    address_and_router(case, Software::Kea4)
}

fn dhcp_macvlan(case: &Case) -> Result<()> {
    let site = Site::bare(case, Software::Kea4, &with_router(), &[])?;
    let pod = site.pod("a", json!({ "type": "macvlan", "master": Lan::PARENT }))?;
    reaches(pod.space(), Lan::OTHER[0].parse()?)?;
    reaches(&site.lan.other, pod.ip()?)?;
    pod.attachment.del()?;
    site.server.await_release(pod.ip()?)
}

fn dhcp_ipvlan_pods_share_a_mac(case: &Case) -> Result<()> {
    // The reference has to be told that nobody can answer one of several pods behind one MAC.
    let site = Site::bare(case, Software::Dnsmasq, &with_router(), &["-broadcast"])?;
    let conf = json!({ "type": "ipvlan", "master": Lan::PARENT });
    let (a, b) = (site.pod("a", conf.clone())?, site.pod("b", conf)?);
    let mac = |pod: &Pod| anyhow::Ok(pod.space().link("eth0")?.mac);
    ensure!(mac(&a)? == mac(&b)?, "two MACs, so that this shows nothing");
    ensure!(a.ip()? != b.ip()?, "both have {}", a.ip()?);
    for pod in [&a, &b] {
        reaches(pod.space(), Lan::OTHER[0].parse()?)?;
    }
    a.attachment.del()?;
    reaches(b.space(), Lan::OTHER[0].parse()?).map(drop)
}

fn dhcp_two_interfaces_of_one_pod(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Kea4, &with_router(), &[])?;
    // Without a router: two default routes would be one too many.
    let conf = json!({ "ipam": { "request": [{ "skipDefault": true, "option": "subnet-mask" }] } });
    let first = Pod::add(site.attachment("a", conf)?)?;
    let second = Pod::add(first.attachment.clone().ifname("eth1"))?;
    ensure!(first.ip()? != second.ip()?, "both have {}", first.ip()?);
    second.attachment.del()?;
    ensure!(first.space().ips("eth0")? == first.cidrs(), "eth0 has {:?}", first.space().ips("eth0")?);
    first.attachment.check(&first.result)?;
    reaches(&site.lan.other, first.ip()?).map(drop)
}

fn dhcp_twenty_pods_at_once(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Kea4, &with_router(), &[])?;
    let pods = (0..20).map(|number| site.attachment(&format!("p{number}"), json!({}))).collect::<Result<Vec<_>>>()?;
    let added = at_once(&pods, |attachment| Pod::add(attachment.clone()))?;
    let ips = added.iter().map(Pod::ip).collect::<Result<BTreeSet<_>>>()?;
    ensure!(ips.len() == pods.len(), "{} addresses: {ips:?}", ips.len());
    for pod in added.iter().step_by(7) {
        reaches(pod.space(), Lan::OTHER[0].parse()?)?;
    }
    at_once(&pods, Attachment::del).map(drop)
}

fn dhcp_rubbish_from_the_network(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Dnsmasq, &with_router(), &[])?;
    let noise = noise(1 << 16);
    let rubbish = |number: usize| {
        let length = number * 37 % 1400;
        let payload = &noise[number * 61 % (noise.len() - length)..][..length];
        // Now and then it begins like an answer: from a server, Ethernet, six bytes of address.
        let head: &[u8] = if number.is_multiple_of(2) { &[2, 1, 6, 0] } else { &[] };
        udp_broadcast([2, 0, 0, 0, 0, 9], [192, 168, 7, 66].into(), (67, 68), &[head, payload].concat())
    };
    let added = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let storm = scope.spawn(|| {
            let all = std::iter::repeat(0..1000).flatten().take_while(|_| !added.load(Ordering::Relaxed));
            inject_all(&site.lan.other, "eth0", all.map(rubbish))
        });
        let pod = site.pod("a", json!({}));
        added.store(true, Ordering::Relaxed);
        let sent = storm.join().expect("an injection does not panic")?;
        ensure!(sent > 100, "{sent} packets, so that this shows nothing");
        reaches(pod?.space(), Lan::OTHER[0].parse()?).map(drop)
    })
}

fn dhcp_classless_routes_win(case: &Case) -> Result<()> {
    let offer = Offer {
        classless: pairs(&[
            ("10.1.0.0/16", "192.168.7.201"),
            ("0.0.0.0/0", "192.168.7.202"),
            ("10.2.3.4/32", "192.168.7.203"),
        ]),
        fixed: pairs(&[("172.30.0.1", "192.168.7.204")]),
        ..with_router()
    };
    for (name, software) in [("dnsmasq", Software::Dnsmasq), ("kea", Software::Kea4)] {
        let site = Site::new(&case.below(name), software, &offer, &[])?;
        let pod = site.pod("a", json!({ "ipam": { "request": [{ "option": "121" }, { "option": "33" }] } }))?;
        let wanted = pairs(&[
            ("0.0.0.0/0", "192.168.7.202"),
            ("10.1.0.0/16", "192.168.7.201"),
            ("10.2.3.4/32", "192.168.7.203"),
        ]);
        ensure!(pod.routes() == wanted, "{software:?}: {}", pod.result);
        let there = pod.space().routes()?;
        for (to, via) in wanted {
            let via = Some(via.parse()?);
            ensure!(there.iter().any(|route| route.to == to && route.via == via), "no route to {to}: {there:?}");
        }
        pod.attachment.del()?;
    }
    Ok(())
}

fn dhcp_static_routes(case: &Case) -> Result<()> {
    let offer = Offer { fixed: pairs(&[("172.30.0.1", "192.168.7.204")]), ..with_router() };
    let site = Site::new(case, Software::Kea4, &offer, &[])?;
    let conf = json!({ "ipam": { "request": [{ "option": "33" }] } });
    let pod = site.pod("a", conf)?;
    let wanted = pairs(&[("0.0.0.0/0", "192.168.7.200"), ("172.30.0.1/32", "192.168.7.204")]);
    ensure!(pod.routes() == wanted, "{}", pod.result);
    let there = pod.space().routes()?;
    ensure!(there.iter().any(|route| route.to == "172.30.0.1/32"), "not in the pod: {there:?}");
    Ok(())
}

fn dhcp_mtu_dns_domain_search(case: &Case) -> Result<()> {
    let offer = Offer {
        mtu: Some(1400),
        dns: strings(&["192.168.7.53", "192.168.7.54"]),
        domain: Some("pods.example".into()),
        search: strings(&["pods.example", "example"]),
        ..with_router()
    };
    for (name, software) in [("dnsmasq", Software::Dnsmasq), ("kea", Software::Kea4)] {
        let site = Site::new(&case.below(name), software, &offer, &[])?;
        let pod = site.pod("a", json!({ "cniVersion": "1.1.0" }))?;
        let dns = json!({
            "nameservers": ["192.168.7.53", "192.168.7.54"],
            "domain": "pods.example",
            "search": ["pods.example", "example"],
        });
        ensure!(pod.result["dns"] == dns, "{software:?}: {}", pod.result);
        ensure!(pod.space().link("eth0")?.mtu == 1400, "{software:?}: MTU {}", pod.space().link("eth0")?.mtu);
        let reported = pod.result["interfaces"].as_array().into_iter().flatten().find(|link| link["name"] == "eth0");
        ensure!(reported.is_some_and(|link| link["mtu"] == 1400), "{software:?}: {}", pod.result);
        pod.attachment.check(&pod.result)?;
    }
    Ok(())
}
