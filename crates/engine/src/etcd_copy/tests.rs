#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use ashlar_api::{NamespacedName, Secret, SecretPurpose};
use async_trait::async_trait;
use futures::executor::block_on;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::*;
use crate::{
    effects::{CopyOwner, EffectError, EffectErrorKind, Entropy, EtcdCopy, EtcdCopyParts, EtcdCopyWriter},
    vault::{Vault, VaultError},
};

/// Other bytes on every call.
#[derive(Default)]
struct Counter(AtomicU64);

impl Entropy for Counter {
    fn fill(&self, buffer: &mut [u8]) {
        let call = self.0.fetch_add(1, Ordering::Relaxed);
        let digest = Sha256::digest(call.to_le_bytes());
        buffer.iter_mut().zip(digest.iter().cycle()).for_each(|(to, from)| *to = *from);
    }
}

/// Keeps the files of one copy in memory.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Option<Lying>>>);

/// The sealed database, and what is beside it.
type Lying = (Vec<u8>, EtcdCopyParts);

struct Writer(Kept, Vec<u8>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl EtcdCopyWriter for Writer {
    async fn finish(self: Box<Self>, parts: EtcdCopyParts) -> Result<EtcdCopy, EffectError> {
        let Writer(kept, bytes) = *self;
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        assert_eq!((parts.database.bytes, parts.database.sha256), (bytes.len() as u64, digest));
        let copy =
            EtcdCopy { taken_at: Timestamp::UNIX_EPOCH, size_bytes: parts.database_bytes, is_former: false };
        *kept.0.lock().unwrap() = Some((bytes, parts));
        Ok(copy)
    }
}

/// The files of a copy.
#[derive(Clone)]
struct Files {
    database: Vec<u8>,
    contents: Vec<u8>,
    manifest: Manifest,
}

fn vault(byte: u8) -> Vault {
    Vault::from_key(Zeroizing::new([byte; 32]))
}

fn facts(cluster: &str, second: i64) -> CopyFacts {
    CopyFacts {
        installation: Uuid::from_u128(1),
        namespace: "default".to_owned(),
        cluster: cluster.to_owned(),
        cluster_uid: Some(Uuid::from_u128(9)),
        taken_at: Timestamp::from_second(second).unwrap(),
        node: format!("{cluster}-ctrl-1"),
        etcd_version: "3.6.8".to_owned(),
        kubernetes_version: "v1.37.2".to_owned(),
    }
}

fn secret(vault: &Vault, entropy: &dyn Entropy) -> serde_json::Value {
    let values = BTreeMap::from([("ca.key".to_owned(), Zeroizing::new(b"CANARY-ca-key".to_vec()))]);
    let purpose = SecretPurpose::ClusterPki { cluster: "demo".to_owned() };
    let name = NamespacedName::new("default", "demo-pki");
    let spec = vault.seal(&name, purpose, &values, entropy).unwrap();
    serde_json::to_value(Secret::new("demo-pki", spec)).unwrap()
}

/// As etcd sends it.
fn snapshot() -> Vec<u8> {
    let database = b"CANARY-pod-data ".repeat(20 * 1024);
    [&database[..], &Sha256::digest(&database)].concat()
}

fn write(
    vault: &Vault,
    facts: CopyFacts,
    entropy: &dyn Entropy,
    snapshot: &[u8],
) -> Result<Files, EffectError> {
    let kept = Kept::default();
    let place = Box::new(Writer(kept.clone(), Vec::new()));
    let mut writer = CopyWriter::new(facts, place, entropy)?;
    for piece in snapshot.chunks(9_973) {
        writer.write_all(piece).unwrap();
    }
    let copy = block_on(writer.finish(vec![secret(vault, entropy)], vault, entropy))?;
    assert_eq!(copy.size_bytes, snapshot.len() as u64 - 32);
    let (database, parts) = kept.0.lock().unwrap().take().unwrap();
    let manifest = Manifest::parse(parts.manifest.as_bytes()).unwrap();
    assert!(!parts.manifest.contains("CANARY"));
    Ok(Files { database, contents: parts.contents, manifest })
}

fn read(files: &Files, vault: &Vault) -> Result<(Vec<u8>, Contents), CopyError> {
    let copy = OpenCopy::new(&files.manifest, vault)?;
    let contents = copy.contents(&files.contents[..])?;
    let secrets = copy.secrets(&contents)?;
    assert_eq!(secrets[0].1["ca.key"].as_slice(), b"CANARY-ca-key");
    let mut database = Vec::new();
    copy.database(&files.database[..], &contents, &mut database)?;
    Ok((database, contents))
}

fn damaged(files: &Files, what: &str) {
    let error = read(files, &vault(1)).map(|_| ()).expect_err(what);
    assert!(matches!(error, CopyError::Damaged { .. }), "{what}: {error:?}");
}

#[test]
fn what_was_copied_comes_back_with_all_that_belongs_to_it_and_shows_nowhere() {
    let entropy = Counter::default();
    let files = write(&vault(1), facts("demo", 5), &entropy, &snapshot()).unwrap();
    for bytes in [&files.database, &files.contents] {
        for secret in ["CANARY", "ashlar.dev", "Secret"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
        }
    }
    let (database, contents) = read(&files, &vault(1)).unwrap();
    assert_eq!(database, snapshot());
    assert_eq!(contents.copy, facts("demo", 5));
    assert_eq!(contents.database_bytes, 20 * 1024 * 16);
    // Every copy has a key of its own.
    let again = write(&vault(1), facts("demo", 5), &entropy, &snapshot()).unwrap();
    assert_ne!(again.database[..100], files.database[..100]);
}

#[test]
fn a_snapshot_that_is_not_whole_is_no_copy() {
    let good = snapshot();
    let mut flipped = good.clone();
    flipped[7] ^= 1;
    for bad in [&good[..good.len() - 1], &good[1..], &flipped[..], &good[..32], b""] {
        let error = write(&vault(1), facts("demo", 5), &Counter::default(), bad).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, EffectErrorKind::Corrupt, "{error}");
    }
}

#[test]
fn what_was_changed_cut_or_exchanged_is_told() {
    let entropy = Counter::default();
    let good = write(&vault(1), facts("demo", 5), &entropy, &snapshot()).unwrap();
    read(&good, &vault(1)).unwrap();
    let other = write(&vault(1), facts("demo", 6), &entropy, &snapshot()).unwrap();
    let changed = |change: &dyn Fn(&mut Files)| {
        let mut files = good.clone();
        change(&mut files);
        files
    };
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Files));
    let all: &[Change<'_>] = &[
        ("a byte of the database", &|files| files.database[100_000] ^= 1),
        ("a byte of the contents", &|files| *files.contents.last_mut().unwrap() ^= 1),
        ("the database cut", &|files| files.database.truncate(70_000)),
        ("nothing of the database", &|files| files.database.clear()),
        ("the contents cut", &|files| files.contents.truncate(40)),
        ("another copy's database", &|files| files.database.clone_from(&other.database)),
        ("another copy's contents", &|files| files.contents.clone_from(&other.contents)),
        ("one for the other", &|files| files.contents.clone_from(&files.database)),
        ("another's key", &|files| {
            files.manifest.sealed_data_key.clone_from(&other.manifest.sealed_data_key);
        }),
        ("another cluster of the name", &|files| files.manifest.copy.cluster_uid = Some(Uuid::from_u128(8))),
        ("another version", &|files| files.manifest.copy.kubernetes_version = "v1.36.3".to_owned()),
        ("another time", &|files| files.manifest.copy.taken_at = Timestamp::from_second(6).unwrap()),
        ("another digest", &|files| files.manifest.database.sealed_sha256 = "00".repeat(32)),
        ("another length", &|files| files.manifest.contents.sealed_bytes += 1),
    ];
    for (what, change) in all {
        damaged(&changed(change), what);
    }
}

#[test]
fn a_copy_says_which_key_it_needs() {
    let files = write(&vault(1), facts("demo", 5), &Counter::default(), &snapshot()).unwrap();
    let error = read(&files, &vault(2)).map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, CopyError::Vault(VaultError::WrongKey { expected, .. }) if expected == vault(1).key_id()),
        "{error:?}"
    );
}

#[test]
fn what_a_newer_ashlar_took_is_told() {
    let files = write(&vault(1), facts("demo", 5), &Counter::default(), &snapshot()).unwrap();
    let mut manifest = serde_json::to_value(&files.manifest).unwrap();
    manifest["format"] = 2.into();
    let error = Manifest::parse(manifest.to_string().as_bytes()).unwrap_err();
    assert!(matches!(error, CopyError::Format(2)), "{error}");
    assert!(matches!(Manifest::parse(b"{}").unwrap_err(), CopyError::Manifest(_)));
}

#[test]
fn a_digest_is_found_however_the_bytes_come() {
    let good = snapshot();
    for size in [1, 7, 31, 32, 33, 512, good.len()] {
        let mut digest = DatabaseDigest::default();
        good.chunks(size).for_each(|piece| digest.update(piece));
        let (bytes, _) = digest.whole().unwrap();
        assert_eq!(bytes, 20 * 1024 * 16, "{size}");
    }
}

#[test]
fn whose_a_copy_is() {
    let owner = CopyOwner {
        installation: Uuid::from_u128(1),
        cluster: NamespacedName::new("default", "demo"),
        uid: Uuid::from_u128(9),
        since: Some(Timestamp::from_second(5).unwrap()),
    };
    let of = |uid: Option<u128>, second: i64| CopyFacts {
        cluster_uid: uid.map(Uuid::from_u128),
        ..facts("demo", second)
    };
    assert!(of(Some(9), 1).is_of(&owner), "whatever its time");
    assert!(!of(Some(8), 10).is_of(&owner), "the one that had the name before");
    // Of before the identity was noted.
    assert!(of(None, 6).is_of(&owner));
    assert!(!of(None, 5).is_of(&owner) && !of(None, 1).is_of(&owner), "there was another cluster then");
    assert!(!of(None, 6).is_of(&CopyOwner { since: None, ..owner.clone() }));
    // Elsewhere, or of another name.
    assert!(!of(Some(9), 6).is_of(&CopyOwner { installation: Uuid::from_u128(2), ..owner.clone() }));
    assert!(!of(None, 6).is_of(&CopyOwner { installation: Uuid::from_u128(2), ..owner.clone() }));
    assert!(!facts("dem", 6).is_of(&owner));
    // It is the same format: what does not know of it reads on.
    let text = serde_json::to_string(&of(None, 6)).unwrap();
    assert!(!text.contains("Uid") && serde_json::from_str::<CopyFacts>(&text).unwrap() == of(None, 6));
}
