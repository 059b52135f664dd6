//! From bytes to values.

use super::{
    Def, Error, Result, Schema, Value, builtin,
    wire::{Reader, length_of},
};

/// How deep values may be nested: those of this protocol are 5 deep.
const MAX_DEPTH: usize = 16;
/// How many values one message may hold: a value of one byte takes forty in memory.
const MAX_VALUES: usize = 1 << 16;

/// One direction of a connection, at its receiving end: bytes go in as they come, values come out.
#[derive(Debug)]
pub(crate) struct Incoming {
    schema: Schema,
    buffer: Vec<u8>,
    /// How much of the buffer has been read.
    read: usize,
}

impl Incoming {
    pub(crate) fn new() -> Self {
        Self { schema: Schema::new(), buffer: Vec::new(), read: 0 }
    }

    /// Takes in what has come.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes have come in and were not read yet.
    pub(crate) fn waiting(&self) -> usize {
        self.buffer.len() - self.read
    }

    /// The next value; `None` until more has come. Definitions on the way are kept for what follows.
    ///
    /// # Errors
    /// Where this is not gob, or beyond what is allowed of it; the connection is of no use then.
    pub(crate) fn next(&mut self) -> Result<Option<Value>> {
        loop {
            let rest = &self.buffer[self.read..];
            let Some((length, prefix)) = length_of(rest)? else { return Ok(None) };
            let Some(message) = rest.get(prefix..prefix + length) else { return Ok(None) };
            self.read += prefix + length;
            let mut reader = Reader(message);
            let number = reader.int()?;
            let is_definition = number < 0;
            let mut decoder = Decoder { schema: &self.schema, reader, values: 0 };
            let value = decoder.top(if is_definition { builtin::WIRE_TYPE } else { number })?;
            if !decoder.reader.0.is_empty() {
                return Err(Error::new("bytes after the end of a value"));
            }
            if !is_definition {
                return Ok(Some(value));
            }
            self.schema.define(number.checked_neg().unwrap_or_default(), &value)?;
        }
    }
}

struct Decoder<'a> {
    schema: &'a Schema,
    reader: Reader<'a>,
    values: usize,
}

impl Decoder<'_> {
    /// The value of a message. One that is not a struct stands behind a zero.
    fn top(&mut self, kind: i64) -> Result<Value> {
        if !matches!(self.schema.get(kind), Some(Def::Struct(_))) && self.reader.uint()? != 0 {
            return Err(Error::new("a value without its leading zero"));
        }
        self.value(kind, 0)
    }

    fn value(&mut self, kind: i64, depth: usize) -> Result<Value> {
        self.values += 1;
        if depth > MAX_DEPTH || self.values > MAX_VALUES {
            return Err(Error::new(format!("values more than {MAX_DEPTH} deep, or more than {MAX_VALUES} of them")));
        }
        let reader = &mut self.reader;
        Ok(match kind {
            builtin::BOOL => Value::Bool(reader.uint()? != 0),
            builtin::INT => Value::Int(reader.int()?),
            builtin::UINT => Value::Uint(reader.uint()?),
            // The bytes of a number are reversed, since most have zeros at their end.
            builtin::FLOAT => Value::Float(f64::from_bits(reader.uint()?.swap_bytes())),
            builtin::BYTES => Value::Bytes(reader.bytes()?.to_vec()),
            builtin::STRING => Value::String(reader.string()?),
            builtin::COMPLEX => {
                reader.uint()?;
                reader.uint()?;
                Value::Opaque
            }
            builtin::INTERFACE => self.pass_over_interface()?,
            _ => return self.composed(kind, depth + 1),
        })
    }

    /// A value in an interface: the name of its type, none for nil, the type's number, and the value with its length.
    fn pass_over_interface(&mut self) -> Result<Value> {
        if !self.reader.bytes()?.is_empty() {
            self.reader.int()?;
            self.reader.bytes()?;
        }
        Ok(Value::Opaque)
    }

    fn composed(&mut self, kind: i64, depth: usize) -> Result<Value> {
        let def = self.schema.get(kind).ok_or_else(|| Error::new(format!("type {kind}: not defined")))?;
        match def {
            Def::Marshaller => Ok(Value::Bytes(self.reader.bytes()?.to_vec())),
            Def::Slice { element } => {
                let count = self.reader.uint()?;
                self.list(*element, count, depth)
            }
            Def::Array { element, length } => match self.reader.uint()? {
                count if count == *length => self.list(*element, count, depth),
                count => Err(Error::new(format!("{count} elements of an array of {length}"))),
            },
            Def::Map { key, element } => {
                let mut pairs = Vec::new();
                for _ in 0..self.reader.uint()? {
                    pairs.push((self.value(*key, depth)?, self.value(*element, depth)?));
                }
                Ok(Value::Map(pairs))
            }
            Def::Struct(fields) => {
                let mut values = Vec::new();
                // Each field is told by its distance from the one before; a distance of zero is the end.
                let mut next = 0_usize;
                loop {
                    let distance = usize::try_from(self.reader.uint()?).unwrap_or(usize::MAX);
                    if distance == 0 {
                        return Ok(Value::Struct(values));
                    }
                    let at = next.saturating_add(distance - 1);
                    let (name, kind) = fields.get(at).ok_or_else(|| Error::new("a field that its type has not"))?;
                    values.push((name.to_string(), self.value(*kind, depth)?));
                    next = at + 1;
                }
            }
        }
    }

    fn list(&mut self, element: i64, count: u64, depth: usize) -> Result<Value> {
        // Not with_capacity: the count is the peer's.
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value(element, depth)?);
        }
        Ok(Value::List(values))
    }
}
