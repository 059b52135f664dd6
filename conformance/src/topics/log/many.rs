//! Many writers of one file, which is renamed under them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{call, file, folder, is_end, is_step, lines, logged};
use crate::runner::{Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(log_many_writers_and_a_rotation_lose_nothing, "16 at once, the file renamed all the time").ours().limit(60),
    test!(log_a_killed_call_leaves_what_it_did, "every step up to the one that it hangs in").ours(),
];

const WRITERS: usize = 16;
const CALLS: usize = 8;

fn log_many_writers_and_a_rotation_lose_nothing(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = logged(&case.attachment(&node, &pod, &case.bridge_conf()), "debug")?;
    let ipam = attachment.with(serde_json::json!({ "type": "host-local" }));
    let done = AtomicBool::new(false);
    let rotated = std::thread::scope(|scope| -> Result<usize> {
        let rotation = scope.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                // As logrotate does, and nobody is told of it.
                if fs::rename(file(case), case.dir.join(format!("log/pods.log.{count}"))).is_ok() {
                    count += 1;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            count
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| {
                let ipam = &ipam;
                scope.spawn(move || {
                    (0..CALLS).try_for_each(|_| {
                        let id = format!("c{n}");
                        call(ipam, "ADD").env("CNI_CONTAINERID", &id).succeed()?;
                        call(ipam, "DEL").env("CNI_CONTAINERID", &id).succeed().map(drop)
                    })
                })
            })
            .collect();
        let written: Result<()> = writers.into_iter().try_for_each(|one| one.join().expect("no panic"));
        done.store(true, Ordering::Relaxed);
        let count = rotation.join().expect("no panic");
        written.map(|()| count)
    })?;
    ensure!(rotated > 5, "renamed {rotated} times only");
    let mut calls: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for path in files(case)? {
        for line in lines(&path)? {
            calls.entry(line["pid"].as_u64().context("no pid")?).or_default().push(line);
        }
    }
    ensure!(calls.len() == 2 * WRITERS * CALLS, "{} calls", calls.len());
    for (pid, lines) in calls {
        let end = lines.iter().find(|line| is_end(line)).with_context(|| format!("call {pid} has no end"))?;
        let steps = lines.iter().filter(|line| is_step(line)).count();
        ensure!(end["steps"] == steps && lines.len() == steps + 2, "call {pid}: {} lines, {end}", lines.len());
    }
    Ok(())
}

fn files(case: &Case) -> Result<Vec<PathBuf>> {
    folder(case)?.read_dir()?.map(|entry| Ok(entry?.path())).collect()
}

fn log_a_killed_call_leaves_what_it_did(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let script = "cat >/dev/null\n[ \"$CNI_COMMAND\" = ADD ] || exit 0\nkill -9 $PPID";
    let path = case.fake_plugin("deadly-ipam", script)?;
    let conf = case.bridge_with(serde_json::json!({ "ipam": { "type": "deadly-ipam" } }));
    let attachment = logged(&case.attachment(&node, &pod, &conf), "debug")?;
    let output = call(&attachment, "ADD").env("CNI_PATH", path).run()?;
    ensure!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    let all = lines(&file(case))?;
    ensure!(!all.iter().any(is_end), "it ended: {all:?}");
    let made = |object: &str| {
        all.iter().any(|line| {
            line["operation"] == "create" && line["object"].as_str().is_some_and(|text| text.starts_with(object))
        })
    };
    ensure!(made("link \"cni0\"") && made("link \"veth"), "{all:?}");
    Ok(())
}
