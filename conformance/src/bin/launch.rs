//! `podwire-launch PROGRAM [ARGUMENT]...`: runs a program as a container runtime would, and says what it took.
//!
//! Its own process is small, and that is the point. Linux starts the count of a process's peak memory with what the
//! parent's was when it was started, so that the children of a large program all seem large; and starting one is
//! quicker from a small program, as from a runtime's shim.
//!
//! It waits for all that the program leaves behind (`PR_SET_CHILD_SUBREAPER`). A plugin may end while a process of its
//! own goes on with what nobody needs to wait for: that is no part of the time that the caller waited, and is part of
//! the processor time that the call took.
//!
//! The first line on standard output is a JSON object (`took_us`: until the program had ended and its output was read;
//! `settled_us`: until nothing of it was left; `cpu_us`: processor time of all of it; `peak_kb`: resident memory of the
//! largest process of it), the rest what the program printed. Standard input and error are the program's own. The exit
//! status is the program's.

use std::io::{self, Error, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::wait;

fn main() -> ExitCode {
    match launch() {
        Ok(code) => code,
        Err(e) => {
            eprintln!("podwire-launch: {e}");
            ExitCode::from(127)
        }
    }
}

fn launch() -> io::Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().ok_or_else(|| Error::other("no program"))?;
    let mut command = Command::new(program);
    command.args(words).stdout(Stdio::piped());
    set_child_subreaper(true)?;
    let mut printed = Vec::with_capacity(8192);

    let start = Instant::now();
    let mut child = command.spawn()?;
    // A runtime reads until nobody can write any more, and then asks how it ended.
    child.stdout.take().ok_or_else(|| Error::other("stdout is piped"))?.read_to_end(&mut printed)?;
    let status = child.wait()?;
    let took = start.elapsed();
    while wait() != Err(Errno::ECHILD) {}
    let settled = start.elapsed();

    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = (usage.user_time() + usage.system_time()).num_microseconds();
    let mut stdout = io::stdout().lock();
    writeln!(
        stdout,
        r#"{{"took_us":{},"settled_us":{},"cpu_us":{cpu},"peak_kb":{}}}"#,
        took.as_micros(),
        settled.as_micros(),
        usage.max_rss()
    )?;
    stdout.write_all(&printed)?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(126)))
}
