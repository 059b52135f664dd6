//! From the errors of the code to the error of the protocol.

use anyhow::anyhow;
use podwire_net::Errno;
use podwire_spec::{Error, code};

use crate::Result;

/// Several errors as one, `Ok` where there are none: DEL and GC try everything before they complain.
///
/// # Errors
/// The one error, or all of them joined under the code of the first.
pub fn join(mut errors: Vec<anyhow::Error>) -> Result<()> {
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        count => {
            let all: Vec<_> = errors.iter().map(to_wire).collect();
            let details: Vec<_> = all.iter().map(ToString::to_string).collect();
            Err(anyhow!(
                Error::new(all[0].code, format!("{count} errors, the first: {}", all[0].msg))
                    .with_details(details.join(" | "))
            ))
        }
    }
}

/// The error object for a chain of errors: an [`Error`] anywhere in it decides the code, the outermost words are the
/// message, the rest are the details.
pub(crate) fn to_wire(error: &anyhow::Error) -> Error {
    let own = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    let code = own.map_or_else(|| code_of(error), |own| own.code);
    let mut chain = error.chain().map(told);
    let msg = match error.downcast_ref::<Error>() {
        Some(own) if chain.len() == 1 => return own.clone(),
        _ => chain.next().unwrap_or_default(),
    };
    let details: Vec<_> = chain.collect();
    Error { code, msg, details: details.join(": ") }
}

/// The words of one error; those of an I/O error with its errno by name.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error).map(Errno::from_raw) {
        Some(errno) => format!("{errno:?} ({})", errno.desc()),
        None => error.to_string(),
    }
}

fn code_of(error: &anyhow::Error) -> u32 {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<podwire_net::Error>() {
            return match error.errno {
                Some(Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT) => code::NO_KERNEL_FEATURE,
                Some(Errno::ENOBUFS | Errno::ENOMEM | Errno::EAGAIN) => code::TRY_AGAIN,
                Some(Errno::EEXIST) => code::EXISTS,
                _ => code::KERNEL,
            };
        }
        if cause.downcast_ref::<std::io::Error>().is_some() {
            return code::IO;
        }
    }
    code::KERNEL
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn p15_a_code_anywhere_in_the_chain_counts_and_the_chain_is_told() {
        let inner: Result<()> = Err(Error::new(code::NO_ADDRESS, "range full").with_details("10.0.0.0/30").into());
        let wire = to_wire(&inner.context("delegate \"host-local\"").unwrap_err());
        assert_eq!(wire.code, code::NO_ADDRESS);
        assert_eq!(wire.msg, "delegate \"host-local\"");
        assert_eq!(wire.details, "range full; 10.0.0.0/30");
    }

    #[test]
    fn p15_a_kernel_error_names_object_operation_and_errno() {
        let error = podwire_net::Error::new("link \"eth0\"", "create", Errno::ENOBUFS);
        let wire = to_wire(&anyhow::Error::from(error));
        assert_eq!(wire.code, code::TRY_AGAIN);
        assert!(wire.msg.starts_with("link \"eth0\": create: ENOBUFS"), "{wire}");
    }

    #[test]
    fn p15_an_io_error_is_told_with_its_errno_by_name() {
        let error = std::io::Error::from_raw_os_error(Errno::ENOSPC as i32);
        let wire = to_wire(&anyhow::Error::from(error).context("runtime: start"));
        assert_eq!((wire.code, wire.msg.as_str()), (code::IO, "runtime: start"));
        assert!(wire.details.starts_with("ENOSPC ("), "{wire}");
    }

    #[test]
    fn p22_joined_errors_are_all_told() {
        assert!(join(vec![]).is_ok());
        let error = join(vec![anyhow!("first"), Error::new(code::IO, "second").into()]).unwrap_err();
        let wire = to_wire(&error);
        assert!(wire.msg.contains("2 errors") && wire.details.contains("first") && wire.details.contains("second"));
    }
}
