//! Real secrets in a place: sealed with the key that its commands use.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use ashlar_api::{NamespacedName, Secret, SecretPurpose};
use ashlar_engine::effects::Entropy;
use ashlar_engine::pki;
use ashlar_engine::vault::{KeyProvider, SecretValues, Vault};
use rand::TryRngCore as _;

use crate::harness::Place;

pub(crate) struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        rand::rngs::OsRng.try_fill_bytes(buffer).unwrap();
    }
}

impl Place {
    /// The key file that commands take where nobody names another.
    pub(crate) fn default_key(&self) -> PathBuf {
        self.path().join(".config/ashlar/key")
    }

    /// Another key file; its content follows from the name.
    pub(crate) fn key_file(&self, name: &str) -> String {
        let path = PathBuf::from(self.file(&format!("keys/{name}"), &name.repeat(32)));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    /// The vault of the default key.
    pub(crate) fn vault(&self) -> Vault {
        std::fs::create_dir_all(self.state()).unwrap();
        let path = self.default_key();
        KeyProvider::create_file(&path, &self.state(), &OsEntropy).unwrap();
        Vault::open(&KeyProvider::File(path), &self.state(), &OsEntropy).unwrap()
    }

    /// Puts a secret into the store.
    pub(crate) fn put_secret(&self, name: &str, purpose: SecretPurpose, values: &SecretValues) {
        let key = NamespacedName::new("default", name);
        let spec = self.vault().seal(&key, purpose, values, &OsEntropy).unwrap();
        let mut secret = serde_json::to_value(Secret::new(name, spec)).unwrap();
        secret["metadata"]["namespace"] = "default".into();
        secret["metadata"]["uid"] = "00000000-0000-4000-8000-000000000999".into();
        self.put(&[secret]);
    }

    /// The certificates of a cluster, made now.
    pub(crate) fn put_pki(&self, cluster: &str) {
        let purpose = SecretPurpose::ClusterPki { cluster: cluster.to_owned() };
        let name = ashlar_plan::names::pki_secret(&NamespacedName::new("default", cluster));
        self.put_secret(&name.name, purpose, &pki::create(jiff::Timestamp::now()).unwrap());
    }
}
