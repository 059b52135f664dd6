//! P26: how an address plugin is called.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{GIVES_77, recording};
use crate::runner::{Case, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p26_the_delegate_gets_everything, "environment and the whole configuration, unknown keys too"),
    test!(p26_the_path_is_searched_in_order, "the first directory of CNI_PATH wins"),
    test!(p26_a_delegate_that_is_nowhere_is_named, "with the directories"),
    test!(p26_a_delegates_error_is_passed_on, "code, message, and stderr to stderr"),
    test!(p26_a_delegate_may_answer_in_an_older_version, "0.2.0 and 0.4.0 results"),
    test!(p26_in_process_and_by_exec_agree, "host-local of the suite and the same behind a script"),
    test!(p26_a_type_is_no_path, "ipam.type with slashes"),
    test!(p26_a_delegate_that_prints_without_end_is_ended, "code 108, and the node is as before").ours(),
    test!(p26_a_delegates_nonsense_is_code_6, "ten thousand levels, half an object, no UTF-8").ours(),
    test!(p26_what_a_delegate_leaves_behind_is_not_waited_for, "a child of it that has its stdout").ours(),
];

fn p26_the_delegate_gets_everything(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let path = case.fake_plugin("noting-ipam", &recording(&case.dir, GIVES_77))?;
    let conf =
        case.bridge_with(json!({ "ipam": { "type": "noting-ipam", "own": [1, { "deep": null }] }, "other": "kept" }));
    let attachment = case.attachment(&node, &pod, &conf).args("IgnoreUnknown=1;K=V");
    let result = attachment.call("ADD").env("CNI_PATH", &path).succeed()?;
    attachment.check_call(&result).env("CNI_PATH", &path).succeed()?;
    attachment.call("DEL").env("CNI_PATH", &path).succeed()?;
    for command in ["ADD", "CHECK", "DEL"] {
        let env = case.read(&format!("{command}.env")).with_context(|| format!("{command} did not reach it"))?;
        for line in [
            format!("CNI_COMMAND={command}"),
            format!("CNI_CONTAINERID={}", attachment.container),
            format!("CNI_NETNS={}", pod.ns.path().display()),
            "CNI_IFNAME=eth0".to_owned(),
            "CNI_ARGS=IgnoreUnknown=1;K=V".to_owned(),
            format!("CNI_PATH={}", path.display()),
        ] {
            ensure!(env.lines().any(|found| found == line), "{command}: no {line:?} in\n{env}");
        }
        let seen: Value = serde_json::from_str(&case.read(&format!("{command}.stdin"))?)?;
        let mut expected = conf.clone();
        if command == "CHECK" {
            expected["prevResult"] = result.clone();
        }
        // Objects compare without regard to order; nulls and unknown keys count.
        ensure!(seen == expected, "{command}: {seen}\nexpected {expected}");
    }
    ensure!(pod.find("eth0")?.is_none(), "not removed");
    Ok(())
}

fn p26_the_path_is_searched_in_order(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let path = case.fake_plugin("host-local", &recording(&case.dir, GIVES_77))?;
    let attachment = case.attachment(&node, &pod, &case.bridge_conf());
    attachment.call("ADD").env("CNI_PATH", path).succeed()?;
    ensure!(pod.ips("eth0")? == ["10.7.0.77/24"], "another host-local was used: {:?}", pod.ips("eth0")?);
    Ok(())
}

fn p26_a_delegate_that_is_nowhere_is_named(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let conf = case.bridge_with(json!({ "ipam": { "type": "no-such-ipam" } }));
    let add = case.attachment(&node, &pod, &conf).call("ADD");
    let directory = case.cni_path.display().to_string();
    case.unchanged(&[&node, &pod], || add.fail_somehow())?.says(&["no-such-ipam", &directory]).map(drop)
}

fn p26_a_delegates_error_is_passed_on(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let answer = r#"echo "a word on stderr" >&2
[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{"cniVersion":"1.0.0","code":142,"msg":"out of leases","details":"pool blue"}'; exit 1"#;
    let path = case.fake_plugin("odd-ipam", &recording(&case.dir, answer))?;
    let conf = case.bridge_with(json!({ "ipam": { "type": "odd-ipam" } }));
    let add = case.attachment(&node, &pod, &conf).call("ADD").env("CNI_PATH", path);
    let failure = case.unchanged(&[&node, &pod], || add.fail(142))?;
    failure.says(&["out of leases", "pool blue"])?;
    ensure!(failure.stderr.contains("a word on stderr"), "stderr: {:?}", failure.stderr);
    Ok(())
}

fn p26_a_delegate_may_answer_in_an_older_version(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let answers = [
        r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.7.0.77/24","gateway":"10.7.0.1"},"dns":{}}"#,
        r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.7.0.77/24","gateway":"10.7.0.1"}],"dns":{}}"#,
    ];
    for answer in answers {
        let pod = case.pod("p1")?;
        let script = format!("[ \"$CNI_COMMAND\" = ADD ] || exit 0\necho '{answer}'");
        let path = case.fake_plugin("old-ipam", &recording(&case.dir, &script))?;
        let conf = case.bridge_with(json!({ "ipam": { "type": "old-ipam" } }));
        let attachment = case.attachment(&node, &pod, &conf);
        let result = attachment.call("ADD").env("CNI_PATH", &path).succeed()?;
        ensure!(result["cniVersion"] == "1.0.0" && result["ips"][0]["address"] == "10.7.0.77/24", "{result}");
        attachment.call("DEL").env("CNI_PATH", &path).succeed()?;
    }
    Ok(())
}

fn p26_in_process_and_by_exec_agree(case: &Case) -> Result<()> {
    // The same program under a name that nobody can mistake for the suite's own file.
    let script = format!("exec {}/host-local", case.cni_path.display());
    let by_exec = case.fake_plugin("host-local", &script)?;
    let mut seen: Vec<(Value, Vec<String>, String)> = Vec::new();
    for path in [case.cni_path.as_os_str(), &by_exec] {
        let (node, pod) = (case.node("n1")?, case.pod("p1")?);
        let attachment = case.attachment(&node, &pod, &case.bridge_with(json!({ "isGateway": false })));
        let result = attachment.call("ADD").env("CNI_PATH", path).succeed()?;
        let leases = case.lease_names("net")?;
        attachment.check_call(&result).env("CNI_PATH", path).succeed()?;
        let bad = merged(&attachment.conf, json!({ "ipam": { "ranges": [[{ "subnet": "10.7.0.5/24" }]] } }));
        let failure = attachment
            .call("ADD")
            .env("CNI_PATH", path)
            .env("CNI_CONTAINERID", "other")
            .env("CNI_IFNAME", "net1")
            .conf(&bad)
            .fail_somehow()?;
        attachment.call("DEL").env("CNI_PATH", path).succeed()?;
        ensure!(case.lease_names("net")?.is_empty(), "a lease is left");
        std::fs::remove_dir_all(case.leases())?;
        seen.push((result["ips"].clone(), leases, format!("{} {} {}", failure.code, failure.msg, failure.details)));
    }
    ensure!(seen[0] == seen[1], "in process {:?}\nby exec    {:?}", seen[0], seen[1]);
    Ok(())
}

fn p26_a_type_is_no_path(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let path = case.fake_plugin("evil", &recording(&case.dir, GIVES_77))?;
    let conf = case.bridge_with(json!({ "ipam": { "type": "../plugins/evil" } }));
    let add = case.attachment(&node, &pod, &conf).call("ADD").env("CNI_PATH", path);
    case.unchanged(&[&node, &pod], || add.fail_somehow())?.says(&["../plugins/evil"])?;
    ensure!(!case.dir.join("ADD.env").exists(), "it was called");
    Ok(())
}

fn p26_a_delegate_that_prints_without_end_is_ended(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    // It would go on for as long as somebody reads.
    let path = case.fake_plugin("endless-ipam", "[ \"$CNI_COMMAND\" = ADD ] || exit 0\nexec yes '{\"ips\": []}'")?;
    let conf = case.bridge_with(json!({ "ipam": { "type": "endless-ipam" } }));
    let add = case.attachment(&node, &pod, &conf).call("ADD").env("CNI_PATH", path);
    case.unchanged(&[&node, &pod], || add.fail(108))?.says(&["endless-ipam", "longer than"]).map(drop)
}

fn p26_a_delegates_nonsense_is_code_6(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let deep = case.dir.join("deep");
    std::fs::write(&deep, "[".repeat(10_000))?;
    for answer in [format!("cat {}", deep.display()), "echo '{\"ips\"'".to_owned(), "printf '{\"a\\377'".to_owned()] {
        let path = case.fake_plugin("odd-ipam", &format!("[ \"$CNI_COMMAND\" = ADD ] || exit 0\n{answer}"))?;
        let conf = case.bridge_with(json!({ "ipam": { "type": "odd-ipam" } }));
        let add = case.attachment(&node, &pod, &conf).call("ADD").env("CNI_PATH", path);
        case.unchanged(&[&node, &pod], || add.fail(6)).context(answer)?.says(&["odd-ipam", "not JSON"])?;
    }
    Ok(())
}

fn p26_what_a_delegate_leaves_behind_is_not_waited_for(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let script = format!("[ \"$CNI_COMMAND\" = ADD ] || exit 0\nsleep 60 &\n{GIVES_77}");
    let path = case.fake_plugin("leaving-ipam", &script)?;
    let conf = case.bridge_with(json!({ "ipam": { "type": "leaving-ipam" } }));
    let attachment = case.attachment(&node, &pod, &conf);
    // Its stderr is ours, which the child has as well; so the test's own pipe must not be it.
    let quiet = ["sh", "-c", "exec \"$0\" 2>/dev/null"].map(std::ffi::OsStr::new);
    let add = attachment.call("ADD").env("CNI_PATH", &path).under(&quiet).run()?;
    ensure!(add.success()?["ips"][0]["address"] == "10.7.0.77/24", "{}", add.stdout);
    ensure!(add.took < std::time::Duration::from_secs(30), "waited for its child: {:?}", add.took);
    attachment.call("DEL").env("CNI_PATH", &path).succeed().map(drop)
}
