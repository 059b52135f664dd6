//! The error object of the specification, section "Error".

use std::{borrow::Cow, fmt};

use serde_json::json;

use crate::Version;

/// The error codes: 1 to 99 belong to the specification, 100 and up to podwire.
pub mod code {
    /// `cniVersion` is not supported, or too old for the command.
    pub const VERSION: u32 = 1;
    /// A field of the configuration is not supported (only with `"strict": true`).
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container does not exist; the runtime need not call DEL.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// A `CNI_*` variable is missing or ill-formed.
    pub const ENVIRONMENT: u32 = 4;
    /// A file or stream could not be read or written.
    pub const IO: u32 = 5;
    /// stdin is not JSON, or a field has the wrong type.
    pub const DECODE: u32 = 6;
    /// The configuration contradicts itself or names what cannot be.
    pub const INVALID_CONFIG: u32 = 7;
    /// The call may succeed later; the runtime should repeat it.
    pub const TRY_AGAIN: u32 = 11;
    /// STATUS: an ADD could not be served now.
    pub const NOT_AVAILABLE: u32 = 50;
    /// STATUS: an ADD could not be served, and containers that exist may have lost their network.
    pub const NOT_AVAILABLE_LIMITED: u32 = 51;
    /// No free address is left in a range.
    pub const NO_ADDRESS: u32 = 100;
    /// A shared object exists with parameters other than those asked for.
    pub const DIFFERENT: u32 = 101;
    /// CHECK found a difference between the kernel and what ADD had made.
    pub const CHECK: u32 = 102;
    /// The kernel refused a request.
    pub const KERNEL: u32 = 103;
    /// The kernel lacks a feature, such as a type of device.
    pub const NO_KERNEL_FEATURE: u32 = 104;
    /// `CNI_IFNAME` exists already in the pod, or an address or a VLAN is taken.
    pub const EXISTS: u32 = 105;
    /// The call was ended by a signal; what an ADD had done was undone, what is left of DEL or GC is for the next call.
    pub const SIGNAL: u32 = 106;
    /// A bug in podwire: the plugin panicked; what an ADD had done was undone.
    pub const BUG: u32 = 107;
    /// A delegate failed without an error object.
    pub const DELEGATE: u32 = 108;
}

/// What is told of a text that others have chosen, which may be a megabyte: its beginning and its end, which mostly says
/// what is wrong with it.
pub fn brief(text: &str) -> Cow<'_, str> {
    const BEGINNING: usize = 4096;
    const END: usize = 1024;
    if text.len() <= BEGINNING + END {
        return text.into();
    }
    let (beginning, rest) = text.split_at(text.floor_char_boundary(BEGINNING));
    let (middle, end) = rest.split_at(rest.ceil_char_boundary(rest.len() - END));
    format!("{beginning} [... {} bytes ...] {end}", middle.len()).into()
}

/// An error as the specification wants it on stdout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// One of [`code`].
    pub code: u32,
    /// What is wrong, in one short line.
    pub msg: String,
    /// Which object, which operation, the errno by name, and what to do; may be empty.
    pub details: String,
}

impl Error {
    /// An error without details.
    pub fn new(code: u32, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// The same with details.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// Code 7: the configuration contradicts itself or names what cannot be; `path` is the JSON path.
    pub fn invalid(path: &str, why: impl fmt::Display) -> Self {
        Self::new(code::INVALID_CONFIG, format!("invalid configuration: {path}: {why}"))
    }

    /// Code 4: a variable of the environment is missing or ill-formed.
    pub fn environment(msg: impl Into<String>) -> Self {
        Self::new(code::ENVIRONMENT, msg)
    }

    /// Code 102: CHECK found `found` where `expected` was made.
    pub fn differs(object: impl fmt::Display, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self::new(code::CHECK, format!("{object}: expected {expected}, found {found}"))
    }

    /// The error object, as text without a trailing newline.
    pub fn to_json(&self, version: Version) -> String {
        json!({
            "cniVersion": version.as_str(),
            "code": self.code,
            "msg": brief(&self.msg),
            "details": brief(&self.details),
        })
        .to_string()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, "; {}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_text_both_ends_are_told() {
        let whole = "x".repeat(5120);
        assert_eq!(brief(&whole), whole);
        let long = format!("name: \"{}\": too long", "\u{fc}".repeat(1 << 20));
        let said = brief(&long);
        assert!(said.starts_with("name: \"\u{fc}") && said.ends_with("\u{fc}\": too long"), "{said}");
        assert!(said.contains("\u{fc} [... 20920") && said.len() < 5200, "{} bytes", said.len());
    }
}
