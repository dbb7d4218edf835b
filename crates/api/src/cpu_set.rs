//! Sets of hardware threads, written as Linux and libvirt write them: `0-3,8,10-11`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Hardware threads of a host, by the number that the kernel gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuSet(pub BTreeSet<u32>);

/// Why a text is not a set of threads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a set of threads: write numbers and ranges with commas between them (`0-3,8`)")]
pub struct ParseCpuSetError {
    text: String,
}

/// No host has more threads than this; a range past it is a slip of the keyboard.
const HIGHEST: u32 = 8191;

impl CpuSet {
    /// Whether no thread is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::str::FromStr for CpuSet {
    type Err = ParseCpuSetError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseCpuSetError { text: text.to_owned() };
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u32>().ok().filter(|number| is_number && *number <= HIGHEST).ok_or_else(error)
        };
        let mut set = BTreeSet::new();
        if text.trim().is_empty() {
            return Ok(CpuSet(set));
        }
        for part in text.split(',') {
            let part = part.trim();
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(error());
            }
            set.extend(first..=last);
        }
        Ok(CpuSet(set))
    }
}

impl std::fmt::Display for CpuSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut numbers = self.0.iter().copied().peekable();
        let mut first_part = true;
        while let Some(first) = numbers.next() {
            let mut last = first;
            while numbers.peek() == Some(&(last + 1)) {
                last += 1;
                numbers.next();
            }
            if !first_part {
                f.write_str(",")?;
            }
            first_part = false;
            match last - first {
                0 => write!(f, "{first}")?,
                _ => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl Serialize for CpuSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CpuSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for CpuSet {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CpuSet".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "cpu-set", "pattern": "^[0-9,-]*$", "examples": ["0-3,8"]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written_in_one_form() {
        for (text, written) in
            [("", ""), ("3", "3"), ("0-3,8", "0-3,8"), ("8,0,1,2,3", "0-3,8"), ("1-1,2", "1-2")]
        {
            assert_eq!(text.parse::<CpuSet>().map(|set| set.to_string()), Ok(written.to_owned()));
        }
        for text in ["a", "3-1", "1,,2", "-1", "0-100000", "1-2-3", "+1"] {
            assert!(text.parse::<CpuSet>().is_err(), "{text}");
        }
    }
}
