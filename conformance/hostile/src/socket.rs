//! The socket between the plugin `dhcp` and its daemon, and the daemon's files.

use std::time::Duration;

use dhcp::rehearsal;
use futures_util::future::join3;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    runtime::{Builder, Runtime},
    time::timeout,
};

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
}

/// What a plugin sends, from its first byte on.
pub(crate) fn calls(data: &[u8]) {
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (ours, daemons) = UnixStream::pair().expect("two sockets");
            let (mut answers, mut calls) = ours.into_split();
            let mut heard = Vec::new();
            let talk = async {
                // A daemon that has heard enough closes its end.
                drop(calls.write_all(data).await);
                drop(calls.shutdown().await);
            };
            let hear = answers.read_to_end(&mut heard);
            let all = async { join3(rehearsal::serve(daemons), talk, hear).await };
            let (served, ..) = timeout(Duration::from_secs(5), all).await.expect("the daemon ends a connection");
            assert!(served.is_err() || heard.starts_with(b"HTTP/1.0 ") || heard.is_empty(), "{heard:?}");
        });
    });
}

/// What a daemon sends, behind its HTTP head, in pieces of as many bytes as the first byte says.
pub(crate) fn answers(data: &[u8]) {
    if let Some((piece, bytes)) = data.split_first() {
        rehearsal::answer(bytes, usize::from(*piece));
    }
}

/// A file of the daemon's.
pub(crate) fn records(data: &[u8]) {
    rehearsal::file(data);
}
