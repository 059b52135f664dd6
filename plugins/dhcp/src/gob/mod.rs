//! Go's gob, the encoding of the messages between plugin and daemon, as far as this protocol needs it.
//!
//! A stream is a row of messages. Each begins with its length; then comes either the definition of a type, under a
//! number that the sender chose, or a value of a type that was defined before. Fields go by name: what the receiver does
//! not know it passes over, what the sender left out is zero. So this decoder reads any value by the definitions that
//! came with it into a [`Value`], and the caller picks the fields that it knows.
//!
//! The format is described in the documentation of Go's package
//! [encoding/gob](https://pkg.go.dev/encoding/gob). The one crate for it on crates.io, `gob` 0.1.0, was last released in
//! 2019 and has neither bounds nor maintenance, so this is our own: what a peer sends is bounded in length, depth,
//! number of values, types and fields, and nothing that it sends can make the decoder panic.

mod decode;
mod encode;
mod types;
mod wire;

#[cfg(test)]
mod tests;

pub(crate) use decode::Incoming;
pub(crate) use encode::Outgoing;
pub(crate) use types::{Def, Schema, builtin};
pub(crate) use wire::Error;

/// What every fallible function here returns.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// The longest message that is read: stdin is at most 8 MiB, and a message holds it whole.
pub(crate) const MAX_MESSAGE: usize = 9 << 20;

/// A value, whatever its type is called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// `bool`.
    Bool(bool),
    /// Every signed integer.
    Int(i64),
    /// Every unsigned integer.
    Uint(u64),
    /// `float32` and `float64`.
    Float(f64),
    /// `[]byte`, and what a type's own marshaller wrote.
    Bytes(Vec<u8>),
    /// `string`.
    String(String),
    /// Slices and arrays.
    List(Vec<Value>),
    /// Maps, in the order they came in.
    Map(Vec<(Value, Value)>),
    /// Structs: the fields that are not zero, by name.
    Struct(Vec<(String, Value)>),
    /// What this protocol has no use for and was passed over: complex numbers and interfaces.
    Opaque,
}

impl Value {
    /// A struct of these fields.
    pub(crate) fn of<const N: usize>(fields: [(&str, Value); N]) -> Self {
        Self::Struct(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// The field of a struct; `None` where it is zero, or this is no struct.
    pub(crate) fn field(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Struct(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text of a struct's field, empty where it is zero.
    ///
    /// # Errors
    /// Where the field is of another type.
    pub(crate) fn text(&self, name: &str) -> Result<String> {
        match self.field(name) {
            None => Ok(String::new()),
            Some(Self::String(text)) => Ok(text.clone()),
            Some(_) => Err(Error::new(format!("field {name:?} is not a string"))),
        }
    }

    /// The bytes of a struct's field, empty where it is zero.
    ///
    /// # Errors
    /// Where the field is of another type.
    pub(crate) fn bytes(&self, name: &str) -> Result<&[u8]> {
        match self.field(name) {
            None => Ok(&[]),
            Some(Self::Bytes(bytes)) => Ok(bytes),
            Some(_) => Err(Error::new(format!("field {name:?} is not bytes"))),
        }
    }

    /// The unsigned number of a struct's field, 0 where it is zero.
    ///
    /// # Errors
    /// Where the field is of another type.
    pub(crate) fn uint(&self, name: &str) -> Result<u64> {
        match self.field(name) {
            None => Ok(0),
            Some(Self::Uint(number)) => Ok(*number),
            Some(_) => Err(Error::new(format!("field {name:?} is not an unsigned number"))),
        }
    }

    /// The signed number of a struct's field; `None` where it is zero.
    ///
    /// # Errors
    /// Where the field is of another type.
    pub(crate) fn int(&self, name: &str) -> Result<Option<i64>> {
        match self.field(name) {
            None => Ok(None),
            Some(Self::Int(number)) => Ok(Some(*number)),
            Some(_) => Err(Error::new(format!("field {name:?} is not a number"))),
        }
    }

    /// The elements of a struct's field, none where it is zero.
    ///
    /// # Errors
    /// Where the field is of another type.
    pub(crate) fn list(&self, name: &str) -> Result<&[Value]> {
        match self.field(name) {
            None => Ok(&[]),
            Some(Self::List(values)) => Ok(values),
            Some(_) => Err(Error::new(format!("field {name:?} is not a list"))),
        }
    }

    /// Whether Go would leave a field of this value out.
    fn is_zero(&self) -> bool {
        match self {
            Self::Bool(value) => !value,
            Self::Int(value) => *value == 0,
            Self::Uint(value) => *value == 0,
            Self::Float(value) => value.to_bits() == 0,
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::String(text) => text.is_empty(),
            Self::List(values) => values.is_empty(),
            Self::Map(pairs) => pairs.is_empty(),
            Self::Opaque => true,
            Self::Struct(_) => false,
        }
    }
}
