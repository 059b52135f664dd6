//! `DHCPv6`: alone and beside `DHCPv4`, by either server; the router by its advertisements.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Pod, SERVERS, Site, strings, with_router};
use crate::lab::{Lan, Offer, Server, Software};
use crate::packets::reaches;
use crate::runner::{Case, Feature, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(dhcp6_by_dnsmasq_with_router, "address, name servers, search list, the router that advertises itself")
        .needs(SERVERS)
        .ours()
        .limit(60),
    test!(dhcp6_by_kea_renewed, "through three terms, and given back on DEL").needs(SERVERS).ours().limit(60),
    test!(dhcp6_dual_stack, "an address of each version by two servers, and both given back")
        .needs(SERVERS)
        .ours()
        .limit(60),
    test!(dhcp6_ipvlan_pods_share_a_mac, "two pods with one MAC have two addresses")
        .needs(&[Feature::Ipvlan, Feature::DhcpServers])
        .ours()
        .limit(90),
];

const LONG: Duration = Duration::from_secs(25);

/// For pods that want IPv6 only.
fn six() -> Value {
    json!({ "ipam": { "dhcp4": false, "dhcp6": true } })
}

fn in_pool(ip: IpAddr) -> bool {
    let IpAddr::V6(ip) = ip else { return false };
    ip.segments()[..7] == [0xfd07, 0, 0, 0, 0, 0, 0] && (0x100..=0x150).contains(&ip.segments()[7])
}

fn dhcp6_by_dnsmasq_with_router(case: &Case) -> Result<()> {
    let offer =
        Offer { dns: strings(&["fd07::53"]), search: strings(&["pods.example"]), advertise: true, ..Offer::v6() };
    let site = Site::new(case, Software::Dnsmasq, &offer, &[])?;
    let pod = site.pod("a", six())?;
    let ip = pod.ip()?;
    ensure!(in_pool(ip), "{}", pod.result);
    ensure!(pod.space().ips("eth0")? == pod.cidrs(), "the pod has {:?}", pod.space().ips("eth0")?);
    ensure!(pod.result["dns"] == json!({ "nameservers": ["fd07::53"], "search": ["pods.example"] }), "{}", pod.result);
    let routers = site.lan.other.addresses("eth0")?;
    let router = routers.iter().find(|address| matches!(address.ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
    let router = router.context("a link-local address of the router")?.ip;
    let routes = pod.space().routes()?;
    let default =
        routes.iter().find(|route| route.to == "::/0").with_context(|| format!("no default route: {routes:?}"))?;
    ensure!(default.via == Some(router), "the default route is {default:?}, expected one by {router}");
    reaches(pod.space(), Lan::OTHER[1].parse()?)?;
    pod.attachment.check(&pod.result)?;
    pod.attachment.del()?;
    site.server.await_release(ip)
}

fn dhcp6_by_kea_renewed(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Kea6, &Offer { seconds: 8, ..Offer::v6() }, &[])?;
    let pod = site.pod("a", six())?;
    let ip = pod.ip()?;
    ensure!(in_pool(ip), "{}", pod.result);
    // Two renewals are one term.
    for _ in 0..5 {
        site.server.await_confirmation(ip, LONG)?;
    }
    ensure!(pod.space().ips("eth0")? == pod.cidrs(), "the pod has {:?}", pod.space().ips("eth0")?);
    pod.attachment.check(&pod.result)?;
    pod.attachment.del()?;
    site.server.await_release(ip)
}

fn dhcp6_dual_stack(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Dnsmasq, &Offer { advertise: true, ..Offer::v6() }, &[])?;
    let four = Server::start(Software::Kea4, &site.lan.other, "eth0", &case.dir.join("four"), &with_router())?;
    let pod = site.pod("a", json!({ "ipam": { "dhcp6": true } }))?;
    ensure!(pod.cidrs().len() == 2, "{}", pod.result);
    ensure!(pod.space().ips("eth0")? == pod.cidrs(), "the pod has {:?}", pod.space().ips("eth0")?);
    for ip in Lan::OTHER {
        reaches(pod.space(), ip.parse()?)?;
    }
    pod.attachment.check(&pod.result)?;
    pod.attachment.del()?;
    for cidr in pod.cidrs() {
        let ip: IpAddr = cidr.split('/').next().unwrap_or_default().parse()?;
        if ip.is_ipv4() { four.await_release(ip)? } else { site.server.await_release(ip)? }
    }
    Ok(())
}

fn dhcp6_ipvlan_pods_share_a_mac(case: &Case) -> Result<()> {
    let site = Site::bare(case, Software::Kea6, &Offer::v6(), &[])?;
    let conf = json!({ "type": "ipvlan", "master": Lan::PARENT, "ipam": { "dhcp4": false, "dhcp6": true } });
    let (a, b) = (site.pod("a", conf.clone())?, site.pod("b", conf)?);
    let mac = |pod: &Pod| anyhow::Ok(pod.space().link("eth0")?.mac);
    ensure!(mac(&a)? == mac(&b)?, "two MACs, so that this shows nothing");
    ensure!(a.ip()? != b.ip()?, "both have {}", a.ip()?);
    Ok(())
}
