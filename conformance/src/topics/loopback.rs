//! loopback: the pod's own lo.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::packets::reaches;
use crate::runner::{Attachment, Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p28_loopback_answers_after_add, "127.0.0.1 and ::1, and not before"),
    test!(loopback_reports_what_is_there, "interface and addresses"),
    test!(p23_loopback_check_sees_it_down, "code 102"),
    test!(p22_loopback_del_repeats, "and without a netns"),
];

fn attachment(case: &Case) -> Result<Attachment> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let conf = json!({ "cniVersion": "1.0.0", "name": "lo", "type": "loopback" });
    Ok(case.attachment(&node, &pod, &conf).ifname("lo"))
}

fn p28_loopback_answers_after_add(case: &Case) -> Result<()> {
    let attachment = attachment(case)?;
    ensure!(!attachment.pod.link("lo")?.up, "lo is up before ADD");
    attachment.add()?;
    reaches(&attachment.pod, "127.0.0.1".parse()?)?;
    reaches(&attachment.pod, "::1".parse()?).map(drop)
}

fn loopback_reports_what_is_there(case: &Case) -> Result<()> {
    let attachment = attachment(case)?;
    let result = attachment.add()?;
    let sandbox = attachment.pod.ns.path();
    let interface = &result["interfaces"][0];
    ensure!(
        interface["name"] == "lo" && interface["sandbox"].as_str().map(std::path::Path::new) == Some(&sandbox),
        "{result}"
    );
    let ips: Vec<&str> =
        result["ips"].as_array().into_iter().flatten().filter_map(|ip| ip["address"].as_str()).collect();
    ensure!(ips == ["127.0.0.1/8", "::1/128"], "{result}");
    ensure!(result["ips"].as_array().is_some_and(|ips| ips.iter().all(|ip: &Value| ip["interface"] == 0)), "{result}");
    Ok(())
}

fn p23_loopback_check_sees_it_down(case: &Case) -> Result<()> {
    let attachment = attachment(case)?;
    let result = attachment.add()?;
    attachment.check(&result)?;
    attachment.pod.down("lo")?;
    attachment.check_call(&result).fail(102)?.says(&["lo"]).map(drop)
}

fn p22_loopback_del_repeats(case: &Case) -> Result<()> {
    let attachment = attachment(case)?;
    attachment.add()?;
    attachment.del()?;
    attachment.del()?;
    let del = attachment.call("DEL");
    del.clone().env("CNI_NETNS", "/run/netns/gone").succeed()?;
    del.without("CNI_NETNS").succeed().map(drop)
}
