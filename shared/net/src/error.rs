//! What went wrong with a request to the kernel.

use std::{fmt, io};

use nix::errno::Errno;

/// What every fallible function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A request that the kernel refused, or that could not be made.
#[derive(Debug)]
pub struct Error {
    /// The object, such as `link "eth0"`.
    pub object: String,
    /// The operation, such as `create`.
    pub operation: &'static str,
    /// The errno, where there is one.
    pub errno: Option<Errno>,
    /// The kernel's own words (extended acknowledgement), or the library's.
    pub words: String,
}

impl Error {
    /// An error with an errno.
    pub fn new(object: impl Into<String>, operation: &'static str, errno: Errno) -> Self {
        Self { object: object.into(), operation, errno: Some(errno), words: String::new() }
    }

    /// An error from an I/O error.
    pub fn io(object: impl Into<String>, operation: &'static str, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::new(object, operation, Errno::from_raw(errno)),
            None => Self { object: object.into(), operation, errno: None, words: error.to_string() },
        }
    }

    /// An error that is not the kernel's.
    pub fn other(object: impl Into<String>, operation: &'static str, words: impl fmt::Display) -> Self {
        Self { object: object.into(), operation, errno: None, words: words.to_string() }
    }

    /// Whether the kernel answered `errno`.
    pub fn is(&self, errno: Errno) -> bool {
        self.errno == Some(errno)
    }

    /// Whether the object is not there: the kernel has three ways to say so.
    pub fn is_absent(&self) -> bool {
        matches!(self.errno, Some(Errno::ENODEV | Errno::ENOENT | Errno::ESRCH | Errno::EADDRNOTAVAIL))
    }

    /// What the kernel said, without object and operation: for whoever tells those beside it.
    pub fn why(&self) -> String {
        let name = self.errno.map(|errno| format!("{errno:?} ({})", errno.desc()));
        let words = (!self.words.is_empty()).then(|| self.words.clone());
        name.into_iter().chain(words).collect::<Vec<_>>().join(": ")
    }

    /// What somebody could do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self.errno? {
            Errno::EPERM | Errno::EACCES => Some("the plugin needs CAP_NET_ADMIN and CAP_SYS_ADMIN on the node"),
            Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT => {
                Some("this kernel lacks the feature, or its module is not loaded")
            }
            Errno::ENOBUFS | Errno::ENOMEM => Some("the kernel is short of memory; the call may succeed later"),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.operation)?;
        let why = self.why();
        if !why.is_empty() {
            write!(f, ": {why}")?;
        }
        self.hint().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for Error {}
