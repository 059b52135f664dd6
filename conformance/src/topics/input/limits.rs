//! Input at the limits of what can be: too much, too large, given twice, without end.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use super::refused;
use crate::runner::{Case, Test};
use crate::test;
use crate::topics::PLUGINS;

/// What needs longer does more than to read and refuse; a busy machine needs some of it.
const SOON: Duration = Duration::from_secs(20);

pub(super) const TESTS: &[Test] = &[
    test!(p05_a_hundred_megabytes_on_stdin, "code 6 by every plugin, with 64 MB of memory").ours(),
    test!(p05_numbers_that_cannot_be, "1e400, -1, 2^64 and 1.5 in every field that is a number").ours(),
    test!(p05_of_a_key_that_stands_twice_the_last_counts, "with a warning, and code 2 in strict mode").ours(),
    test!(p05_a_nul_in_a_name_or_a_path, "refused before anything is looked for").ours(),
    test!(p05_a_name_of_a_megabyte_is_not_repeated, "errors and warnings of some kilobytes, with what is wrong").ours(),
    test!(p05_what_is_no_utf_8, "code 6 by every plugin").ours(),
    test!(p05_a_resolv_conf_that_never_ends, "a FIFO, a device, a folder").ours(),
    test!(p22_fifos_where_leases_should_be, "nobody waits for their other end").ours(),
];

fn p05_a_hundred_megabytes_on_stdin(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let limit = ["prlimit", "--as=67108864"].map(std::ffi::OsStr::new);
    let mut text = case.bridge_conf().to_string();
    text.push_str(&" ".repeat(100 << 20));
    for plugin in PLUGINS {
        let call =
            case.attachment(&node, &pod, &json!({ "type": plugin })).call("ADD").stdin(text.clone()).under(&limit);
        let output = case.unchanged(&[&node, &pod], || call.run())?;
        output.failure(6).and_then(|failure| failure.says(&["stdin is longer"]).cloned()).context(plugin)?;
        ensure!(output.took < SOON, "{plugin}: {:?}", output.took);
    }
    Ok(())
}

fn p05_numbers_that_cannot_be(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let fields = [
        ("bond", r#""links": [{"name": "e0"}], "mtu": N"#),
        ("bond", r#""links": [{"name": "e0"}], "miimon": N"#),
        ("bridge", r#""mtu": N"#),
        ("bridge", r#""vlan": N"#),
        ("bridge", r#""vlanTrunk": [{"id": N}]"#),
        ("bridge", r#""prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.1/8", "interface": N}]}"#),
        ("ipvlan", r#""mtu": N"#),
        ("macvlan", r#""mtu": N"#),
        ("vlan", r#""vlanId": N"#),
        ("vlan", r#""vlanId": 7, "mtu": N"#),
        ("vxlan", r#""vni": N"#),
        ("vxlan", r#""vni": 7, "dstport": N"#),
        ("dhcp", r#""ipam": {"type": "dhcp", "priority": N}"#),
        ("host-local", r#""ipam": {"type": "host-local", "subnet": "10.7.0.0/24", "probe": true, "probeWait": N}"#),
        ("host-local", r#""ipam": {"type": "host-local", "routes": [{"dst": "10.0.0.0/8", "mtu": N}]}"#),
        ("static", r#""ipam": {"type": "static", "routes": [{"dst": "10.0.0.0/8", "priority": N}]}"#),
    ];
    for (plugin, field) in fields {
        for number in ["1e400", "-1", "18446744073709551616", "1.5"] {
            let field = field.replace('N', number);
            let text = format!(r#"{{"cniVersion": "1.0.0", "name": "net", "type": "{plugin}", {field}}}"#);
            let call = case.attachment(&node, &pod, &json!({ "type": plugin })).call("ADD").stdin(text);
            let failure = case.unchanged(&[&node, &pod], || call.fail_somehow()).with_context(|| field.clone())?;
            ensure!([6, 7].contains(&failure.code), "{plugin} {field}: code {}: {}", failure.code, failure.msg);
        }
    }
    Ok(())
}

fn p05_of_a_key_that_stands_twice_the_last_counts(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    let whole = case.bridge_conf().to_string();
    let twice = whole.replacen('{', r#"{"mtu": 1300, "mtu": 1400, "#, 1);
    let strict = whole.replacen('{', r#"{"strict": true, "mtu": 1300, "mtu": 1400, "#, 1);
    refused(case, &[&node, &pod], &attachment.call("ADD").stdin(strict), 2, &["mtu", "twice"])?;
    let add = attachment.call("ADD").stdin(twice.clone()).run()?;
    add.success()?;
    ensure!(add.stderr.contains("\"mtu\" stands twice"), "not told: {}", add.stderr);
    ensure!(pod.link("eth0")?.mtu == 1400, "MTU {:?}, expected the last one", pod.link("eth0")?.mtu);
    attachment.call("DEL").stdin(twice).succeed().map(drop)
}

fn p05_a_nul_in_a_name_or_a_path(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let resolv_conf = case.dir.join("resolv\0");
    for (plugin, extra) in [
        ("bridge", json!({ "name": "net\0" })),
        ("bridge", json!({ "bridge": "cni\0" })),
        ("bridge", json!({ "ipam": { "type": "host-local\0" } })),
        ("host-local", json!({ "ipam": { "dataDir": "/tmp/leases\0" } })),
        ("host-local", json!({ "ipam": { "resolvConf": resolv_conf } })),
        ("macvlan", json!({ "master": "lo\0" })),
        ("ipvlan", json!({ "master": "lo\0" })),
        ("vlan", json!({ "master": "lo\0", "vlanId": 7 })),
        ("vxlan", json!({ "vni": 7, "dev": "lo\0" })),
        ("bond", json!({ "links": [{ "name": "lo\0" }] })),
        ("dhcp", json!({ "ipam": { "type": "dhcp", "daemonSocketPath": "/run/s\0" } })),
    ] {
        let mut conf = case.bridge_with(json!({ "type": plugin }));
        if plugin != "bridge" {
            conf.as_object_mut().context("an object")?.remove("bridge");
        }
        let conf = crate::runner::merged(&conf, extra.clone());
        let call = case.attachment(&node, &pod, &conf).call("ADD");
        let failure = case.unchanged(&[&node, &pod], || call.fail_somehow()).with_context(|| extra.to_string())?;
        ensure!(failure.code == 7, "{plugin} {extra}: code {}: {}", failure.code, failure.msg);
    }
    Ok(())
}

fn p05_a_name_of_a_megabyte_is_not_repeated(case: &Case) -> Result<()> {
    const ENOUGH: usize = 8 << 10;
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let long = "l".repeat(1 << 20);
    let brief = |text: &str, end: &str| {
        ensure!(text.len() < ENOUGH, "{} bytes, of which the last are {:?}", text.len(), &text[text.len() - 100..]);
        ensure!(text.trim_end().ends_with(end), "{text:?} does not end by {end:?}");
        Ok(())
    };
    for plugin in PLUGINS {
        let conf = json!({ "cniVersion": "1.0.0", "name": long, "type": plugin, "logLevel": long });
        let output = case.attachment(&node, &pod, &conf).call("ADD").run()?;
        let attempt = || {
            brief(&output.failure(7)?.msg, "at most 255")?;
            brief(&output.stderr, "this call has no log")
        };
        attempt().with_context(|| plugin.to_owned())?;
    }
    let conf = case.bridge_with(json!({ "name": "net", "ipam": { "type": long } }));
    let failure = case.attachment(&node, &pod, &conf).call("ADD").fail(7)?;
    brief(&failure.msg, "not the name of a plugin")?;
    let conf = case.bridge_with(json!({ long: 1 }));
    let output = case.attachment(&node, &pod, &conf).call("ADD").run()?;
    output.success()?;
    brief(&output.stderr, "(value 1)")
}

fn p05_what_is_no_utf_8(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    for plugin in PLUGINS {
        let mut text = case.bridge_with(json!({ "type": plugin, "extra": "X" })).to_string().into_bytes();
        let at = text.iter().position(|&byte| byte == b'X').context("there is an X")?;
        text[at] = 0xff;
        let call = case.attachment(&node, &pod, &json!({ "type": plugin })).call("ADD").stdin(text);
        refused(case, &[&node, &pod], &call, 6, &["not UTF-8"]).context(plugin)?;
    }
    Ok(())
}

fn p05_a_resolv_conf_that_never_ends(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let fifo = case.dir.join("fifo");
    mkfifo(&fifo, Mode::S_IRUSR)?;
    for path in [fifo.as_path(), "/dev/zero".as_ref(), case.dir.as_path()] {
        let conf = case.bridge_with(json!({ "ipam": { "resolvConf": path } }));
        let call = case.attachment(&node, &pod, &conf).call("ADD");
        refused(case, &[&node, &pod], &call, 7, &["ipam.resolvConf", "not a file"])?;
    }
    Ok(())
}

fn p22_fifos_where_leases_should_be(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let (leases, index) = (case.leases_of("net"), case.leases().join(".podwire/net"));
    fs::create_dir_all(&leases)?;
    fs::create_dir_all(&index)?;
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    let key = format!("{}:eth0", attachment.container);
    for path in [
        leases.join("10.7.0.2"),
        leases.join("last_reserved_ip.0"),
        leases.join("lock"),
        index.join("+freed"),
        index.join("+draft"),
        index.join(key),
    ] {
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
    }
    let add = attachment.call("ADD").run()?;
    let result = add.success()?;
    ensure!(result["ips"][0]["address"] == "10.7.0.3/24", "a name in use was given: {result}");
    attachment.check(&result)?;
    attachment.del()?;
    ensure!(case.lease_names("net")? == ["10.7.0.2"], "left: {:?}", case.lease_names("net")?);
    ensure!(add.took < SOON, "{:?}", add.took);
    Ok(())
}
