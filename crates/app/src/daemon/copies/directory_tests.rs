#![allow(clippy::unwrap_used, reason = "tests")]

use ashlar_api::NamespacedName;
use ashlar_engine::etcd_copy::{CopyFacts, CopyWriter};
use ashlar_engine::vault::{Sealed, Vault};
use uuid::Uuid;

use super::*;
use crate::wiring::OsEntropy;

fn owner() -> CopyOwner {
    CopyOwner {
        installation: Uuid::from_u128(1),
        cluster: NamespacedName::new("default", "demo"),
        uid: Uuid::from_u128(9),
        since: Some(at(-60)),
    }
}

/// The clusters of the name that may have copies in the same place.
fn others() -> [CopyOwner; 2] {
    [
        CopyOwner { installation: Uuid::from_u128(2), uid: Uuid::from_u128(8), ..owner() },
        CopyOwner { uid: Uuid::from_u128(7), ..owner() },
    ]
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

/// As long as what seals a database of 1024 bytes, and the digest at its end.
fn sealed() -> Vec<u8> {
    vec![7; 35 + 1024 + 32 + 16]
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn about(said: &[u8]) -> EtcdCopyParts {
    EtcdCopyParts {
        database: Sealed { bytes: said.len() as u64, sha256: Sha256::digest(said).into() },
        database_bytes: 1024,
        contents: b"sealed".to_vec(),
        manifest: "{}".to_owned(),
    }
}

fn put(
    copies: &CopiesDirectory,
    owner: &CopyOwner,
    at: Timestamp,
    bytes: &[u8],
    said: &[u8],
) -> Result<EtcdCopy, EffectError> {
    run(async {
        let mut writer = copies.begin(owner, at).await?;
        writer.write_all(bytes).unwrap();
        writer.finish(about(said)).await
    })
}

fn list(copies: &CopiesDirectory, owner: &CopyOwner) -> Vec<EtcdCopy> {
    run(copies.list(owner)).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = files(directory).unwrap().into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

fn three(time: &str) -> [String; 3] {
    ["contents.sealed", "db.sealed", "json"].map(|end| format!("{time}.{end}"))
}

/// A copy as it was put before each cluster had a directory of its own; the manifest says nothing of the cluster's uid.
fn put_former(copies: &CopiesDirectory, installation: u128, name: &str, taken_at: Timestamp) {
    let facts = CopyFacts {
        installation: Uuid::from_u128(installation),
        namespace: "default".to_owned(),
        cluster: name.to_owned(),
        cluster_uid: None,
        taken_at,
        node: "demo-ctrl-1".to_owned(),
        etcd_version: "3.6.8".to_owned(),
        kubernetes_version: "v1.37.2".to_owned(),
    };
    // Where it lies is for this test to say.
    let shelf = CopiesDirectory::new(copies.0.join("put"));
    let of = shelf.of(&owner());
    let vault = Vault::from_key(zeroize::Zeroizing::new([7; 32]));
    let database = [7; 1024];
    run(async {
        let place = shelf.begin(&owner(), taken_at).await.unwrap();
        let mut writer = CopyWriter::new(facts, place, &OsEntropy).unwrap();
        writer.write_all(&database).unwrap();
        writer.write_all(&Sha256::digest(database)).unwrap();
        writer.finish(Vec::new(), &vault, &OsEntropy).await.unwrap();
    });
    let to = copies.former_of(&owner());
    fs::create_dir_all(&to).unwrap();
    for name in names(&of) {
        fs::rename(of.join(&name), to.join(name)).unwrap();
    }
}

#[test]
fn only_whole_copies_are_kept_and_nobody_else_reads_them() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    let (copies, owner, good) = (CopiesDirectory::new(dir.path().join("copies")), owner(), sealed());
    assert_eq!(list(&copies, &owner), []);
    let copy = put(&copies, &owner, at(0), &good, &good).unwrap();
    assert_eq!(copy, EtcdCopy { taken_at: at(0), size_bytes: 1024, is_former: false });
    for bad in [&good[..1000], b""] {
        let error = put(&copies, &owner, at(1), bad, &good).unwrap_err();
        assert_eq!(error.kind, EffectErrorKind::Corrupt, "{error}");
    }
    assert_eq!(list(&copies, &owner), std::slice::from_ref(&copy));
    let of = copies.of(&owner);
    let own = "00000000-0000-0000-0000-000000000001/default/demo/00000000-0000-0000-0000-000000000009";
    assert_eq!(of, dir.path().join("copies").join(own));
    assert_eq!(names(&of), three("20260101T000000Z"), "nothing unfinished is left");
    for name in names(&of) {
        let mode = fs::metadata(of.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // What a killed daemon left goes with the next copy.
    for left in ["20250101T000000Z.db.sealed.part", "20250101T000001Z.db.sealed"] {
        fs::write(of.join(left), [0; 544]).unwrap();
    }
    assert_eq!(list(&copies, &owner), std::slice::from_ref(&copy));
    put(&copies, &owner, at(2), &good, &good).unwrap();
    assert_eq!(list(&copies, &owner).len(), 2);
    assert_eq!(names(&of).len(), 6);
    run(copies.remove(&owner, &copy)).unwrap();
    run(copies.remove(&owner, &copy)).unwrap();
    assert_eq!(names(&of), three("20260101T000002Z"));
}

#[test]
fn who_shares_a_place_touches_nothing_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let (copies, owner, good) = (CopiesDirectory::new(dir.path().to_owned()), owner(), sealed());
    // The others have one copy, at the same time as ours, and are at another.
    let mut under_way = Vec::new();
    for other in others() {
        put(&copies, &other, at(0), &good, &good).unwrap();
        let mut writer = run(copies.begin(&other, at(5))).unwrap();
        writer.write_all(&good).unwrap();
        under_way.push(writer);
    }
    assert_eq!(list(&copies, &owner), [], "none of them counts as ours");
    let copy = put(&copies, &owner, at(0), &good, &good).unwrap();
    put(&copies, &owner, at(6), &good, &good).unwrap();
    run(copies.remove(&owner, &copy)).unwrap();
    assert_eq!(list(&copies, &owner).len(), 1);
    for (other, writer) in others().iter().zip(under_way) {
        run(writer.finish(about(&good))).unwrap();
        assert_eq!(list(&copies, other).iter().map(|it| it.taken_at).collect::<Vec<_>>(), [at(0), at(5)]);
    }
}

#[test]
fn of_what_lay_together_once_only_what_says_so_is_ours() {
    let dir = tempfile::tempdir().unwrap();
    let (copies, owner) = (CopiesDirectory::new(dir.path().to_owned()), owner());
    let former = copies.former_of(&owner);
    assert_eq!(former, dir.path().join("default/demo"));
    put_former(&copies, 1, "demo", at(0));
    put_former(&copies, 2, "demo", at(1));
    put_former(&copies, 1, "other", at(2));
    put_former(&copies, 1, "demo", at(-3600));
    fs::write(former.join("20250101T000000Z.db"), [0; 544]).unwrap();
    fs::write(former.join("20250101T000000Z.json"), "{}").unwrap();
    // Sealed, and its manifest says nothing that can be understood; or is another copy's.
    for (time, manifest) in [
        ("20260101T000030Z", "{}".to_owned()),
        ("20260101T000040Z", { fs::read_to_string(former.join("20260101T000000Z.json")).unwrap() }),
    ] {
        fs::write(former.join(format!("{time}.db.sealed")), sealed()).unwrap();
        fs::write(former.join(format!("{time}.contents.sealed")), "").unwrap();
        fs::write(former.join(format!("{time}.json")), manifest).unwrap();
    }
    // Unfinished, maybe of another installation that is at it now.
    fs::write(former.join("20260101T000050Z.db.sealed.part"), "").unwrap();
    fs::write(former.join("20260101T000051Z.db.sealed"), "").unwrap();
    let before = names(&former);
    assert_eq!(list(&copies, &owner), [], "they do not keep a new one from being due");
    let ours = EtcdCopy { taken_at: at(0), size_bytes: 1024, is_former: true };
    assert_eq!(run(copies.former(&owner)).unwrap(), std::slice::from_ref(&ours));
    put(&copies, &owner, at(0), &sealed(), &sealed()).unwrap();
    assert_eq!(names(&former), before);
    run(copies.remove(&owner, &ours)).unwrap();
    assert_eq!(list(&copies, &owner).len(), 1, "the one of the same time in its own directory stays");
    let gone = three("20260101T000000Z");
    let left: Vec<String> = before.into_iter().filter(|name| !gone.contains(name)).collect();
    assert_eq!(names(&former), left);
    assert_eq!(run(copies.former(&owner)).unwrap(), []);
}

#[test]
fn a_copy_that_another_daemon_took_for_a_leftover_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let (copies, owner, good) = (CopiesDirectory::new(dir.path().to_owned()), owner(), sealed());
    let mut writer = run(copies.begin(&owner, at(0))).unwrap();
    writer.write_all(&good).unwrap();
    // The daemon that leads now begins one, while this one is still at it.
    put(&copies, &owner, at(7), &good, &good).unwrap();
    run(writer.finish(about(&good))).unwrap_err();
    assert_eq!(names(&copies.of(&owner)), three("20260101T000007Z"));
}
