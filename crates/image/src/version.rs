//! Kubernetes versions.

use std::str::FromStr;

use crate::error::Error;

/// `v1.37.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 1.
    pub major: u32,
    /// Minor.
    pub minor: u32,
    /// Patch.
    pub patch: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = Error;

    /// Takes `v1.37.2` and `1.37.2`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Option<Vec<u32>> =
            text.strip_prefix('v').unwrap_or(text).split('.').map(|part| part.parse().ok()).collect();
        match parts.as_deref() {
            Some([major, minor, patch]) => Ok(Self { major: *major, minor: *minor, patch: *patch }),
            _ => Err(Error::invalid(
                "Kubernetes version",
                format!("`{text}` is not a Kubernetes version; write all three numbers, as in v1.37.2"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_numbers_or_nothing() {
        assert_eq!("1.37.2".parse::<Version>().unwrap().to_string(), "v1.37.2");
        for bad in ["v1.37", "latest", "v1.37.2-rc.1", ""] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }
}
