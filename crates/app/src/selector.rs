//! Label selectors: `key=value`, `key!=value`, `key`, `!key`, joined by commas.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::failure::{Failure, Result};

/// A conjunction of requirements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Equals(String, String),
    Differs(String, String),
    Exists(String),
    Absent(String),
}

#[derive(Deserialize)]
struct Labelled {
    metadata: Labels,
}

#[derive(Deserialize)]
struct Labels {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl Selector {
    /// Reads a selector.
    pub(crate) fn parse(text: &str) -> Result<Selector> {
        let mut requirements = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let requirement = if let Some((key, value)) = part.split_once("!=") {
                Requirement::Differs(key.trim().to_owned(), value.trim().to_owned())
            } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                Requirement::Equals(key.trim().to_owned(), value.trim().to_owned())
            } else if let Some(key) = part.strip_prefix('!') {
                Requirement::Absent(key.trim().to_owned())
            } else {
                Requirement::Exists(part.to_owned())
            };
            let (Requirement::Equals(key, _)
            | Requirement::Differs(key, _)
            | Requirement::Exists(key)
            | Requirement::Absent(key)) = &requirement;
            if key.is_empty() || key.contains(char::is_whitespace) {
                return Err(Failure::new(format!("`{part}` is not a label selector"))
                    .hint("write key=value, key!=value, key or !key; several with commas"));
            }
            requirements.push(requirement);
        }
        Ok(Selector(requirements))
    }

    /// Whether an object's labels fit.
    pub(crate) fn matches(&self, json: &str) -> Result<bool, serde_json::Error> {
        if self.0.is_empty() {
            return Ok(true);
        }
        let labels = serde_json::from_str::<Labelled>(json)?.metadata.labels;
        Ok(self.0.iter().all(|requirement| match requirement {
            Requirement::Equals(key, value) => labels.get(key) == Some(value),
            Requirement::Differs(key, value) => labels.get(key) != Some(value),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(labels: serde_json::Value) -> String {
        serde_json::json!({"metadata": {"labels": labels}}).to_string()
    }

    #[test]
    fn requirements_are_joined() {
        let both = object(serde_json::json!({"cluster": "demo", "role": "worker"}));
        let one = object(serde_json::json!({"cluster": "demo"}));
        for (text, fits_both, fits_one) in [
            ("", true, true),
            ("cluster=demo", true, true),
            ("cluster==demo,role=worker", true, false),
            ("role", true, false),
            ("!role", false, true),
            ("role!=worker", false, true),
            ("cluster=other", false, false),
        ] {
            let selector = Selector::parse(text).map_err(|failure| failure.chain).unwrap();
            assert_eq!(selector.matches(&both).unwrap(), fits_both, "{text}");
            assert_eq!(selector.matches(&one).unwrap(), fits_one, "{text}");
        }
        assert!(Selector::parse("=x").is_err());
        assert!(Selector::parse("a b=x").is_err());
    }
}
