//! The daemon's end: connections with any number of calls, one after the other.

use std::{io, time::Duration};

use futures_util::future::{Either, select};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::{CONNECTED, PATH, head};
use crate::{
    gob::{Incoming, Outgoing, Value},
    messages::{CmdArgs, Method, NOTHING, RESPONSE, RESULT, from_error, schema},
};

/// For how long a peer may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the daemon answers: a result, or nothing but that it is done.
pub(crate) type Answer = podwire_spec::Result<Option<Value>>;

/// Serves a connection until the peer closes it. Where it does so while a call is being served, the call is dropped: the
/// plugin was killed, and nobody would know what it got.
///
/// # Errors
/// Where the peer speaks something else.
pub(crate) async fn serve(mut stream: UnixStream, answer: impl AsyncFn(Method, CmdArgs) -> Answer) -> io::Result<()> {
    let mut incoming = Incoming::new();
    let hands = shake_hands(&mut stream, &mut incoming);
    if !tokio::time::timeout(PATIENCE, hands).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
        return Ok(());
    }
    let mut outgoing = Outgoing::new(schema());
    while let Some(request) = value(&mut stream, &mut incoming).await? {
        let argument = value(&mut stream, &mut incoming).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let name = request.text("ServiceMethod").map_err(invalid)?;
        let outcome = match (Method::named(&name), CmdArgs::from_value(&argument)) {
            (None, _) => Err(format!("rpc: can't find method {name}")),
            (_, Err(error)) => Err(error.to_string()),
            (Some(method), Ok(args)) => {
                let call = std::pin::pin!(answer(method, args));
                let gone = std::pin::pin!(until_closed(&mut stream, &mut incoming));
                match select(call, gone).await {
                    Either::Left((answer, _)) => answer.map_err(|error| from_error(&error)),
                    Either::Right((closed, _)) => return closed,
                }
            }
        };
        let error = outcome.as_ref().err().cloned().unwrap_or_default();
        let response = Value::of([
            ("ServiceMethod", Value::String(name)),
            ("Seq", Value::Uint(request.uint("Seq").map_err(invalid)?)),
            ("Error", Value::String(error)),
        ]);
        let mut bytes = outgoing.encode(RESPONSE, &response).map_err(invalid)?;
        bytes.extend(
            match outcome {
                Ok(Some(result)) => outgoing.encode(RESULT, &result),
                _ => outgoing.encode(NOTHING, &Value::of([])),
            }
            .map_err(invalid)?,
        );
        stream.write_all(&bytes).await?;
    }
    Ok(())
}

/// Whether the peer is a client of `net/rpc`; another one is told so.
async fn shake_hands(stream: &mut UnixStream, incoming: &mut Incoming) -> io::Result<bool> {
    let mut said = Vec::new();
    loop {
        if stream.read_buf(&mut said).await? == 0 {
            return Ok(false);
        }
        let Some((request, end)) = head(&said).map_err(invalid)? else { continue };
        let mut words = request.split(' ');
        if (words.next(), words.next()) != (Some("CONNECT"), Some(PATH)) {
            stream
                .write_all(b"HTTP/1.0 405 Method Not Allowed\nContent-Type: text/plain\n\n405 must CONNECT\n")
                .await?;
            return Ok(false);
        }
        incoming.push(&said[end..]);
        stream.write_all(format!("HTTP/1.0 {CONNECTED}\n\n").as_bytes()).await?;
        return Ok(true);
    }
}

/// The next value; `None` where the peer has closed the connection between two.
async fn value(stream: &mut UnixStream, incoming: &mut Incoming) -> io::Result<Option<Value>> {
    loop {
        if let Some(value) = incoming.next().map_err(invalid)? {
            return Ok(Some(value));
        }
        if !more(stream, incoming).await? {
            return if incoming.waiting() == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
}

/// Ends when the peer closes the connection. What it sends meanwhile is the next call.
async fn until_closed(stream: &mut UnixStream, incoming: &mut Incoming) -> io::Result<()> {
    while more(stream, incoming).await? {
        if incoming.waiting() > crate::gob::MAX_MESSAGE {
            return Err(invalid("calls faster than answers"));
        }
    }
    Ok(())
}

async fn more(stream: &mut UnixStream, incoming: &mut Incoming) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    let length = stream.read(&mut buffer).await?;
    incoming.push(&buffer[..length]);
    Ok(length > 0)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
