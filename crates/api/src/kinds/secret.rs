//! Secret: sealed bytes. Only the engine opens them; plans and snapshots hold names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Kind, Nothing, Resource, Spec};

/// Sealed bytes.
pub type Secret = Resource<SecretSpec>;

/// Envelope-encrypted values; nothing in here is plain.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretSpec {
    /// What it is.
    pub purpose: SecretPurpose,
    /// Id of the key-encryption key that seals the data key.
    pub key_id: String,
    /// Data key, sealed by the key-encryption key, base64.
    pub sealed_data_key: String,
    /// While the key is being changed: the data key, sealed by the other one too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_seal: Option<Seal>,
    /// Names of the values and the values sealed by the data key, base64.
    pub sealed: BTreeMap<String, String>,
}

/// A data key, sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Seal {
    /// Id of the key-encryption key that seals it.
    pub key_id: String,
    /// Base64.
    pub sealed_data_key: String,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SecretSpec {
    /// Names only: even sealed bytes have no business in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretSpec")
            .field("purpose", &self.purpose)
            .field("keys", &self.sealed.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// What a secret is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
pub enum SecretPurpose {
    /// A cluster's CAs and service-account key. The value is the cluster's name.
    ClusterPki {
        /// Cluster.
        cluster: String,
    },
    /// A join token of one machine.
    JoinToken {
        /// Machine.
        machine: String,
    },
    /// SSH host key of one machine, so that it can be pinned before first boot.
    MachineSshHostKey {
        /// Machine.
        machine: String,
    },
}

impl Spec for SecretSpec {
    const KIND: Kind = Kind::Secret;
    type Record = Nothing;
    type Status = Nothing;
}
