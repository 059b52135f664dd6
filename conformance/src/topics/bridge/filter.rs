//! macspoofchk: frames with a MAC that is not the pod's own.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Added, rules};
use crate::lab::{Space, mac_bytes};
use crate::packets::{Capture, Frame, arp_request, inject, reaches};
use crate::runner::{Case, Feature, Test};
use crate::test;

const NEEDS: &[Feature] = &[Feature::NftBridge];

pub(super) const TESTS: &[Test] = &[
    test!(p28_a_spoofed_mac_goes_nowhere, "macspoofchk, an own MAC that passes, and a control without").needs(NEEDS),
    test!(the_spoof_check_goes_with_del, "the ruleset is as if the pod had never been").needs(NEEDS),
    test!(the_spoof_check_is_ours_and_labelled, "table bridge podwire, comment, one rule for many pods")
        .needs(NEEDS)
        .ours(),
    test!(p23_check_sees_that_the_spoof_check_is_gone, "code 102").needs(NEEDS),
];

const SPOOFED: &str = "02:00:00:00:00:66";

fn conf(case: &Case, check: bool) -> Value {
    case.bridge_with(json!({ "macspoofchk": check }))
}

/// Whether an ARP request that `a` sends with the source MAC `mac` is seen by `b`.
fn passes(a: &Added, b: &Space, mac: &str) -> Result<bool> {
    let mut capture = Capture::on(b, "eth0")?;
    let frame = arp_request(mac_bytes(mac)?, "10.7.0.2".parse()?, "10.7.0.250".parse()?);
    inject(a.pod(), "eth0", &frame)?;
    let wanted = |frame: &Frame| frame.from == mac && frame.to == crate::packets::BROADCAST;
    Ok(capture.expect(Duration::from_millis(500), "frame", wanted).is_ok())
}

fn p28_a_spoofed_mac_goes_nowhere(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let checked = Added::new(case, &node, "a", &conf(case, true))?.checked()?;
    let free = Added::new(case, &node, "b", &conf(case, false))?;
    let witness = Added::new(case, &node, "c", &conf(case, false))?;
    // After this the ports have started, and a frame that does not come was dropped on purpose.
    reaches(checked.pod(), witness.ip(0)?)?;
    reaches(free.pod(), witness.ip(0)?)?;
    let own = checked.pod().link("eth0")?.mac;
    ensure!(passes(&checked, witness.pod(), &own)?, "a frame with the pod's own MAC did not pass");
    ensure!(!passes(&checked, witness.pod(), SPOOFED)?, "a spoofed frame passed");
    ensure!(passes(&free, witness.pod(), SPOOFED)?, "the control without the check did not pass");
    Ok(())
}

fn the_spoof_check_goes_with_del(case: &Case) -> Result<()> {
    rules::go_with_del(case, &conf(case, true))
}

fn the_spoof_check_is_ours_and_labelled(case: &Case) -> Result<()> {
    rules::are_shared_and_labelled(case, &conf(case, true), "bridge podwire", "drop")
}

fn p23_check_sees_that_the_spoof_check_is_gone(case: &Case) -> Result<()> {
    rules::are_missed(case, &conf(case, true))
}
