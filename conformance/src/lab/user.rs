//! Being root in a lab of one's own.

use std::fs;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// Makes an ordinary user root of new user, mount and network namespaces; root stays what it is.
///
/// To be called while the process has one thread only, or the kernel refuses.
pub fn become_root() -> Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context(
        "this user may not make user namespaces (unshare); run as root, or allow them: \
         sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns",
    )?;
    // The kernel wants setgroups gone before an ordinary user may map groups.
    fs::write("/proc/self/setgroups", "deny").context("/proc/self/setgroups: write")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("/proc/self/uid_map: write")?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("/proc/self/gid_map: write")
}

/// Whether root here is root of the machine, not only of a user namespace.
pub fn is_real_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}
