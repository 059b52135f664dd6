//! Leases of an earlier boot, as after a crash: no DEL came, and the pods are gone.
//!
//! Another boot or machine is other files in the place of the two that tell them, in the mounts of the test's own.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use serde_json::json;

use super::{addresses, attachment, mount_leases, subnet, with_valid};
use crate::runner::{Case, Test, merged};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(leases_of_an_earlier_boot_are_reclaimed_from_a_full_range, "boot id, same machine id").ours(),
    test!(leases_of_this_boot_are_never_reclaimed, "the old ones go, the new one stays").ours(),
    test!(leases_of_an_earlier_boot_go_at_gc, "those that are not valid").ours(),
    test!(a_container_that_a_boot_ended_may_come_back, "ADD under its old id, without a DEL between").ours(),
    test!(leases_of_another_machine_are_left_alone, "by ADD and by GC").ours(),
    test!(leases_on_a_file_system_that_others_may_have_mounted_are_left_alone, "its type is not known as local").ours(),
    test!(the_references_leases_are_of_the_boot_in_which_they_were_first_seen, "whatever the time of the file").ours(),
];

/// The machine, as far as it tells boots apart.
struct Machine<'a>(&'a Case);

impl<'a> Machine<'a> {
    /// With an `/etc` that has its id and nothing else: nobody here needs more, and a container may have none.
    fn new(case: &'a Case) -> Result<Self> {
        mount(Some("tmpfs"), "/etc", Some("tmpfs"), MsFlags::MS_NOSUID, None::<&str>).context("/etc: mount")?;
        be_machine("0123456789abcdef0123456789abcdef")?;
        let machine = Self(case);
        machine.boots("b0071111-0000-4000-8000-000000000001")?;
        Ok(machine)
    }

    fn boots(&self, id: &str) -> Result<()> {
        let file = self.0.dir.join(id);
        fs::write(&file, format!("{id}\n"))?;
        let path = "/proc/sys/kernel/random/boot_id";
        mount(Some(&file), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("{path}: bind"))?;
        ensure!(fs::read_to_string(path)?.trim() == id, "the boot id is still the old one");
        Ok(())
    }
}

/// From now on it is the machine of that id.
fn be_machine(id: &str) -> Result<()> {
    fs::write("/etc/machine-id", format!("{id}\n")).context("/etc/machine-id")
}

const SECOND: &str = "b0071111-0000-4000-8000-000000000002";

/// Five attachments, which is all that the range has.
fn fill(case: &Case) -> Result<serde_json::Value> {
    let conf = merged(&subnet(case, "10.7.0.0/29"), json!({ "cniVersion": "1.1.0" }));
    for n in 0..5 {
        attachment(case, &format!("c{n}"), &conf)?.add()?;
    }
    attachment(case, "late", &conf)?.call("ADD").fail(100)?;
    Ok(conf)
}

fn leases_of_an_earlier_boot_are_reclaimed_from_a_full_range(case: &Case) -> Result<()> {
    let machine = Machine::new(case)?;
    let conf = fill(case)?;
    let status = attachment(case, "x", &conf)?.call("STATUS");
    status.fail(50)?;
    machine.boots(SECOND)?;
    status.succeed()?;
    ensure!(case.lease_names("net")?.len() == 5, "STATUS changed something");
    ensure!(addresses(&attachment(case, "n0", &conf)?.add()?) == ["10.7.0.2/29"]);
    ensure!(case.lease_names("net")? == ["10.7.0.2"], "left: {:?}", case.lease_names("net")?);
    for n in 1..5 {
        attachment(case, &format!("n{n}"), &conf)?.add()?;
    }
    attachment(case, "late", &conf)?.call("ADD").fail(100)?;
    // The runtime comes to its DEL of old pods late: nothing of the new ones may go.
    attachment(case, "c0", &conf)?.del()?;
    ensure!(case.lease_names("net")?.len() == 5, "a DEL of an old pod took a new one's");
    Ok(())
}

fn leases_of_this_boot_are_never_reclaimed(case: &Case) -> Result<()> {
    let machine = Machine::new(case)?;
    let conf = subnet(case, "10.7.0.0/29");
    for n in 0..4 {
        attachment(case, &format!("old{n}"), &conf)?.add()?;
    }
    machine.boots(SECOND)?;
    attachment(case, "new", &conf)?.add()?;
    attachment(case, "late", &conf)?.add()?;
    let left: Vec<_> = case.lease_names("net")?;
    let owners: Vec<_> =
        left.iter().map(|ip| fs::read_to_string(case.leases_of("net").join(ip))).collect::<Result<_, _>>()?;
    ensure!(owners.iter().any(|owner| owner.starts_with("new\r\n")), "{owners:?}");
    ensure!(left.len() == 2, "{left:?}");
    Ok(())
}

fn leases_of_an_earlier_boot_go_at_gc(case: &Case) -> Result<()> {
    let machine = Machine::new(case)?;
    let conf = fill(case)?;
    machine.boots(SECOND)?;
    let valid = with_valid(&conf, ["c1".to_owned()].into_iter());
    attachment(case, "x", &valid)?.call("GC").succeed()?;
    ensure!(case.lease_names("net")? == ["10.7.0.3"], "{:?}", case.lease_names("net")?);
    Ok(())
}

fn a_container_that_a_boot_ended_may_come_back(case: &Case) -> Result<()> {
    let machine = Machine::new(case)?;
    let conf = subnet(case, "10.7.0.0/24");
    let attachment = attachment(case, "c1", &conf)?;
    attachment.add()?;
    case.unchanged(&[], || attachment.call("ADD").fail(105))?;
    machine.boots(SECOND)?;
    ensure!(addresses(&attachment.add()?) == ["10.7.0.3/24"]);
    ensure!(case.lease_names("net")? == ["10.7.0.3"], "{:?}", case.lease_names("net")?);
    case.unchanged(&[], || attachment.call("ADD").fail(105)).map(drop)
}

fn leases_of_another_machine_are_left_alone(case: &Case) -> Result<()> {
    let machine = Machine::new(case)?;
    let conf = fill(case)?;
    be_machine("fedcba9876543210fedcba9876543210")?;
    machine.boots(SECOND)?;
    case.unchanged(&[], || attachment(case, "late", &conf)?.call("ADD").fail(100))?;
    attachment(case, "x", &conf)?.call("STATUS").fail(50)?;
    let gc = attachment(case, "x", &with_valid(&conf, std::iter::empty()))?.call("GC");
    let output = case.unchanged(&[], || gc.run())?;
    output.success()?;
    ensure!(output.stderr.contains("another machine"), "not said: {:?}", output.stderr);
    Ok(())
}

fn leases_on_a_file_system_that_others_may_have_mounted_are_left_alone(case: &Case) -> Result<()> {
    // As good as any that is not in the list: no test can count on a file server.
    mount_leases(case, "ramfs", "mode=755")?;
    let machine = Machine::new(case)?;
    let conf = fill(case)?;
    machine.boots(SECOND)?;
    case.unchanged(&[], || attachment(case, "late", &conf)?.call("ADD").fail(100)).map(drop)
}

fn the_references_leases_are_of_the_boot_in_which_they_were_first_seen(case: &Case) -> Result<()> {
    let machine = Machine::new(case)?;
    super::write_leases(case, "theirs", 5)?;
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(1_000_000);
    for ip in case.lease_names("net")? {
        fs::File::open(case.leases_of("net").join(ip))?.set_modified(long_ago)?;
    }
    let conf = subnet(case, "10.7.0.0/29");
    case.unchanged(&[], || attachment(case, "c1", &conf)?.call("ADD").fail(100))?;
    machine.boots(SECOND)?;
    attachment(case, "c1", &conf)?.add().map(drop)
}
