//! Canaries: every secret that went into a seed or an API server, looked for in everything that is said or stored.

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use std::collections::BTreeSet;
use std::sync::Arc;

use super::Oracle;
use crate::seed::SeedFacts;

/// Known secrets, and all that was heard.
#[derive(Clone, Default)]
pub(crate) struct Canaries {
    known: BTreeSet<(String, Vec<u8>)>,
    /// What it is, by pattern.
    names: Vec<String>,
    /// How it may be written.
    patterns: Vec<Vec<u8>>,
    /// Looks for all patterns at once; made anew after something was learned.
    searcher: Option<Arc<AhoCorasick>>,
    heard: Vec<(&'static str, Arc<str>)>,
    /// So much of what was heard was searched, for what was known then.
    searched: usize,
}

impl Oracle {
    /// Takes note of something that people may read: a line of the transcript, an event, a stored object.
    pub(crate) fn hear(&mut self, place: &'static str, text: &str) {
        self.canaries.hear(place, text);
    }

    /// Learns the secrets of a seed.
    pub(crate) fn learn(&mut self, seed: &SeedFacts) {
        for key in &seed.private_keys {
            if let Some(secret) = STANDARD.decode(key).ok().and_then(|der| private_part(&der)) {
                self.canaries.learn("a private key", &secret);
            }
        }
        if let Some((_, secret)) = &seed.token {
            self.canaries.learn("a join token", secret.as_bytes());
        }
    }

    /// Learns one secret.
    pub(crate) fn learn_secret(&mut self, what: &str, secret: &[u8]) {
        self.canaries.learn(what, secret);
    }

    /// How many secrets are known.
    pub(crate) fn known_secrets(&self) -> usize {
        self.canaries.known.len()
    }
}

impl Canaries {
    fn learn(&mut self, what: &str, secret: &[u8]) {
        if secret.is_empty() || !self.known.insert((what.to_owned(), secret.to_vec())) {
            return;
        }
        for pattern in spellings(secret) {
            self.names.push(what.to_owned());
            self.patterns.push(pattern);
        }
        // What was said before it was known counts, too.
        self.searcher = None;
        self.searched = 0;
    }

    fn hear(&mut self, place: &'static str, text: &str) {
        self.heard.push((place, text.into()));
    }

    /// Searches what was heard since it was last done, or all of it if something was learned since.
    pub(super) fn search(&mut self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        if self.patterns.is_empty() {
            return found;
        }
        if self.searcher.is_none() {
            self.searcher = AhoCorasick::new(&self.patterns).ok().map(Arc::new);
        }
        let Some(searcher) = &self.searcher else {
            found.insert("the canaries cannot be searched for".to_owned());
            return found;
        };
        for (place, text) in &self.heard[self.searched..] {
            for hit in searcher.find_iter(text.as_bytes()) {
                found.insert(format!("{} stands in {place}", self.names[hit.pattern().as_usize()]));
            }
        }
        self.searched = self.heard.len();
        found
    }
}

/// The secret bytes of a private key: of a P-256 key in PKCS#8 or SEC1 the scalar, of an ed25519 key in OpenSSH's
/// format the seed. What is public in such a file (the public key) must not be looked for.
pub(super) fn private_part(der: &[u8]) -> Option<Vec<u8>> {
    let after = |mark: &[u8], length: usize| {
        let at = der.windows(mark.len()).position(|window| window == mark)? + mark.len();
        der.get(at..at + length).map(<[u8]>::to_vec)
    };
    if der.starts_with(b"openssh-key-v1") {
        // The private half is a string of 64 bytes: seed and public key.
        after(&[0, 0, 0, 64], 32)
    } else {
        // OCTET STRING of 32 bytes.
        after(&[4, 32], 32)
    }
}

/// How a secret may be written so that it can be read back.
fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = |upper: bool| -> Vec<u8> {
        let byte = |byte: &u8| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
        secret.iter().map(byte).collect::<String>().into_bytes()
    };
    let mut spellings = vec![secret.to_vec(), hex(false), hex(true)];
    // As bytes in a JSON array or in Debug output.
    let list = |separator: &str| {
        let numbers: Vec<String> = secret.iter().map(u8::to_string).collect();
        numbers.join(separator).into_bytes()
    };
    spellings.extend([list(","), list(", ")]);
    // base64 of something that holds it: it may begin at any of three places in a group, and a line end may cut it
    // (PEM), so that a part of it must do.
    let core = if secret.len() >= 30 { &secret[12..30] } else { secret };
    for shift in 0..3 {
        let encoded = shifted_base64(core, shift);
        // What was encoded once more, as a PEM file in a Kubernetes Secret is.
        spellings.extend((0..3).map(|again| shifted_base64(&encoded, again)));
        spellings.push(encoded);
    }
    spellings.push(STANDARD_NO_PAD.encode(secret).into_bytes());
    spellings.sort();
    spellings.dedup();
    spellings
}

/// The characters of `base64(prefix of shift bytes + bytes)` that depend on `bytes` alone.
fn shifted_base64(bytes: &[u8], shift: usize) -> Vec<u8> {
    let mut shifted = vec![0; shift];
    shifted.extend_from_slice(bytes);
    let text = STANDARD_NO_PAD.encode(&shifted);
    let whole = shifted.len() / 3 * 4;
    let first = (shift * 8).div_ceil(6);
    text.as_bytes()[first..whole.max(first)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"\x01\x02secret bytes of a private key";

    fn leaks(text: &str) -> bool {
        let mut canaries = Canaries::default();
        canaries.learn("a key", SECRET);
        canaries.hear("a log", text);
        !canaries.search().is_empty()
    }

    #[test]
    fn a_secret_is_found_however_it_is_written() {
        for offset in 0..70 {
            let mut file = vec![b'x'; offset];
            file.extend_from_slice(SECRET);
            file.extend_from_slice(b"yyyyyyyyy");
            let encoded = STANDARD.encode(&file);
            assert!(leaks(&format!("data: {encoded}")), "base64 at {offset}");
            let twice = STANDARD.encode(&encoded);
            assert!(leaks(&format!("data: {twice}")), "base64 of base64 at {offset}");
        }
        let hex: String = SECRET.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(leaks(&hex));
        assert!(leaks(&hex.to_uppercase()));
        assert!(leaks(&format!("{SECRET:?}")));
        assert!(leaks(&serde_json::to_string(SECRET).expect("bytes are JSON")));
        assert!(!leaks("nothing of it"));
    }

    #[test]
    fn a_secret_that_was_said_before_it_was_known_is_found() {
        let mut canaries = Canaries::default();
        canaries.learn("another", b"something else entirely");
        canaries.hear("a log", &STANDARD.encode(SECRET));
        assert_eq!(canaries.search(), BTreeSet::new());
        canaries.learn("a key", SECRET);
        assert_eq!(canaries.search(), BTreeSet::from(["a key stands in a log".to_owned()]));
        assert_eq!(canaries.search(), BTreeSet::new(), "told once");
    }

    #[test]
    fn real_keys_are_taken_apart() {
        let pki = ashlar_engine::pki::create(jiff::Timestamp::UNIX_EPOCH).expect("keys can be made");
        let pem = String::from_utf8(pki["ca.key"].to_vec()).expect("PEM is text");
        let der = STANDARD.decode(&crate::seed::pem_bodies(&pem, "PRIVATE KEY")[0]).expect("PEM is base64");
        let scalar = private_part(&der).expect("it is a P-256 key");
        let mut canaries = Canaries::default();
        canaries.learn("a key", &scalar);
        // Line ends of PEM, as JSON writes them, do not hide it.
        canaries.hear("JSON", &serde_json::to_string(&pem).expect("text is JSON"));
        assert!(!canaries.search().is_empty());
        // What is public does not betray it.
        let certificate = std::str::from_utf8(&pki["ca.crt"]).expect("PEM is text");
        canaries.hear("a certificate", certificate);
        assert!(canaries.search().is_empty());
    }
}
