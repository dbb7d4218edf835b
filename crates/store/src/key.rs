//! The name of an object.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::StoreError;

/// Names one object: `Kind/namespace/name`.
///
/// Ordered by kind, then namespace, then name, so that the objects of one kind, and of one tenant within it,
/// lie together in every implementation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The kind, for example `Machine`.
    pub kind: String,
    /// The tenant, or empty for an object of the whole pool (a Host, for example).
    pub namespace: String,
    /// The name, unique within kind and namespace.
    pub name: String,
}

impl Key {
    /// A key in a namespace; an empty namespace means that the object belongs to the whole pool.
    pub fn new(kind: impl Into<String>, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }

    /// A key of an object of the whole pool.
    pub fn cluster_scoped(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self::new(kind, "", name)
    }

    /// Whether this key belongs to a listing of `kind` and `namespace` (`None`: any).
    pub(crate) fn matches(&self, kind: Option<&str>, namespace: Option<&str>) -> bool {
        kind.is_none_or(|k| k == self.kind) && namespace.is_none_or(|n| n == self.namespace)
    }

    /// Refuses keys that could not be written unambiguously: empty kind or name, `/`, control characters.
    pub(crate) fn validate(&self) -> Result<(), StoreError> {
        let invalid = |reason: String| Err(StoreError::InvalidKey { key: self.clone(), reason });
        for (part, text) in [("kind", &self.kind), ("namespace", &self.namespace), ("name", &self.name)] {
            if text.is_empty() && part != "namespace" {
                return invalid(format!("its {part} is empty"));
            }
            if let Some(c) = text.chars().find(|c| *c == '/' || c.is_control()) {
                return invalid(format!("its {part} contains {c:?}"));
            }
        }
        Ok(())
    }
}

/// `Kind/namespace/name`, or `Kind/name` where there is no namespace.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.kind, self.name)
        } else {
            write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_as_paths_and_sort_by_kind_first() {
        let host = Key::cluster_scoped("Host", "h1");
        let machine = Key::new("Machine", "blue", "ctrl-1");
        assert_eq!(host.to_string(), "Host/h1");
        assert_eq!(machine.to_string(), "Machine/blue/ctrl-1");
        assert!(host < machine);
        assert!(machine < Key::new("Machine", "green", "a"));
    }

    #[test]
    fn ambiguous_keys_are_refused() {
        for bad in [
            Key::new("", "a", "b"),
            Key::new("K", "a", ""),
            Key::new("K", "a/b", "c"),
            Key::new("K", "", "a\n"),
        ] {
            assert!(matches!(bad.validate(), Err(StoreError::InvalidKey { .. })), "{bad:?}");
        }
        assert!(Key::cluster_scoped("Host", "h1").validate().is_ok());
    }
}
