//! Values as people write them: a choice by its name or its number, a number or a switch also as text.

use std::{fmt, marker::PhantomData};

use podwire_plugin::net::Choice;
use serde::{
    Deserializer,
    de::{Error, Visitor},
};

/// A choice that may be absent.
pub(crate) fn choice<'de, D: Deserializer<'de>, T: Choice>(deserializer: D) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_any(Choices(PhantomData)).map(Some)
}

/// A number that may be absent.
pub(crate) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    deserializer.deserialize_any(Number).map(Some)
}

/// A switch that may be absent: a boolean, or 0 or 1.
pub(crate) fn switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    deserializer.deserialize_any(Switch).map(Some)
}

struct Choices<T>(PhantomData<T>);

impl<T: Choice> Visitor<'_> for Choices<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of {:?}, or its number from 0 to {}", T::NAMES, T::NAMES.len() - 1)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::of_text(text).ok_or_else(|| E::unknown_variant(text, T::NAMES))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

struct Number;

impl Visitor<'_> for Number {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number from 0 to 2147483647, or one as text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u32, E> {
        let number = text.parse::<u64>().map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))?;
        self.visit_u64(number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u32, E> {
        // The kernel's own limit: it keeps these as ints.
        let fits = u32::try_from(number).ok().filter(|&number| i32::try_from(number).is_ok());
        fits.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self))
    }
}

struct Switch;

impl Visitor<'_> for Switch {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true or false, or 1 or 0")
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<bool, E> {
        Ok(on)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<bool, E> {
        match number {
            0 | 1 => Ok(number == 1),
            _ => Err(E::invalid_value(serde::de::Unexpected::Unsigned(number), &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        match text {
            "1" | "true" => Ok(true),
            "0" | "false" => Ok(false),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }
}
