//! JSON as values, with an eye on keys that stand in an object more than once.
//!
//! Of those the last one counts, as it does for the reference plugins. But who wrote the first one believes in it, and
//! whoever checks a configuration before it comes here may have looked at that one; so it has to be told.

use std::{cell::RefCell, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, map::Entry};

/// How many such keys are remembered: one is wrong already.
const MOST: usize = 8;

/// Reads one value, and the keys in it that were given more than once.
pub(crate) fn read(text: &str) -> serde_json::Result<(Value, Vec<String>)> {
    let twice = RefCell::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Any(&twice).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((value, twice.into_inner()))
}

/// Any value; where to put the keys.
#[derive(Clone, Copy)]
struct Any<'a>(&'a RefCell<Vec<String>>);

impl<'de> DeserializeSeed<'de> for Any<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self)?;
            match all.entry(key) {
                Entry::Vacant(entry) => drop(entry.insert(value)),
                Entry::Occupied(mut entry) => {
                    let mut twice = self.0.borrow_mut();
                    if twice.len() < MOST && !twice.contains(entry.key()) {
                        twice.push(entry.key().clone());
                    }
                    entry.insert(value);
                }
            }
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p05_of_keys_that_are_given_twice_the_last_counts_and_all_are_named() {
        let text = r#"{"a": 1, "b": [{"c": 1.5, "c": null, "c": "x"}], "a": -2, "d": {"a": 18446744073709551615}}"#;
        let (value, twice) = read(text).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(text).unwrap(), "as serde_json reads it");
        assert_eq!(twice, ["c", "a"]);
        assert_eq!(value["a"], -2);
        assert!(read(r#"{"a": 1, "b": {"a": 2}}"#).unwrap().1.is_empty(), "in two objects");
    }

    #[test]
    fn p05_what_is_no_json_is_refused_as_ever() {
        for text in ["", "{", "{} x", "[1,]", "1e400", &"[".repeat(1000), "\"\u{0}\""] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
