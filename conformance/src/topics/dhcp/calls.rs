//! CHECK, DEL, GC and STATUS of the plugin, with a daemon and without one.

use std::fs;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;

use super::{SERVERS, Site, with_router};
use crate::lab::{Lan, Software};
use crate::packets::reaches;
use crate::runner::{Case, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p23_dhcp_check_sees_a_lost_lease, "passes after ADD, fails when the daemon knows no lease")
        .needs(SERVERS)
        .ours(),
    test!(p22_dhcp_del_is_content_with_little, "twice, without the pod, without a lease, without the daemon")
        .needs(SERVERS)
        .ours(),
    test!(p24_dhcp_gc_gives_back_what_has_no_attachment, "and only that").needs(SERVERS).ours(),
    test!(p25_dhcp_status_needs_the_daemon, "50 without it, by the plugin and by the one that delegates to it").ours(),
    test!(p20_dhcp_add_without_the_daemon, "says where it should be, and leaves nothing").ours(),
    test!(p20_dhcp_add_that_fails_later_gives_back, "a route that cannot be: the lease is released")
        .needs(SERVERS)
        .ours(),
];

fn p23_dhcp_check_sees_a_lost_lease(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Dnsmasq, &with_router(), &[])?;
    let pod = site.pod("a", json!({}))?;
    let before = site.server.confirmed(None);
    pod.attachment.check(&pod.result)?;
    ensure!(site.server.confirmed(None) == before, "CHECK asked for another lease");
    let Site { daemon, server: _server, lan, .. } = site;
    let directory = daemon.leases();
    let _daemon = daemon.absent(Signal::SIGKILL, |_| Ok(fs::remove_dir_all(&directory)?))?;
    let check = pod.attachment.check_call(&pod.result);
    case.unchanged(&[&lan.node, pod.space()], || check.fail(102))?.says(&["lease", "container-a"]).map(drop)
}

fn p22_dhcp_del_is_content_with_little(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Dnsmasq, &with_router(), &[])?;
    let pod = site.pod("a", json!({}))?;
    pod.attachment.del()?;
    site.server.await_release(pod.ip()?)?;
    pod.attachment.del()?;
    let gone = site.pod("gone", json!({}))?;
    gone.attachment.call("DEL").env("CNI_NETNS", "/run/netns/gone").succeed()?;
    let unnamed = site.pod("unnamed", json!({}))?;
    unnamed.attachment.call("DEL").without("CNI_NETNS").succeed()?;
    site.attachment("never", json!({}))?.del()?;
    let left = fs::read_dir(site.daemon.leases())?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let left: Vec<String> = left.filter(|name| name.contains("container-")).collect();
    ensure!(left.is_empty(), "leases are left: {left:?}");
    let last = site.pod("last", json!({}))?;
    let Site { daemon, lan: _lan, .. } = site;
    daemon.end(Signal::SIGKILL)?;
    last.attachment.del()?;
    ensure!(last.space().find("eth0")?.is_none(), "eth0 is left");
    Ok(())
}

fn p24_dhcp_gc_gives_back_what_has_no_attachment(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Dnsmasq, &with_router(), &[])?;
    let version = json!({ "cniVersion": "1.1.0" });
    let (stays, goes) = (site.pod("stays", version.clone())?, site.pod("goes", version.clone())?);
    let other = site.pod("other", json!({ "cniVersion": "1.1.0", "name": "another" }))?;
    let valid = json!([{ "containerID": stays.attachment.container, "ifname": "eth0" }]);
    let conf = merged(&site.conf(version), json!({ "cni.dev/valid-attachments": valid }));
    // By itself first: the bridge's GC takes the link away, without which nothing can be given back.
    let gc = site.case.call(&site.lan.node, "dhcp", "GC").conf(&conf);
    gc.succeed()?;
    site.server.await_release(goes.ip()?)?;
    site.case.call(&site.lan.node, "bridge", "GC").conf(&conf).succeed()?;
    for pod in [&stays, &other] {
        pod.attachment.check(&pod.result)?;
        reaches(pod.space(), Lan::OTHER[0].parse()?)?;
    }
    Ok(())
}

fn p25_dhcp_status_needs_the_daemon(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let daemon = crate::lab::Daemon::start(&case.cni_path, &node, &case.dir.join("daemon"), &[])?;
    let socket = daemon.socket();
    let ipam = json!({ "type": "dhcp", "daemonSocketPath": socket });
    let conf = json!({ "cniVersion": "1.1.0", "name": "net", "type": "bridge", "ipam": ipam });
    let status = |plugin: &str| case.call(&node, plugin, "STATUS").conf(&conf);
    for plugin in ["dhcp", "bridge"] {
        status(plugin).succeed()?;
    }
    daemon.end(Signal::SIGKILL)?;
    for plugin in ["dhcp", "bridge"] {
        status(plugin).fail(50)?.says(&["daemon", "dhcp.sock"])?;
    }
    fs::remove_file(&socket)?;
    for plugin in ["dhcp", "bridge"] {
        status(plugin).fail(50)?.says(&["daemon", "dhcp.sock", "no such socket"])?;
    }
    Ok(())
}

fn p20_dhcp_add_without_the_daemon(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let ipam = json!({ "type": "dhcp", "daemonSocketPath": case.dir.join("none.sock") });
    let conf = json!({ "cniVersion": "1.0.0", "name": "net", "type": "bridge", "ipam": ipam });
    let attachment = case.attachment(&node, &pod, &conf);
    let failure = case.unchanged(&[&node, &pod], || attachment.call("ADD").fail(11))?;
    failure.says(&["none.sock", "dhcp daemon", "systemctl"]).map(drop)
}

fn p20_dhcp_add_that_fails_later_gives_back(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Dnsmasq, &with_router(), &[])?;
    // The bridge already has another address, which is found only after the lease is there.
    site.lan.node.address("cni0", "192.168.7.77/24")?;
    let attachment = site.attachment("a", json!({ "isGateway": true }))?;
    let add = attachment.call("ADD");
    case.unchanged(&[&site.lan.node, &attachment.pod], || add.fail_somehow())?;
    let line = site
        .server
        .log()
        .await_line(std::time::Duration::from_secs(15), "DHCPACK", |line| line.contains("DHCPACK("))?;
    let ip = line.split_whitespace().find_map(|word| word.parse().ok());
    site.server.await_release(ip.ok_or_else(|| anyhow::anyhow!("no address in {line:?}"))?)
}
