//! Address plugins as delegates: section "Plugin Delegation" of the specification.
//!
//! A delegate of this very build is not started: its library is linked in and does the same. Seen from outside there
//! is no difference: the same files, the same errors, the same result.

use std::{
    borrow::Cow,
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    pin::pin,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use futures_util::future::{Either, pending, select};
use podwire_ipam::{HostLocal, Ipam, Request, Static};
use podwire_net::{Errno, runtime};
use podwire_spec::{AddResult, Command, Env, NetConf, code, did_you_mean};
use podwire_trace::Step;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Child,
    time::timeout,
};

use crate::{
    Context, Error, Result,
    run::{MAX_STDIN, warn_of_unknown},
    waits::Waits,
};

/// For how long the end of a delegate's output is waited for once it has ended itself.
const LINGER: Duration = Duration::from_secs(1);

/// A delegate, found.
#[derive(Clone, Debug)]
pub(crate) enum Delegate {
    /// `host-local` of this build.
    HostLocal,
    /// `static` of this build.
    Static,
    /// A program of another build.
    Program(PathBuf),
    /// It was not found, for this reason; only DEL and GC go on without it.
    Missing {
        /// Its `type`.
        kind: String,
        why: Box<Error>,
    },
}

impl Delegate {
    /// Looks the delegate up in `CNI_PATH`.
    ///
    /// # Errors
    /// Code 4 without `CNI_PATH`, code 7 where no folder of it has the program.
    pub(crate) fn find(kind: &str, path: &[PathBuf]) -> Result<Self> {
        if path.is_empty() {
            return Err(Error::environment("CNI_PATH: missing")
                .with_details(format!("it names the folders where the delegate {kind:?} is looked up"))
                .into());
        }
        let mut found = None;
        for program in path.iter().map(|folder| folder.join(kind)) {
            if is_file(&program)? {
                found = Some(program);
                break;
            }
        }
        let program = found.ok_or_else(|| Error::invalid("ipam.type", missing(kind, path)))?;
        Ok(match kind {
            "host-local" if podwire_net::is_of_this_build(&program) => Self::HostLocal,
            "static" if podwire_net::is_of_this_build(&program) => Self::Static,
            _ => Self::Program(program),
        })
    }

    /// Whether it is a program of its own, which may need the pod's link to release what it gave (DHCP does).
    pub(crate) fn is_foreign(&self) -> bool {
        matches!(self, Self::Program(_))
    }

    /// Its `type`.
    fn name(&self) -> Cow<'_, str> {
        match self {
            Self::HostLocal => HostLocal::NAME.into(),
            Self::Static => Static::NAME.into(),
            Self::Program(program) => program.file_name().unwrap_or_default().to_string_lossy(),
            Self::Missing { kind, .. } => kind.into(),
        }
    }

    /// Asks the delegate to do what `command` says; only ADD has a result.
    async fn ask<C>(&self, command: Command, cx: &Context<C>) -> Result<AddResult> {
        let step = Step::begin();
        let outcome = self.answer(command, cx).await;
        if let Some(step) = step {
            let failure = outcome.as_ref().err().map(|error| format!("{:#}", error.root_cause()));
            step.end(command.as_str(), &format!("delegate {:?}", self.name()), failure.as_deref());
        }
        outcome
    }

    async fn answer<C>(&self, command: Command, cx: &Context<C>) -> Result<AddResult> {
        match self {
            Self::HostLocal => in_process::<HostLocal, C>(command, cx).context("delegate \"host-local\""),
            Self::Static => in_process::<Static, C>(command, cx).context("delegate \"static\""),
            Self::Program(program) => {
                start(program, command, &cx.conf.text).await.with_context(|| format!("delegate {:?}", self.name()))
            }
            Self::Missing { why, .. } => Err((**why).clone().into()),
        }
    }
}

/// Whether there is such a file. What cannot be seen at all is not there, as for a shell.
fn is_file(path: &Path) -> Result<bool> {
    use io::ErrorKind::{InvalidInput, NotADirectory, NotFound, PermissionDenied};
    match path.metadata() {
        Ok(meta) => Ok(meta.is_file()),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory | InvalidInput) => Ok(false),
        Err(error) if error.kind() == PermissionDenied && error.raw_os_error() == Some(Errno::EACCES as i32) => {
            Ok(false)
        }
        Err(error) => {
            Err(podwire_net::Error::io(format!("delegate \"{}\"", path.display()), "look for", &error).into())
        }
    }
}

fn missing(kind: &str, path: &[PathBuf]) -> String {
    let files = path.iter().filter_map(|folder| folder.read_dir().ok()).flatten().flatten();
    let names: Vec<_> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let near = did_you_mean(kind, names.iter().map(String::as_str));
    let folders: Vec<_> = path.iter().map(|folder| folder.display().to_string()).collect();
    format!("no plugin {kind:?} in CNI_PATH {:?}{near}", folders.join(":"))
}

impl<C> Context<C> {
    /// Asks the delegate for addresses; without one there is no result. Whatever happens later in the call, it is asked to release them again.
    ///
    /// # Errors
    /// The delegate's own.
    pub(crate) async fn delegate_add(&mut self) -> Result<Option<AddResult>> {
        let Some(delegate) = self.delegate.clone() else { return Ok(None) };
        // A program that failed half-way is asked to clean up. One of ours does all or nothing; asked to release after
        // it refused a second ADD of an attachment, it would release what the first one had got.
        let foreign = delegate.is_foreign();
        if foreign {
            self.undo_delegate();
        }
        let result = delegate.ask(Command::Add, self).await?;
        if !foreign {
            self.undo_delegate();
        }
        Ok(Some(result))
    }

    fn undo_delegate(&mut self) {
        self.undo_by("ask the delegate to release", async |cx| cx.delegate_del().await);
    }

    /// Asks the delegate to release what it gave.
    pub(crate) async fn delegate_del(&self) -> Result<()> {
        self.delegate_to(Command::Del).await
    }

    /// Has the delegate collect. A program goes by the list alone, so where somebody is being added it is not asked.
    pub(crate) async fn delegate_gc(&self) -> Result<()> {
        let foreign =
            self.delegate.as_ref().filter(|delegate| delegate.is_foreign() && !self.waits.in_flight().is_empty());
        if let Some(Delegate::Program(program)) = foreign {
            let what =
                format!("delegate {:?}: not asked for GC, an ADD of its network is in flight", program.display());
            return Err(Error::new(code::TRY_AGAIN, what)
                .with_details("the runtime has to keep GC apart from ADD; repeat the call")
                .into());
        }
        self.delegate_to(Command::Gc).await
    }

    /// Passes a command on to the delegate, where there is one.
    pub(crate) async fn delegate_to(&self, command: Command) -> Result<()> {
        match &self.delegate {
            Some(delegate) => delegate.ask(command, self).await.map(drop),
            None => Ok(()),
        }
    }
}

/// Does what the delegate's program would do, without starting it.
fn in_process<P: Ipam, C>(command: Command, cx: &Context<C>) -> Result<AddResult> {
    let conf = cx.conf.for_ipam::<P::Config>()?;
    warn_of_unknown(&conf);
    ask::<P>(command, &cx.env, &conf, &cx.waits)
}

/// Calls the library of an address plugin.
pub(crate) fn ask<P: Ipam>(command: Command, env: &Env, conf: &NetConf<P::Config>, waits: &Waits) -> Result<AddResult> {
    let request = Request { env, conf, runner: waits };
    match command {
        Command::Add => return P::add(&request),
        Command::Del => P::del(&request)?,
        Command::Check => P::check(&request)?,
        Command::Gc => P::gc(&request)?,
        Command::Status => P::status(&request)?,
        Command::Version => {}
    }
    Ok(AddResult::default())
}

/// Starts the delegate's program with our environment, but for the command, and the configuration as it came.
async fn start(program: &Path, command: Command, text: &str) -> Result<AddResult> {
    runtime::started().await;
    let mut child = tokio::process::Command::new(program)
        .env("CNI_COMMAND", command.as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {:?}", program.display()))?;
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // A delegate that does not read to the end says why by its exit code.
            let _ = stdin.write_all(text.as_bytes()).await;
        }
        pending::<Infallible>().await
    };
    let (said, status) = match select(pin!(answer(&mut child)), pin!(write)).await {
        Either::Left((answer, _)) => answer.with_context(|| format!("wait for {:?}", program.display()))?,
        Either::Right((never, _)) => match never {},
    };
    if said.len() as u64 > MAX_STDIN {
        return Err(Error::new(code::DELEGATE, format!("its answer is longer than {MAX_STDIN} bytes")).into());
    }
    let said = String::from_utf8_lossy(&said);
    if !status.success() {
        return Err(anyhow!(failure(&said, status)));
    }
    if command != Command::Add {
        return Ok(AddResult::default());
    }
    let value = serde_json::from_str(&said)
        .map_err(|error| Error::new(code::DECODE, format!("its result is not JSON: {error}")))?;
    Ok(AddResult::from_json(&value, podwire_spec::Version::default())?)
}

/// What a delegate prints until it ends, and how it does. One that prints too much is ended.
async fn answer(child: &mut Child) -> io::Result<(Vec<u8>, ExitStatus)> {
    let mut said = Vec::new();
    let stdout = child.stdout.take();
    let read = async {
        match stdout {
            Some(stdout) => stdout.take(MAX_STDIN + 1).read_to_end(&mut said).await,
            None => Ok(0),
        }
    };
    let ended = match select(pin!(read), pin!(child.wait())).await {
        Either::Left((read, _)) => read.map(|_| None)?,
        Either::Right((status, read)) => {
            // What it had printed is there. Its end may not be, where a program that it left behind has its stdout.
            if let Ok(read) = timeout(LINGER, read).await {
                read?;
            }
            Some(status?)
        }
    };
    let status = if let Some(status) = ended {
        status
    } else {
        if said.len() as u64 > MAX_STDIN {
            child.start_kill()?;
        }
        child.wait().await?
    };
    Ok((said, status))
}

/// The error object that a delegate printed, or what can be said without one.
fn failure(said: &str, status: ExitStatus) -> Error {
    #[derive(Deserialize)]
    struct Wire {
        code: u32,
        #[serde(default)]
        msg: String,
        #[serde(default)]
        details: String,
    }
    match serde_json::from_str(said) {
        Ok(Wire { code, msg, details }) => Error { code, msg, details },
        Err(_) => Error::new(code::DELEGATE, format!("failed without an error object: {status}"))
            .with_details(said.chars().take(1000).collect::<String>()),
    }
}
