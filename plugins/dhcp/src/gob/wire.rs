//! Numbers and bytes as gob writes them.

use std::fmt;

use super::{MAX_MESSAGE, Result};

/// What is wrong with a stream. It cannot be read on after that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Error(String);

impl Error {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gob: {}", self.0)
    }
}

impl std::error::Error for Error {}

/// What is left of a message.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or_else(|| Error::new("a value is longer than its message"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// One byte below 128, or the negated count of the bytes that follow, the highest first.
    pub(super) fn uint(&mut self) -> Result<u64> {
        let first = self.take(1)?[0];
        if first < 0x80 {
            return Ok(first.into());
        }
        let count = usize::from(first.wrapping_neg());
        if count > 8 {
            return Err(Error::new(format!("a number of {count} bytes")));
        }
        Ok(self.take(count)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// An unsigned number whose lowest bit says that the others are inverted.
    pub(super) fn int(&mut self) -> Result<i64> {
        let number = self.uint()?;
        let magnitude = (number >> 1).cast_signed();
        Ok(if number & 1 == 1 { !magnitude } else { magnitude })
    }

    /// A length, and as many bytes.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.uint()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    pub(super) fn string(&mut self) -> Result<String> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Error::new("a string that is not UTF-8"))
    }
}

/// The length of the message that `bytes` begin with, and how many bytes say so; `None` while those are not all there.
pub(super) fn length_of(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let prefix = if first < 0x80 { 1 } else { 1 + usize::from(first.wrapping_neg()) };
    if bytes.len() < prefix.min(9) {
        return Ok(None);
    }
    let length = Reader(bytes).uint()?;
    match usize::try_from(length) {
        Ok(length @ 1..=MAX_MESSAGE) => Ok(Some((length, prefix))),
        _ => Err(Error::new(format!("a message of {length} bytes, expected 1 to {MAX_MESSAGE}"))),
    }
}

pub(super) fn put_uint(out: &mut Vec<u8>, number: u64) {
    if let Ok(byte @ 0..0x80) = u8::try_from(number) {
        out.push(byte);
        return;
    }
    let bytes = number.to_be_bytes();
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    // How many follow, negated: -8 to -1 in one byte.
    out.push(0xf8 | u8::try_from(zeros).unwrap_or_default());
    out.extend_from_slice(&bytes[zeros..]);
}

pub(super) fn put_int(out: &mut Vec<u8>, number: i64) {
    let bits = number.cast_unsigned() << 1;
    put_uint(out, if number < 0 { !bits } else { bits });
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
