//! Traffic over two cables: shared out by the mode, and going on when one is cut.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{FAR, LINKS, NEEDS, bond_options, conf, node_at_bond, node_at_switch, port_state};
use crate::lab::{Space, cable};
use crate::packets::{Capture, Ping, isolated, reaches};
use crate::runner::{Attachment, Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p28_bond_active_backup_survives_a_cut_cable, "fewer than 3 of the pings 20 ms apart are lost, both ways")
        .needs(NEEDS)
        .ours()
        .limit(120),
    test!(p28_bond_arp_monitoring_sees_a_dead_far_end, "fewer than 3 lost although the carrier stays; without it all")
        .needs(NEEDS)
        .ours()
        .limit(120),
    test!(p28_bond_delivers_over_both_cables, "balance-rr, balance-xor, broadcast: frames counted on each")
        .needs(NEEDS)
        .ours(),
    test!(p28_bond_negotiates_802_3ad, "one aggregation, and a partner whose address is not zero").needs(NEEDS).ours(),
    test!(p28_bond_balances_by_load, "balance-tlb, balance-alb, with either cable").needs(NEEDS).ours().limit(120),
    test!(p28_bond_uses_its_primary_link, "while it is up, and again when it returns").needs(NEEDS).ours(),
    test!(p28_bond_tells_the_neighbours_of_a_change, "gratuitous ARP on the cable that takes over").needs(NEEDS).ours(),
];

/// How many of the pings may be lost when a link fails.
const MAY_BE_LOST: usize = 2;

fn far() -> Result<IpAddr> {
    Ok(FAR.parse()?)
}

/// A pod with the bond, which answers by now.
fn attached(case: &Case, node: &Space, extra: Value) -> Result<Attachment> {
    let attachment = case.attachment(node, &case.pod("a")?, &conf(case, extra));
    attachment.add()?;
    reaches(&attachment.pod, far()?)?;
    Ok(attachment)
}

/// How many of the pings sent from now on are lost, so many `milliseconds` apart.
fn lost(pod: &Space, milliseconds: u64) -> Result<usize> {
    Ping { count: 15, ..Ping::default() }.lost(pod, far()?, Duration::from_millis(milliseconds))
}

/// Fails a link again and again until the pod has come through five times with as few pings lost as may be. Two more
/// failures are for a machine that stands still for a moment: a bond that takes long to notice is lucky now and then,
/// but not five times in seven.
fn survives(case: &Case, what: &str, fail: impl Fn() -> Result<usize>) -> Result<()> {
    let mut counts = Vec::new();
    while counts.iter().filter(|&&count| count <= MAY_BE_LOST).count() < 5 {
        ensure!(counts.len() < 7, "{counts:?} pings are lost when {what}");
        counts.push(fail()?);
    }
    case.note(format!("pings lost when {what}: {counts:?}"));
    Ok(())
}

fn active(pod: &Space) -> Result<String> {
    Ok(bond_options(pod, "eth0")?["active_slave"].as_str().unwrap_or_default().to_owned())
}

/// Looks until `is_so`, with pings for a clock, which keep the bond at work.
fn eventually(pod: &Space, what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let ping = Ping { timeout: Duration::from_millis(100), ..Ping::default() };
    for _ in 0..100 {
        if is_so()? {
            return Ok(());
        }
        ping.lost(pod, far()?, ping.timeout)?;
    }
    bail!("not within ten seconds: {what}")
}

fn is_up(pod: &Space, link: &str) -> Result<bool> {
    Ok(port_state(pod, link)?["mii_status"] == "UP")
}

fn p28_bond_active_backup_survives_a_cut_cable(case: &Case) -> Result<()> {
    let (node, switch) = node_at_switch(case)?;
    let attachment = attached(case, &node, json!({ "mode": "active-backup", "miimon": 50 }))?;
    let pod = &attachment.pod;
    let both_forward = || Ok(switch.link("p1")?.running && switch.link("p2")?.running);
    survives(case, "a cable is cut", || {
        // A bridge forwards by a port only when the kernel has told it of the carrier, which takes up to a second: cut
        // before, the other cable would lead nowhere.
        eventually(pod, "the switch forwards by both ports", both_forward)?;
        let link = active(pod)?;
        let port = if link == "eth1" { "p1" } else { "p2" };
        switch.down(port)?;
        let count = lost(pod, 20)?;
        ensure!(active(pod)? != link, "{link} is still active");
        switch.up(port)?;
        eventually(pod, "the link is up again", || is_up(pod, &link))?;
        Ok(count)
    })?;
    // The control: without any cable there is no answer.
    switch.down("p1")?;
    switch.down("p2")?;
    isolated(pod, far()?)
}

/// A node whose cables lead to two switches, and these to a host with the address [`FAR`]: cut there, the node's links
/// keep their carrier.
fn node_at_two_switches(case: &Case) -> Result<(Space, Space, Vec<Space>)> {
    let mut switches = Vec::new();
    let (node, host) = (case.node("n1")?, Space::switch("host")?);
    for (name, link) in ["a", "b"].into_iter().zip(LINKS) {
        let switch = Space::switch(name)?;
        cable(&node, link, &switch, "down")?;
        cable(&switch, "up", &host, link)?;
        switch.plug("sw0", "down")?;
        switch.plug("sw0", "up")?;
        host.plug("sw0", link)?;
        switches.push(switch);
    }
    host.address("sw0", &format!("{FAR}/24"))?;
    Ok((node, host, switches))
}

fn p28_bond_arp_monitoring_sees_a_dead_far_end(case: &Case) -> Result<()> {
    let (node, host, _switches) = node_at_two_switches(case)?;
    // The kernel calls a link dead that was silent for two and a half intervals, and looks once in an interval: it
    // notices within 175 ms, in which two pings leave at most.
    let asking = json!({ "arpInterval": 50, "arpIpTargets": [FAR] });
    let attachment = attached(case, &node, asking)?;
    let pod = &attachment.pod;
    let both_up = || Ok(is_up(pod, "eth1")? && is_up(pod, "eth2")?);
    survives(case, "the far end dies", || {
        eventually(pod, "both links are up", both_up)?;
        let link = active(pod)?;
        host.down(&link)?;
        let count = lost(pod, 100)?;
        ensure!(active(pod)? != link, "{link} is still active");
        ensure!(pod.link(&link)?.running, "{link} has lost its carrier, which was not to be shown");
        host.up(&link)?;
        Ok(count)
    })?;
    attachment.del()?;
    // The control: whoever looks at the carrier alone does not notice.
    let attachment = attached(case, &node, json!({ "miimon": 50 }))?;
    host.down(&active(&attachment.pod)?)?;
    isolated(&attachment.pod, far()?)
}

/// How many echo requests of the pod a capture has seen.
fn requests(capture: &mut Capture, pod: IpAddr) -> usize {
    let limit = Duration::from_millis(100);
    std::iter::from_fn(|| capture.expect(limit, "request", |frame| frame.is_echo_request_from(pod)).ok()).count()
}

fn p28_bond_delivers_over_both_cables(case: &Case) -> Result<()> {
    const HOSTS: u8 = 16;
    for (mode, extra) in
        [(0, json!({ "mode": 0 })), (2, json!({ "mode": 2, "xmitHashPolicy": "layer2+3" })), (3, json!({ "mode": 3 }))]
    {
        let attempt = || -> Result<()> {
            let (node, far) = node_at_bond(case, mode)?;
            let hosts: Vec<IpAddr> = (1..=HOSTS).map(|n| [10, 7, 0, 100 + n].into()).collect();
            for host in &hosts {
                far.address("bond0", &format!("{host}/24"))?;
            }
            let attachment = attached(case, &node, extra.clone())?;
            let mut captures = [Capture::on(&far, LINKS[0])?, Capture::on(&far, LINKS[1])?];
            for host in &hosts {
                reaches(&attachment.pod, *host)?;
                // In turn with the ARP request before it, one would always leave by the same cable.
                Ping { count: 2, ..Ping::default() }.run(&attachment.pod, *host)?;
            }
            let own: IpAddr = attachment.pod.ips("eth0")?[0].trim_end_matches("/24").parse()?;
            let [one, two] = captures.each_mut().map(|capture| requests(capture, own));
            let least = if mode == 3 { usize::from(HOSTS) } else { 1 };
            ensure!(one >= least && two >= least, "{one} requests by one cable and {two} by the other");
            attachment.del()
        };
        attempt().with_context(|| extra.to_string())?;
    }
    Ok(())
}

fn p28_bond_negotiates_802_3ad(case: &Case) -> Result<()> {
    let (node, far_node) = node_at_bond(case, 4)?;
    let attachment = attached(case, &node, json!({ "mode": "802.3ad", "lacpRate": "fast", "minLinks": 1 }))?;
    let pod = &attachment.pod;
    let info = || Ok::<_, anyhow::Error>(bond_options(pod, "eth0")?["ad_info"].take());
    eventually(pod, "both links in the active aggregation", || Ok(info()?["num_ports"] == 2))?;
    let info = info()?;
    let partner = far_node.link("bond0")?.mac;
    ensure!(info["partner_mac"] == partner.as_str(), "the partner is {}, expected {partner}", info["partner_mac"]);
    ensure!(partner != "00:00:00:00:00:00", "the partner's address is zero");
    for link in LINKS {
        let state = port_state(pod, link)?;
        ensure!(state["ad_aggregator_id"] == info["aggregator"], "{link} is in another aggregation: {state}");
    }
    reaches(pod, far()?).map(drop)
}

fn p28_bond_balances_by_load(case: &Case) -> Result<()> {
    for mode in ["balance-tlb", "balance-alb"] {
        let attempt = || -> Result<()> {
            let (node, switch) = node_at_switch(case)?;
            let attachment = attached(case, &node, json!({ "mode": mode, "miimon": 50 }))?;
            let pod = &attachment.pod;
            for (link, port) in LINKS.into_iter().zip(["p1", "p2"]) {
                switch.down(port)?;
                eventually(pod, "the link is down", || Ok(!is_up(pod, link)?))?;
                reaches(pod, far()?)?;
                switch.up(port)?;
                eventually(pod, "the link is up again", || is_up(pod, link))?;
                reaches(pod, far()?)?;
            }
            switch.down("p1")?;
            switch.down("p2")?;
            isolated(pod, far()?)?;
            attachment.del()
        };
        attempt().with_context(|| mode.to_owned())?;
    }
    Ok(())
}

fn p28_bond_uses_its_primary_link(case: &Case) -> Result<()> {
    let (node, switch) = node_at_switch(case)?;
    let attachment = attached(case, &node, json!({ "primary": "eth2", "miimon": 50 }))?;
    let pod = &attachment.pod;
    ensure!(active(pod)? == "eth2", "active is {}", active(pod)?);
    switch.down("p2")?;
    eventually(pod, "the other takes over", || Ok(active(pod)? == "eth1"))?;
    reaches(pod, far()?)?;
    switch.up("p2")?;
    eventually(pod, "the primary returns", || Ok(active(pod)? == "eth2"))?;
    reaches(pod, far()?).map(drop)
}

fn p28_bond_tells_the_neighbours_of_a_change(case: &Case) -> Result<()> {
    let (node, switch) = node_at_switch(case)?;
    let attachment = attached(case, &node, json!({ "miimon": 50, "numPeerNotif": 2 }))?;
    let own = attachment.pod.ips("eth0")?[0].trim_end_matches("/24").parse()?;
    let mut capture = Capture::on(&switch, "p2")?;
    switch.down("p1")?;
    capture.expect(Duration::from_secs(5), "gratuitous ARP", |frame| frame.announces_v4(own)).map(drop)
}
