//! Where the lines may go. A configuration can be a tenant's, and a plugin is root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use super::{call, file, folder, is_end, lines, logged};
use crate::runner::{Case, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(log_files_are_in_one_folder, "/var/log, or where the runtime's environment says; nowhere else").ours(),
    test!(log_what_is_no_log_is_left_alone, "symlinks, FIFOs, hard links, folders, the files of others").ours(),
    test!(log_a_full_disk_fails_no_call, "and what comes when there is room is whole again").ours(),
    test!(log_a_file_that_cannot_be_written_fails_no_call, "no folder, or one that is read-only").ours(),
    test!(log_the_environment_has_the_last_word, "PODWIRE_LOG: level, file, off").ours(),
    test!(log_wrong_words_are_warned_of, "and fail no call").ours(),
];

/// ADD and DEL, which succeed; what they said on stderr.
fn add_and_del(case: &Case, extra: Value) -> Result<String> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let attachment = case.attachment(&node, &pod, &case.bridge_with(extra));
    let mut said = String::new();
    for command in ["ADD", "DEL"] {
        let output = call(&attachment, command).run()?;
        output.success()?;
        said.push_str(&output.stderr);
    }
    Ok(said)
}

/// Everything below `path` with its content.
fn all_below(path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let content = if kind.is_file() { fs::read(entry.path())? } else { format!("{kind:?}").into() };
        all.push((entry.path().display().to_string(), content));
        if kind.is_dir() {
            all.extend(all_below(&entry.path())?);
        }
    }
    all.sort();
    Ok(all)
}

fn log_files_are_in_one_folder(case: &Case) -> Result<()> {
    let folder = folder(case)?;
    fs::create_dir(folder.join("sub"))?;
    symlink("sub", folder.join("link"))?;
    fs::write(case.dir.join("victim.log"), "")?;
    // Another folder over the machine's own.
    mount(Some("tmpfs"), "/var/log", Some("tmpfs"), MsFlags::MS_NOSUID, None::<&str>).context("/var/log: mount")?;
    let before = all_below(&case.dir)?;
    let inside = folder.display();
    for path in [
        "pods.log".to_owned(),
        "/".to_owned(),
        "/etc/cron.d/x.log".to_owned(),
        "/var/log/pods.log".to_owned(),
        format!("{}/victim.log", case.dir.display()),
        format!("{inside}/../victim.log"),
        format!("{inside}/sub/a.log"),
        format!("{inside}/link/a.log"),
        format!("{inside}/sub/../a.log"),
        format!("{inside}/a"),
        format!("{inside}/a.log\0"),
        format!("{inside}/{}.log", "a".repeat(300)),
        format!("{inside}/.."),
    ] {
        let said = add_and_del(case, json!({ "logLevel": "info", "logFile": path }))?;
        ensure!(said.contains("WARN") && said.contains("log"), "{path:?}: no warning: {said:?}");
        ensure!(without_leases(all_below(&case.dir)?) == before, "{path:?}: something was made or changed");
    }
    ensure!(all_below(Path::new("/var/log"))?.is_empty() && !Path::new("/etc/cron.d/x.log").exists());
    // Without a word of the runtime's it is /var/log.
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let conf = case.bridge_with(json!({ "logFile": "/var/log/pods.log" }));
    let output = case.attachment(&node, &pod, &conf).call("ADD").run()?;
    output.success()?;
    ensure!(output.stderr.is_empty() && lines(Path::new("/var/log/pods.log"))?.len() == 1, "{}", output.stderr);
    let mode = fs::metadata("/var/log/pods.log")?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "mode {mode:o}");
    Ok(())
}

fn without_leases(all: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    all.into_iter().filter(|(path, _)| !path.contains("/leases")).collect()
}

fn log_what_is_no_log_is_left_alone(case: &Case) -> Result<()> {
    let folder = folder(case)?;
    let path = |name: &str| folder.join(name);
    fs::write(path("audit.log"), "{\"kind\":\"Event\"}\n")?;
    fs::write(path("binary.log"), [0; 384])?;
    fs::write(path("secret"), "")?;
    fs::hard_link(path("secret"), path("hard.log"))?;
    symlink(path("secret"), path("soft.log"))?;
    symlink(path("new"), path("dangling.log"))?;
    fs::create_dir(path("folder.log"))?;
    mkfifo(&path("fifo.log"), Mode::S_IRWXU)?;
    let before = all_below(&folder)?;
    for name in ["audit", "binary", "hard", "soft", "dangling", "folder", "fifo"] {
        let said = add_and_del(case, json!({ "logLevel": "debug", "logFile": path(&format!("{name}.log")) }))?;
        ensure!(said.contains("WARN") && said.contains(name), "{name}: no warning: {said:?}");
        ensure!(all_below(&folder)? == before, "{name}: something was made or changed");
    }
    Ok(())
}

fn log_a_full_disk_fails_no_call(case: &Case) -> Result<()> {
    let folder = folder(case)?;
    // A page for each of the two files.
    let options = Some("size=8k,nr_inodes=8");
    mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::MS_NOSUID, options).context("mount a small tmpfs")?;
    fs::write(folder.join("filler"), [0; 4096])?;
    let conf = json!({ "logLevel": "debug", "logFile": file(case) });
    let said = add_and_del(case, conf.clone())?;
    ensure!(said.contains("WARN") && said.contains("pods.log"), "no warning: {said:?}");
    let full = fs::read_to_string(file(case))?;
    ensure!(full.len() == 4096, "the disk was not full: {} bytes", full.len());
    // Not a line for each step that could not be told.
    ensure!(said.lines().count() <= 2, "{said}");
    fs::remove_file(folder.join("filler"))?;
    mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::MS_REMOUNT, Some("size=1m")).context("remount")?;
    let said = add_and_del(case, conf)?;
    ensure!(said.is_empty(), "{said}");
    let text = fs::read_to_string(file(case))?;
    let broken = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).count();
    ensure!(text.starts_with(&full) && broken <= 1, "{broken} lines are no JSON: {text}");
    let ends = text.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(is_end).count();
    ensure!(ends >= 2, "{text}");
    Ok(())
}

fn log_a_file_that_cannot_be_written_fails_no_call(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let conf = case.bridge_with(json!({ "logFile": case.dir.join("nowhere/pods.log") }));
    let attachment = case.attachment(&node, &pod, &conf);
    let output = attachment.call("ADD").env("PODWIRE_LOG_DIR", case.dir.join("nowhere")).run()?;
    output.success()?;
    attachment.del()?;
    ensure!(output.stderr.contains("nowhere") && !case.dir.join("nowhere").exists(), "{}", output.stderr);
    let folder = folder(case)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_RDONLY;
    mount(Some("tmpfs"), &folder, Some("tmpfs"), flags, None::<&str>).context("mount")?;
    let said = add_and_del(case, json!({ "logFile": file(case) }))?;
    ensure!(said.contains("WARN") && said.contains("pods.log"), "{said}");
    Ok(())
}

fn log_the_environment_has_the_last_word(case: &Case) -> Result<()> {
    let (node, pod) = (case.node("n1")?, case.pod("p1")?);
    let folder = folder(case)?;
    let attachment = logged(&case.attachment(&node, &pod, &case.bridge_conf()), "info")?;
    let plain = case.attachment(&node, &pod, &case.bridge_conf());
    let elsewhere = case.dir.join("elsewhere");
    let run = |attachment: &crate::runner::Attachment, log: &str| -> Result<String> {
        let output = call(attachment, "DEL").env("PODWIRE_LOG", log).run()?;
        output.success()?;
        Ok(output.stderr)
    };
    ensure!(run(&attachment, "off")?.is_empty() && folder.read_dir()?.next().is_none());
    ensure!(run(&attachment, "debug")?.is_empty() && lines(&file(case))?.len() > 2);
    let before = fs::read(file(case))?;
    for log in [format!("info:{}", elsewhere.display()), format!(":{}", elsewhere.display())] {
        for attachment in [&attachment, &plain] {
            ensure!(run(attachment, &log)?.is_empty(), "{log}");
            ensure!(lines(&elsewhere)?.len() == 1 && fs::read(file(case))? == before, "{log}");
            fs::remove_file(&elsewhere)?;
        }
    }
    let said = run(&plain, "info")?;
    ensure!(is_end(&serde_json::from_str(&said)?), "{said:?}");
    // Whatever it says is no reason to fail either.
    for odd in ["", "loud", "debug:relative", "debug:/", "::", "debug:/nowhere/at/all"] {
        let said = run(&plain, odd)?;
        ensure!(said.is_empty() == odd.is_empty(), "{odd:?}: {said:?}");
    }
    Ok(())
}

fn log_wrong_words_are_warned_of(case: &Case) -> Result<()> {
    for (extra, words) in [
        (json!({ "logLevel": "debgu", "logFile": file(case) }), ["debgu", "did you mean \"debug\"?"]),
        (json!({ "logLevel": 3 }), ["logLevel", "expected a string"]),
        (json!({ "logFile": ["/var/log/a.log"] }), ["logFile", "expected a string"]),
    ] {
        let said = add_and_del(case, extra.clone())?;
        for word in words {
            ensure!(said.contains(word), "{extra}: not said: {word:?}: {said:?}");
        }
    }
    ensure!(!file(case).exists());
    Ok(())
}
