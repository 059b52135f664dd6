//! Client and server with each other, and with peers that mean no good.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::mpsc,
    time::Duration,
};

use podwire_spec::{AddResult, Error, Ip, code};
use tokio::task::LocalSet;

use super::{
    client::{Client, Failure},
    server, *,
};
use crate::{
    gob::Outgoing,
    messages::{CMD_ARGS, CmdArgs, Method, REQUEST, from_result, schema, to_error, to_result},
};

const PATIENCE: Duration = Duration::from_secs(10);

/// A server that gives addresses to all but the container "none", and keeps "slow" waiting until its peer hangs up.
struct Server {
    path: PathBuf,
    /// Gets a word for each slow call that was dropped.
    dropped: mpsc::Receiver<()>,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (drops, dropped) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async {
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let drops = drops.clone();
                    tokio::task::spawn_local(async move {
                        let _ = server::serve(stream, async |method, args| answer(method, args, &drops).await).await;
                    });
                }
            });
        });
        Self { path, dropped, _dir: dir }
    }

    fn call(&self, method: Method, container: &str) -> Result<AddResult, Failure> {
        let args = CmdArgs { container_id: container.to_owned(), ..CmdArgs::default() };
        let value = Client::connect(&self.path).unwrap().call(method, &args, PATIENCE)?;
        Ok(to_result(&value).unwrap())
    }

    /// A connection on which nothing has been said.
    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn serves(&self) {
        assert_eq!(self.call(Method::Allocate, "c1").unwrap(), lease());
    }
}

fn lease() -> AddResult {
    let ip = Ip { interface: None, address: "10.1.0.5/16".parse().unwrap(), gateway: None };
    AddResult { ips: vec![ip], ..AddResult::default() }
}

async fn answer(method: Method, args: CmdArgs, drops: &mpsc::Sender<()>) -> server::Answer {
    struct Dropped<'a>(&'a mpsc::Sender<()>);
    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    match (method, args.container_id.as_str()) {
        (_, "slow") => {
            let _told = Dropped(drops);
            std::future::pending().await
        }
        (_, "none") => Err(Error::new(code::TRY_AGAIN, "no answer").with_details("is a server there?")),
        (Method::Allocate, _) => Ok(Some(from_result(&lease()))),
        _ => Ok(None),
    }
}

#[test]
fn a_head_ends_at_an_empty_line_of_either_kind() {
    assert_eq!(head(b"CONNECT /_goRPC_ HTTP/1.0\n\n\x01").unwrap(), Some(("CONNECT /_goRPC_ HTTP/1.0", 27)));
    assert_eq!(head(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n").unwrap(), Some(("HTTP/1.0 200 OK", 25)));
    assert_eq!(head(b"CONNECT /_goRPC_ HTTP/1.0\n").unwrap(), None);
    assert!(head(&[b'a'; MAX_HEAD]).is_err());
    assert!(head(b"\xff\n\n").is_err());
}

#[test]
fn results_nothing_and_errors_arrive() {
    let server = Server::start();
    server.serves();
    assert_eq!(server.call(Method::Release, "c1").unwrap(), AddResult::default());
    match server.call(Method::Allocate, "none") {
        Err(Failure::Answer(text)) => {
            let error = to_error(&text);
            assert_eq!(
                (error.code, error.msg.as_str(), error.details.as_str()),
                (11, "no answer", "is a server there?")
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_whose_plugin_was_killed_is_dropped() {
    let server = Server::start();
    let mut stream = server.raw();
    let args = CmdArgs { container_id: "slow".to_owned(), ..CmdArgs::default() };
    stream.write_all(&call("DHCP.Allocate", &args)).unwrap();
    let mut said = [0; 64];
    assert!(stream.read(&mut said).unwrap() > 0, "no answer to CONNECT");
    assert!(server.dropped.try_recv().is_err());
    drop(stream);
    server.dropped.recv_timeout(PATIENCE).unwrap();
    server.serves();
}

#[test]
fn several_calls_on_one_connection_are_answered_in_order() {
    let server = Server::start();
    let mut stream = server.raw();
    let mut outgoing = Outgoing::new(schema());
    let mut bytes = b"CONNECT /_goRPC_ HTTP/1.0\n\n".to_vec();
    for method in ["DHCP.Allocate", "DHCP.Nonsense", "DHCP.Release"] {
        bytes.extend(outgoing.encode(REQUEST, &request(method)).unwrap());
        bytes.extend(outgoing.encode(CMD_ARGS, &CmdArgs::default().to_value()).unwrap());
    }
    stream.write_all(&bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    // What needs no waiting is answered though the peer says no more.
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    let text = String::from_utf8_lossy(&said);
    assert!(text.starts_with("HTTP/1.0 200 Connected to Go RPC\n\n"), "{text}");
    for part in ["DHCP.Allocate", "rpc: can't find method DHCP.Nonsense", "DHCP.Release"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn peers_that_speak_something_else_are_turned_away_and_do_no_harm() {
    let server = Server::start();
    let garbage: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let shaken = |bytes: &[u8]| [b"CONNECT /_goRPC_ HTTP/1.0\n\n", bytes].concat();
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        garbage.clone(),
        shaken(&garbage),
        shaken(&[0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        shaken(&call("DHCP.Allocate", &CmdArgs::default())[27..][..40]),
        shaken(&[]),
    ] {
        let mut stream = server.raw();
        // The server may hang up before it has heard all.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(!String::from_utf8_lossy(&said).contains("DHCP."), "an answer to nonsense");
        server.serves();
    }
}

#[test]
fn servers_that_speak_something_else_are_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    for (answer, said) in [
        (&b"HTTP/1.0 404 Not Found\n\n"[..], "404"),
        (b"HTTP/1.0 200 Connected to Go RPC\n\n\xf8\xff\xff\xff\xff\xff\xff\xff\xff", "gob"),
        (b"HTTP/1.0 200 Connected to Go RPC\n\n", "without an answer"),
        (b"", "without an answer"),
    ] {
        let client = Client::connect(&path).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(answer).unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        match client.call(Method::Status, &CmdArgs::default(), PATIENCE) {
            Err(Failure::Broken(why)) => assert!(why.contains(said), "{said}: {why}"),
            other => panic!("{other:?}"),
        }
    }
    let client = Client::connect(&path).unwrap();
    match client.call(Method::Status, &CmdArgs::default(), Duration::from_millis(20)) {
        Err(Failure::Broken(why)) => assert_eq!(why, "no answer in time"),
        other => panic!("{other:?}"),
    }
}

fn request(method: &str) -> crate::gob::Value {
    crate::gob::Value::of([("ServiceMethod", crate::gob::Value::String(method.to_owned()))])
}

/// All that a client says.
fn call(method: &str, args: &CmdArgs) -> Vec<u8> {
    let mut outgoing = Outgoing::new(schema());
    let mut bytes = format!("CONNECT {PATH} HTTP/1.0\n\n").into_bytes();
    bytes.extend(outgoing.encode(REQUEST, &request(method)).unwrap());
    bytes.extend(outgoing.encode(CMD_ARGS, &args.to_value()).unwrap());
    bytes
}
