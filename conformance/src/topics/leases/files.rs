//! Folders and files that are not as they should be: an error that says so, and nothing is changed.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use serde_json::json;

use super::{addresses, attachment, conf, mount_leases, subnet};
use crate::runner::{Case, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(files_that_are_no_leases_are_reported_and_not_free, "empty, torn, foreign, unreadable").ours(),
    test!(a_full_disk_changes_nothing, "no space: ADD fails with ENOSPC, DEL works").ours(),
    test!(a_disk_without_inodes_changes_nothing, "the same of files").ours(),
    test!(a_read_only_file_system_changes_nothing, "EROFS from ADD, DEL and STATUS").ours(),
    test!(a_folder_that_cannot_be_made_is_named, "a file in its place, or above it").ours(),
    test!(a_symbolic_link_in_the_place_of_a_folder_is_not_followed, "nor one in the place of a lease").ours(),
    test!(a_missing_folder_is_made_by_add_alone, "DEL and CHECK do without"),
    test!(a_missing_folder_is_not_made_by_gc_or_status, "and both succeed without").ours(),
];

fn files_that_are_no_leases_are_reported_and_not_free(case: &Case) -> Result<()> {
    let conf = merged(&subnet(case, "10.7.0.0/29"), json!({ "cniVersion": "1.1.0" }));
    let leases = case.leases_of("net");
    fs::create_dir_all(leases.join("10.7.0.5"))?;
    for (name, content) in
        [("10.7.0.2", &b""[..]), ("10.7.0.3", b"gone\r"), ("10.7.0.4", b"\xff\xfe\0"), ("notes", b"c1\r\neth0")]
    {
        fs::write(leases.join(name), content)?;
    }
    let add = attachment(case, "c1", &conf)?.call("ADD").run()?;
    ensure!(addresses(&add.success()?) == ["10.7.0.6/29"], "not the only one that is free: {}", add.stdout);
    // What is left of "gone" looks like a lease of the reference's old kind, which DEL and GC of that container remove.
    for name in ["10.7.0.2", "10.7.0.4", "10.7.0.5", "notes"] {
        ensure!(add.stderr.contains(&format!("net/{name}\"")), "{name:?} was not reported: {}", add.stderr);
    }
    attachment(case, "c2", &conf)?.call("ADD").fail(100)?.says(&["5 are leased"])?;
    attachment(case, "c1", &conf)?.del()?;
    ensure!(leases.join("10.7.0.3").exists() && leases.join("notes").exists(), "what is not known was removed");
    Ok(())
}

/// Has the disk full by `fill`, with a lease there from before.
fn on_a_full_disk(case: &Case, options: &str, fill: impl FnOnce() -> Result<()>) -> Result<()> {
    mount_leases(case, "tmpfs", options)?;
    // An address of each family: whichever lease cannot be written, the other must not be left.
    let ranges = json!({ "ranges": [[{ "subnet": "10.7.0.0/24" }], [{ "subnet": "fd07::/64" }]] });
    let conf = conf(case, ranges);
    let first = attachment(case, "c1", &conf)?;
    let result = first.add()?;
    fill()?;
    let failure = case.unchanged(&[], || attachment(case, "c2", &conf)?.call("ADD").fail(5))?;
    failure.says(&["ENOSPC", "leases", "free space or inodes"])?;
    case.unchanged(&[], || first.check(&result))?;
    first.del()?;
    ensure!(case.lease_names("net")?.is_empty(), "DEL left {:?}", case.lease_names("net")?);
    Ok(())
}

fn a_full_disk_changes_nothing(case: &Case) -> Result<()> {
    on_a_full_disk(case, "size=64k", || {
        let filled = fs::write(case.leases().join(".filler"), vec![0; 1 << 20]);
        ensure!(filled.is_err(), "the disk is not full");
        Ok(())
    })
}

fn a_disk_without_inodes_changes_nothing(case: &Case) -> Result<()> {
    on_a_full_disk(case, "size=1m,nr_inodes=24", || {
        for n in 0.. {
            if fs::File::create(case.leases().join(format!(".filler{n}"))).is_err() {
                return Ok(());
            }
            ensure!(n < 100, "the disk is not full");
        }
        Ok(())
    })
}

fn a_read_only_file_system_changes_nothing(case: &Case) -> Result<()> {
    mount_leases(case, "tmpfs", "size=1m")?;
    let conf = merged(&subnet(case, "10.7.0.0/24"), json!({ "cniVersion": "1.1.0" }));
    let first = attachment(case, "c1", &conf)?;
    let result = first.add()?;
    let nothing = None::<&str>;
    mount(nothing, &case.leases(), nothing, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, nothing).context("remount")?;
    case.unchanged(&[], || attachment(case, "c2", &conf)?.call("ADD").fail(5))?.says(&["EROFS", "leases"])?;
    case.unchanged(&[], || first.call("DEL").fail(5))?.says(&["EROFS", "10.7.0.2"])?;
    first.call("STATUS").fail(50)?.says(&["EROFS"])?;
    first.check(&result)
}

fn a_folder_that_cannot_be_made_is_named(case: &Case) -> Result<()> {
    fs::create_dir_all(case.leases())?;
    fs::write(case.leases().join("file"), "")?;
    fs::write(case.leases_of("net"), "")?;
    for (directory, named) in [(case.leases(), "leases/net"), (case.leases().join("file/below"), "file/below")] {
        let mut conf = subnet(case, "10.7.0.0/24");
        conf["ipam"]["dataDir"] = json!(directory);
        case.unchanged(&[], || attachment(case, "c1", &conf)?.call("ADD").fail(5))?.says(&["ENOTDIR", named])?;
    }
    ensure!(fs::read(case.leases_of("net"))?.is_empty(), "the file was changed");
    Ok(())
}

fn a_symbolic_link_in_the_place_of_a_folder_is_not_followed(case: &Case) -> Result<()> {
    let elsewhere = case.dir.join("elsewhere");
    fs::create_dir_all(&elsewhere)?;
    fs::create_dir_all(case.leases())?;
    symlink(&elsewhere, case.leases_of("net"))?;
    let conf = subnet(case, "10.7.0.0/24");
    attachment(case, "c1", &conf)?.call("ADD").fail(5)?.says(&["leases/net"])?;
    ensure!(fs::read_dir(&elsewhere)?.next().is_none(), "it was followed");

    fs::remove_file(case.leases_of("net"))?;
    fs::create_dir(case.leases_of("net"))?;
    fs::write(elsewhere.join("lease"), "c1\r\neth0")?;
    symlink(elsewhere.join("lease"), case.leases_of("net").join("10.7.0.2"))?;
    symlink(elsewhere.join("pointer"), case.leases_of("net").join("last_reserved_ip.0"))?;
    let c1 = attachment(case, "c1", &conf)?;
    ensure!(addresses(&c1.add()?) == ["10.7.0.3/24"], "the link was taken for a lease, or for free");
    c1.del()?;
    ensure!(elsewhere.join("lease").exists() && !elsewhere.join("pointer").exists(), "a link was followed");
    Ok(())
}

fn a_missing_folder_is_made_by_add_alone(case: &Case) -> Result<()> {
    let conf = merged(&subnet(case, "10.7.0.0/24"), json!({ "cniVersion": "1.0.0" }));
    let attachment = attachment(case, "c1", &conf)?;
    attachment.del()?;
    ensure!(!case.leases_of("net").exists(), "DEL made the folder");
    attachment.check_call(&json!({ "cniVersion": "1.0.0", "ips": [{ "address": "10.7.0.2/24" }] })).fail_somehow()?;
    ensure!(!case.leases_of("net").exists(), "CHECK made the folder");
    attachment.add()?;
    ensure!(case.lease_names("net")? == ["10.7.0.2"]);
    Ok(())
}

fn a_missing_folder_is_not_made_by_gc_or_status(case: &Case) -> Result<()> {
    let conf = merged(&subnet(case, "10.7.0.0/24"), json!({ "cniVersion": "1.1.0", "cni.dev/valid-attachments": [] }));
    let attachment = attachment(case, "c1", &conf)?;
    for command in ["STATUS", "GC"] {
        attachment.call(command).succeed()?;
        ensure!(!case.leases_of("net").exists(), "{command} made the folder");
    }
    Ok(())
}
