//! From `main` to the exit code: environment, stdin, command, result. The only place that writes to stdout.

use std::{
    io::{self, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    rc::Rc,
    time::Instant,
};

use podwire_ipam::Ipam;
use podwire_net::{Netns, Termination, runtime::Lazy};
use podwire_spec::{AddResult, Command, Env, NetConf, Version, version_of};
use serde::de::DeserializeOwned;

use crate::{
    Context, Error, Result, code, delegate, log,
    output::to_wire,
    waits::{Waits, ended},
};

/// The longest configuration that is read, and the longest answer of a delegate. The kernel's own limit for an argument
/// list is a quarter of it.
pub(crate) const MAX_STDIN: u64 = 8 << 20;

/// A plugin, as the runner calls it. Interface plugins implement [`crate::Attach`] instead, which is smaller.
#[expect(async_fn_in_trait, reason = "called only by the runner, on one thread")]
pub trait Plugin: Sized {
    /// The `type`.
    const NAME: &'static str;
    /// The plugin's own options.
    type Config: DeserializeOwned;

    /// Refuses what contradicts itself, before anything is looked at or changed.
    ///
    /// # Errors
    /// Code 7.
    fn validate(_env: &Env, _conf: &NetConf<Self::Config>) -> Result<()> {
        Ok(())
    }

    /// ADD. On an error the undo log is replayed by the runner.
    async fn add(cx: &mut Context<Self::Config>) -> Result<AddResult>;
    /// DEL: everything is attempted.
    async fn del(cx: &mut Context<Self::Config>) -> Result<()>;
    /// CHECK.
    async fn check(cx: &mut Context<Self::Config>) -> Result<()>;
    /// GC: everything is attempted.
    async fn gc(cx: &mut Context<Self::Config>) -> Result<()>;
    /// STATUS.
    async fn status(cx: &mut Context<Self::Config>) -> Result<()>;
}

/// Runs a plugin for one call.
pub fn run<P: Plugin>() -> ExitCode {
    answer(P::NAME, |env, text| {
        let conf = NetConf::<P::Config>::parse(text).map_err(|error| Failure(error, version_of(text)))?;
        let version = conf.version;
        let outcome = accept(&env, &conf)
            .and_then(|()| P::validate(&env, &conf))
            .and_then(|()| serve::<P>(&Lazy::default(), env, conf));
        outcome.map_err(|error| Failure(to_wire(&error), version))
    })
}

/// Runs an address plugin for one call.
pub fn run_ipam<P: Ipam>() -> ExitCode {
    answer(P::NAME, |env, text| {
        let conf = NetConf::<P::Config>::parse_ipam(text).map_err(|error| Failure(error, version_of(text)))?;
        let version = conf.version;
        let outcome = accept(&env, &conf).and_then(|()| {
            let mut waits = Waits::default();
            let own = (env.command == Command::Gc).then(Netns::of_process).transpose()?;
            if let Some(own) = &own {
                waits.halt(own, &conf.name)?;
            }
            let result = delegate::ask::<P>(env.command, &env, &conf, &waits)?;
            let told = tell(env.command, &result, version);
            if told.is_err() && env.command == Command::Add {
                // Nobody would know whose the addresses are.
                delegate::ask::<P>(Command::Del, &env, &conf, &waits)?;
            }
            told
        });
        outcome.map_err(|error| Failure(to_wire(&error), version))
    })
}

/// An error and the version to tell it in; before a configuration is read, the latest.
struct Failure(Error, Version);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error, Version::LATEST)
    }
}

/// Reads the parameters, lets `work` do the rest, which prints a result, and prints an error.
fn answer(name: &'static str, work: impl FnOnce(Env, &str) -> Result<Option<String>, Failure>) -> ExitCode {
    let since = Instant::now();
    log::init();
    // The hook's report on stderr stays; here it becomes the error that the runtime gets to see.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let env = Env::read(|name| std::env::var_os(name))?;
        if env.command == Command::Version {
            return shown(versions()).map_err(|error| to_wire(&error).into());
        }
        let text = read_stdin()?;
        log::start(name, &env, &text, since);
        work(env, &text)
    }))
    .unwrap_or_else(|_| Err(bug().into()));
    log::finish(outcome.as_ref().map(Option::as_deref).map_err(|Failure(error, _)| error));
    match outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(Failure(error, version)) => {
            // Without a reader there is nobody left to tell.
            let _ = print(error.to_json(version));
            ExitCode::FAILURE
        }
    }
}

/// Prints the result of an ADD; the other commands have none.
fn tell(command: Command, result: &AddResult, version: Version) -> Result<Option<String>> {
    if command == Command::Add { shown(result.to_json(version)) } else { Ok(None) }
}

fn shown(result: String) -> Result<Option<String>> {
    let result = print(result).map_err(|error| podwire_net::Error::io("stdout", "write the result", &error))?;
    Ok(Some(result))
}

/// Prints `text` as a line, and returns that.
fn print(mut text: String) -> std::io::Result<String> {
    // Whole, so that there is one write that can fail.
    text.push('\n');
    std::io::stdout().write_all(text.as_bytes()).map(|()| text)
}

pub(crate) fn bug() -> Error {
    Error::new(code::BUG, "the plugin panicked, which is a bug in it; what an ADD had done was undone")
        .with_details("what happened is on stderr")
}

fn versions() -> String {
    serde_json::json!({
        "cniVersion": Version::LATEST.as_str(),
        "supportedVersions": Version::ALL.map(Version::as_str),
    })
    .to_string()
}

fn read_stdin() -> Result<String, Error> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .take(MAX_STDIN + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::new(code::IO, podwire_net::Error::io("stdin", "read", &error).to_string()))?;
    if bytes.len() as u64 > MAX_STDIN {
        return Err(Error::new(code::DECODE, format!("stdin is longer than {MAX_STDIN} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| Error::new(code::DECODE, format!("stdin is not UTF-8: {error}")))
}

/// Whether the configuration's version knows the command; and a word about keys that nobody knows.
pub(crate) fn accept<C>(env: &Env, conf: &NetConf<C>) -> Result<()> {
    let since = match env.command {
        Command::Check => Version::V0_4_0,
        Command::Gc | Command::Status => Version::V1_1_0,
        _ => Version::V0_1_0,
    };
    if conf.version < since {
        let command = env.command.as_str();
        return Err(Error::new(code::VERSION, format!("{command} needs cniVersion {since}, this is {}", conf.version))
            .with_details(format!("set \"cniVersion\" of network {:?} to {since} or later", conf.name))
            .into());
    }
    warn_of_unknown(conf);
    Ok(())
}

pub(crate) fn warn_of_unknown<C>(conf: &NetConf<C>) {
    for odd in conf.oddities() {
        tracing::warn!("network {:?}: {odd}", conf.name);
    }
}

/// Does the command and prints the result of an ADD; after one that failed, or whose result could not be printed, takes
/// back what it had done.
fn serve<P: Plugin>(runtime: &Lazy, env: Env, conf: NetConf<P::Config>) -> Result<Option<String>> {
    let (command, version) = (env.command, conf.version);
    let termination = Rc::new(Termination::catch()?);
    let mut cx = Context::open(env, conf, Rc::clone(&termination))
        .map_err(|error| if command == Command::Status { not_available(&error) } else { error })?;
    // The context outlives the work, so that a panic or a signal leaves its undo log behind.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        match runtime.run_until(termination.recv(), dispatch::<P>(command, &mut cx)) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(terminated)) => Err(terminated.map_or_else(Into::into, |()| ended().into())),
            Err(error) => Err(no_runtime(&error)),
        }
    }))
    .unwrap_or_else(|_| Err(bug().into()));
    match outcome.and_then(|result| tell(command, &result, version)) {
        Ok(told) => {
            // The process is about to end, and the kernel closes everything at once.
            std::mem::forget(cx);
            Ok(told)
        }
        Err(error) => {
            if let Err(undo) = cx.roll_back(runtime) {
                tracing::error!("after a failure: {undo:#}");
                return Err(error.context(format!("{undo:#}")).context("the call failed, and so did its undoing"));
            }
            Err(error)
        }
    }
}

pub(crate) fn no_runtime(error: &io::Error) -> anyhow::Error {
    podwire_net::Error::io("runtime", "start", error).into()
}

async fn dispatch<P: Plugin>(command: Command, cx: &mut Context<P::Config>) -> Result<AddResult> {
    match command {
        Command::Add => {
            cx.take_off().await?;
            return P::add(cx).await;
        }
        Command::Del => P::del(cx).await?,
        Command::Check => P::check(cx).await?,
        Command::Gc => {
            cx.waits.halt(cx.host.ns(), &cx.conf.name)?;
            P::gc(cx).await?;
        }
        Command::Status => P::status(cx).await.map_err(|error| not_available(&error))?,
        Command::Version => {}
    }
    Ok(AddResult::default())
}

/// STATUS answers with 50 or 51 only.
fn not_available(error: &anyhow::Error) -> anyhow::Error {
    let mut wire = to_wire(error);
    if wire.code != code::NOT_AVAILABLE_LIMITED {
        wire.code = code::NOT_AVAILABLE;
    }
    wire.into()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    struct Panics;

    #[derive(Deserialize)]
    struct Config {}

    impl Plugin for Panics {
        const NAME: &str = "panics";
        type Config = Config;

        async fn add(_: &mut Context<Config>) -> Result<AddResult> {
            Ok(AddResult::default())
        }
        async fn del(cx: &mut Context<Config>) -> Result<()> {
            // There is no pod, so taking this back fails, and that is how the test sees that it was tried.
            cx.undo_pod_link(7);
            cx.undo_by::<()>("what panics too", async |_| panic!("as the test wants it"));
            panic!("as the test wants it")
        }
        async fn check(_: &mut Context<Config>) -> Result<()> {
            Ok(())
        }
        async fn gc(_: &mut Context<Config>) -> Result<()> {
            Ok(())
        }
        async fn status(_: &mut Context<Config>) -> Result<()> {
            Err(Error::new(code::KERNEL, "no such device").into())
        }
    }

    fn serve_panics(command: Command) -> Error {
        let variables = [("CNI_COMMAND", "GC")];
        let get = |name: &str| variables.iter().find(|one| one.0 == name).map(|one| one.1.into());
        let env = Env { command, ..Env::read(get).unwrap() };
        let conf = NetConf::parse(r#"{"cniVersion": "1.1.0", "name": "n", "type": "panics"}"#).unwrap();
        to_wire(&serve::<Panics>(&Lazy::default(), env, conf).unwrap_err())
    }

    #[test]
    fn p10_a_panic_is_an_error_object_and_is_rolled_back() {
        // It is the same for every command; an ADD would take a lock of this machine's.
        let error = serve_panics(Command::Del);
        assert_eq!(error.code, code::BUG, "{error}");
        assert!(
            error.details.contains("undo: delete the pod's link 7") && error.details.contains("panicked"),
            "one undo that panics keeps no other from being tried: {error}"
        );
    }

    #[test]
    fn p25_status_answers_50_whatever_is_the_matter() {
        let error = serve_panics(Command::Status);
        assert_eq!((error.code, error.msg.as_str()), (code::NOT_AVAILABLE, "no such device"));
    }
}
