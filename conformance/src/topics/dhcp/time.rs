//! What time does to a lease: renewed, rebound, refused, changed, expired; servers and relays that go and come back.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Pod, SERVERS, Site, with_router};
use crate::lab::{Address, Lan, Offer, Server, Software, Space, cable};
use crate::packets::dhcp::kind;
use crate::packets::{Capture, Dhcp, Ping, reaches};
use crate::runner::{Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(dhcp_ten_seconds_renewed_through_five_terms, "the address is kept, and not one ping is lost")
        .needs(SERVERS)
        .limit(120),
    test!(dhcp_address_changed_at_renewal_is_followed, "the pod's address, routes and MTU")
        .needs(SERVERS)
        .ours()
        .limit(60),
    test!(dhcp_refused_at_renewal_starts_anew, "NAK for an address of another subnet").needs(SERVERS).ours().limit(60),
    test!(dhcp_rebinds_to_another_server, "when the one that gave the lease is silent").needs(SERVERS).limit(60),
    test!(dhcp_server_restarted_with_its_leases, "goes on").needs(SERVERS).limit(60),
    test!(dhcp_server_restarted_without_its_leases, "goes on").needs(SERVERS).limit(60),
    test!(dhcp_lease_expires_and_comes_back, "the address goes when its time is over, and comes with the server")
        .needs(SERVERS)
        .ours()
        .limit(90),
    test!(dhcp_silent_server_is_an_error_in_time, "it says so, and nothing is left").needs(SERVERS).ours(),
    test!(dhcp_relay_and_its_restart, "leases from a server beyond a router, renewed without the relay")
        .needs(SERVERS)
        .limit(90),
];

/// Longer than whatever is waited for takes on a busy machine.
const LONG: Duration = Duration::from_secs(25);

fn lasting(seconds: u32) -> Offer {
    Offer { seconds, ..with_router() }
}

/// Waits until the pod has exactly this address; what came may stand beside what goes for a moment.
fn has_only(pod: &Pod, ip: &str) -> Result<()> {
    let wanted: IpAddr = ip.parse()?;
    let came = pod.space().await_address(LONG, |address: &Address| address.ip == wanted)?;
    ensure!(came, "{ip} has not come within {LONG:?}, there is {:?}", pod.space().ips("eth0")?);
    let gone = pod.space().await_no_address(LONG, |a| a.ip.is_ipv4() && !a.ip.is_loopback() && a.ip != wanted)?;
    ensure!(gone, "besides {ip} there is {:?}", pod.space().ips("eth0")?);
    Ok(())
}

fn dhcp_ten_seconds_renewed_through_five_terms(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Kea4, &lasting(10), &[])?;
    let pod = site.pod("a", json!({}))?;
    let ip = pod.ip()?;
    reaches(&site.lan.other, ip)?;
    let before = site.server.confirmed(Some(ip));
    let apart = Duration::from_millis(200);
    let lost =
        Ping { count: 255, timeout: Duration::from_secs(2), ..Ping::default() }.lost(&site.lan.other, ip, apart)?;
    ensure!(lost == 0, "{lost} of 255 pings in five terms are lost");
    let renewed = site.server.confirmed(Some(ip)) - before;
    // At half of each term; one may fall on the end.
    ensure!((5..=14).contains(&renewed), "renewed {renewed} times in 51 s");
    let others = site.server.confirmed(None) - site.server.confirmed(Some(ip));
    ensure!(others == 0, "{others} leases of other addresses");
    ensure!(pod.space().ips("eth0")? == pod.cidrs(), "the pod has {:?}", pod.space().ips("eth0")?);
    Ok(())
}

fn dhcp_address_changed_at_renewal_is_followed(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Kea4, &Offer { mtu: Some(1400), ..lasting(8) }, &[])?;
    let pod = site.pod("a", json!({}))?;
    let mac = pod.space().link("eth0")?.mac;
    let changed = Offer {
        reserved: vec![(mac, "192.168.7.140".to_owned())],
        router: Some("192.168.7.201".to_owned()),
        mtu: Some(1300),
        ..lasting(8)
    };
    let Site { lan, daemon: _daemon, server, .. } = site;
    let server = server.restart(&changed, false)?;
    has_only(&pod, "192.168.7.140")?;
    reaches(&lan.other, "192.168.7.140".parse()?)?;
    let default = || -> Result<Vec<Option<IpAddr>>> {
        let routes = pod.space().routes()?;
        Ok(routes.into_iter().filter(|route| route.to == "0.0.0.0/0").map(|route| route.via).collect())
    };
    // The daemon does it after the address; the next renewal comes when all of it is done.
    server.await_confirmation("192.168.7.140".parse()?, LONG)?;
    ensure!(default()? == [Some("192.168.7.201".parse()?)], "default routes: {:?}", default()?);
    ensure!(pod.space().link("eth0")?.mtu == 1300, "MTU {}", pod.space().link("eth0")?.mtu);
    pod.attachment.del()?;
    server.await_release("192.168.7.140".parse()?)
}

fn dhcp_refused_at_renewal_starts_anew(case: &Case) -> Result<()> {
    let offer = Offer { renew: Some(4), ..with_router() };
    let site = Site::new(case, Software::Dnsmasq, &offer, &[])?;
    let pod = site.pod("a", json!({}))?;
    let Site { lan, daemon: _daemon, server, .. } = site;
    lan.other.address("eth0", "192.168.8.200/24")?;
    let elsewhere = Offer {
        subnet: "192.168.8.0/24".to_owned(),
        pool: ["192.168.8.100", "192.168.8.100"].map(str::to_owned),
        router: Some("192.168.8.200".to_owned()),
        ..offer
    };
    let mut capture = Capture::on(&lan.other, "eth0")?;
    let _server = server.restart(&elsewhere, true)?;
    capture.expect(LONG, "NAK", |frame| Dhcp::of(frame).is_some_and(|dhcp| dhcp.kind() == Some(kind::NAK)))?;
    has_only(&pod, "192.168.8.100")?;
    reaches(pod.space(), "192.168.8.200".parse()?).map(drop)
}

fn dhcp_rebinds_to_another_server(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Kea4, &lasting(12), &[])?;
    let pod = site.pod("a", json!({}))?;
    let ip = pod.ip()?;
    // The same leases at another address: who asks the old one gets no answer.
    let Site { lan, daemon: _daemon, server, .. } = site;
    lan.other.remove_address("eth0", Lan::OTHER[0].parse()?)?;
    lan.other.address("eth0", "192.168.7.199/24")?;
    let mut capture = Capture::on(&lan.other, "eth0")?;
    let server = server.restart(&lasting(12), false)?;
    server.await_confirmation(ip, LONG)?;
    // By broadcast, with the address that it has, and without a word about a server.
    let rebinding =
        |dhcp: Dhcp| dhcp.kind() == Some(kind::REQUEST) && IpAddr::from(dhcp.client) == ip && dhcp.option(54).is_none();
    let frame = capture.expect(LONG, "REQUEST by broadcast", |frame| {
        frame.to == crate::packets::BROADCAST && Dhcp::of(frame).is_some_and(rebinding)
    })?;
    ensure!(Dhcp::of(&frame).is_some_and(|dhcp| dhcp.option(50).is_none()), "it names its address twice: {frame:?}");
    ensure!(pod.space().ips("eth0")? == pod.cidrs(), "the pod has {:?}", pod.space().ips("eth0")?);
    // From now on the new one is asked.
    server.await_confirmation(ip, LONG)
}

fn restarted(case: &Case, forgets: bool) -> Result<()> {
    let site = Site::new(case, Software::Kea4, &lasting(8), &[])?;
    let pod = site.pod("a", json!({}))?;
    let ip = pod.ip()?;
    let Site { lan, daemon: _daemon, server, .. } = site;
    let server = server.restart(&lasting(8), forgets)?;
    for _ in 0..2 {
        server.await_confirmation(ip, LONG)?;
    }
    reaches(&lan.other, ip)?;
    ensure!(pod.space().ips("eth0")? == pod.cidrs(), "the pod has {:?}", pod.space().ips("eth0")?);
    Ok(())
}

fn dhcp_server_restarted_with_its_leases(case: &Case) -> Result<()> {
    restarted(case, false)
}

fn dhcp_server_restarted_without_its_leases(case: &Case) -> Result<()> {
    restarted(case, true)
}

fn dhcp_lease_expires_and_comes_back(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Kea4, &lasting(6), &[])?;
    let pod = site.pod("a", json!({}))?;
    let ip = pod.ip()?;
    let Site { lan, daemon: _daemon, server, .. } = site;
    server.stop()?;
    let gone = pod.space().await_no_address(LONG, |address| address.ip == ip)?;
    ensure!(gone, "{ip} is still there, {LONG:?} after the server went");
    let routes = pod.space().routes()?;
    ensure!(routes.iter().all(|route| route.to.contains(':')), "routes are left: {routes:?}");
    let _server = Server::start(Software::Kea4, &lan.other, "eth0", &case.dir.join("server"), &lasting(6))?;
    let back = pod.space().await_address(2 * LONG, |address| address.ip == ip)?;
    ensure!(back, "{ip} has not come back");
    let default = pod.space().await_route(LONG, |route| route.to == "0.0.0.0/0")?;
    ensure!(default, "the default route has not come back");
    reaches(&lan.other, ip).map(drop)
}

fn dhcp_silent_server_is_an_error_in_time(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Dnsmasq, &with_router(), &["-timeout=2s"])?;
    let Site { lan, daemon, server, .. } = site;
    server.stop()?;
    let conf = json!({
        "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "cni0",
        "ipam": { "type": "dhcp", "daemonSocketPath": daemon.socket() },
    });
    let pod = case.pod("a")?;
    let add = case.attachment(&lan.node, &pod, &conf).call("ADD");
    let start = std::time::Instant::now();
    let failure = case.unchanged(&[&lan.node, &pod], || add.fail_somehow())?;
    let took = start.elapsed();
    ensure!((Duration::from_secs(1)..Duration::from_secs(8)).contains(&took), "it took {took:?}");
    failure.says(&["no DHCP server", "within 2 s", "eth0"])?;
    let left = std::fs::read_dir(daemon.leases())?.count();
    ensure!(left == 0, "{left} leases are left");
    Ok(())
}

/// The server is beyond `other`, which routes and relays.
fn dhcp_relay_and_its_restart(case: &Case) -> Result<()> {
    let lan = Lan::new()?;
    lan.node.add_bridge("cni0")?;
    lan.node.plug("cni0", Lan::PARENT)?;
    lan.node.up("cni0")?;
    let far = Space::node("far")?;
    cable(&lan.other, "eth1", &far, "eth0")?;
    lan.other.address("eth1", "10.99.0.1/24")?;
    lan.other.set_sysctl("net/ipv4/ip_forward", "1")?;
    far.address("eth0", "10.99.0.2/24")?;
    far.route("192.168.7.0/24", "10.99.0.1".parse()?)?;
    let server = Server::start(Software::Kea4, &far, "eth0", &case.dir.join("server"), &lasting(8))?;
    let relay = Server::relay(&lan.other, Lan::OTHER[0], "10.99.0.2")?;
    let daemon = crate::lab::Daemon::start(&case.cni_path, &lan.node, &case.dir.join("daemon"), &[])?;
    let conf = json!({
        "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "cni0",
        "ipam": { "type": "dhcp", "daemonSocketPath": daemon.socket() },
    });
    let first = Pod::add(case.attachment(&lan.node, &case.pod("a")?, &conf)).context("by the relay")?;
    drop(relay);
    // To the server itself, by way of the router.
    server.await_confirmation(first.ip()?, LONG).context("without the relay")?;
    let _relay = Server::relay(&lan.other, Lan::OTHER[0], "10.99.0.2")?;
    let second = Pod::add(case.attachment(&lan.node, &case.pod("b")?, &conf)).context("by the relay, restarted")?;
    ensure!(first.ip()? != second.ip()?, "both have {}", first.ip()?);
    reaches(&far, second.ip()?)?;
    reaches(&far, first.ip()?).map(drop)
}
