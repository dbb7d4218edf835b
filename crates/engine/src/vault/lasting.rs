//! Notes that outlast a key: how long a machine's audit log was, say.
//!
//! Such a note lies on each machine that works with the store, and is sealed anew when a command there ends. Where the key was
//! changed on another machine meanwhile, it is still of the key before, and whoever has only the new one could not tell it from
//! one that somebody forged. So each key hands on to the next what opens its notes, and those of the keys before it. That is
//! a key of its own, which opens no secret: who has the new key opens no older copy by it.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Vault;
use super::seal::{KEY_BYTES, open_one, seal_one};
use crate::effects::Entropy;

/// Keys before that are handed on: who changed the key more often since a machine last worked has to look there by hand.
const HANDED_ON: usize = 16;

/// What opens the notes of one of the keys before, sealed with the present one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HandedOn {
    /// Id of that key.
    pub key_id: String,
    /// Its notes' key, sealed.
    pub sealed_note_key: String,
}

/// The same, opened.
pub(super) struct Before {
    key_id: String,
    note_key: Zeroizing<[u8; KEY_BYTES]>,
}

/// A note that was opened.
pub(crate) struct Note {
    pub(crate) plain: Zeroizing<Vec<u8>>,
    /// Id of the key that it was sealed by, if that is one of those before.
    pub(crate) before: Option<String>,
}

impl Vault {
    /// Seals a note that the keys after this one open too, bound to its place. None if it cannot be.
    pub(crate) fn seal_lasting(&self, place: &str, plain: &[u8], entropy: &dyn Entropy) -> Option<String> {
        seal_one(&self.note_key(), plain, place, entropy)
    }

    /// Opens such a note; none if it was changed, or sealed with a key that is none of those before, or for another place.
    pub(crate) fn open_lasting(&self, place: &str, sealed: &str) -> Option<Note> {
        // As they were sealed before keys handed anything on.
        let own = open_one(&self.note_key(), sealed, place).or_else(|| self.open_note(place, sealed));
        if let Some(plain) = own {
            return Some(Note { plain, before: None });
        }
        self.before.iter().find_map(|before| {
            let plain = open_one(&before.note_key, sealed, place)?;
            Some(Note { plain, before: Some(before.key_id.clone()) })
        })
    }

    /// What this key, about to be the one before, hands on to the next: the newest first. None if it cannot be sealed.
    pub(crate) fn hand_on(&self, to: &Vault, entropy: &dyn Entropy) -> Option<Vec<HandedOn>> {
        let own = Before { key_id: self.key_id().to_owned(), note_key: self.note_key() };
        std::iter::once(&own)
            .chain(&self.before)
            .filter(|before| before.key_id != to.key_id())
            .take(HANDED_ON)
            .map(|before| {
                let place = note_key_place(&before.key_id);
                let sealed = seal_one(to.key(), before.note_key.as_ref(), &place, entropy)?;
                Some(HandedOn { key_id: before.key_id.clone(), sealed_note_key: sealed })
            })
            .collect()
    }

    /// Takes over what keys before have handed on. What does not open was not for this key, or changed: it opens nothing then.
    pub(crate) fn take_over(&mut self, handed_on: &[HandedOn]) {
        self.before = handed_on
            .iter()
            .filter_map(|handed_on| {
                let place = note_key_place(&handed_on.key_id);
                let plain = open_one(self.key(), &handed_on.sealed_note_key, &place)?;
                let note_key = Zeroizing::new(plain.as_slice().try_into().ok()?);
                Some(Before { key_id: handed_on.key_id.clone(), note_key })
            })
            .collect();
    }

    fn note_key(&self) -> Zeroizing<[u8; KEY_BYTES]> {
        let digest = Sha256::new().chain_update(b"ashlar note key v1\0").chain_update(self.key()).finalize();
        Zeroizing::new(digest.into())
    }
}

/// What a note's key is bound to.
fn note_key_place(key_id: &str) -> String {
    format!("ashlar.dev/vault/note-key/{key_id}")
}

#[cfg(test)]
#[path = "lasting_tests.rs"]
mod tests;
