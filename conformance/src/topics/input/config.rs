//! P04 to P06: the configuration on stdin.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::refused;
use crate::runner::{Case, Test};
use crate::test;
use crate::topics::plugins;

pub(super) const TESTS: &[Test] = &[
    test!(p04_an_unsupported_version_is_code_1, "the supported ones are listed"),
    test!(p04_every_version_is_served, "0.1.0 to 1.1.0, and none for 0.1.0"),
    test!(p04_a_command_younger_than_the_version_is_code_1, "CHECK, GC and STATUS"),
    test!(p05_what_is_no_json_is_code_6, "empty, cut short, not an object, two values"),
    test!(p05_a_wrong_type_is_named_by_its_path, "with what was expected and what was found"),
    test!(p05_a_contradiction_is_code_7, "options that exclude each other or cannot be"),
    test!(p05_an_address_plugin_refuses_nonsense, "static addresses, routes"),
    test!(p06_an_unknown_key_is_a_warning_with_a_suggestion, "on stderr, and ADD goes on").ours(),
    test!(p06_strict_refuses_an_unknown_key, "code 2 naming key and value").ours(),
    test!(p06_known_keys_are_never_unknown, "keys of the protocol, in strict mode").ours(),
];

fn p04_an_unsupported_version_is_code_1(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    for plugin in plugins(case) {
        for version in ["9.9.9", "1.2.0", "0.5.0", "abc", "1.0"] {
            let conf = case.bridge_with(json!({ "type": plugin, "cniVersion": version }));
            let add = case.attachment(&node, &pod, &conf).call("ADD");
            refused(case, &[&node, &pod], &add, 1, &[version, "0.1.0", "0.4.0", "1.0.0"])
                .with_context(|| format!("{plugin} {version}"))?;
        }
    }
    Ok(())
}

fn p04_every_version_is_served(case: &Case) -> Result<()> {
    let node = case.node("n1")?;
    let versions = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"].map(Value::from);
    for version in versions.into_iter().chain([Value::Null]) {
        let pod = case.pod("p1")?;
        let conf = case.bridge_with(json!({ "cniVersion": version }));
        let attachment = case.attachment(&node, &pod, &conf);
        attachment.add().with_context(|| format!("version {version}"))?;
        ensure!(pod.ips("eth0")?.len() == 1, "version {version}: the pod has no address");
        attachment.del()?;
    }
    Ok(())
}

fn p04_a_command_younger_than_the_version_is_code_1(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    for (command, version) in [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0"), ("STATUS", "0.4.0")] {
        for plugin in plugins(case) {
            // A VXLAN is nothing without a VNI.
            let extra = json!({ "type": plugin, "cniVersion": version, "vni": 42, "cni.dev/valid-attachments": [] });
            let call = case.attachment(&node, &pod, &case.bridge_with(extra)).call(command);
            refused(case, &[&node, &pod], &call, 1, &[command, version])
                .with_context(|| format!("{plugin} {command} {version}"))?;
        }
    }
    Ok(())
}

fn p05_what_is_no_json_is_code_6(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let whole = case.bridge_conf().to_string();
    let cut = &whole[..whole.len() / 2];
    let two = format!("{whole}{whole}");
    for text in ["", " ", "{", "[]", "null", "\"text\"", "nonsense", "\u{0}", cut, &two] {
        for plugin in plugins(case) {
            let conf = json!({ "type": plugin });
            let call = case.attachment(&node, &pod, &conf).call("ADD").stdin(text);
            refused(case, &[&node, &pod], &call, 6, &[]).with_context(|| format!("{plugin}: {text:?}"))?;
        }
    }
    Ok(())
}

fn p05_a_wrong_type_is_named_by_its_path(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let cases = [
        (json!({ "mtu": "big" }), ["mtu", "big"]),
        (json!({ "isGateway": 3 }), ["isGateway", "3"]),
        (json!({ "bridge": ["cni0"] }), ["bridge", "string"]),
        (json!({ "vlanTrunk": [{ "id": 7 }, { "minID": "a", "maxID": 9 }] }), ["vlanTrunk[1].minID", "a"]),
        (json!({ "ipam": { "ranges": "all" } }), ["ipam.ranges", "all"]),
        (json!({ "ipam": { "ranges": [[{ "subnet": 7 }]] } }), ["ipam.ranges[0][0].subnet", "7"]),
        (json!({ "ipam": { "routes": [{ "dst": true }] } }), ["ipam.routes[0].dst", "true"]),
        (json!({ "dns": { "nameservers": 8 } }), ["dns.nameservers", "8"]),
        (json!({ "name": 5 }), ["name", "5"]),
    ];
    for (extra, words) in cases {
        let add = case.attachment(&node, &pod, &case.bridge_with(extra)).call("ADD");
        refused(case, &[&node, &pod], &add, 6, &words)?;
    }
    Ok(())
}

fn p05_a_contradiction_is_code_7(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let cases: &[(Value, &[&str])] = &[
        (json!({ "hairpinMode": true, "promiscMode": true }), &["hairpinMode", "promiscMode"]),
        (json!({ "vlan": 5000 }), &["vlan", "5000"]),
        (json!({ "vlanTrunk": [{ "minID": 200, "maxID": 100 }] }), &["vlanTrunk[0]", "200", "100"]),
        (json!({ "vlanTrunk": [{ "id": 3 }, { "minID": 200 }] }), &["vlanTrunk[1]", "maxID"]),
        (json!({ "vlanTrunk": [{ "id": 4095 }] }), &["vlanTrunk[0].id", "4095"]),
        (json!({ "mtu": 40 }), &["mtu", "40"]),
        (json!({ "mtu": 70_000 }), &["mtu", "70000"]),
        (json!({ "bridge": "a-name-of-16-byt" }), &["bridge", "a-name-of-16-byt"]),
        (json!({ "bridge": "a/b" }), &["bridge", "a/b"]),
        (json!({ "disableContainerInterface": true }), &["disableContainerInterface", "ipam"]),
        (json!({ "runtimeConfig": { "mac": "no-mac" } }), &["mac", "no-mac"]),
        (json!({ "runtimeConfig": { "mac": "01:00:5e:00:00:01" } }), &["mac", "01:00:5e:00:00:01"]),
    ];
    for (extra, words) in cases {
        let add = case.attachment(&node, &pod, &case.bridge_with(extra.clone())).call("ADD");
        refused(case, &[&node, &pod], &add, 7, words).with_context(|| extra.to_string())?;
    }
    Ok(())
}

fn p05_an_address_plugin_refuses_nonsense(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let cases: &[(Value, &[&str])] = &[
        (json!({ "addresses": [{ "address": "10.0.0.5" }] }), &["ipam.addresses[0].address", "10.0.0.5"]),
        (json!({ "addresses": [{ "address": "10.0.0.500/24" }] }), &["ipam.addresses[0].address", "10.0.0.500"]),
        (
            json!({ "addresses": [{ "address": "10.0.0.5/24", "gateway": "fd00::1" }] }),
            &["ipam.addresses[0].gateway", "fd00::1"],
        ),
        (json!({ "routes": [{ "dst": "10.9.0.0/99" }] }), &["ipam.routes[0].dst", "10.9.0.0/99"]),
    ];
    for (extra, words) in cases {
        let mut ipam = extra.clone();
        ipam["type"] = "static".into();
        let conf = json!({ "cniVersion": "1.0.0", "name": "net", "type": "static", "ipam": ipam });
        let add = case.attachment(&node, &pod, &conf).call("ADD");
        let failure = case.unchanged(&[&node, &pod], || add.fail_somehow())?;
        ensure!([6, 7].contains(&failure.code), "code {}, expected 6 or 7: {failure:?}", failure.code);
        failure.says(words)?;
    }
    Ok(())
}

fn p06_an_unknown_key_is_a_warning_with_a_suggestion(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let conf = case.bridge_with(json!({ "isGatway": true, "ipam": { "rangs": [] } }));
    let output = case.attachment(&node, &pod, &conf).call("ADD").run()?;
    output.success()?;
    for word in ["isGatway", "\"isGateway\"", "ipam.rangs", "\"ranges\""] {
        ensure!(output.stderr.contains(word), "stderr does not say {word:?}: {}", output.stderr);
    }
    Ok(())
}

fn p06_strict_refuses_an_unknown_key(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let cases = [
        (json!({ "isGatway": "yes" }), ["isGatway", "yes"]),
        (json!({ "ipam": { "rangs": "some" } }), ["ipam.rangs", "some"]),
        (json!({ "vlanTrunk": [{ "id": 7, "tag": "blue" }] }), ["vlanTrunk[0].tag", "blue"]),
    ];
    for (extra, words) in cases {
        let conf = crate::runner::merged(&case.bridge_with(json!({ "strict": true })), extra);
        let add = case.attachment(&node, &pod, &conf).call("ADD");
        refused(case, &[&node, &pod], &add, 2, &words)?;
    }
    Ok(())
}

fn p06_known_keys_are_never_unknown(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let conf = case.bridge_with(json!({
        "strict": true,
        "cniVersion": "1.1.0",
        "dns": { "nameservers": ["10.0.0.53"], "domain": "example", "search": ["a"], "options": ["ndots:5"] },
        "args": { "cni": {}, "labels": [{ "key": "app", "value": "web" }] },
        "capabilities": { "ips": true, "mac": true, "portMappings": true },
        "runtimeConfig": { "portMappings": [], "bandwidth": {} },
        "disableCheck": true,
        "disableGC": true,
        "ipMasq": false,
        "cni.dev/anything": 1,
        "cni.dev/valid-attachments": [],
    }));
    let attachment = case.attachment(&node, &pod, &conf);
    let output = attachment.call("ADD").run()?;
    let result = output.success()?;
    ensure!(output.stderr.is_empty(), "warned: {}", output.stderr);
    attachment.check(&result)?;
    attachment.del()
}
