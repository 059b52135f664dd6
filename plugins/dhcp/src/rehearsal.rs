//! What comes over the daemon's socket, either way, and from its files, for programs that try much input in little time,
//! such as fuzzers. Nobody is asked for a lease.

use std::{cell::Cell, io};

use podwire_spec::{AddResult, Env, NetConf, Result};
use tokio::net::UnixStream;

use crate::{
    config::{DhcpConfig, client_id},
    daemon,
    gob::{Incoming, Outgoing},
    messages::{RESULT, from_error, from_result, schema, to_error, to_result},
    rpc::server,
};

/// What the plugin makes of its options before it calls the daemon.
///
/// # Errors
/// Code 7.
pub fn options(env: &Env, conf: &NetConf<DhcpConfig>, cni_args: &str) -> Result<()> {
    let id = client_id(&env.container_id, &conf.name, &env.ifname);
    conf.plugin.socket()?;
    conf.plugin.wanted(id, cni_args).map(drop)
}

/// Serves a connection as the daemon does, up to where a lease would be asked for; how many calls were understood.
///
/// # Errors
/// Where the peer speaks something else.
pub async fn serve(stream: UnixStream) -> io::Result<usize> {
    let understood = Cell::new(0);
    let answer = async |method, args| {
        daemon::rehearse(method, &args)?;
        understood.set(understood.get() + 1);
        Ok(None)
    };
    server::serve(stream, answer).await.map(|()| understood.get())
}

/// Reads a daemon's answer as the plugin does, which comes in pieces of this many bytes. A result is written and read
/// again, and has to come out the same.
///
/// # Panics
/// Where it does not.
pub fn answer(bytes: &[u8], piece: usize) -> Option<AddResult> {
    let mut incoming = Incoming::new();
    let mut result = None;
    for piece in bytes.chunks(piece.max(1)) {
        incoming.push(piece);
        while let Some(value) = incoming.next().ok()? {
            if let Ok(text) = value.text("Error") {
                let error = to_error(&text);
                assert_eq!(to_error(&from_error(&error)).code, error.code, "an error keeps its code");
            }
            result = to_result(&value).ok();
            if let Some(result) = &result {
                assert_eq!(again(result), Some(result.clone()), "a result survives the way over the socket");
            }
        }
    }
    result
}

fn again(result: &AddResult) -> Option<AddResult> {
    let mut incoming = Incoming::new();
    incoming.push(&Outgoing::new(schema()).encode(RESULT, &from_result(result)).ok()?);
    to_result(&incoming.next().ok()??).ok()
}

/// Reads a file of the daemon's; whether it is a lease, which is then written and read again.
///
/// # Panics
/// Where that does not come out the same.
pub fn file(text: &[u8]) -> bool {
    let Ok(record) = daemon::record(text) else { return false };
    let written = serde_json::to_vec(&record).unwrap_or_default();
    assert_eq!(daemon::record(&written), Ok(record), "a record survives the way over the disk");
    true
}
