//! `dhcp daemon`: gets leases for pods and keeps them.
//!
//! One thread does everything. An attachment is a task that sleeps until its lease has to be renewed; it holds a timer, a
//! handle of the pod's namespace and some kilobytes. Of what it knows nothing is in memory alone: a daemon that is
//! killed is started again and goes on.

mod attachment;
mod book;
mod family;
mod flags;
mod link;
mod listen;
mod registry;
mod watch;

use std::{ffi::OsString, fs, io, pin::pin, process::ExitCode, rc::Rc, time::Duration};

use anyhow::{Context as _, Result};
use futures_util::future::{Either, select};
use podwire_dhcp::Timeouts;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::LocalSet,
};

use crate::rpc::server;
use book::Book;
use flags::{Asked, Flags, HELP};
use listen::{Socket, notify};
use registry::{Registry, Settings};
use watch::Watch;

pub(crate) use {book::record, registry::rehearse};

/// How often to look for pods that are gone without the kernel having told.
const LOOK: Duration = Duration::from_secs(30);

/// How long an earlier daemon may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the daemon until it is told to end; `arguments` are those behind `daemon`.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let flags = match flags::parse(arguments) {
        Ok(Asked::Run(flags)) => flags,
        Ok(Asked::Help) => {
            eprint!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("dhcp daemon: {why}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_target(false)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| LocalSet::new().block_on(&runtime, run(flags)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> Result<()> {
    allow_many_files();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // The folder is locked, so that of two daemons that start at once only one goes on.
    let book = Book::open(&flags.state, PATIENCE)?;
    let socket = Socket::open(&flags.socket)?;
    let _pidfile = flags.pidfile.clone().map(Pidfile::write).transpose()?;
    let registry = Rc::new(Registry::new(settings(&flags), book, Watch::new()));
    registry.resume()?;
    notify("READY=1");
    tracing::info!("listening at \"{}\", leases in \"{}\"", socket.name(), flags.state.display());
    let work = pin!(futures_util::future::join(accept(&socket, &registry), watch(&registry)));
    let (terminated, interrupted) = (pin!(terminate.recv()), pin!(interrupt.recv()));
    match select(select(terminated, interrupted), work).await {
        Either::Left(_) => tracing::info!("told to end; leases are kept for the next daemon"),
        Either::Right((never, _)) => match never {},
    }
    notify("STOPPING=1");
    Ok(())
}

fn settings(flags: &Flags) -> Settings {
    Settings {
        host_prefix: flags.host_prefix.clone(),
        broadcast: flags.broadcast,
        timeouts: Timeouts {
            longest: flags.resend_max,
            request: flags.timeout,
            total: flags.resend_timeout,
            ..Timeouts::default()
        },
    }
}

/// Serves whoever connects.
async fn accept(socket: &Socket, registry: &Rc<Registry>) -> std::convert::Infallible {
    loop {
        match socket.accept().await {
            Ok(stream) => {
                let registry = Rc::clone(registry);
                tokio::task::spawn_local(async move {
                    let answer = async |method, args| registry.answer(method, args).await;
                    if let Err(error) = server::serve(stream, answer).await {
                        tracing::warn!("a connection was closed: {error}");
                    }
                });
            }
            Err(error) => {
                // Without descriptors: some come free when a call ends.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Looks for pods that are gone.
async fn watch(registry: &Registry) -> std::convert::Infallible {
    loop {
        match tokio::time::timeout(LOOK, registry.watch().next()).await {
            Ok(Some(names)) => registry.look(Some(&names)).await,
            Ok(None) | Err(_) => registry.look(None).await,
        }
    }
}

/// Each attachment has a file open, and the limit that a process starts with is often 1024.
fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(errno) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!("no more than {:?} files can be open: {errno}", limit.current);
    }
}

/// The file with the process's number; removed in the end.
struct Pidfile(std::path::PathBuf);

impl Pidfile {
    fn write(path: std::path::PathBuf) -> Result<Self> {
        fs::write(&path, std::process::id().to_string()).with_context(|| format!("pidfile \"{}\"", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!("pidfile \"{}\": cannot be removed: {error}", self.0.display());
        }
    }
}
