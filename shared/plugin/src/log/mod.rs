//! What a call does, for people: warnings on stderr; and, where the configuration asks for it, a log of JSON lines with
//! every step, its duration and its outcome.
//!
//! Everything that is worth a word is an event of `tracing`, and [`subscriber`] is the one who listens. A call without a
//! log listens to warnings only, and then a step costs a comparison ([`podwire_trace`]).
//!
//! A line is one write(2) to a file that is opened for appending, so that lines of any number of calls stay whole, and
//! a call that is killed leaves every step that it had done: to gather the lines for one write at the end would be some
//! 0.1 ms quicker, and silent of the very calls that a log is read for. A file is opened by its name once a call, so it
//! can be renamed at any time. No call fails because of its log.

mod context;
mod file;
mod line;
mod settings;
mod subscriber;

use std::{
    fs::File,
    io::{self, Write},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use podwire_spec::{Env, Error};
use podwire_trace::microseconds;
use serde_json::Value;
use tracing::{Level, level_filters::LevelFilter};

use self::{
    context::Context,
    line::Line,
    settings::{Place, Settings},
};

/// The log of this call, where it has one.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    level: LevelFilter,
    sink: Sink,
    context: Context,
    /// When the call began.
    since: Instant,
    steps: AtomicU64,
    /// Nothing more is written.
    is_broken: AtomicBool,
}

enum Sink {
    Stderr,
    File { name: String, file: File },
}

/// Listens to warnings from now on.
pub(crate) fn init() {
    // In a test several calls share a process.
    let _ = tracing::subscriber::set_global_default(subscriber::Subscriber);
}

/// Opens the log that the environment or the configuration `text` asks for; mostly there is none.
pub(crate) fn start(plugin: &'static str, env: &Env, text: &str, since: Instant) {
    let ordered = std::env::var_os(settings::VARIABLE);
    // A glance, since the configuration has yet to be parsed.
    if ordered.is_none() && !text.contains("\"log") {
        return;
    }
    let conf: Value = serde_json::from_str(text).unwrap_or_default();
    let Some(settings) = Settings::read(ordered.as_deref(), &conf, |name| std::env::var_os(name)) else { return };
    let Some(log) = Log::open(settings, Context::of(plugin, env, &conf), since) else { return };
    if LOG.set(log).is_ok() {
        // What was asked before whether anybody listens to it asks again.
        tracing::callsite::rebuild_interest_cache();
        begun(env, &conf, text);
    }
}

/// Tells how the call ended, with the result that it printed.
pub(crate) fn finish(outcome: Result<Option<&str>, &Error>) {
    let Some(log) = LOG.get() else { return };
    let level = if outcome.is_ok() { Level::INFO } else { Level::ERROR };
    log.tell(level, |line| {
        line.text("operation", log.context.command.as_str());
        line.text("object", &log.context.object);
        line.number("durationUs", microseconds(log.since.elapsed()));
        // Without a listener to steps none is counted.
        if log.level >= Level::DEBUG {
            line.number("steps", log.steps.load(Ordering::Relaxed));
        }
        match outcome {
            Ok(result) => {
                let result: Value = serde_json::from_str(result.unwrap_or_default()).unwrap_or_default();
                let ips = result["ips"].as_array().into_iter().flatten();
                let ips: Vec<_> = ips.filter_map(|ip| ip["address"].as_str()).collect();
                if !ips.is_empty() {
                    line.text("ips", &ips.join(","));
                }
                line.text("result", "ok");
            }
            Err(error) => {
                line.number("code", error.code.into());
                line.text("result", &error.to_string());
            }
        }
    });
}

/// The first line: what was asked for. The configuration as a whole may hold what is nobody's business, so that it is
/// told at the last level only.
fn begun(env: &Env, conf: &Value, text: &str) {
    let Some(log) = LOG.get() else { return };
    log.tell(Level::DEBUG, |line| {
        line.text("operation", "read");
        line.text("object", "call");
        line.number("durationUs", microseconds(log.since.elapsed()));
        line.text("netns", &env.netns);
        for (key, value) in [("cniVersion", &conf["cniVersion"]), ("ipam", &conf["ipam"]["type"])] {
            line.text(key, value.as_str().unwrap_or_default());
        }
        if log.level >= Level::TRACE {
            line.text("stdin", text);
        }
        line.text("result", "ok");
    });
}

impl Log {
    fn open(settings: Settings, context: Context, since: Instant) -> Option<Self> {
        let sink = match settings.place {
            Place::Stderr => Sink::Stderr,
            Place::File { folder, name } => match file::open(&folder, &name) {
                Ok(file) => Sink::File { name: folder.join(name).display().to_string(), file },
                Err(why) => {
                    tracing::warn!("log \"{}\": {why}; this call has none", folder.join(name).display());
                    return None;
                }
            },
        };
        let (steps, is_broken) = (AtomicU64::new(0), AtomicBool::new(false));
        Some(Self { level: settings.level, sink, context, since, steps, is_broken })
    }

    /// Writes one line, where the level is wanted: what every line has, and what `add` adds to it.
    fn tell(&self, level: Level, add: impl FnOnce(&mut Line)) {
        if level > self.level || self.is_broken.load(Ordering::Relaxed) {
            return;
        }
        let mut line = self.context.line(level);
        add(&mut line);
        let line = line.end();
        let written = match &self.sink {
            Sink::Stderr => io::stderr().write(line.as_bytes()),
            Sink::File { file, .. } => (&*file).write(line.as_bytes()),
        };
        let why = match written {
            Ok(length) if length == line.len() => return,
            Ok(_) => "written in part only".to_owned(),
            Err(error) => error.to_string(),
        };
        // A full disk, mostly. To try again with every line would cost time, and leave gaps that nobody sees.
        self.is_broken.store(true, Ordering::Relaxed);
        if let Sink::File { name, .. } = &self.sink {
            tracing::warn!("log {name:?}: {why}; this call goes on without");
        }
    }
}
