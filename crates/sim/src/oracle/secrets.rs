//! Canaries: every secret that went into a seed or an API server, looked for in everything that is said or stored.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ashlar_store::{Key, MemoryStore};
use serde_json::Value;

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
    searcher: Option<Arc<Searcher>>,
    heard: Vec<(&'static str, Heard)>,
    /// So much of what was heard was searched, for what was known then.
    searched: usize,
}

/// What people may read.
#[derive(Clone)]
enum Heard {
    Text(Arc<str>),
    /// Shared with the store, and never written out.
    Object(Arc<Value>),
}

impl Heard {
    /// Its texts. A list of numbers is one: bytes may be written so.
    fn each_text(&self, look: &mut impl FnMut(&[u8])) {
        match self {
            Heard::Text(text) => look(text.as_bytes()),
            Heard::Object(value) => each_text(value, look),
        }
    }
}

fn each_text(value: &Value, look: &mut impl FnMut(&[u8])) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(text) => look(text.as_bytes()),
        Value::Array(values) => {
            if values.iter().any(Value::is_number) {
                look(value.to_string().as_bytes());
            }
            values.iter().for_each(|value| each_text(value, look));
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                look(name.as_bytes());
                each_text(value, look);
            }
        }
    }
}

impl Oracle {
    /// Takes note of something that people may read: a line of the transcript, an event, a stored object.
    pub(crate) fn hear(&mut self, place: &'static str, text: &str) {
        if self.is_off {
            return;
        }
        self.canaries.hear(place, text);
    }

    /// Takes note of objects that were just stored.
    pub(crate) fn hear_stored(&mut self, keys: &[Key]) {
        let Some(truth) = self.truth.as_ref().filter(|_| !self.is_off) else { return };
        let objects = keys.iter().filter_map(|key| truth.peek(key));
        self.canaries.heard.extend(objects.map(|object| ("the store", Heard::Object(object))));
    }

    /// Takes note of all objects of a store.
    pub(crate) fn hear_store(&mut self, store: &MemoryStore) {
        self.canaries.heard.extend(store.peek_all().map(|object| ("the store", Heard::Object(object))));
    }

    /// Learns the secrets of a seed.
    pub(crate) fn learn(&mut self, seed: &SeedFacts) {
        if self.is_off {
            return;
        }
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
        if self.is_off {
            return;
        }
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
        self.heard.push((place, Heard::Text(text.into())));
    }

    /// Searches what was heard since it was last done, or all of it if something was learned since.
    pub(super) fn search(&mut self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        if self.patterns.is_empty() {
            return found;
        }
        if self.patterns.iter().any(|pattern| pattern.len() < GRAM) {
            found.insert("a secret is too short to be looked for".to_owned());
        }
        let searcher =
            Arc::clone(self.searcher.get_or_insert_with(|| Arc::new(Searcher::new(&self.patterns))));
        for (place, heard) in &self.heard[self.searched..] {
            heard.each_text(&mut |text| {
                searcher.search(&self.patterns, text, |pattern| {
                    found.insert(format!("{} stands in {place}", self.names[pattern]));
                });
            });
        }
        self.searched = self.heard.len();
        found
    }
}

/// Bytes that are looked up at once.
const GRAM: usize = 4;
/// Bits of the table of grams: few enough to lie in a cache, and many more than there are grams.
const TABLE_BITS: u32 = 20;

/// Finds any of many patterns, all of them long: in each stretch of text that is as long as the shortest pattern less a
/// gram, only one gram is looked up. A pattern that stands there holds it, wherever it begins.
struct Searcher {
    /// How far apart grams may be looked up.
    stride: usize,
    /// Hashes of grams that some pattern has among its first.
    table: Vec<u64>,
    /// Gram → patterns that have it, and where.
    grams: BTreeMap<[u8; GRAM], Vec<(usize, usize)>>,
}

impl Searcher {
    /// No pattern is shorter than a gram.
    fn new(patterns: &[Vec<u8>]) -> Self {
        let shortest = patterns.iter().map(Vec::len).min().unwrap_or(GRAM);
        let stride = shortest.saturating_sub(GRAM) + 1;
        let mut searcher = Searcher { stride, table: vec![0; 1 << (TABLE_BITS - 6)], grams: BTreeMap::new() };
        for (number, pattern) in patterns.iter().enumerate() {
            for (at, gram) in pattern.windows(GRAM).take(stride).enumerate() {
                let gram = [gram[0], gram[1], gram[2], gram[3]];
                let (word, bit) = Self::place(gram);
                searcher.table[word] |= bit;
                searcher.grams.entry(gram).or_default().push((number, at));
            }
        }
        searcher
    }

    fn place(gram: [u8; GRAM]) -> (usize, u64) {
        let hash = u32::from_le_bytes(gram).wrapping_mul(0x9E37_79B1) >> (32 - TABLE_BITS);
        (hash as usize >> 6, 1 << (hash & 63))
    }

    /// Tells each pattern that stands in the text, perhaps more than once.
    fn search(&self, patterns: &[Vec<u8>], text: &[u8], mut found: impl FnMut(usize)) {
        for at in (0..text.len().saturating_sub(GRAM - 1)).step_by(self.stride) {
            let gram = [text[at], text[at + 1], text[at + 2], text[at + 3]];
            let (word, bit) = Self::place(gram);
            if self.table[word] & bit == 0 {
                continue;
            }
            for (pattern, offset) in self.grams.get(&gram).into_iter().flatten() {
                let stands = at.checked_sub(*offset).and_then(|begin| text.get(begin..));
                if stands.is_some_and(|text| text.starts_with(&patterns[*pattern])) {
                    found(*pattern);
                }
            }
        }
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
    fn many_patterns_are_found_where_they_stand_and_nowhere_else() {
        let mut dice: u32 = 7;
        let mut roll = |below: u32| {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (dice >> 16) % below
        };
        for _ in 0..200 {
            // Two letters, so that grams are common.
            let mut word = |length: u32| -> Vec<u8> { (0..length).map(|_| b'a' + roll(2) as u8).collect() };
            let patterns: Vec<Vec<u8>> = (4..12).map(&mut word).collect();
            for pattern in [&patterns[..], &patterns[3..]] {
                let text = word(300);
                let searcher = Searcher::new(pattern);
                let mut found = BTreeSet::new();
                searcher.search(pattern, &text, |pattern| found.extend([pattern]));
                let stands = |pattern: &Vec<u8>| text.windows(pattern.len()).any(|part| part == pattern);
                let all = pattern.iter().enumerate().filter(|(_, pattern)| stands(pattern));
                assert_eq!(found, all.map(|(number, _)| number).collect());
            }
        }
    }

    #[test]
    fn a_secret_is_found_in_a_stored_object() {
        let encoded = STANDARD.encode(SECRET);
        for value in [
            serde_json::json!({"spec": {"data": [{"key": encoded}]}}),
            serde_json::json!({"spec": {"data": SECRET}}),
            serde_json::json!({encoded: 1}),
        ] {
            let mut canaries = Canaries::default();
            canaries.learn("a key", SECRET);
            canaries.heard.push(("the store", Heard::Object(Arc::new(value))));
            assert_eq!(canaries.search().len(), 1);
        }
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
