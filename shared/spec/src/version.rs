//! The versions of the CNI specification.

use std::fmt;

use crate::{Error, Result, code};

/// A version of the CNI specification that podwire speaks, oldest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 0.1.0; also what an absent `cniVersion` means.
    #[default]
    V0_1_0,
    /// 0.2.0: adds VERSION and `dns` at the top of the result.
    V0_2_0,
    /// 0.3.0: adds `interfaces` and any number of addresses.
    V0_3_0,
    /// 0.3.1: as 0.3.0.
    V0_3_1,
    /// 0.4.0: adds CHECK and `prevResult` on DEL.
    V0_4_0,
    /// 1.0.0: drops `version` from the addresses.
    V1_0_0,
    /// 1.1.0: adds GC, STATUS, `mtu` and attributes of routes.
    V1_1_0,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Self; 7] =
        [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    /// The newest version: what VERSION answers with, and errors that come before a version is known.
    pub const LATEST: Self = Self::V1_1_0;

    /// Reads a `cniVersion`; the empty string means 0.1.0.
    ///
    /// # Errors
    /// Code 1 for a version that is not in [`Self::ALL`], listing those that are.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        Self::ALL.into_iter().find(|version| version.as_str() == text).ok_or_else(|| {
            let supported = Self::ALL.map(Self::as_str).join(", ");
            Error::new(code::VERSION, format!("cniVersion {text:?}: not supported"))
                .with_details(format!("supported versions: {supported}"))
        })
    }

    /// The version as it stands in `cniVersion`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p04_every_version_is_read_back_from_its_text() {
        for version in Version::ALL {
            assert_eq!(Version::parse(version.as_str()).unwrap(), version);
        }
        assert!(Version::ALL.is_sorted());
    }

    #[test]
    fn p04_an_absent_version_is_the_oldest_and_a_strange_one_is_code_1() {
        assert_eq!(Version::parse("").unwrap(), Version::V0_1_0);
        let error = Version::parse("2.0.0").unwrap_err();
        assert_eq!(error.code, code::VERSION);
        assert!(error.details.contains("0.1.0") && error.details.contains("1.1.0"), "{error:?}");
    }
}
