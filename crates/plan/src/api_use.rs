//! Deprecated APIs that clients of a cluster ask for, and that an upgrade may take from them.

use std::collections::BTreeSet;
use std::fmt;

use ashlar_api::{Cluster, upgrade};
use serde::{Deserialize, Serialize};

use crate::Snapshot;

/// An API that Kubernetes gives up, and that somebody asked an API server for since that started.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeprecatedApi {
    /// Its group; empty is the core group.
    pub group: String,
    /// Its version.
    pub version: String,
    /// Resource, in the plural.
    pub resource: String,
    /// Subresource, or empty.
    #[serde(default)]
    pub subresource: String,
    /// The release that does not serve it any more (`1.38`); empty if none is named yet.
    #[serde(default)]
    pub removed_release: String,
}

impl DeprecatedApi {
    /// Whether a version (`v1.38.0`) does not serve it any more.
    pub fn is_removed_in(&self, version: &str) -> bool {
        let removed = upgrade::release_of(&self.removed_release);
        removed.is_some_and(|removed| upgrade::release_of(version).is_some_and(|to| removed <= to))
    }
}

impl fmt::Display for DeprecatedApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resource)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        f.write_str(" of ")?;
        if !self.group.is_empty() {
            write!(f, "{}/", self.group)?;
        }
        f.write_str(&self.version)?;
        if !self.removed_release.is_empty() {
            write!(f, " (removed in {})", self.removed_release)?;
        }
        Ok(())
    }
}

/// What a cluster's API servers say of the deprecated APIs that they were asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ApiUseSeen {
    /// One of them could not be asked.
    Unknown {
        /// Why, for people.
        reason: String,
    },
    /// All of them told.
    Seen(BTreeSet<DeprecatedApi>),
}

/// Whether API servers are to be asked which deprecated APIs are in use: an upgrade to another minor version is wished, and has not begun.
pub fn api_use_matters(snapshot: &Snapshot, cluster: &Cluster) -> bool {
    let Some(recorded) = snapshot.images.get(&cluster.record.image) else { return false };
    cluster.record.initialized
        && !cluster.record.stopped
        && !cluster.metadata.is_deleting()
        && upgrade::release_of(&recorded.spec.kubernetes_version)
            < upgrade::release_of(&cluster.spec.kubernetes_version)
}
