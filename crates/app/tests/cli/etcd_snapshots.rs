//! Copies of clusters' etcd: listed, proved, and got out with nothing but their files and the key.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ashlar_api::{NamespacedName, Secret, SecretPurpose};
use ashlar_engine::effects::{EffectError, EtcdCopy, EtcdCopyParts, EtcdCopyWriter};
use ashlar_engine::etcd_copy::{CopyFacts, CopyWriter};
use ashlar_engine::vault::Vault;
use async_trait::async_trait;
use futures::executor::block_on;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::harness::Place;
use crate::sealed::OsEntropy;

const FIRST: &str = "default/demo/20260101T000000Z";
/// Below which the copies of this installation's cluster lie.
const OWN: &str = "00000000-0000-0000-0000-000000000007/default/demo/00000000-0000-0000-0000-000000000009";
const FORMER: &str = "default/demo";

/// Puts the files where the daemon does.
struct Files(PathBuf, Vec<u8>);

impl Write for Files {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl EtcdCopyWriter for Files {
    async fn finish(self: Box<Self>, parts: EtcdCopyParts) -> Result<EtcdCopy, EffectError> {
        let base = self.0.display().to_string();
        fs::create_dir_all(self.0.parent().unwrap()).unwrap();
        fs::write(format!("{base}.db.sealed"), &self.1).unwrap();
        fs::write(format!("{base}.contents.sealed"), &parts.contents).unwrap();
        fs::write(format!("{base}.json"), &parts.manifest).unwrap();
        Ok(EtcdCopy { taken_at: Timestamp::UNIX_EPOCH, size_bytes: parts.database_bytes, is_former: false })
    }
}

/// As etcd sends it: two pages of a pod's data, and the digest.
fn snapshot() -> Vec<u8> {
    let database = b"CANARY-pod-data-".repeat(256);
    [&database[..], &Sha256::digest(&database)].concat()
}

fn objects(vault: &Vault, kinds: &[&str]) -> Vec<Value> {
    let values = BTreeMap::from([("ca.key".to_owned(), Zeroizing::new(b"CANARY-ca-key".to_vec()))]);
    let purpose = SecretPurpose::ClusterPki { cluster: "demo".to_owned() };
    let spec = vault.seal(&NamespacedName::new("default", "demo-pki"), purpose, &values, &OsEntropy).unwrap();
    let secret = serde_json::to_value(Secret::new("demo-pki", spec)).unwrap();
    let others = kinds.iter().map(|kind| json!({"kind": kind, "metadata": {"name": "one"}}));
    others.chain([secret]).collect()
}

const ALL: [&str; 6] = ["Cluster", "Machine", "MachineClass", "Network", "Image", "Host"];

fn copy(place: &Place, second: i64, kinds: &[&str]) {
    copy_of(place, OWN, second, kinds);
}

/// One that lies there, and says so.
fn copy_of(place: &Place, directory: &str, second: i64, kinds: &[&str]) {
    let mut ids = directory.split('/').filter_map(|part| uuid::Uuid::try_parse(part).ok());
    let taken_at = Timestamp::from_second(1_767_225_600 + second).unwrap();
    let facts = CopyFacts {
        installation: ids.next().unwrap_or(uuid::Uuid::from_u128(7)),
        namespace: "default".to_owned(),
        cluster: "demo".to_owned(),
        cluster_uid: ids.next(),
        taken_at,
        node: "demo-ctrl-2".to_owned(),
        etcd_version: "3.6.8".to_owned(),
        kubernetes_version: "v1.37.2".to_owned(),
    };
    let vault = place.vault();
    let name = taken_at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let files = Files(place.state().join("etcd-snapshots").join(directory).join(name), Vec::new());
    let mut writer = CopyWriter::new(facts, Box::new(files), &OsEntropy).unwrap();
    writer.write_all(&snapshot()).unwrap();
    block_on(writer.finish(objects(&vault, kinds), &vault, &OsEntropy)).unwrap();
}

/// One of before copies were sealed.
fn clear_copy(place: &Place) {
    let of = place.state().join("etcd-snapshots/default/demo");
    fs::create_dir_all(&of).unwrap();
    fs::write(of.join("20250101T000000Z.db"), snapshot()).unwrap();
    fs::write(of.join("20250101T000000Z.json"), r#"{"objects": [{"kind": "Cluster"}]}"#).unwrap();
}

fn key_id(place: &Place) -> String {
    place.vault().key_id().to_owned()
}

fn listing(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            assert_eq!(mode, 0o700, "{name}");
            found.extend(listing(&entry.path()).iter().map(|below| format!("{name}/{below}")));
        } else {
            assert_eq!(mode, 0o600, "{name}");
            found.push(name);
        }
    }
    found.sort();
    found
}

#[test]
fn copies_are_listed_proved_and_got_out() {
    let place = Place::new();
    let nothing = place.run(&["etcd-snapshot", "list"]);
    copy(&place, 0, &ALL);
    copy_of(&place, FORMER, -60, &ALL);
    clear_copy(&place);
    let told = [
        nothing,
        place.run(&["etcd-snapshot", "list"]),
        place.run(&["etcd-snapshot", "verify"]),
        place.run(&["etcd-snapshot", "extract", FIRST, "--to", "out"]),
        place.run(&["etcd-snapshot", "extract", FIRST, "--to", "out"]),
        place.run(&["etcd-snapshot", "extract", "default/demo/20250101T000000Z", "--to", "old"]),
        place.run(&["etcd-snapshot", "extract", "default/demo/20251231T235900Z", "--to", "former"]),
        place.run(&["etcd-snapshot", "list", "-o", "name"]),
        place.run(&["etcd-snapshot", "extract", "default/demo/20260102T000000Z", "--to", "none"]),
        place.run(&["etcd-snapshot", "verify", "--directory", "elsewhere"]),
    ];
    insta::assert_snapshot!(told.join("\n").replace(&key_id(&place), "[KEY]"));
    let out = place.path().join("out");
    assert_eq!(listing(&out), ["copy.json", "etcd.db", "installation", "objects.json", "vault.json"]);
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read(out.join("etcd.db")).unwrap(), snapshot());
    for out in ["old", "former"] {
        assert_eq!(fs::read(place.path().join(out).join("etcd.db")).unwrap(), snapshot());
    }
    let read = |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    assert_eq!(read(out.join("vault.json")), read(place.state().join("vault.json")));
    assert_eq!(read(out.join("objects.json")).as_array().unwrap().len(), 7);
    assert!(!place.path().join("none").exists());
}

#[test]
fn copies_of_several_clusters_of_one_name_are_told_apart() {
    let place = Place::new();
    // Of another installation, and of the cluster that had the name before.
    let elsewhere = OWN.replace("0000-000000000007", "0000-000000000003");
    let before = OWN.replace("0000-000000000009", "0000-000000000004");
    copy(&place, 0, &ALL);
    copy(&place, 60, &ALL);
    copy_of(&place, &elsewhere, 0, &ALL);
    copy_of(&place, &before, -3600, &ALL);
    let told = [
        place.run(&["etcd-snapshot", "list"]),
        place.run(&["etcd-snapshot", "verify", FIRST]),
        place.run(&["etcd-snapshot", "verify", &format!("{OWN}/20260101T000000Z")]),
        place.run(&["etcd-snapshot", "verify", "default/demo/20260101T000100Z"]),
        place.run(&["etcd-snapshot", "verify"]),
    ];
    insta::assert_snapshot!(told.join("\n").replace(&key_id(&place), "[KEY]"));
}

#[test]
fn its_three_files_and_the_key_are_enough() {
    let place = Place::new();
    copy(&place, 0, &ALL);
    let of = place.state().join("etcd-snapshots").join(OWN);
    // Nothing of what was there shows in any file.
    for entry in fs::read_dir(&of).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"CANARY"));
    }
    let elsewhere = Place::new();
    fs::create_dir_all(elsewhere.path().join("files")).unwrap();
    for entry in fs::read_dir(&of).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, elsewhere.path().join("files").join(path.file_name().unwrap())).unwrap();
    }
    fs::copy(place.default_key(), elsewhere.path().join("key")).unwrap();
    let run = |file: &str, out: &str, key: &[&str]| {
        let args = ["etcd-snapshot", "extract", file, "--to", out, "--secrets"];
        elsewhere.run(&[&args[..], key].concat())
    };
    let file = "files/20260101T000000Z.json";
    let without = run(file, "out", &[]);
    assert!(without.starts_with("exit 1") && without.contains("cannot read the key file"), "{without}");
    assert!(!elsewhere.path().join("out").exists() && !elsewhere.default_key().exists());
    let good = run(file, "out", &["--key", "file:key"]);
    assert!(good.starts_with("exit 0"), "{good}");
    let out = elsewhere.path().join("out");
    assert!(listing(&out).contains(&"secrets/demo-pki/ca.key".to_owned()));
    assert_eq!(fs::read(out.join("secrets/demo-pki/ca.key")).unwrap(), b"CANARY-ca-key");
    assert_eq!(fs::read(out.join("etcd.db")).unwrap(), snapshot());
    assert!(!elsewhere.state().exists(), "no store was needed, and none was made");
    // Without one of them it is none.
    fs::remove_file(elsewhere.path().join("files/20260101T000000Z.contents.sealed")).unwrap();
    let cut = run(file, "again", &["--key", "file:key"]);
    assert!(cut.starts_with("exit 1") && cut.contains("20260101T000000Z.contents.sealed"), "{cut}");
    assert!(!elsewhere.path().join("again").exists());
}

#[test]
fn after_a_rotation_old_copies_open_with_the_key_that_was_kept() {
    let place = Place::new();
    copy(&place, 0, &ALL);
    let old = key_id(&place);
    let rotated = place.run(&["secrets", "rotate"]);
    assert!(rotated.starts_with("exit 0"), "{rotated}");
    copy(&place, 60, &ALL);
    let new = key_id(&place);
    assert_ne!(old, new);
    let listed = place.run(&["etcd-snapshot", "list"]);
    assert!(listed.contains(&old) && listed.contains(&new), "{listed}");
    let both = place.run(&["etcd-snapshot", "verify"]);
    assert!(both.starts_with("exit 0"), "{both}");
    // With the new key alone the old one does not open, and says which it needs.
    fs::remove_file(place.default_key().with_extension(format!("was-{old}"))).unwrap();
    let one = place.run(&["etcd-snapshot", "verify"]);
    assert!(one.starts_with("exit 1") && one.contains(&format!("are sealed with key {old}")), "{one}");
    assert!(one.contains("[UUID]/default/demo/[UUID]/20260101T000100Z: good"), "{one}");
}

#[test]
fn what_is_damaged_or_lacks_something_is_told_and_not_left_anywhere() {
    let place = Place::new();
    copy(&place, 0, &ALL);
    copy(&place, 60, &ALL[1..]);
    let base = place.state().join("etcd-snapshots").join(OWN).join("20260101T000000Z").display().to_string();
    let good = fs::read(format!("{base}.db.sealed")).unwrap();
    for (what, bytes) in [
        ("cut", good[..good.len() - 20].to_vec()),
        ("flipped", {
            let mut bytes = good.clone();
            bytes[1000] ^= 1;
            bytes
        }),
    ] {
        fs::write(format!("{base}.db.sealed"), bytes).unwrap();
        let told = place.run(&["etcd-snapshot", "verify", FIRST]);
        assert!(told.starts_with("exit 1") && told.contains("the database is damaged"), "{what}: {told}");
        let told = place.run(&["etcd-snapshot", "extract", FIRST, "--to", "out"]);
        assert!(told.starts_with("exit 1") && told.contains("the database is damaged"), "{what}: {told}");
        assert!(!place.path().join("out").exists(), "{what}");
    }
    let told = place.run(&["etcd-snapshot", "verify", "default/demo/20260101T000100Z"]);
    assert!(told.starts_with("exit 1") && told.contains("it has no Cluster"), "{told}");
}
