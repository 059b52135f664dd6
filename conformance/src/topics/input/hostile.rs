//! Input made to do harm.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::refused;
use crate::runner::{Case, Test};
use crate::test;
use crate::topics::plugins;

pub(super) const TESTS: &[Test] = &[
    test!(p05_a_megabyte_of_random_bytes, "code 6 by every plugin"),
    test!(p05_ten_thousand_levels_of_json, "code 6 by every plugin, in a known and in an unknown key"),
    test!(p05_subnets_and_ranges_that_cannot_be, "families mixed, ends outside, overlaps, host bits"),
    test!(p03_an_interface_name_of_sixteen_bytes, "by every plugin"),
];

fn p05_a_megabyte_of_random_bytes(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    // Xorshift with a fixed seed: a failure can be repeated.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(1 << 17)
    .flatten()
    .collect();
    for plugin in plugins(case) {
        let attachment = case.attachment(&node, &pod, &json!({ "type": plugin }));
        for command in ["ADD", "DEL", "CHECK", "STATUS", "GC"] {
            let call = attachment.call(command).stdin(bytes.clone());
            refused(case, &[&node, &pod], &call, 6, &[]).with_context(|| format!("{plugin} {command}"))?;
        }
    }
    Ok(())
}

fn p05_ten_thousand_levels_of_json(case: &Case) -> Result<()> {
    const DEEP: usize = 10_000;
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    for plugin in plugins(case) {
        let attachment = case.attachment(&node, &pod, &json!({ "type": plugin }));
        for key in ["dns", "unknown", "prevResult"] {
            let deep = format!(
                "{{\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"type\":\"{plugin}\",\"{key}\":{}{}}}",
                "[".repeat(DEEP),
                "]".repeat(DEEP)
            );
            let call = attachment.call("ADD").stdin(deep);
            refused(case, &[&node, &pod], &call, 6, &[]).with_context(|| format!("{plugin} {key}"))?;
        }
    }
    Ok(())
}

fn p05_subnets_and_ranges_that_cannot_be(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let subnet = "10.7.0.0/24";
    let cases: &[(Value, &[&str])] = &[
        (json!([[{ "subnet": subnet, "rangeStart": "fd00::5" }]]), &["ranges[0][0].rangeStart", "fd00::5"]),
        (json!([[{ "subnet": subnet, "rangeEnd": "10.7.1.5" }]]), &["ranges[0][0].rangeEnd", "10.7.1.5"]),
        (json!([[{ "subnet": subnet, "rangeStart": "10.6.0.1" }]]), &["ranges[0][0].rangeStart", "10.6.0.1"]),
        (
            json!([[{ "subnet": subnet, "rangeStart": "10.7.0.9", "rangeEnd": "10.7.0.5" }]]),
            &["ranges[0][0]", "10.7.0.9", "10.7.0.5"],
        ),
        (json!([[{ "subnet": subnet }, { "subnet": "fd00::/64" }]]), &["ranges[0][1]", "fd00::/64"]),
        (json!([[{ "subnet": subnet }, { "subnet": "10.7.0.128/25" }]]), &["ranges[0]", "overlap"]),
        (json!([[{ "subnet": "10.7.0.5/24" }]]), &["ranges[0][0].subnet", "10.7.0.5/24", "10.7.0.0/24"]),
        (json!([[{ "subnet": "10.7.0.0/33" }]]), &["ranges[0][0].subnet", "10.7.0.0/33"]),
        (json!([[{ "subnet": "ten" }]]), &["ranges[0][0].subnet", "ten"]),
        (json!([[{ "subnet": subnet, "gateway": "fd00::1" }]]), &["ranges[0][0].gateway", "fd00::1"]),
        (json!([[]]), &["ranges[0]"]),
        (json!([]), &["ranges"]),
    ];
    for plugin in ["bridge", "host-local"] {
        for (ranges, words) in cases {
            let mut conf = case.bridge_with(json!({ "type": plugin }));
            conf["ipam"]["ranges"] = ranges.clone();
            let call = case.attachment(&node, &pod, &conf).call("ADD");
            let failure = case.unchanged(&[&node, &pod], || call.fail_somehow())?;
            anyhow::ensure!([6, 7].contains(&failure.code), "{ranges}: code {}, expected 6 or 7", failure.code);
            failure.says(words).with_context(|| format!("{plugin}: {ranges}"))?;
        }
    }
    Ok(())
}

fn p03_an_interface_name_of_sixteen_bytes(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    for plugin in plugins(case) {
        let conf = case.bridge_with(json!({ "type": plugin }));
        let call = case.attachment(&node, &pod, &conf).ifname("exactly-16-bytes").call("ADD");
        refused(case, &[&node, &pod], &call, 4, &["CNI_IFNAME", "exactly-16-bytes"]).context(plugin)?;
    }
    Ok(())
}
