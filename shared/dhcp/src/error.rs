//! What can go wrong.

use std::{fmt, time::Duration};

/// What every fallible function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a question could not be asked, or has no answer.
#[derive(Debug)]
pub enum Error {
    /// The namespace or the link is no more; the words name it.
    Gone(String),
    /// No server gave a usable answer.
    Silent {
        /// The link's name.
        link: String,
        /// For how long it was asked.
        waited: Duration,
        /// What was heard and passed over, and why; the first few.
        heard: Vec<String>,
    },
    /// The link can have no lease, as it is; the words say why and what to do.
    Unsuitable(String),
    /// The kernel refused something.
    Kernel(podwire_net::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(words) | Self::Unsuitable(words) => f.write_str(words),
            Self::Silent { link, waited, heard } => {
                write!(f, "link {link:?}: no DHCP server gave an address within {} s", waited.as_secs())?;
                match heard.as_slice() {
                    [] => f.write_str("; nothing was heard: is a server or relay on this network?"),
                    heard => write!(f, "; heard and passed over: {}", heard.join("; ")),
                }
            }
            Self::Kernel(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<podwire_net::Error> for Error {
    fn from(error: podwire_net::Error) -> Self {
        Self::Kernel(error)
    }
}
