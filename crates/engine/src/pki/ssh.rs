//! SSH host keys of nodes: made before first boot, so that they can be pinned.

use ssh_key::{LineEnding, PrivateKey, private::Ed25519Keypair};
use zeroize::Zeroizing;

use super::PkiError;
use crate::effects::Entropy;

/// An ed25519 host key in OpenSSH's formats.
pub struct SshHostKey {
    /// `-----BEGIN OPENSSH PRIVATE KEY-----` …
    pub private: Zeroizing<String>,
    /// `ssh-ed25519 AAAA…`, without a comment.
    pub public: String,
}

impl std::fmt::Debug for SshHostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshHostKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Makes a host key.
///
/// # Errors
/// It cannot be encoded.
pub fn ssh_host_key(entropy: &dyn Entropy) -> Result<SshHostKey, PkiError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    entropy.fill(seed.as_mut());
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    Ok(SshHostKey {
        private: key.to_openssh(LineEnding::LF).map_err(PkiError::Ssh)?,
        public: key.public_key().to_openssh().map_err(PkiError::Ssh)?,
    })
}
