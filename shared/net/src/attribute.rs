//! Netlink attributes: length and type, 16 bits each, then the value, filled up to four bytes.
//!
//! Links are read and written here rather than by `netlink-packet-route`, which knows all that a link can have: to parse
//! one took a tenth of an ADD's instructions, and every program carried all types of devices there are.

use netlink_packet_core::{Emitable, Nla, NlaBuffer, Parseable};

/// `NLA_F_NESTED` in `linux/netlink.h`.
const NESTED: u16 = 1 << 15;
/// The type without the bits that say whether it is nested and in which byte order.
const TYPE: u16 = 0x3fff;
const HEADER: usize = 4;

/// Attributes to be sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    /// As they are sent.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.with(kind, |attributes| attributes.0.extend_from_slice(value));
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    pub(crate) fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// A text, with the NUL at its end that the kernel wants.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.with(kind, |attributes| {
            attributes.0.extend_from_slice(value.as_bytes());
            attributes.0.push(0);
        });
    }

    /// Attributes in an attribute.
    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        self.with(kind | NESTED, fill);
    }

    /// What a library writes.
    pub(crate) fn of<T: Nla>(&mut self, options: &[T]) {
        for option in options {
            let start = self.0.len();
            self.0.resize(start + option.buffer_len(), 0);
            option.emit(&mut self.0[start..]);
        }
    }

    /// Bytes that stand before attributes, in a value that begins with something else.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn with(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; HEADER]);
        fill(self);
        // The kernel refuses what is longer than it says to be.
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0[start + 2..start + HEADER].copy_from_slice(&kind.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// The attributes in `bytes`, by type; one that is cut off is the last.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = bytes.split_first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]])).clamp(HEADER, bytes.len());
        let value = &bytes[HEADER..length];
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
        Some((u16::from_ne_bytes([header[2], header[3]]) & TYPE, value))
    })
}

/// The same for a library that knows them; what it does not understand is left out.
pub(crate) fn known<T>(bytes: &[u8]) -> Vec<T>
where
    T: for<'a> Parseable<NlaBuffer<&'a [u8]>>,
{
    let mut rest = bytes;
    let mut found = Vec::new();
    while let Ok(attribute) = NlaBuffer::new_checked(rest) {
        found.extend(T::parse(&attribute).ok());
        rest = &rest[usize::from(attribute.length()).next_multiple_of(4).min(rest.len())..];
    }
    found
}

/// A value of one or two bytes, or the first four of a longer one, as the kernel's number; 0 where it is none.
pub(crate) fn number(value: &[u8]) -> u32 {
    match *value {
        [a] => a.into(),
        [a, b] => u16::from_ne_bytes([a, b]).into(),
        [a, b, c, d, ..] => u32::from_ne_bytes([a, b, c, d]),
        [..] => 0,
    }
}

/// A text without the NUL at its end.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::InfoVlan;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut written = Attributes::default();
        written.text(3, "eth0");
        written.u8(7, 1);
        written.u16(8, 300);
        written.nested(18, |info| {
            info.u32(4, 1500);
            info.of(&[InfoVlan::Id(100)]);
        });
        let read: Vec<_> = attributes(written.as_bytes()).collect();
        assert_eq!(read.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [3, 7, 8, 18]);
        assert_eq!((text(read[0].1), number(read[1].1), number(read[2].1)), ("eth0".to_owned(), 1, 300));
        let inner: Vec<_> = attributes(read[3].1).collect();
        assert_eq!((inner.len(), inner[0].0, number(inner[0].1)), (2, 4, 1500));
        assert!(known::<InfoVlan>(read[3].1).contains(&InfoVlan::Id(100)));
        assert_eq!(written.as_bytes().len() % 4, 0);
    }

    #[test]
    fn what_lies_about_lengths_ends_and_does_not_panic() {
        for bytes in
            [&[][..], &[1, 0, 3], &[0, 0, 3, 0], &[255, 255, 3, 0, b'x'], &[5, 0, 3, 0, b'x'], &[3, 0, 1, 0, 0]]
        {
            assert!(attributes(bytes).count() <= 2, "{bytes:?}");
            known::<InfoVlan>(bytes).clear();
        }
        let (kind, value) = attributes(&[255, 255, 3, 0, b'x']).next().unwrap();
        assert_eq!((kind, value), (3, &b"x"[..]));
    }
}
