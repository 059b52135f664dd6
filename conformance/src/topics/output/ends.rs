//! P10: how a call ends, the ways of ending badly among them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::{Value, json};

use crate::cni::Output;
use crate::runner::{Case, Test};
use crate::test;
use crate::topics::plugins;

pub(super) const TESTS: &[Test] = &[
    test!(p10_success_is_a_result_and_nothing_else, "one JSON value on stdout, none for DEL and CHECK"),
    test!(p10_an_error_has_all_its_fields, "cniVersion, code, msg, details"),
    test!(p10_sigterm_ends_with_an_error_and_undoes, "while the delegate works"),
    test!(p10_stdin_that_closes_early_is_an_error, "at once, half-way, and not open at all"),
    test!(p10_a_delegate_that_says_nothing_is_named, "exit status and name in the error"),
];

fn p10_success_is_a_result_and_nothing_else(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    let output = attachment.call("ADD").run()?;
    let result = output.success()?;
    ensure!(result["cniVersion"] == "1.0.0", "{result}");
    ensure!(output.stderr.is_empty(), "stderr: {}", output.stderr);
    let check = attachment.check_call(&result).run()?;
    check.success()?;
    ensure!(check.stdout.trim().is_empty(), "CHECK printed {}", check.stdout);
    let del = attachment.call("DEL").run()?;
    del.success()?;
    ensure!(del.stdout.trim().is_empty(), "DEL printed {}", del.stdout);
    Ok(())
}

fn p10_an_error_has_all_its_fields(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    for version in ["0.2.0", "0.4.0", "1.0.0", "1.1.0"] {
        for plugin in ["bridge", "host-local"] {
            let conf = case.bridge_with(json!({
                "cniVersion": version, "type": plugin, "ipam": { "ranges": [[{ "subnet": "10.7.0.5/24" }]] },
            }));
            let output = case.attachment(&node, &pod, &conf).call("ADD").run()?;
            output.any_failure()?;
            let error: Value = serde_json::from_str(&output.stdout)?;
            ensure!(error["cniVersion"] == version, "{plugin} {version}: {error}");
            ensure!(error["msg"].as_str().is_some_and(|msg| !msg.contains('\n')), "{plugin} {version}: {error}");
        }
    }
    Ok(())
}

fn p10_sigterm_ends_with_an_error_and_undoes(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let fifo = case.dir.join("started");
    mkfifo(&fifo, Mode::S_IRWXU).context("mkfifo")?;
    // Says that it works and then never ends; DEL ends at once.
    let script = format!(
        "cat >/dev/null\n[ \"$CNI_COMMAND\" = ADD ] || exit 0\necho >{}\nexec sleep 60 2>/dev/null",
        fifo.display()
    );
    let path = case.fake_plugin("slow-ipam", &script)?;
    let conf = case.bridge_with(json!({ "ipam": { "type": "slow-ipam" } }));
    let call = case.attachment(&node, &pod, &conf).call("ADD").env("CNI_PATH", path);
    let output = case.unchanged(&[&node, &pod], || {
        let mut child = call.spawn()?;
        child.stdin.take().context("stdin")?.write_all(conf.to_string().as_bytes())?;
        // Opening it waits for the delegate's echo.
        File::open(&fifo)?.read_to_end(&mut Vec::new())?;
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
        finished(child)
    })?;
    output.failure(106)?.says(&["SIGTERM"])?;
    Ok(())
}

fn p10_stdin_that_closes_early_is_an_error(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    for plugin in plugins(case) {
        let conf = case.bridge_with(json!({ "type": plugin }));
        let call = case.attachment(&node, &pod, &conf).call("ADD");
        for text in ["", "{\"cniVersion\":\"1.0.0\",\"name\":\"n"] {
            case.unchanged(&[&node, &pod], || call.clone().stdin(text).fail(6))?;
        }
        let closed: Vec<&OsStr> = ["sh", "-c", "exec \"$0\" <&-"].map(OsStr::new).to_vec();
        let failure = case.unchanged(&[&node, &pod], || call.under(&closed).fail_somehow())?;
        ensure!([5, 6].contains(&failure.code), "{plugin}: code {}, expected 5 or 6", failure.code);
    }
    Ok(())
}

fn p10_a_delegate_that_says_nothing_is_named(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let scripts = [
        ("exit 3", vec!["3"]),
        ("echo not JSON; exit 1", vec!["1"]),
        ("kill -9 $$", vec!["9"]),
        ("echo not JSON", vec![]),
        ("exit 0", vec![]),
    ];
    for (script, words) in scripts {
        let path =
            case.fake_plugin("odd-ipam", &format!("cat >/dev/null\n[ \"$CNI_COMMAND\" = ADD ] || exit 0\n{script}"))?;
        let conf = case.bridge_with(json!({ "ipam": { "type": "odd-ipam" } }));
        let call = case.attachment(&node, &pod, &conf).call("ADD").env("CNI_PATH", path);
        let failure = case.unchanged(&[&node, &pod], || call.fail_somehow()).with_context(|| script.to_owned())?;
        ensure!([6, 108].contains(&failure.code), "{script}: code {}, expected 6 or 108", failure.code);
        failure.says(&["odd-ipam"])?.says(&words)?;
    }
    Ok(())
}

fn finished(child: std::process::Child) -> Result<Output> {
    let output = child.wait_with_output()?;
    Ok(Output {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: std::time::Duration::ZERO,
    })
}
