//! Seeing frames, and sending ones that no proper stack would send.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Frame, Tag};
use crate::lab::Space;
use crate::sys;

/// A running capture. Frames are kept by the kernel from the moment it was started.
#[derive(Debug)]
pub struct Capture {
    socket: OwnedFd,
    /// What it has seen, for messages.
    seen: Vec<Frame>,
}

impl Capture {
    /// Of one link, both ways.
    pub fn on(space: &Space, link: &str) -> Result<Self> {
        Self::start(space, space.link(link)?.index)
    }

    /// Of every link of a namespace, also those made later.
    pub fn everywhere(space: &Space) -> Result<Self> {
        Self::start(space, 0)
    }

    fn start(space: &Space, index: u32) -> Result<Self> {
        let socket = space.ns.run(|| sys::packet_socket(index))?;
        let socket = socket.with_context(|| format!("capture in {:?}: packet socket", space.name))?;
        Ok(Self { socket, seen: Vec::new() })
    }

    /// The next frame that `wanted` accepts; an error that lists what came instead if there is none within `limit`.
    pub fn expect(&mut self, limit: Duration, what: &str, wanted: impl Fn(&Frame) -> bool) -> Result<Frame> {
        let end = Instant::now() + limit;
        while let Some(frame) = self.next(end)? {
            if wanted(&frame) {
                return Ok(frame);
            }
            self.seen.push(frame);
        }
        bail!("no {what} within {limit:?}; seen: {:#?}", self.seen)
    }

    /// Fails if a frame that `unwanted` accepts comes within `limit`.
    pub fn expect_none(&mut self, limit: Duration, what: &str, unwanted: impl Fn(&Frame) -> bool) -> Result<()> {
        let end = Instant::now() + limit;
        while let Some(frame) = self.next(end)? {
            if unwanted(&frame) {
                bail!("{what}, which should not be there: {frame:?}");
            }
        }
        Ok(())
    }

    /// The next frame before `end`.
    fn next(&self, end: Instant) -> Result<Option<Frame>> {
        let mut buffer = vec![0; 65536];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, timeout).context("capture: poll")? == 0 {
                return Ok(None);
            }
            let (length, tag) = match sys::receive_frame(&self.socket, &mut buffer) {
                Ok(got) => got,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => continue,
                // A link that the capture is on went down or away; what it had is still to be read.
                Err(e) if e.kind() == std::io::ErrorKind::NetworkDown => continue,
                Err(e) => return Err(e).context("capture: receive"),
            };
            let tag = tag.map(|(protocol, control)| Tag::new(protocol, control));
            if let Some(frame) = Frame::parse(&buffer[..length], tag) {
                return Ok(Some(frame));
            }
        }
    }
}

/// Sends all `frames`, Ethernet headers included, out of `link`, and gives their number.
pub fn inject_all(space: &Space, link: &str, frames: impl Iterator<Item = Vec<u8>> + Send) -> Result<usize> {
    let index = space.link(link)?.index;
    let sent = space.ns.run(|| {
        let socket = sys::packet_socket(index)?;
        let mut sent = 0;
        for frame in frames {
            sys::send_frame(&socket, index, &frame)?;
            sent += 1;
        }
        std::io::Result::Ok(sent)
    })?;
    sent.with_context(|| format!("frames out of {link:?} in {:?}: send", space.name))
}

/// Sends `frame`, Ethernet header included, out of `link`.
pub fn inject(space: &Space, link: &str, frame: &[u8]) -> Result<()> {
    let index = space.link(link)?.index;
    let sent = space.ns.run(|| {
        let socket = sys::packet_socket(index)?;
        sys::send_frame(&socket, index, frame)
    })?;
    sent.with_context(|| format!("frame out of {link:?} in {:?}: send", space.name))
}
