//! From values to bytes.

use std::collections::BTreeSet;

use super::{
    Def, Error, Result, Schema, Value, builtin,
    wire::{put_bytes, put_int, put_uint},
};

/// One direction of a connection, at its sending end: it knows which definitions the peer has.
#[derive(Debug)]
pub(crate) struct Outgoing {
    schema: Schema,
    sent: BTreeSet<i64>,
}

impl Outgoing {
    pub(crate) fn new(schema: Schema) -> Self {
        Self { schema, sent: BTreeSet::new() }
    }

    /// The messages for a value of type `kind`: the definitions that the peer lacks, and the value.
    ///
    /// # Errors
    /// Where the value is not of that type, which is a mistake in this program.
    pub(crate) fn encode(&mut self, kind: i64, value: &Value) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.define(kind, &mut out)?;
        self.message(kind, kind, value, &mut out)?;
        Ok(out)
    }

    fn define(&mut self, kind: i64, out: &mut Vec<u8>) -> Result<()> {
        let Some(def) = self.schema.get(kind).filter(|_| kind >= builtin::FIRST).cloned() else { return Ok(()) };
        if self.sent.insert(kind) {
            self.message(-kind, builtin::WIRE_TYPE, &def.to_value(kind), out)?;
            def.parts().into_iter().try_for_each(|part| self.define(part, out))?;
        }
        Ok(())
    }

    fn message(&self, number: i64, kind: i64, value: &Value, out: &mut Vec<u8>) -> Result<()> {
        let mut message = Vec::new();
        put_int(&mut message, number);
        if !matches!(value, Value::Struct(_)) {
            message.push(0);
        }
        self.value(kind, value, &mut message)?;
        put_bytes(out, &message);
        Ok(())
    }

    fn value(&self, kind: i64, value: &Value, out: &mut Vec<u8>) -> Result<()> {
        match (kind, value) {
            (builtin::BOOL, Value::Bool(value)) => put_uint(out, u64::from(*value)),
            (builtin::INT, Value::Int(number)) => put_int(out, *number),
            (builtin::UINT, Value::Uint(number)) => put_uint(out, *number),
            (builtin::FLOAT, Value::Float(number)) => put_uint(out, number.to_bits().swap_bytes()),
            (builtin::BYTES, Value::Bytes(bytes)) => put_bytes(out, bytes),
            (builtin::STRING, Value::String(text)) => put_bytes(out, text.as_bytes()),
            _ => return self.composed(kind, value, out),
        }
        Ok(())
    }

    fn composed(&self, kind: i64, value: &Value, out: &mut Vec<u8>) -> Result<()> {
        match (self.schema.get(kind), value) {
            (Some(Def::Marshaller), Value::Bytes(bytes)) => put_bytes(out, bytes),
            (Some(Def::Slice { element } | Def::Array { element, .. }), Value::List(values)) => {
                put_uint(out, values.len() as u64);
                values.iter().try_for_each(|value| self.value(*element, value, out))?;
            }
            (Some(Def::Map { key, element }), Value::Map(pairs)) => {
                put_uint(out, pairs.len() as u64);
                for (name, value) in pairs {
                    self.value(*key, name, out)?;
                    self.value(*element, value, out)?;
                }
            }
            (Some(Def::Struct(fields)), Value::Struct(values)) => {
                if let Some((name, _)) = values.iter().find(|(name, _)| fields.iter().all(|field| field.0 != *name)) {
                    return Err(Error::new(format!("type {kind} has no field {name:?}")));
                }
                let mut distance = 0;
                for (name, kind) in fields {
                    distance += 1;
                    if let Some(value) = value.field(name).filter(|value| !value.is_zero()) {
                        put_uint(out, distance);
                        self.value(*kind, value, out)?;
                        distance = 0;
                    }
                }
                put_uint(out, 0);
            }
            _ => return Err(Error::new(format!("a value that is not of type {kind}: {value:?}"))),
        }
        Ok(())
    }
}
