//! What a copy says of itself.

use ashlar_api::NamespacedName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    effects::CopyOwner,
    vault::{Sealed, VaultState},
};

/// Whose copy it is, of when, and of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyFacts {
    /// The installation, which the marks on hosts name as the owner.
    pub installation: Uuid,
    /// Namespace of the cluster.
    pub namespace: String,
    /// The cluster.
    pub cluster: String,
    /// Its identity: another cluster of the name has another. Copies of before it was noted have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_uid: Option<Uuid>,
    /// When it was taken, to the second.
    pub taken_at: Timestamp,
    /// Node whose member it was taken of.
    pub node: String,
    /// Version of that member.
    pub etcd_version: String,
    /// Version that the node runs.
    pub kubernetes_version: String,
}

impl CopyFacts {
    /// The cluster.
    pub fn key(&self) -> NamespacedName {
        NamespacedName::new(&self.namespace, &self.cluster)
    }

    /// Whether it is a copy of this very cluster. One that does not name its identity is, if it was taken since there is the
    /// cluster: the installation had no other of the name then.
    pub fn is_of(&self, owner: &CopyOwner) -> bool {
        let is_its = match self.cluster_uid {
            Some(uid) => uid == owner.uid,
            None => owner.since.is_some_and(|since| self.taken_at > since),
        };
        self.installation == owner.installation && self.key() == owner.cluster && is_its
    }

    /// What everything of this copy is bound to. `/` cannot be part of a namespace or name.
    pub(super) fn place(&self, what: &str) -> String {
        let CopyFacts { installation, namespace, cluster, taken_at, .. } = self;
        format!("ashlar.dev/etcd-copy/{what}/{installation}/{namespace}/{cluster}/{}", taken_at.as_second())
    }
}

/// What a copy says in the clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// Whose copy it is.
    pub copy: CopyFacts,
    /// The key that opens it, and what else the vault needs: what `vault.json` says.
    pub vault: VaultState,
    /// The copy's data key, sealed with that key.
    pub sealed_data_key: String,
    /// etcd's snapshot.
    pub database: CopyFile,
    /// The objects.
    pub contents: CopyFile,
}

impl Manifest {
    /// The format that is written now.
    pub const FORMAT: u32 = 1;
}

/// A sealed file of a copy, as it lies there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CopyFile {
    /// Its bytes.
    pub sealed_bytes: u64,
    /// Its digest, in hex: that it is whole can be seen without the key.
    pub sealed_sha256: String,
}

impl From<Sealed> for CopyFile {
    fn from(sealed: Sealed) -> Self {
        CopyFile { sealed_bytes: sealed.bytes, sealed_sha256: crate::hex::encode(&sealed.sha256) }
    }
}

/// What is sealed beside the database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contents {
    /// As in the manifest.
    pub copy: CopyFacts,
    /// As in the manifest; with it the objects' secrets open, too.
    pub vault: VaultState,
    /// Version of the Ashlar that took it.
    pub ashlar_version: String,
    /// Bytes of the database, without the digest at its end.
    pub database_bytes: u64,
    /// The digest at its end, in hex.
    pub database_sha256: String,
    /// The cluster, its groups, machines, volumes and secrets; classes, networks, images, hosts and pools that they name.
    pub objects: Vec<serde_json::Value>,
}
