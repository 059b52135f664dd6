//! A call of a plugin, as a container runtime makes it, and what came back.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::intercept::{self, Fate, Moment};
use crate::lab::Space;
use crate::sys;

/// The last calls of this process, for the report of a failed test.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The last few calls, oldest first, each with what the plugin said.
pub fn last_calls() -> Vec<String> {
    let log = LOG.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    log[log.len().saturating_sub(3)..].to_vec()
}

/// A call to be made. Cloned and changed for the next.
#[derive(Clone, Debug)]
pub struct Call {
    node: Space,
    binary: PathBuf,
    env: BTreeMap<OsString, OsString>,
    stdin: Vec<u8>,
    wrapper: Vec<OsString>,
}

impl Call {
    /// A call of `binary` on `node`; nothing is in its environment but `CNI_COMMAND` and `CNI_PATH`.
    pub fn new(node: &Space, binary: &Path, cni_path: &OsStr, command: &str) -> Self {
        let call = Self {
            node: node.clone(),
            binary: binary.to_owned(),
            env: BTreeMap::new(),
            stdin: Vec::new(),
            wrapper: Vec::new(),
        };
        call.env("CNI_COMMAND", command).env("CNI_PATH", cni_path)
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.into(), value.as_ref().into());
        self
    }

    /// Takes a variable away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.env.remove(OsStr::new(name));
        self
    }

    /// Sets `CNI_COMMAND`.
    #[must_use]
    pub fn command(self, command: &str) -> Self {
        self.env("CNI_COMMAND", command)
    }

    /// Sets `CNI_ARGS`.
    #[must_use]
    pub fn args(self, args: &str) -> Self {
        self.env("CNI_ARGS", args)
    }

    /// Sets stdin to a configuration.
    #[must_use]
    pub fn conf(self, conf: &Value) -> Self {
        self.stdin(conf.to_string())
    }

    /// Sets stdin to any bytes.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Starts the plugin under another program, `strace` for one.
    #[must_use]
    pub fn under(mut self, wrapper: &[&OsStr]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Starts the plugin with all three pipes open, for a test that wants to do the rest itself.
    pub fn spawn(&self) -> Result<Child> {
        self.spawn_after(|_| ())
    }

    /// The same after `prepare` has seen to the command.
    fn spawn_after(&self, prepare: impl FnOnce(&mut Command)) -> Result<Child> {
        let mut words = self.wrapper.iter().map(OsString::as_os_str).chain([self.binary.as_os_str()]);
        let program = words.next().ok_or_else(|| anyhow!("no program"))?;
        let mut command = Command::new(program);
        command
            .args(words)
            .env_clear()
            // A container runtime's own PATH is there too; the reference looks for iptables in it.
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(&self.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        prepare(&mut command);
        let child = self.node.ns.run(|| command.spawn())?;
        child.with_context(|| format!("plugin {:?}: start", self.binary))
    }

    /// Makes the call and waits for its end.
    pub fn run(&self) -> Result<Output> {
        self.follow(Instant::now(), self.spawn()?, |_| Ok(()))
    }

    /// Makes the call; `beside` works meanwhile, and may look after the program that was started.
    pub(crate) fn run_beside(&self, beside: impl FnOnce(&mut Child) -> Result<()>) -> Result<Output> {
        self.follow(Instant::now(), self.spawn()?, beside)
    }

    /// Makes the call; `fate` decides about each of its system calls, and about those of what it starts.
    pub(crate) fn run_under(&self, fate: impl FnMut(&Moment) -> Fate) -> Result<Output> {
        let start = Instant::now();
        ensure!(self.binary.is_file(), "plugin {:?}: not there", self.binary);
        let child = self.spawn_after(intercept::prepare)?;
        self.follow(start, child, |child| intercept::decide(child, fate))
    }

    /// Waits for the end of the call, and meanwhile does `beside`.
    fn follow(
        &self,
        start: Instant,
        mut child: Child,
        beside: impl FnOnce(&mut Child) -> Result<()>,
    ) -> Result<Output> {
        let mut stdin = child.stdin.take().context("stdin is piped")?;
        let output = std::thread::scope(|scope| {
            // A plugin that does not read all of its stdin closes the pipe; what it then says is the test's matter.
            scope.spawn(move || stdin.write_all(&self.stdin).ok());
            // What it prints fits into the pipes, so that nothing is kept from ending.
            beside(&mut child)?;
            anyhow::Ok(child.wait_with_output()?)
        })?;
        let output = Output {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: start.elapsed(),
        };
        self.log(&output);
        Ok(output)
    }

    /// Makes the call and expects success: the result, `Null` where there is nothing on stdout.
    pub fn succeed(&self) -> Result<Value> {
        self.run()?.success().with_context(|| self.title())
    }

    /// Makes the call and expects a CNI error with that code.
    pub fn fail(&self, code: u64) -> Result<Failure> {
        self.run()?.failure(code).with_context(|| self.title())
    }

    /// Makes the call and expects a CNI error with whatever code.
    pub fn fail_somehow(&self) -> Result<Failure> {
        self.run()?.any_failure().with_context(|| self.title())
    }

    /// The node that it is made on.
    pub(crate) fn node(&self) -> &Space {
        &self.node
    }

    /// Whether `CNI_COMMAND` is this.
    pub(crate) fn is(&self, command: &str) -> bool {
        self.env.get(OsStr::new("CNI_COMMAND")).is_some_and(|value| value == command)
    }

    fn title(&self) -> String {
        let word = |name: &str| self.env.get(OsStr::new(name)).map(|value| value.to_string_lossy().into_owned());
        format!(
            "{} {} {}",
            self.binary.file_name().unwrap_or_default().to_string_lossy(),
            word("CNI_COMMAND").unwrap_or_else(|| "(no command)".into()),
            word("CNI_CONTAINERID").unwrap_or_default(),
        )
    }

    fn log(&self, output: &Output) {
        let mut stdin = String::from_utf8_lossy(&self.stdin).into_owned();
        shorten(&mut stdin);
        let mut stderr = output.stderr.clone();
        shorten(&mut stderr);
        let mut log = LOG.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        log.push(format!(
            "{} on {:?}: {} in {:?}\n  env {:?}\n  stdin {stdin}\n  stdout {}\n  stderr {stderr}",
            self.title(),
            self.node.name,
            output.status,
            output.took,
            self.env,
            output.stdout.trim(),
        ));
    }
}

fn shorten(text: &mut String) {
    const ENOUGH: usize = 2000;
    if text.len() > ENOUGH {
        let cut = (0..=ENOUGH).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(cut);
        text.push_str(" ...");
    }
}

/// What a plugin left when it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit status.
    pub status: ExitStatus,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
    /// From before the start to after the end.
    pub took: Duration,
}

/// A CNI error.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its code.
    pub code: u64,
    /// The short message.
    pub msg: String,
    /// The long one.
    pub details: String,
    /// The version it claims.
    pub version: String,
    /// All of stderr.
    pub stderr: String,
}

impl Output {
    /// Checks what P10 says of success: exit status 0, and on stdout one JSON value or nothing.
    pub fn success(&self) -> Result<Value> {
        ensure!(
            self.status.success(),
            "{}, expected success; it said {} {}",
            self.ending(),
            self.stdout.trim(),
            self.stderr.trim()
        );
        if self.stdout.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&self.stdout).with_context(|| format!("stdout is not one JSON value: {:?}", self.stdout))
    }

    /// Checks what P10 says of failure: exit status not 0, and on stdout one JSON error, with that code.
    pub fn failure(&self, code: u64) -> Result<Failure> {
        let failure = self.any_failure()?;
        ensure!(
            failure.code == code,
            "code {}, expected {code}: {:?} {:?}",
            failure.code,
            failure.msg,
            failure.details
        );
        Ok(failure)
    }

    /// The same with any code.
    pub fn any_failure(&self) -> Result<Failure> {
        ensure!(
            self.status.code().is_some_and(|code| code != 0),
            "{}, expected an error; it said {}",
            self.ending(),
            self.stdout.trim()
        );
        let error: Value = serde_json::from_str(&self.stdout)
            .with_context(|| format!("stdout is not one JSON error: {:?}, stderr {:?}", self.stdout, self.stderr))?;
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        let failure = Failure {
            code: error["code"].as_u64().ok_or_else(|| anyhow!("an error without a code: {error}"))?,
            msg: text("msg"),
            details: text("details"),
            version: text("cniVersion"),
            stderr: self.stderr.clone(),
        };
        ensure!(!failure.msg.is_empty(), "an error without a message: {error}");
        Ok(failure)
    }

    fn ending(&self) -> String {
        match self.status.signal() {
            Some(signal) => format!("killed by signal {signal}"),
            None => format!("exit status {}", self.status.code().unwrap_or_default()),
        }
    }
}

impl Failure {
    /// Checks that every word is in the message or the details.
    pub fn says(&self, words: &[&str]) -> Result<&Self> {
        let all = format!("{} {}", self.msg, self.details);
        for word in words {
            if !all.contains(word) {
                bail!("the error does not say {word:?}: {:?} {:?}", self.msg, self.details);
            }
        }
        Ok(self)
    }
}

/// Starts any other program inside `node` and gives its standard output; an error with its standard error if it fails.
pub fn tool(node: &Space, program: &str, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    sys::die_with_parent(&mut command).args(args);
    let output = node.ns.run(|| command.output())?.with_context(|| format!("{program}: start"))?;
    ensure!(
        output.status.success(),
        "{program} {args:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
