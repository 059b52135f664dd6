//! P23 to P26 for every interface plugin: what its address plugin is asked, and what becomes of the answer.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::recording;
use crate::lab::{Space, cable};
use crate::runner::{Case, Feature, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(p26_bridge_asks_its_delegate, "CHECK, GC, STATUS, DEL and their errors; leases at GC").ours(),
    test!(p26_macvlan_asks_its_delegate, "CHECK, GC, STATUS, DEL and their errors; leases at GC")
        .needs(&[Feature::Macvlan])
        .ours(),
    test!(p26_ipvlan_asks_its_delegate, "CHECK, GC, STATUS, DEL and their errors; leases at GC")
        .needs(&[Feature::Ipvlan])
        .ours(),
    test!(p26_vlan_asks_its_delegate, "CHECK, GC, STATUS, DEL and their errors; leases at GC")
        .needs(&[Feature::Vlan])
        .ours(),
    test!(p26_vxlan_asks_its_delegate, "CHECK, GC, STATUS, DEL and their errors; leases at GC")
        .needs(&[Feature::Vxlan])
        .ours(),
    test!(p26_bond_asks_its_delegate, "CHECK, GC, STATUS, DEL and their errors; leases at GC")
        .needs(&[Feature::Bond])
        .ours(),
];

fn p26_bridge_asks_its_delegate(case: &Case) -> Result<()> {
    asks_its_delegate(case, json!({ "type": "bridge" }))
}

fn p26_macvlan_asks_its_delegate(case: &Case) -> Result<()> {
    asks_its_delegate(case, json!({ "type": "macvlan", "master": LINK }))
}

fn p26_ipvlan_asks_its_delegate(case: &Case) -> Result<()> {
    asks_its_delegate(case, json!({ "type": "ipvlan", "master": LINK }))
}

fn p26_vlan_asks_its_delegate(case: &Case) -> Result<()> {
    asks_its_delegate(case, json!({ "type": "vlan", "master": LINK, "vlanId": 100 }))
}

fn p26_vxlan_asks_its_delegate(case: &Case) -> Result<()> {
    asks_its_delegate(case, json!({ "type": "vxlan", "vni": 42, "dev": LINK, "remotes": ["192.0.2.2"] }))
}

fn p26_bond_asks_its_delegate(case: &Case) -> Result<()> {
    asks_its_delegate(
        case,
        json!({ "type": "bond", "mode": "active-backup", "miimon": 100, "links": [{ "name": LINK }] }),
    )
}

/// A link of the node, for those that sit on one.
const LINK: &str = "eth1";

/// Gives an address; once the file `stuck` is there, fails.
const ANSWER: &str = r#"if [ -e "$dir/stuck" ]; then
  [ "$CNI_COMMAND" = STATUS ] && code=51 || code=142
  echo "{\"cniVersion\":\"1.1.0\",\"code\":$code,\"msg\":\"the pool is stuck at $CNI_COMMAND\"}"; exit 1
fi
[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{"cniVersion":"1.1.0","ips":[{"address":"10.7.0.77/24"}]}'"#;

fn asks_its_delegate(case: &Case, conf: Value) -> Result<()> {
    let (node, far) = (case.node("n1")?, case.node("far")?);
    cable(&node, LINK, &far, LINK)?;
    node.address(LINK, "192.0.2.1/24")?;
    let conf = merged(&json!({ "cniVersion": "1.1.0", "name": "net" }), conf);
    leases_of_the_dead_go(case, &node, &conf)?;

    let answer = format!("dir={}\n{ANSWER}", case.dir.display());
    let path = case.fake_plugin("own-ipam", &recording(&case.dir, &answer))?;
    let conf = merged(&conf, json!({ "ipam": { "type": "own-ipam", "pool": "blue" } }));
    let attachment = case.attachment(&node, &case.pod("p1")?, &conf);
    let valid = json!([{ "containerID": attachment.container, "ifname": "eth0" }]);
    let status = attachment.call("STATUS").env("CNI_PATH", &path);
    status.succeed()?;
    let result = attachment.call("ADD").env("CNI_PATH", &path).succeed()?;
    let check = attachment.check_call(&result).env("CNI_PATH", &path);
    check.succeed()?;
    let collected = attachment.clone().with(json!({ "cni.dev/valid-attachments": valid }));
    let gc = collected.call("GC").env("CNI_PATH", &path);
    gc.succeed()?;
    for command in ["STATUS", "CHECK", "GC"] {
        let seen: Value = serde_json::from_str(&case.read(&format!("{command}.stdin"))?)?;
        ensure!(seen["ipam"]["pool"] == "blue", "{command} reached it with {seen}");
    }
    let seen: Value = serde_json::from_str(&case.read("GC.stdin")?)?;
    ensure!(seen["cni.dev/valid-attachments"] == valid, "GC reached it with {seen}");

    std::fs::write(case.dir.join("stuck"), "")?;
    check.fail(142)?.says(&["the pool is stuck at CHECK"])?;
    gc.fail(142)?.says(&["the pool is stuck at GC"])?;
    attachment.call("DEL").env("CNI_PATH", &path).fail(142)?.says(&["the pool is stuck at DEL"])?;
    // By now the links are back where STATUS looks for them.
    status.fail(51)?.says(&["the pool is stuck at STATUS"]).map(drop)
}

/// GC with ten leases of which five are dead.
fn leases_of_the_dead_go(case: &Case, node: &Space, conf: &Value) -> Result<()> {
    let conf = merged(conf, json!({ "ipam": case.host_local(&["10.7.0.0/24"]) }));
    std::fs::create_dir_all(case.leases_of("net"))?;
    std::fs::create_dir_all(case.leases_of("other"))?;
    for n in 10..20 {
        for network in ["net", "other"] {
            std::fs::write(case.leases_of(network).join(format!("10.7.0.{n}")), format!("c{n}\r\neth0"))?;
        }
    }
    let valid: Vec<_> = (10..15).map(|n| json!({ "containerID": format!("c{n}"), "ifname": "eth0" })).collect();
    let plugin = conf["type"].as_str().context("a type")?;
    let gc = merged(&conf, json!({ "cni.dev/valid-attachments": valid }));
    case.call(node, plugin, "GC").conf(&gc).succeed()?;
    let expected: Vec<_> = (10..15).map(|n| format!("10.7.0.{n}")).collect();
    ensure!(case.lease_names("net")? == expected, "left: {:?}", case.lease_names("net")?);
    ensure!(case.lease_names("other")?.len() == 10, "another network's went");
    Ok(())
}
