//! A containerd of the test's own: its configuration, root, state and socket in a directory of the test, its process in
//! mount and process namespaces of its own, its bridges in a node of the lab.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cri::Cri;
use super::image;
use crate::lab::is_real_root;

/// Longest that containerd may take to serve its socket; 0.2 s is usual.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Run by the first process of the new namespaces, which then becomes containerd. Shim sockets, network namespaces and
/// the results that libcni keeps have fixed paths below /run and /var/lib: both are empty and its own here.
const ENTER: &str = r#"
mount -t tmpfs podwire-run /run
mount -t tmpfs podwire-lib /var/lib
exec containerd --config "$1"
"#;

/// Stands before runc. Terminals belong to group 5 in what containerd asks of it, which is not mapped where an ordinary
/// user is root of a user namespace; group 0 always is.
const RUNC: &str = r#"#!/bin/sh
for word; do
  if [ "$last" = --bundle ]; then sed -i 's/,"gid=5"//' "$word/config.json"; fi
  last=$word
done
exec runc "$@"
"#;

/// A running containerd; gone with everything that it started when dropped.
pub(crate) struct Containerd {
    child: Child,
    /// Below each controller; none for an ordinary user, who may make none.
    cgroup: Option<String>,
    directory: PathBuf,
}

impl Containerd {
    /// Starts containerd in the network namespace at `netns`, with the plugins of `plugins` and the one network
    /// configuration list `conflist`, and waits until it serves pods.
    ///
    /// # Errors
    /// If it does not come up within 30 s; the end of its log is part of the message.
    pub(crate) fn start(directory: &Path, netns: &Path, plugins: &Path, conflist: &str) -> Result<(Self, Cri)> {
        let conf_dir = directory.join("net.d");
        std::fs::create_dir_all(&conf_dir)?;
        std::fs::write(conf_dir.join("10-podwire.conflist"), conflist)?;
        std::fs::write(directory.join("config.toml"), configuration(directory, plugins, &conf_dir))?;
        let runc = directory.join("runc");
        std::fs::write(&runc, RUNC)?;
        std::fs::set_permissions(&runc, Permissions::from_mode(0o755))?;
        let image = directory.join("image.tar");
        image::write(&image)?;

        let notify = UnixDatagram::bind(directory.join("notify"))?;
        let child = spawn(directory, netns)?;
        let name = format!("podwire-{:x}", UNIX_EPOCH.elapsed()?.as_nanos());
        let cgroup = is_real_root().then_some(name);
        let mut containerd = Self { child, cgroup, directory: directory.to_owned() };
        let cri = containerd.serve(&notify, &image).map_err(|error| containerd.with_log(error))?;
        Ok((containerd, cri))
    }

    /// Parent of all cgroups of pods, so that none outlives the test.
    pub(crate) fn cgroup_parent(&self) -> String {
        self.cgroup.as_ref().map(|name| format!("/{name}")).unwrap_or_default()
    }

    /// Adds the end of containerd's log to an error.
    pub(crate) fn with_log(&self, error: anyhow::Error) -> anyhow::Error {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().filter(|l| !l.contains("level=info") && !l.contains("level=debug")).collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n");
        error.context(format!("containerd, whose log ends with:\n{tail}"))
    }

    fn serve(&mut self, notify: &UnixDatagram, image: &Path) -> Result<Cri> {
        self.wait_for_socket(notify)?;
        let socket = self.directory.join("containerd.sock");
        let cri = Cri::connect(&socket)?;
        let output = Command::new("ctr")
            .arg("--address")
            .arg(&socket)
            .args(["--namespace", "k8s.io", "image", "import", "--snapshotter", "native"])
            .arg(image)
            .stdin(Stdio::null())
            .output()
            .context("\"ctr\": not started (install the package containerd)")?;
        ensure!(output.status.success(), "ctr image import: {}", String::from_utf8_lossy(&output.stderr).trim());
        wait_for_pods_served(&cri)?;
        Ok(cri)
    }

    /// containerd tells a service manager that it is ready; here the suite is that manager.
    fn wait_for_socket(&mut self, notify: &UnixDatagram) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        notify.set_read_timeout(Some(Duration::from_millis(200)))?;
        let mut message = [0; 4096];
        loop {
            match notify.recv(&mut message) {
                Ok(length) if message[..length].starts_with(b"READY=1") => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("notification socket: not readable"),
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("ended before it was ready: {status}");
            }
            ensure!(Instant::now() < deadline, "not ready after {} s", START_TIMEOUT.as_secs());
        }
    }

    fn log(&self) -> PathBuf {
        self.directory.join("containerd.log")
    }

    /// Ends containerd, its shims and all containers, and waits until the last of them is gone.
    fn stop(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            // The kernel ends a process namespace with its first process and lets that go last; `unshare` waits for it.
            let first = first_child(self.child.id()).unwrap_or(self.child.id());
            kill(Pid::from_raw(first.cast_signed()), Signal::SIGKILL)?;
        }
        self.child.wait()?;
        self.cgroup.as_deref().map_or(Ok(()), remove_cgroups)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("containerd of a test: not ended cleanly: {error:#}");
        }
    }
}

fn spawn(directory: &Path, netns: &Path) -> Result<Child> {
    let log = File::create(directory.join("containerd.log"))?;
    Command::new("setpriv")
        // Even if the suite is killed, nothing of this is left.
        .args(["--pdeathsig", "KILL", "nsenter"])
        .arg(format!("--net={}", netns.display()))
        .args(["unshare", "--mount", "--propagation", "slave", "--pid", "--mount-proc", "--fork", "--kill-child=KILL"])
        .args(["sh", "-ec", ENTER, "sh"])
        .arg(directory.join("config.toml"))
        .env("NOTIFY_SOCKET", directory.join("notify"))
        // containerd writes and mounts below it while it unpacks images.
        .env("TMPDIR", directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("\"setpriv\": not started (install the package util-linux)")
}

fn configuration(directory: &Path, plugins: &Path, conf_dir: &Path) -> String {
    let directory = directory.display();
    format!(
        r#"version = 2
root = "{directory}/root"
state = "{directory}/state"
[grpc]
  address = "{directory}/containerd.sock"
[ttrpc]
  address = "{directory}/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  disable_apparmor = true
  disable_cgroup = {rootless}
  # Root without CAP_SYS_RESOURCE, as in many containers, may not lower the score.
  restrict_oom_score_adj = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    # Overlay file systems do not stack everywhere; one small layer is soon copied.
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{directory}/runc"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{conf_dir}"
"#,
        rootless = !is_real_root(),
        image = image::NAME,
        plugins = plugins.display(),
        conf_dir = conf_dir.display(),
    )
}

/// The CRI service comes up after the socket and learns of an imported image a moment after the import. It sends no
/// event for either, so it is asked again until the deadline.
fn wait_for_pods_served(cri: &Cri) -> Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let missing = match cri.not_ready() {
            Ok(conditions) if !conditions.is_empty() => conditions.join("; "),
            Ok(_) if cri.has_image(image::NAME)? => return Ok(()),
            Ok(_) => format!("image \"{}\": not listed", image::NAME),
            Err(error) => format!("{error:#}"),
        };
        ensure!(Instant::now() < deadline, "pods are not served: {missing}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// First child of a process, if it has any.
fn first_child(parent: u32) -> Option<u32> {
    let mut children = String::new();
    File::open(format!("/proc/{parent}/task/{parent}/children")).ok()?.read_to_string(&mut children).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Removes the cgroup `name` below every controller (version 1) and in the one tree (version 2).
fn remove_cgroups(name: &str) -> Result<()> {
    let mount = Path::new("/sys/fs/cgroup");
    let controllers = std::fs::read_dir(mount).into_iter().flatten().flatten().map(|entry| entry.path());
    for tree in controllers.chain([mount.to_owned()]) {
        remove_cgroup(&tree.join(name))?;
    }
    Ok(())
}

/// Removes a cgroup and those below it, if it is there; its files go with it. The kernel lets go of the last process of
/// one a moment after that has been waited for, and tells nobody when; until then the cgroup is busy.
fn remove_cgroup(cgroup: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(cgroup) else { return Ok(()) };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_cgroup(&entry.path())?;
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match std::fs::remove_dir(cgroup) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            done => return done.with_context(|| format!("cgroup \"{}\": not removed", cgroup.display())),
        }
    }
}
