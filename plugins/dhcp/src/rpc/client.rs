//! The plugin's end: one connection, one call. It blocks, since the plugin has nothing else to do.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use podwire_net::Errno;

use super::{CONNECTED, PATH, head};
use crate::{
    gob::{self, Incoming, Outgoing, Value},
    messages::{CMD_ARGS, CmdArgs, Method, REQUEST, schema},
};

/// Why a call has no result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The daemon answered with an error.
    Answer(String),
    /// The daemon knows no such method.
    NoMethod,
    /// There was no answer, or one that cannot be read.
    Broken(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::Broken("no answer in time".to_owned()),
            io::ErrorKind::UnexpectedEof => Self::Broken("the connection was closed without an answer".to_owned()),
            _ => Self::Broken(format!("ask: {}", named(&error))),
        }
    }
}

/// An I/O error with its errno by name.
pub(crate) fn named(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(errno) => format!("{errno:?} ({})", errno.desc()),
        None => error.to_string(),
    }
}

impl From<gob::Error> for Failure {
    fn from(error: gob::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    incoming: Incoming,
}

impl Client {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// Where nobody listens there, or somebody who is not the user that this process is.
    pub(crate) fn connect(path: &Path) -> io::Result<Self> {
        let stream = uninterrupted(|| UnixStream::connect(path))?;
        let peer = rustix::net::sockopt::socket_peercred(&stream)?.uid;
        if peer != rustix::process::geteuid() {
            let why = format!("listened on by user {}, who is not the one that runs this plugin", peer.as_raw());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(Self { stream, incoming: Incoming::new() })
    }

    /// Calls a method, and waits for its answer no longer than `patience`.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(crate) fn call(mut self, method: Method, args: &CmdArgs, patience: Duration) -> Result<Value, Failure> {
        self.stream.set_read_timeout(Some(patience))?;
        self.stream.set_write_timeout(Some(patience))?;
        self.shake_hands()?;
        let mut outgoing = Outgoing::new(schema());
        let request = Value::of([("ServiceMethod", Value::String(method.name().to_owned()))]);
        let mut bytes = outgoing.encode(REQUEST, &request)?;
        bytes.extend(outgoing.encode(CMD_ARGS, &args.to_value())?);
        self.stream.write_all(&bytes)?;
        let response = self.value()?;
        let answer = self.value()?;
        match response.text("Error")?.as_str() {
            "" => Ok(answer),
            why if why.starts_with("rpc: can't find ") => Err(Failure::NoMethod),
            why => Err(Failure::Answer(why.to_owned())),
        }
    }

    fn shake_hands(&mut self) -> Result<(), Failure> {
        write!(self.stream, "CONNECT {PATH} HTTP/1.0\n\n")?;
        let mut said = Vec::new();
        loop {
            said.extend(self.read()?);
            if let Some((status, end)) = head(&said)? {
                if status.split_once(' ').is_none_or(|(_, status)| status != CONNECTED) {
                    return Err(Failure::Broken(format!("answered {status:?}, which no DHCP daemon does")));
                }
                self.incoming.push(&said[end..]);
                return Ok(());
            }
        }
    }

    fn value(&mut self) -> Result<Value, Failure> {
        loop {
            if let Some(value) = self.incoming.next()? {
                return Ok(value);
            }
            let bytes = self.read()?;
            self.incoming.push(&bytes);
        }
    }

    /// What comes next; never nothing.
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut buffer = [0; 4096];
        match uninterrupted(|| self.stream.read(&mut buffer))? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => Ok(buffer[..length].to_vec()),
        }
    }
}

/// Repeats what a signal interrupts: on a Unix socket nothing was done then.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
