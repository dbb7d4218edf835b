//! Amounts of memory and disk: stored in MiB, written as Kubernetes quantities (`16Gi`).

use serde::{Deserialize, Serialize};

/// An amount of memory or disk in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mebibytes(pub u64);

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an amount: write a whole number with Mi, Gi or Ti (as 512Mi or 16Gi)")]
pub struct ParseAmountError {
    text: String,
}

impl Mebibytes {
    /// Whole GiB.
    pub const fn from_gib(gib: u64) -> Self {
        Mebibytes(gib * 1024)
    }

    /// Bytes.
    pub const fn bytes(self) -> u64 {
        self.0 * 1024 * 1024
    }
}

impl std::str::FromStr for Mebibytes {
    type Err = ParseAmountError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseAmountError { text: text.to_owned() };
        let (digits, factor) = [("Mi", 1), ("Gi", 1024), ("Ti", 1024 * 1024)]
            .into_iter()
            .find_map(|(suffix, factor)| text.strip_suffix(suffix).map(|digits| (digits, factor)))
            .ok_or_else(error)?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        let count: u64 = digits.parse().map_err(|_| error())?;
        // 2^40 MiB = one EiB: more is a slip of the keyboard, and would overflow sums.
        count.checked_mul(factor).filter(|mib| *mib <= 1 << 40).map(Mebibytes).ok_or_else(error)
    }
}

impl std::fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            mib if mib != 0 && mib % (1024 * 1024) == 0 => write!(f, "{}Ti", mib / (1024 * 1024)),
            mib if mib != 0 && mib % 1024 == 0 => write!(f, "{}Gi", mib / 1024),
            mib => write!(f, "{mib}Mi"),
        }
    }
}

impl Serialize for Mebibytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mebibytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Mebibytes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Mebibytes".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "mebibytes", "pattern": "^[0-9]+(Mi|Gi|Ti)$", "examples": ["512Mi", "16Gi"]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_that_are_none_say_how_to_write_one() {
        for text in [
            "",
            "16",
            "16G",
            "16GB",
            "1.5Gi",
            "-1Gi",
            "+1Gi",
            " 1Gi",
            "1 Gi",
            "Gi",
            "1Ki",
            "99999999999999Ti",
        ] {
            let error = text.parse::<Mebibytes>().unwrap_err().to_string();
            assert!(error.contains("16Gi") && error.contains(text), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_the_same(mib in 0..=1_u64 << 40) {
            let amount = Mebibytes(mib);
            proptest::prop_assert_eq!(amount.to_string().parse(), Ok(amount));
            let json = serde_json::to_string(&amount).unwrap();
            proptest::prop_assert_eq!(serde_json::from_str::<Mebibytes>(&json).unwrap(), amount);
        }

        #[test]
        fn no_text_makes_it_panic_or_overflow(text in "[0-9]{0,25}(Mi|Gi|Ti|.{0,2})") {
            if let Ok(amount) = text.parse::<Mebibytes>() {
                proptest::prop_assert!(amount.0 <= 1 << 40 && amount.bytes() / (1024 * 1024) == amount.0);
            }
        }
    }
}
