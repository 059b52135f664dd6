//! The socket: systemd's, or one of our own; and whom it answers.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt},
        net::{UnixListener as Listener, UnixStream as Stream},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use rustix::fs::Mode;
use tokio::net::{UnixListener, UnixStream};

/// A socket that is listened on.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    /// The file to remove in the end; systemd's stays.
    own: Option<PathBuf>,
}

impl Socket {
    /// systemd's socket, where it hands one over (`sd_listen_fds(3)`), else a new one at `path`. A socket that nobody
    /// listens on any more, as a kill leaves it, is replaced; the caller sees to it that there is no second daemon that
    /// just starts.
    ///
    /// # Errors
    /// Where somebody else listens there, or what is there is no socket.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut handed = listenfd::ListenFd::from_env();
        if handed.len() > 1 {
            bail!("{} sockets handed over by systemd, expected one: \"{}\"", handed.len(), path.display());
        }
        let (listener, own) = match handed.take_unix_listener(0).context("the socket that systemd handed over")? {
            Some(listener) => (listener, None),
            None => (listen(path)?, Some(path.to_owned())),
        };
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, own })
    }

    /// Where it is, for the log.
    pub(super) fn name(&self) -> String {
        let address = self.listener.local_addr();
        let path = address.ok().and_then(|address| address.as_pathname().map(|path| path.display().to_string()));
        path.unwrap_or_else(|| "a socket without a name".to_owned())
    }

    /// The next connection of root's; others are closed without a word.
    ///
    /// # Errors
    /// Where none can be accepted now, for want of descriptors.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            match stream.peer_cred() {
                Ok(peer) if peer.uid() == 0 => return Ok(stream),
                Ok(peer) => {
                    tracing::warn!("a process of user {} was refused: this socket answers only root", peer.uid());
                }
                Err(error) => tracing::warn!("a connection was refused, since it cannot be said whose it is: {error}"),
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(path) = &self.own
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!("socket \"{}\": cannot be removed: {error}", path.display());
        }
    }
}

fn listen(path: &Path) -> Result<Listener> {
    let named = || format!("socket \"{}\"", path.display());
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("folder of {}", named()))?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => bail!("{}: something else is there", named()),
        Ok(_) if Stream::connect(path).is_ok() => bail!("{}: another daemon listens there", named()),
        Ok(_) => fs::remove_file(path).with_context(named)?,
        Err(_) => {}
    }
    // Root's alone from the first moment on, whatever the folder's mode is.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let listener = Listener::bind(path);
    rustix::process::umask(before);
    listener.with_context(|| format!("{}: listen", named()))
}

/// Tells systemd how far the daemon is (`sd_notify(3)`), where systemd wants to know.
pub(super) fn notify(state: &str) {
    use std::os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    };
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let name = name.as_encoded_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::new(&*String::from_utf8_lossy(name)))),
    };
    let sent = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &address)
    });
    if let Err(error) = sent {
        tracing::warn!("systemd could not be told {state:?}: {error}");
    }
}
