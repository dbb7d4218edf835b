//! Join tokens, in kubeadm's format.

use zeroize::Zeroizing;

use crate::effects::Entropy;

const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// A bootstrap token: `id.secret`. The id is public.
pub struct JoinToken {
    /// Six characters, public.
    pub id: String,
    /// Sixteen characters, secret.
    pub secret: Zeroizing<String>,
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id).finish_non_exhaustive()
    }
}

impl JoinToken {
    /// `id.secret`, as kubeadm takes it.
    pub fn full(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{}.{}", self.id, self.secret.as_str()))
    }

    /// Reads `id.secret`.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.split_once('.')?;
        let fits =
            |part: &str, length| part.len() == length && part.bytes().all(|byte| ALPHABET.contains(&byte));
        (fits(id, ID_LENGTH) && fits(secret, SECRET_LENGTH))
            .then(|| JoinToken { id: id.to_owned(), secret: Zeroizing::new(secret.to_owned()) })
    }
}

/// Makes a token.
pub fn join_token(entropy: &dyn Entropy) -> JoinToken {
    JoinToken {
        id: random_text(entropy, ID_LENGTH),
        secret: Zeroizing::new(random_text(entropy, SECRET_LENGTH)),
    }
}

/// Every character equally likely: bytes past the last whole multiple of 36 are drawn again.
pub(super) fn random_text(entropy: &dyn Entropy, length: usize) -> String {
    let limit = 256 / ALPHABET.len() * ALPHABET.len();
    let mut text = String::with_capacity(length);
    let mut bytes = Zeroizing::new([0u8; 32]);
    while text.len() < length {
        entropy.fill(bytes.as_mut());
        for byte in bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < limit) {
            if text.len() < length {
                text.push(char::from(ALPHABET[byte % ALPHABET.len()]));
            }
        }
    }
    text
}
