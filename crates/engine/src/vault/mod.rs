//! Secrets at rest: envelope encryption.
//!
//! Every Secret object has a random data key of its own; its values are sealed with it (XChaCha20-Poly1305, the
//! object's namespace, name and the value's name as associated data, so that no sealed value can be moved to another
//! place). The data key is sealed with the key-encryption key, which comes from a [`KeyProvider`] and is never
//! stored beside the store.

mod error;
mod lasting;
mod provider;
mod rotate;
mod seal;
mod stream;

pub use error::VaultError;
pub use lasting::HandedOn;
pub use provider::KeyProvider;
pub use rotate::{Standing, renew_data_keys, seal_only, seal_too, standing};
pub use seal::{Prepared, STATE_FILE, SecretValues, Vault, VaultState, follow_state, key_id_of_state};
pub use stream::{Opening, Sealed, Sealing, plain_length};
