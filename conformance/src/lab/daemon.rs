//! The daemon of the address plugin `dhcp`, started as systemd starts it: its socket is there before it is and stays when
//! it goes; or by itself, with a socket that it makes.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::Space;
use super::service::{Service, quiet};

/// A running daemon, killed when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    node: Space,
    program: PathBuf,
    args: Vec<String>,
    directory: PathBuf,
    /// The socket, where it is not the daemon's own.
    listener: Option<UnixListener>,
    service: Service,
}

impl Daemon {
    /// Starts `CNI_PATH/dhcp daemon` on `node` with more `args`. `directory` is for its socket and its leases, and is made.
    pub fn start(cni_path: &Path, node: &Space, directory: &Path, args: &[&str]) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("{directory:?}: make"))?;
        let socket = directory.join("dhcp.sock");
        let listener = UnixListener::bind(&socket).with_context(|| format!("{socket:?}: bind"))?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600))?;
        let program = cni_path.join("dhcp");
        let mut args: Vec<String> = args.iter().copied().map(str::to_owned).collect();
        if keeps_leases(&program)? {
            args.push(format!("-statedir={}", directory.join("leases").display()));
        }
        let service = launch(node, &program, &args, Some(&listener))?;
        Ok(Self {
            node: node.clone(),
            program,
            args,
            directory: directory.to_owned(),
            listener: Some(listener),
            service,
        })
    }

    /// Starts one that makes its socket and the directory of it by itself, and waits until it says that it is ready
    /// (`sd_notify(3)`). The directory `notify` is made for that, and for its leases.
    pub fn start_alone(cni_path: &Path, node: &Space, directory: &Path, notify: &Path) -> Result<Self> {
        fs::create_dir_all(notify).with_context(|| format!("{notify:?}: make"))?;
        let ready = notify.join("ready");
        let socket = UnixDatagram::bind(&ready).with_context(|| format!("{ready:?}: bind"))?;
        let program = cni_path.join("dhcp");
        let args = vec![
            format!("-socketpath={}", directory.join("dhcp.sock").display()),
            format!("-statedir={}", notify.join("leases").display()),
        ];
        let mut command = quiet(&program);
        command.arg("daemon").args(&args).env("NOTIFY_SOCKET", &ready);
        let service = Service::start("the daemon", node, command)?;
        socket.set_read_timeout(Some(Duration::from_secs(15)))?;
        let mut said = [0; 256];
        let length = socket.recv(&mut said).context("the daemon: to say that it is ready")?;
        let said = String::from_utf8_lossy(&said[..length]).into_owned();
        ensure!(said.lines().any(|line| line == "READY=1"), "the daemon: says {said:?}, expected READY=1");
        Ok(Self { node: node.clone(), program, args, directory: directory.to_owned(), listener: None, service })
    }

    /// What plugins are told as `daemonSocketPath`.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("dhcp.sock")
    }

    /// Where the leases are kept, one file each.
    pub fn leases(&self) -> PathBuf {
        self.directory.join("leases")
    }

    /// What it says.
    pub fn log(&self) -> &Service {
        &self.service
    }

    /// Ends it with `signal` and starts it again; the socket is open all the while.
    pub fn restart(self, signal: Signal) -> Result<Self> {
        self.absent(signal, |_| Ok(()))
    }

    /// Ends it with `signal`, does `work` with how it ended, and starts it again.
    pub fn absent(self, signal: Signal, work: impl FnOnce(ExitStatus) -> Result<()>) -> Result<Self> {
        let Self { node, program, args, directory, listener, service } = self;
        work(service.end(signal)?)?;
        let service = launch(&node, &program, &args, listener.as_ref())?;
        Ok(Self { node, program, args, directory, listener, service })
    }

    /// Kills it and starts it again, after `prepare` has seen to the command.
    pub(crate) fn restart_after(self, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let Self { node, program, args, directory, listener, service } = self;
        service.end(Signal::SIGKILL)?;
        let service = launch_after(&node, &program, &args, listener.as_ref(), prepare)?;
        Ok(Self { node, program, args, directory, listener, service })
    }

    /// Ends it with `signal`, and nothing listens any more.
    pub fn end(self, signal: Signal) -> Result<ExitStatus> {
        let Self { listener, service, .. } = self;
        drop(listener);
        service.end(signal)
    }
}

/// Whether it keeps leases on disk, by what its help says; the reference does not.
fn keeps_leases(program: &Path) -> Result<bool> {
    let help = Command::new(program).args(["daemon", "-help"]).output();
    let help = help.with_context(|| format!("{program:?}: start"))?;
    Ok([help.stdout, help.stderr].iter().any(|text| String::from_utf8_lossy(text).contains("statedir")))
}

/// Starts it with the socket as descriptor 3, told of it as systemd does (`sd_listen_fds(3)`). `LISTEN_PID` has to be the
/// number of the process itself, which the shell knows before it becomes the daemon.
fn launch(node: &Space, program: &Path, args: &[String], listener: Option<&UnixListener>) -> Result<Service> {
    launch_after(node, program, args, listener, |_| ())
}

fn launch_after(
    node: &Space,
    program: &Path,
    args: &[String],
    listener: Option<&UnixListener>,
    prepare: impl FnOnce(&mut Command),
) -> Result<Service> {
    const BECOME: &str = r#"export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" daemon "$@" 3<&0 </dev/null"#;
    let listener = listener.context("a daemon with a socket of its own is not started again")?;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", BECOME]).arg(program).args(args).stdin(OwnedFd::from(listener.try_clone()?));
    prepare(&mut command);
    Service::start("the daemon", node, command)
}
