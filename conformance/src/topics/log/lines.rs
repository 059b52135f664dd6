//! What the lines say.

use std::io::Write;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{TRACEPARENT, call, file, folder, is_end, is_step, lines, logged};
use crate::lab::Daemon;
use crate::runner::{Case, Feature, Test, merged};
use crate::test;
use crate::topics::PLUGINS;

pub(super) const TESTS: &[Test] = &[
    test!(log_nothing_is_written_unless_asked_for, "no file, nothing on stderr").ours(),
    test!(log_a_line_a_step, "operation, object, duration and result; whose it is; one line more at the end").ours(),
    test!(log_levels_say_how_much, "from off to trace, and the names that Multus has").ours(),
    test!(log_a_failure_names_the_errno_and_the_undo, "at every level but off").ours(),
    test!(log_steps_of_nftables, "of ipMasq, at ADD and DEL").ours().needs(&[Feature::NftInet]),
    test!(log_a_delegate_that_is_a_program_joins_in, "by its own lines, with the same trace").ours(),
    test!(log_warnings_are_in_it_too, "and on stderr as ever").ours(),
    test!(p10_warnings_that_nobody_reads_fail_no_call, "stderr is a pipe without a reader").ours(),
    test!(log_of_what_cannot_be_read, "a configuration with a wrong value is told as well").ours(),
    test!(log_every_plugin_knows_the_keys, "no warning, also with \"strict\": true").ours(),
    test!(log_hostile_words_stay_in_their_line, "in the network's keys, CNI_ARGS and TRACEPARENT").ours(),
];

fn log_nothing_is_written_unless_asked_for(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let folder = folder(case)?;
    let off = json!({ "logLevel": "off", "logFile": file(case) });
    for extra in [json!({}), json!({ "logLevel": "", "logFile": "" }), off] {
        let attachment = case.attachment(&node, &pod, &case.bridge_with(extra));
        for command in ["ADD", "DEL"] {
            let output = call(&attachment, command).env("TRACEPARENT", TRACEPARENT).run()?;
            output.success()?;
            ensure!(output.stderr.is_empty(), "{command}: {}", output.stderr);
        }
    }
    ensure!(folder.read_dir()?.next().is_none(), "there is a file in {folder:?}");
    Ok(())
}

fn log_a_line_a_step(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = logged(&case.attachment(&node, &pod, &case.bridge_conf()), "debug")?;
    let attachment = attachment.args("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web");
    let before = time_of(SystemTime::now())?;
    let output = call(&attachment, "ADD").env("TRACEPARENT", TRACEPARENT).run()?;
    output.success()?;
    ensure!(output.stderr.is_empty(), "{}", output.stderr);
    let all = lines(&file(case))?;
    for line in &all {
        let common = json!({
            "podwire": "bridge", "command": "ADD", "network": "net", "containerID": "container-p1", "ifname": "eth0",
            "pod": "shop/web", "traceparent": TRACEPARENT,
        });
        for (key, value) in common.as_object().into_iter().flatten() {
            ensure!(&line[key] == value, "{key} is not {value}: {line}");
        }
        ensure!(line["pid"] == all[0]["pid"] && line["durationUs"].is_u64(), "{line}");
        let time = line["time"].as_str().context("no time")?;
        ensure!(time.len() == "2026-01-01T00:00:00.000000Z".len() && time.ends_with('Z'), "{line}");
        ensure!(*time >= *before && *time <= *time_of(SystemTime::now())?, "{line}: not between {before} and now");
    }
    let steps: Vec<_> = all.iter().filter(|line| is_step(line)).collect();
    for (operation, object) in [
        ("create", "link \"cni0\""),
        ("create", "link \"veth"),
        ("add", "altname \"shop_web_eth0\""),
        ("lock", "leases \""),
        ("write", "lease of 10.7.0.2 for container \"container-p1\""),
        ("ADD", "delegate \"host-local\""),
        ("write", "sysctl \"net/ipv4/ip_forward\" = 1"),
        ("add", "address \"10.7.0.2/24\" of link number 2 in network namespace \"/proc/"),
    ] {
        let is = |line: &&&Value| {
            line["operation"] == operation && line["object"].as_str().is_some_and(|text| text.starts_with(object))
        };
        let step = steps.iter().find(is).with_context(|| format!("no step {operation} {object}"))?;
        ensure!(step["result"] == "ok" && step["level"] == "debug", "{step}");
    }
    let end = all.last().context("no lines")?;
    ensure!(is_end(end) && end["level"] == "info" && end["result"] == "ok" && end["ips"] == "10.7.0.2/24", "{end}");
    ensure!(end["steps"] == steps.len(), "{} steps, it says {}", steps.len(), end["steps"]);
    let sum: u64 =
        steps.iter().filter(|step| step["operation"] == "create").filter_map(|s| s["durationUs"].as_u64()).sum();
    ensure!(sum > 0 && end["durationUs"].as_u64() >= Some(sum), "the parts took {sum} µs, the whole {end}");
    Ok(())
}

/// A moment as a log writes it, by another program's calendar.
fn time_of(moment: SystemTime) -> Result<String> {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH)?;
    let date = format!("--date=@{}.{:06}", since.as_secs(), since.subsec_micros());
    let output = std::process::Command::new("date").args(["--utc", &date, "+%Y-%m-%dT%H:%M:%S.%6NZ"]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn log_levels_say_how_much(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let plain = case.bridge_with(json!({ "mtu": 1402 }));
    let mut before = None;
    for level in ["off", "panic", "ERROR", "warning", "warn", "verbose", "Info", "debug", "trace"] {
        let pod = case.pod("p1")?;
        let attachment = logged(&case.attachment(&node, &pod, &plain), level)?;
        call(&attachment, "ADD").succeed()?;
        call(&attachment, "DEL").succeed()?;
        let text = if file(case).exists() { std::fs::read_to_string(file(case))? } else { String::new() };
        let count = lines_of(&text);
        let expected = match level {
            "off" | "panic" | "ERROR" | "warning" | "warn" => 0..=0,
            // The end of each call.
            "verbose" | "Info" => 2..=2,
            _ => 20..=200,
        };
        ensure!(expected.contains(&count), "{level}: {count} lines: {text}");
        // Only who listens to the steps can count them.
        let counts = text.lines().filter(|line| line.contains("\"steps\":")).count();
        ensure!(counts == if matches!(level, "debug" | "trace") { 2 } else { 0 }, "{level}: {counts} lines have steps");
        // Only the last level tells the configuration.
        ensure!(text.contains("1402") == (level == "trace"), "{level}: {text}");
        if let Some(before) = before.replace(count) {
            // What waits for the kernel looks again after each notification, and how many there are is chance.
            ensure!(before <= count + 10, "{level}: {count} lines after {before}");
        }
        if file(case).exists() {
            std::fs::remove_file(file(case))?;
        }
    }
    Ok(())
}

fn lines_of(text: &str) -> usize {
    text.lines().count()
}

fn log_a_failure_names_the_errno_and_the_undo(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    case.attachment(&node, &pod, &case.bridge_conf()).add()?;
    for level in ["error", "warning", "info", "debug", "trace"] {
        // The pod's interface is taken, and the lease of another network is not.
        let conf = case.bridge_with(json!({ "name": "other", "bridge": "br9" }));
        let attachment = logged(&case.attachment(&node, &pod, &conf), level)?;
        let failure = call(&attachment, "ADD").fail(105)?;
        let all = lines(&file(case))?;
        let end = all.last().context("no lines")?;
        ensure!(end["level"] == "error" && end["code"] == 105, "{level}: {end}");
        ensure!(end["result"].as_str().is_some_and(|text| text.contains(&failure.msg)), "{level}: {end}");
        if level == "debug" {
            let failed = all.iter().find(|line| line["operation"] == "create" && line["result"] != "ok");
            let failed = failed.context("no step failed")?;
            ensure!(failed["result"].as_str().is_some_and(|text| text.starts_with("EEXIST (File exists)")), "{failed}");
            let undone = all.iter().find(|line| line["operation"] == "undo").context("nothing was undone")?;
            ensure!(undone["result"] == "ok", "{undone}");
        }
        std::fs::remove_file(file(case))?;
    }
    Ok(())
}

fn log_steps_of_nftables(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = logged(&case.attachment(&node, &pod, &case.bridge_with(json!({ "ipMasq": true }))), "debug")?;
    for command in ["ADD", "DEL"] {
        call(&attachment, command).succeed()?;
        let all = lines(&file(case))?;
        let mut of_table = all.iter().filter(|line| {
            line["command"] == command && line["object"].as_str().is_some_and(|text| text.starts_with("nftables table"))
        });
        ensure!(of_table.any(|line| line["operation"] == "change" && line["result"] == "ok"), "{command}: {all:?}");
    }
    Ok(())
}

fn log_a_delegate_that_is_a_program_joins_in(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    // A file that is not of the suite's build is started.
    let path = case.fake_plugin("host-local", &format!("exec {}/host-local", case.cni_path.display()))?;
    let attachment = logged(&case.attachment(&node, &pod, &case.bridge_conf()), "debug")?;
    call(&attachment, "ADD").env("CNI_PATH", path).env("TRACEPARENT", TRACEPARENT).succeed()?;
    let all = lines(&file(case))?;
    let of = |plugin: &str| all.iter().filter(|line| line["podwire"] == plugin).collect::<Vec<_>>();
    let (bridge, delegate) = (of("bridge"), of("host-local"));
    ensure!(bridge.len() + delegate.len() == all.len() && !bridge.is_empty(), "{all:?}");
    ensure!(delegate.iter().any(|line| is_end(line) && line["result"] == "ok"), "{delegate:?}");
    ensure!(
        delegate.iter().any(|line| line["object"].as_str().is_some_and(|text| text.starts_with("lease of 10.7.0.2")))
    );
    ensure!(delegate[0]["pid"] != bridge[0]["pid"], "one process");
    for line in &all {
        ensure!(line["traceparent"] == TRACEPARENT && line["containerID"] == "container-p1", "{line}");
    }
    Ok(())
}

fn log_warnings_are_in_it_too(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let conf = case.bridge_with(json!({ "isGatewya": true }));
    let attachment = logged(&case.attachment(&node, &pod, &conf), "warning")?;
    let output = call(&attachment, "ADD").run()?;
    output.success()?;
    ensure!(output.stderr.contains("WARN") && output.stderr.contains("isGatewya"), "stderr: {:?}", output.stderr);
    let all = lines(&file(case))?;
    let [line] = &all[..] else { anyhow::bail!("expected one line: {all:?}") };
    ensure!(
        line["level"] == "warn" && line["message"].as_str().is_some_and(|text| text.contains("isGatewya")),
        "{line}"
    );
    // To stderr goes either kind of line, but not both.
    let attachment = case.attachment(&node, &case.pod("p2")?, &conf).with(json!({ "logLevel": "info" }));
    let output = attachment.call("ADD").run()?;
    output.success()?;
    let parsed = output.stderr.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
    let parsed = parsed.with_context(|| format!("stderr: {:?}", output.stderr))?;
    ensure!(parsed.len() == 2 && parsed[0]["level"] == "warn" && is_end(&parsed[1]), "{parsed:?}");
    Ok(())
}

fn p10_warnings_that_nobody_reads_fail_no_call(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    for level in ["off", "trace"] {
        let conf = case.bridge_with(json!({ "isGatewya": true, "logLevel": level }));
        for command in ["ADD", "DEL"] {
            let mut child = case.attachment(&node, &pod, &conf).call(command).spawn()?;
            drop(child.stderr.take());
            child.stdin.take().context("stdin")?.write_all(conf.to_string().as_bytes())?;
            let output = child.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stdout);
            ensure!(output.status.success(), "{command} with level {level}: {}: {said}", output.status);
        }
    }
    Ok(())
}

fn log_of_what_cannot_be_read(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = logged(&case.attachment(&node, &pod, &case.bridge_with(json!({ "mtu": "big" }))), "info")?;
    call(&attachment, "ADD").fail(6)?;
    let all = lines(&file(case))?;
    ensure!(all.len() == 1 && all[0]["code"] == 6 && all[0]["network"] == "net", "{all:?}");
    Ok(())
}

fn log_every_plugin_knows_the_keys(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let daemon = Daemon::start(&case.cni_path, &node, &case.dir.join("daemon"), &[])?;
    for plugin in PLUGINS {
        let ipam = match plugin {
            "dhcp" => json!({ "type": plugin, "daemonSocketPath": daemon.socket() }),
            "loopback" => Value::Null,
            "static" => json!({ "type": plugin }),
            _ => case.host_local(&["10.7.0.0/24"]),
        };
        let own = match plugin {
            "bond" => json!({ "links": [{ "name": "eth1" }, { "name": "eth2" }] }),
            "ipvlan" | "macvlan" => json!({ "master": "eth1" }),
            "vlan" => json!({ "master": "eth1", "vlanId": 7 }),
            "vxlan" => json!({ "dev": "eth1", "vni": 7 }),
            _ => json!({}),
        };
        let conf = json!({ "name": "net", "type": plugin, "cniVersion": "1.1.0", "strict": true });
        let conf = merged(&merged(&conf, json!({ "ipam": ipam })), own);
        let attachment = logged(&case.attachment(&node, &pod, &conf), "info")?;
        let output = call(&attachment, "DEL").run()?;
        output.success().with_context(|| plugin.to_owned())?;
        ensure!(output.stderr.is_empty(), "{plugin}: {}", output.stderr);
        let all = lines(&file(case))?;
        ensure!(all.len() == 1 && all[0]["podwire"] == plugin && all[0]["command"] == "DEL", "{plugin}: {all:?}");
        std::fs::remove_file(file(case))?;
    }
    Ok(())
}

fn log_hostile_words_stay_in_their_line(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let odd = "x\"}\n{\"podwire\":\"bridge\",\"containerID\":\"another\"}\n\u{2028}\\";
    let conf =
        case.bridge_with(json!({ odd: odd, "name": odd, "type": odd, "cniVersion": odd, "ipam": { "type": odd } }));
    let attachment = logged(&case.attachment(&node, &pod, &case.bridge_conf()), "trace")?;
    let conf = merged(&attachment.conf, conf);
    let of_pod = format!("K8S_POD_NAMESPACE={0};K8S_POD_NAME={0}", odd.replace(';', ""));
    for traceparent in [odd, "", "00", &TRACEPARENT.to_uppercase(), &format!("{TRACEPARENT}-{}", "0".repeat(10_000))] {
        let call = call(&attachment, "ADD").conf(&conf).args(&of_pod).env("TRACEPARENT", traceparent);
        call.fail_somehow()?;
        let all = lines(&file(case))?;
        for line in &all {
            ensure!(line["containerID"] == "container-p1" && line["network"] == odd, "{line}");
            ensure!(line.get("traceparent").is_none(), "{line}");
        }
        ensure!(all.len() == 2 && all[0]["cniVersion"] == odd, "{all:?}");
        std::fs::remove_file(file(case))?;
    }
    Ok(())
}
