//! Go's `net/rpc` over a connection that began as HTTP.
//!
//! The client says `CONNECT /_goRPC_ HTTP/1.0` and an empty line, the server
//! `HTTP/1.0 200 Connected to Go RPC` and an empty line; from there on both send gob: a request is a `Request` (the
//! method's name and a number) and the argument, an answer a `Response` (both again, and an error's text) and the result,
//! or an empty struct where there is an error. (Go: `net/rpc/server.go`, `net/rpc/client.go`.)

pub(crate) mod client;
pub(crate) mod server;

use crate::gob::{Error, Result};

/// The path of Go's `rpc.DefaultRPCPath`.
const PATH: &str = "/_goRPC_";
/// What Go's client wants to see.
const CONNECTED: &str = "200 Connected to Go RPC";
/// The longest head, status line and all, that is read.
const MAX_HEAD: usize = 4096;

/// The head that `bytes` begin with, and where it ends; `None` until it is complete.
fn head(bytes: &[u8]) -> Result<Option<(&str, usize)>> {
    let mut line = 0;
    for (at, _) in bytes.iter().enumerate().take(MAX_HEAD).filter(|(_, byte)| **byte == b'\n') {
        if matches!(&bytes[line..at], b"" | b"\r") && line > 0 {
            let first = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
            let first = str::from_utf8(first).map_err(|_| Error::new("a head that is not UTF-8"))?;
            return Ok(Some((first.trim_end(), at + 1)));
        }
        line = at + 1;
    }
    if bytes.len() >= MAX_HEAD { Err(Error::new("a head without end")) } else { Ok(None) }
}

#[cfg(test)]
mod tests;
