//! From JSON values to types: which keys were passed over on the way, and where it is that something is wrong.
//!
//! A plugin reads its configuration in every call, mostly in vain as far as these two are concerned. So the way down is
//! a chain of references on the stack, which becomes text only where it is told.

use std::{cell::RefCell, slice};

use serde::{
    Deserializer,
    de::{
        DeserializeOwned, DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
        value::BorrowedStrDeserializer,
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Map, Value, map};

/// A value that was passed over, and its path: `vlanTrunk[0].tag`.
pub(crate) type Ignored<'de> = (String, &'de Value);

/// How keys are compared with the names of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    Exact,
    /// Where no key is a field's, the first that differs by the case of ASCII letters only, as Go reads JSON.
    AnyCase,
}

/// Reads `value` as a `T` and lists what `T` passed over.
///
/// # Errors
/// What is wrong, and its path; that of the whole is `.`.
pub(crate) fn decode<T: DeserializeOwned>(value: &Value, keys: Keys) -> Result<(T, Vec<Ignored<'_>>), (Error, String)> {
    let found = Found::default();
    match T::deserialize(Place { value, way: Way::Top, found: &found, keys }) {
        Ok(read) => Ok((read, found.ignored.into_inner())),
        Err(why) => Err((why, found.wrong.into_inner().unwrap_or_else(|| ".".to_owned()))),
    }
}

#[derive(Default)]
struct Found<'de> {
    ignored: RefCell<Vec<Ignored<'de>>>,
    /// Where the first error was.
    wrong: RefCell<Option<String>>,
}

/// The way from the whole to a value in it.
#[derive(Clone, Copy)]
enum Way<'a> {
    Top,
    Key(&'a Way<'a>, &'a str),
    Number(&'a Way<'a>, usize),
}

impl Way<'_> {
    fn path(self) -> String {
        match self {
            Way::Top => String::new(),
            Way::Key(Way::Top, key) => key.to_owned(),
            Way::Key(way, key) => way.path() + "." + key,
            Way::Number(way, number) => way.path() + &format!("[{number}]"),
        }
    }
}

/// A value in its place, to be read.
#[derive(Clone, Copy)]
struct Place<'a, 'de> {
    value: &'de Value,
    way: Way<'a>,
    found: &'a Found<'de>,
    keys: Keys,
}

impl<'de> Place<'_, 'de> {
    /// Reads what `seed` is for. Of an error the innermost place counts, which hears of it first.
    fn read<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self).inspect_err(|_| self.is_wrong())
    }

    fn is_wrong(self) {
        self.found.wrong.borrow_mut().get_or_insert_with(|| self.way.path());
    }
}

impl<'de> Deserializer<'de> for Place<'_, 'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(all) => {
                let mut items = Items { all: self, rest: all.iter(), next: 0 };
                let read = visitor.visit_seq(&mut items)?;
                match items.rest.len() {
                    0 => Ok(read),
                    _ => Err(Error::invalid_length(all.len(), &"fewer elements in array")),
                }
            }
            Value::Object(all) => all.deserialize_any(Members { all: self, by_key: all, fields: &[], visitor }),
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(all) => all.deserialize_any(Members { all: self, by_key: all, fields, visitor }),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value.deserialize_enum(name, variants, visitor).inspect_err(|_| {
            // Of `{"variant": content}` it is the content.
            let is_one = |all: &&Map<String, Value>| all.len() == 1;
            let only = self.value.as_object().filter(is_one).and_then(|all| all.iter().next());
            if let Some((key, value)) = only.filter(|(key, _)| variants.contains(&key.as_str())) {
                Place { value, way: Way::Key(&self.way, key), ..self }.is_wrong();
            }
        })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.found.ignored.borrow_mut().push((self.way.path(), self.value));
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier
    }
}

/// The items of a list.
struct Items<'a, 'de> {
    all: Place<'a, 'de>,
    rest: slice::Iter<'de, Value>,
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(value) = self.rest.next() else { return Ok(None) };
        let way = Way::Number(&self.all.way, self.next);
        self.next += 1;
        Place { value, way, ..self.all }.read(seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The members of an object, for `visitor`. How a key is read is left to `serde_json`, which takes those of a map of
/// numbers for numbers.
struct Members<'a, 'de, V> {
    all: Place<'a, 'de>,
    by_key: &'de Map<String, Value>,
    /// Those of a struct.
    fields: &'static [&'static str],
    visitor: V,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Members<'_, 'de, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<K: MapAccess<'de>>(self, keys: K) -> Result<V::Value, K::Error> {
        let Self { all, by_key, fields, visitor } = self;
        visitor.visit_map(Entries { all, keys, by_key, fields, taken: Vec::new(), rest: by_key.iter(), next: None })
    }
}

struct Entries<'a, 'de, K> {
    all: Place<'a, 'de>,
    keys: K,
    by_key: &'de Map<String, Value>,
    fields: &'static [&'static str],
    /// The fields that a key in another case has been taken for: each is taken for one only.
    taken: Vec<&'static str>,
    rest: map::Iter<'de>,
    next: Option<(&'de String, &'de Value)>,
}

impl<K> Entries<'_, '_, K> {
    /// Whether `key` is a field's, in another case if that does not count.
    fn is_field(&self, key: &str) -> bool {
        let any_case = self.all.keys == Keys::AnyCase;
        self.fields.iter().any(|field| *field == key || any_case && field.eq_ignore_ascii_case(key))
    }

    /// The field that the next key stands for in another case.
    fn field(&self) -> Option<&'static str> {
        let (key, _) = self.next?;
        let is_it = |field: &&&'static str| {
            field.eq_ignore_ascii_case(key) && !self.by_key.contains_key(**field) && !self.taken.contains(*field)
        };
        self.fields.iter().find(is_it).copied()
    }
}

impl<'de, K: MapAccess<'de>> MapAccess<'de> for Entries<'_, 'de, K> {
    type Error = K::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, K::Error> {
        self.next = self.rest.next();
        // To Go a field that is null is one that is not there.
        while let Some((key, Value::Null)) = self.next
            && self.is_field(key)
        {
            self.keys.next_key::<IgnoredAny>()?;
            self.next = self.rest.next();
        }
        if self.all.keys == Keys::AnyCase
            && let Some(field) = self.field()
        {
            self.taken.push(field);
            self.keys.next_key::<IgnoredAny>()?;
            return seed.deserialize(BorrowedStrDeserializer::new(field)).map(Some);
        }
        let key = self.keys.next_key_seed(seed);
        if let (Err(_), Some((key, value))) = (&key, self.next) {
            Place { value, way: Way::Key(&self.all.way, key), ..self.all }.is_wrong();
        }
        key
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, K::Error> {
        let (key, value) = self.next.ok_or_else(|| K::Error::custom("a value without a key"))?;
        // The error is of the same type, which cannot be said here.
        Place { value, way: Way::Key(&self.all.way, key), ..self.all }.read(seed).map_err(K::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Sample {
        list: Option<Vec<Item>>,
        numbers: BTreeMap<u8, u8>,
        pair: (u8, u8),
        mode: Mode,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Item {
        id: Id,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Id(u8);

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        #[default]
        Bridge,
        Private,
    }

    #[test]
    fn p05_every_shape_is_read_as_serde_json_reads_it() {
        for value in [
            json!({}),
            json!({"list": null}),
            json!({"list": [{"id": 1}, {"id": 2}], "numbers": {"7": 8}, "pair": [1, 2], "mode": "private"}),
            json!({"mode": {"private": null}, "list": [[3]], "numbers": {}}),
            json!([null, {"1": 2}]),
        ] {
            let expected: Sample = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(decode::<Sample>(&value, Keys::Exact).unwrap(), (expected, vec![]), "{value}");
        }
    }

    #[test]
    fn p05_an_error_is_serde_jsons_and_in_the_innermost_place() {
        for (value, path) in [
            (json!(7), "."),
            (json!({"list": 7}), "list"),
            (json!({"list": [{"id": 1}, {}]}), "list[1]"),
            (json!({"list": [{"id": 1}, {"id": 256}]}), "list[1].id"),
            (json!({"numbers": {"1": 2, "x": 3}}), "numbers.x"),
            (json!({"numbers": {"256": 3}}), "numbers.256"),
            (json!({"numbers": {"1": "x"}}), "numbers.1"),
            (json!({"numbers": [1]}), "numbers"),
            (json!({"pair": [1]}), "pair"),
            (json!({"pair": [1, 2, 3]}), "pair"),
            (json!({"mode": "privat"}), "mode"),
            (json!({"mode": {"privat": null}}), "mode"),
            (json!({"mode": {"private": 1}}), "mode.private"),
            (json!({"mode": {"bridge": null, "private": 1}}), "mode"),
        ] {
            let (why, at) = decode::<Sample>(&value, Keys::Exact).unwrap_err();
            let expected = serde_json::from_value::<Sample>(value.clone()).unwrap_err();
            assert_eq!((why.to_string(), &*at), (expected.to_string(), path), "{value}");
        }
    }

    #[test]
    fn a_field_that_is_null_is_not_there() {
        let value = json!({"list": [{"id": 1, "Id": null, "x": null}], "numbers": null, "pair": null, "mode": null});
        for keys in [Keys::Exact, Keys::AnyCase] {
            let (sample, ignored) = decode::<Sample>(&value, keys).unwrap();
            assert_eq!(sample, Sample { list: Some(vec![Item { id: Id(1) }]), ..Sample::default() });
            let ignored: Vec<_> = ignored.into_iter().map(|(path, _)| path).collect();
            let of_case = if keys == Keys::Exact { &["list[0].Id", "list[0].x"][..] } else { &["list[0].x"] };
            assert_eq!(ignored, of_case);
        }
        let (why, at) = decode::<Item>(&json!({"id": null}), Keys::Exact).unwrap_err();
        assert_eq!((why.to_string(), &*at), ("missing field `id`".to_owned(), "."));
        assert!(decode::<Sample>(&json!({"numbers": {"1": null}}), Keys::Exact).is_err(), "a map has no fields");
    }

    #[test]
    fn keys_in_another_case_are_taken_where_no_key_is_exact() {
        let list = json!([{"ID": 1}, {"id": 2, "Id": 3}, {"iD": 4, "Id": 5}]);
        let value = json!({"LIST": list, "Mode": "private"});
        let (sample, ignored) = decode::<Sample>(&value, Keys::AnyCase).unwrap();
        // Keys are sorted.
        let items = [1, 2, 5].map(|id| Item { id: Id(id) });
        assert_eq!((sample.list, sample.mode), (Some(items.into()), Mode::Private));
        let ignored: Vec<_> = ignored.into_iter().map(|(path, _)| path).collect();
        assert_eq!(ignored, ["LIST[1].Id", "LIST[2].iD"]);
    }

    #[test]
    fn p05_many_keys_in_many_cases_are_read_in_one_go() {
        const FIELD: &str = "abcdefghijklmn";
        #[derive(Deserialize)]
        struct Sample {
            abcdefghijklmn: u8,
        }
        // Each case of it but the exact one, behind keys that stand before them all.
        let upper =
            |bits: usize, (place, letter): (usize, u8)| if bits >> place & 1 == 1 { letter - 32 } else { letter };
        let case = |bits| FIELD.bytes().enumerate().map(|letter| char::from(upper(bits, letter))).collect::<String>();
        let cases = (1..1 << FIELD.len()).map(|bits| (case(bits), json!(1)));
        let value = Value::Object((0..50_000).map(|number| (format!("!{number}"), json!(0))).chain(cases).collect());
        let begin = std::time::Instant::now();
        let (sample, ignored) = decode::<Sample>(&value, Keys::AnyCase).unwrap();
        assert_eq!((sample.abcdefghijklmn, ignored.len()), (1, 50_000 + (1 << FIELD.len()) - 2));
        assert!(begin.elapsed().as_secs() < 3, "{:?}", begin.elapsed());
    }

    #[test]
    fn p06_what_is_passed_over_is_told_with_its_path() {
        let value = json!({"a.b": 1, "list": [{"id": 1, "x/y": [2]}], "7": {"deep": 3}});
        let (_, ignored) = decode::<Sample>(&value, Keys::Exact).unwrap();
        let expected = [("7", json!({"deep": 3})), ("a.b", json!(1)), ("list[0].x/y", json!([2]))];
        assert_eq!(ignored, expected.each_ref().map(|(path, value)| (path.to_string(), value)));
    }
}
