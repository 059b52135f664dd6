//! Types: the ones that every stream knows, and the ones that a stream or a program defines.

use std::{borrow::Cow, collections::BTreeMap};

use super::{Error, Result, Value};

/// The numbers of the types that need no definition (Go: `encoding/gob/type.go`).
pub(crate) mod builtin {
    pub(crate) const BOOL: i64 = 1;
    pub(crate) const INT: i64 = 2;
    pub(crate) const UINT: i64 = 3;
    pub(crate) const FLOAT: i64 = 4;
    pub(crate) const BYTES: i64 = 5;
    pub(crate) const STRING: i64 = 6;
    pub(crate) const COMPLEX: i64 = 7;
    pub(crate) const INTERFACE: i64 = 8;
    /// The type of a definition.
    pub(crate) const WIRE_TYPE: i64 = 16;
    pub(super) const ARRAY_TYPE: i64 = 17;
    pub(super) const COMMON_TYPE: i64 = 18;
    pub(super) const SLICE_TYPE: i64 = 19;
    pub(super) const STRUCT_TYPE: i64 = 20;
    pub(super) const FIELD_TYPE: i64 = 21;
    pub(super) const FIELD_LIST: i64 = 22;
    pub(super) const MAP_TYPE: i64 = 23;
    /// Known only by its place in a definition, so the number is ours.
    pub(super) const MARSHALLER_TYPE: i64 = 24;
    /// The first number for a type that a stream defines.
    pub(crate) const FIRST: i64 = 64;
}
use builtin::{
    ARRAY_TYPE, COMMON_TYPE, FIELD_LIST, FIELD_TYPE, FIRST, INT, MAP_TYPE, MARSHALLER_TYPE, SLICE_TYPE, STRING,
    STRUCT_TYPE, WIRE_TYPE,
};

/// How many types one stream may define.
const MAX_TYPES: usize = 128;
/// How many fields a type may have.
const MAX_FIELDS: usize = 128;

/// How long a field's name may be, in bytes: it is kept with the type, and written into each value of it.
const MAX_NAME: usize = 128;

/// A field: its name and the number of its type.
type Field = (Cow<'static, str>, i64);

/// What a type is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Def {
    Array {
        element: i64,
        length: u64,
    },
    Slice {
        element: i64,
    },
    Map {
        key: i64,
        element: i64,
    },
    Struct(Vec<Field>),
    /// A type that writes itself, as bytes.
    Marshaller,
}

impl Def {
    /// A struct of these fields.
    pub(crate) fn of<const N: usize>(fields: [(&'static str, i64); N]) -> Self {
        Self::Struct(fields.into_iter().map(|(name, kind)| (Cow::Borrowed(name), kind)).collect())
    }

    /// The types that this one is made of.
    pub(super) fn parts(&self) -> Vec<i64> {
        match self {
            Self::Array { element, .. } | Self::Slice { element } => vec![*element],
            Self::Map { key, element } => vec![*key, *element],
            Self::Struct(fields) => fields.iter().map(|(_, kind)| *kind).collect(),
            Self::Marshaller => vec![],
        }
    }

    /// The definition as a value of the type `wireType`.
    pub(super) fn to_value(&self, number: i64) -> Value {
        let common = || ("CommonType", Value::of([("Id", Value::Int(number))]));
        match self {
            Self::Array { element, length } => Value::of([(
                "ArrayT",
                Value::of([common(), ("Elem", Value::Int(*element)), ("Len", Value::Int(length.cast_signed()))]),
            )]),
            Self::Slice { element } => Value::of([("SliceT", Value::of([common(), ("Elem", Value::Int(*element))]))]),
            Self::Map { key, element } => {
                Value::of([("MapT", Value::of([common(), ("Key", Value::Int(*key)), ("Elem", Value::Int(*element))]))])
            }
            Self::Struct(fields) => {
                let field = |(name, kind): &Field| {
                    Value::of([("Name", Value::String(name.to_string())), ("Id", Value::Int(*kind))])
                };
                let fields = Value::List(fields.iter().map(field).collect());
                Value::of([("StructT", Value::of([common(), ("Field", fields)]))])
            }
            Self::Marshaller => Value::of([("GobEncoderT", Value::of([common()]))]),
        }
    }

    /// Reads a definition out of a value of the type `wireType`.
    fn from_value(value: &Value) -> Result<Self> {
        let number = |of: &Value, name| of.int(name).map(Option::unwrap_or_default);
        if let Some(array) = value.field("ArrayT") {
            let length = u64::try_from(number(array, "Len")?).map_err(|_| Error::new("an array of negative length"))?;
            return Ok(Self::Array { element: number(array, "Elem")?, length });
        }
        if let Some(slice) = value.field("SliceT") {
            return Ok(Self::Slice { element: number(slice, "Elem")? });
        }
        if let Some(map) = value.field("MapT") {
            return Ok(Self::Map { key: number(map, "Key")?, element: number(map, "Elem")? });
        }
        if let Some(fields) = value.field("StructT") {
            let fields = fields.list("Field")?;
            if fields.len() > MAX_FIELDS {
                return Err(Error::new(format!("a type of {} fields, at most {MAX_FIELDS}", fields.len())));
            }
            let field = |field: &Value| match field.text("Name")? {
                name if name.len() > MAX_NAME => {
                    Err(Error::new(format!("a field whose name has {} bytes, at most {MAX_NAME}", name.len())))
                }
                name => Ok((Cow::Owned(name), number(field, "Id")?)),
            };
            return fields.iter().map(field).collect::<Result<_>>().map(Self::Struct);
        }
        let marshallers = ["GobEncoderT", "BinaryMarshalerT", "TextMarshalerT"];
        if marshallers.iter().any(|name| value.field(name).is_some()) {
            return Ok(Self::Marshaller);
        }
        Err(Error::new("the definition of a type that is of no kind"))
    }
}

/// Types by number.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    types: BTreeMap<i64, Def>,
    /// How many of them every stream has.
    builtin: usize,
}

impl Schema {
    /// The types that every stream knows: those that definitions are made of.
    pub(crate) fn new() -> Self {
        let common = ("CommonType", COMMON_TYPE);
        let types = BTreeMap::from([
            (
                WIRE_TYPE,
                Def::of([
                    ("ArrayT", ARRAY_TYPE),
                    ("SliceT", SLICE_TYPE),
                    ("StructT", STRUCT_TYPE),
                    ("MapT", MAP_TYPE),
                    ("GobEncoderT", MARSHALLER_TYPE),
                    ("BinaryMarshalerT", MARSHALLER_TYPE),
                    ("TextMarshalerT", MARSHALLER_TYPE),
                ]),
            ),
            (ARRAY_TYPE, Def::of([common, ("Elem", INT), ("Len", INT)])),
            (COMMON_TYPE, Def::of([("Name", STRING), ("Id", INT)])),
            (SLICE_TYPE, Def::of([common, ("Elem", INT)])),
            (STRUCT_TYPE, Def::of([common, ("Field", FIELD_LIST)])),
            (FIELD_TYPE, Def::of([("Name", STRING), ("Id", INT)])),
            (FIELD_LIST, Def::Slice { element: FIELD_TYPE }),
            (MAP_TYPE, Def::of([common, ("Key", INT), ("Elem", INT)])),
            (MARSHALLER_TYPE, Def::of([common])),
        ]);
        Self { builtin: types.len(), types }
    }

    /// The same with types of the program's own.
    #[must_use]
    pub(crate) fn with<const N: usize>(mut self, types: [(i64, Def); N]) -> Self {
        self.types.extend(types);
        self
    }

    pub(super) fn get(&self, number: i64) -> Option<&Def> {
        self.types.get(&number)
    }

    /// Takes in a definition that came over the stream.
    pub(super) fn define(&mut self, number: i64, value: &Value) -> Result<()> {
        if number < FIRST || self.types.len() - self.builtin >= MAX_TYPES {
            return Err(Error::new(format!("type {number}: at most {MAX_TYPES} types, numbered from {FIRST}")));
        }
        if self.types.insert(number, Def::from_value(value)?).is_some() {
            return Err(Error::new(format!("type {number}: defined twice")));
        }
        Ok(())
    }
}
