#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicU8, Ordering};

use super::*;

/// Distinct bytes on every call.
struct Counter(AtomicU8);

impl Entropy for Counter {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.iter_mut().for_each(|byte| *byte = self.0.fetch_add(1, Ordering::Relaxed));
    }
}

fn entropy() -> Counter {
    Counter(AtomicU8::new(0))
}

fn vault(byte: u8) -> Vault {
    Vault::from_key(Zeroizing::new([byte; KEY_BYTES]))
}

/// The vault of a key that takes the place of another.
fn after(old: &Vault, byte: u8) -> Vault {
    let mut new = vault(byte);
    let handed_on = old.hand_on(&new, &entropy()).unwrap();
    new.take_over(&handed_on);
    new
}

#[test]
fn a_note_opens_by_the_keys_after_its_own_and_says_so() {
    let first = vault(1);
    let note = first.seal_lasting("there", b"six lines", &entropy()).unwrap();
    let second = after(&first, 2);
    let third = after(&second, 3);
    for (vault, before) in [(&first, None), (&second, Some(first.key_id())), (&third, Some(first.key_id()))] {
        let opened = vault.open_lasting("there", &note).unwrap();
        assert_eq!((opened.plain.as_slice(), opened.before.as_deref()), (b"six lines".as_slice(), before));
    }
    assert!(third.open_lasting("elsewhere", &note).is_none());
    // Not by a stranger's, nor by one that was handed on something for another key.
    assert!(vault(4).open_lasting("there", &note).is_none());
    let mut stranger = vault(4);
    stranger.take_over(&first.hand_on(&second, &entropy()).unwrap());
    assert!(stranger.open_lasting("there", &note).is_none());
}

#[test]
fn what_is_handed_on_opens_nothing_but_notes() {
    let first = vault(1);
    let second = after(&first, 2);
    let kept = first.seal_note("a copy's data key", b"key", &entropy()).unwrap();
    assert!(second.open_note("a copy's data key", &kept).is_none());
    assert!(second.open_lasting("a copy's data key", &kept).is_none());
    // A note of the time before keys handed anything on opens by its own key.
    assert!(first.open_lasting("a copy's data key", &kept).is_some_and(|note| note.before.is_none()));
}

#[test]
fn the_newest_keys_are_handed_on_and_none_twice() {
    let mut last = vault(1);
    for byte in 2..40 {
        last = after(&last, byte);
    }
    // Back to one before.
    let back = after(&last, 38);
    let ids: Vec<&str> = back.before.iter().map(|before| before.key_id.as_str()).collect();
    assert_eq!((ids.len(), ids[0]), (HANDED_ON, last.key_id()));
    assert!(!ids.contains(&back.key_id()), "the one that it goes back to is no other");
}
