//! A call up to the point where the kernel or a disk would be asked: all that hostile input meets first. Programs that
//! try much input in little time, such as fuzzers, call it; no plugin does, so that it costs none a byte.

use podwire_ipam::Ipam;
use podwire_spec::{AddResult, Env, Error, NetConf};

use crate::{Attach, Plugin, output::to_wire, run::accept};

/// Reads `text` for `P` and refuses what `P` would refuse before it looks at anything.
///
/// # Errors
/// The error object that the runtime would get.
pub fn rehearse<P: Plugin>(env: &Env, text: &str) -> Result<NetConf<P::Config>, Error> {
    let conf = NetConf::parse(text)?;
    accept(env, &conf).and_then(|()| P::validate(env, &conf)).map_err(|error| to_wire(&error))?;
    Ok(conf)
}

/// The same, for an address plugin.
///
/// # Errors
/// The error object that the runtime would get.
pub fn rehearse_ipam<P: Ipam>(env: &Env, text: &str) -> Result<NetConf<P::Config>, Error> {
    let conf = NetConf::parse_ipam(text)?;
    accept(env, &conf).map_err(|error| to_wire(&error))?;
    Ok(conf)
}

/// Completes `result` as an ADD would, once its delegate has given addresses.
///
/// # Errors
/// The error object that the runtime would get.
pub fn rehearse_complete<T: Attach>(conf: &NetConf<T::Config>, result: &mut AddResult) -> Result<(), Error> {
    T::complete(conf, result).map_err(|error| to_wire(&error))
}
