//! P25: STATUS.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::recording;
use crate::runner::{Case, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p25_status_is_silent_when_all_is_well, "exit 0, nothing on stdout, nothing changed"),
    test!(p25_status_without_a_free_address, "code 50 through bridge"),
    test!(p25_status_without_a_capability, "code 50 naming it"),
    test!(p25_status_asks_the_delegate, "and passes its 50 and 51 on"),
    test!(p25_status_without_the_delegate, "code 50 naming it"),
    test!(p25_status_of_a_link_that_is_no_bridge, "code 50"),
];

fn conf(case: &Case, extra: Value) -> Value {
    merged(&case.bridge_with(json!({ "cniVersion": "1.1.0" })), extra)
}

fn p25_status_is_silent_when_all_is_well(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    for plugin in ["bridge", "host-local", "static", "loopback"] {
        let status = case.call(&node, plugin, "STATUS").conf(&conf(case, json!({ "type": plugin })));
        let output = case.unchanged(&[&node], || status.run())?;
        output.success()?;
        ensure!(output.stdout.trim().is_empty(), "{plugin} printed {}", output.stdout);
    }
    Ok(())
}

fn p25_status_without_a_free_address(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = conf(case, json!({ "ipam": case.host_local(&["10.7.0.0/30"]) }));
    let status = case.call(&node, "bridge", "STATUS").conf(&conf);
    status.succeed()?;
    let attachment = case.attachment(&node, &case.pod("a")?, &conf);
    attachment.add()?;
    status.fail(50)?.says(&["10.7.0"])?;
    attachment.del()?;
    status.succeed().map(drop)
}

fn p25_status_without_a_capability(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let wrapper = ["setpriv", "--bounding-set=-net_admin"].map(std::ffi::OsStr::new);
    let status = case.call(&node, "bridge", "STATUS").conf(&conf(case, json!({})));
    status.succeed()?;
    status.under(&wrapper).fail(50)?.says(&["CAP_NET_ADMIN"]).map(drop)
}

fn p25_status_asks_the_delegate(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    for code in [50, 51] {
        let answer = format!(r#"echo '{{"cniVersion":"1.1.0","code":{code},"msg":"the pool is closed"}}'; exit 1"#);
        let path = case.fake_plugin("closed-ipam", &recording(&case.dir, &answer))?;
        let conf = merged(&conf(case, json!({ "ipam": null })), json!({ "ipam": { "type": "closed-ipam" } }));
        let status = case.call(&node, "bridge", "STATUS").conf(&conf).env("CNI_PATH", path);
        status.fail(code)?.says(&["the pool is closed"])?;
    }
    Ok(())
}

fn p25_status_without_the_delegate(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let conf = merged(&conf(case, json!({ "ipam": null })), json!({ "ipam": { "type": "no-such-ipam" } }));
    case.call(&node, "bridge", "STATUS").conf(&conf).fail(50)?.says(&["no-such-ipam"]).map(drop)
}

fn p25_status_of_a_link_that_is_no_bridge(case: &Case) -> Result<()> {
    let (node, other) = (case.node("n1")?, case.node("n2")?);
    crate::lab::cable(&node, "cni0", &other, "eth0")?;
    case.call(&node, "bridge", "STATUS").conf(&conf(case, json!({}))).fail(50)?.says(&["cni0"]).map(drop)
}
