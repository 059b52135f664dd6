//! From JSON values to types, with errors that tell where in the value something is wrong.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, Result, code, suggest::did_you_mean};

/// Reads `value` as a `T`.
///
/// # Errors
/// Code 6 for a wrong type, 7 for what cannot be.
pub(crate) fn decode<T: DeserializeOwned>(value: &Value) -> Result<T> {
    T::deserialize(value).map_err(|why| explain(&why, &path_of::<T>(value)))
}

/// Reads `value` as a `T` and lists the paths of the keys that `T` passed over.
pub(crate) fn decode_all<T: DeserializeOwned>(value: &Value) -> Result<(T, Vec<String>)> {
    let mut ignored = Vec::new();
    let read = serde_ignored::deserialize(value, |path| ignored.push(path.to_string()));
    // An optional value on the way adds a question mark to the path.
    let ignored = ignored.into_iter().map(|path| path.replace(".?.", ".")).collect();
    read.map(|read| (read, ignored)).map_err(|why| explain(&why, &path_of::<T>(value)))
}

/// Where in `value` it is that a `T` cannot be read. To keep an eye on that costs as much as to read it, so that it is
/// done once it is asked for.
fn path_of<T: DeserializeOwned>(value: &Value) -> String {
    let mut track = serde_path_to_error::Track::new();
    let _ = T::deserialize(serde_path_to_error::Deserializer::new(value, &mut track));
    track.path().to_string()
}

/// Turns serde's error into ours: which path, what was expected, what was found, what may have been meant.
fn explain(why: &serde_json::Error, path: &str) -> Error {
    let said = why.to_string();
    let path = if path == "." { "stdin" } else { path };
    if said.starts_with("invalid type") {
        return Error::new(code::DECODE, format!("{path}: {said}"));
    }
    // serde quotes in back ticks: the value first, then what may stand there.
    let mut quoted = said.split('`').skip(1).step_by(2);
    let near = match (said.starts_with("unknown variant"), quoted.next()) {
        (true, Some(found)) => did_you_mean(found, quoted),
        _ => String::new(),
    };
    Error::invalid(path, format!("{}{near}", said.replace('`', "\"")))
}
